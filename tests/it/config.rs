//! Settings: where ONNX Runtime is found, and what is refused before anything starts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Parser;
use transferscore::config::{ConfigError, LimitArgs, RuntimeSearch, ServeConfig, SourceArgs, UploadArgs};

fn touch(path: &Path) -> PathBuf {
    fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
    fs::write(path, b"").expect("a file");
    path.to_owned()
}

#[test]
fn onnxruntime_is_looked_for_in_the_documented_order() {
    let root = tempfile::tempdir().expect("a folder");
    let at = |path: &str| root.path().join(path);
    let above = touch(&at("project/.onnxruntime/libonnxruntime.so.1.31.1"));
    let mut search = RuntimeSearch {
        binary_folder: Some(at("project/target/release")),
        working_directory: Some(at("elsewhere")),
        ..RuntimeSearch::default()
    };
    assert_eq!(search.find(), Ok(above));

    let here = touch(&at("elsewhere/.onnxruntime/libonnxruntime.1.31.1.dylib"));
    assert_eq!(search.find(), Ok(here));

    let beside = touch(&at("project/target/release/libonnxruntime.so"));
    assert_eq!(search.find(), Ok(beside));

    let variable = touch(&at("variable/any-name.so"));
    search.variable = Some(variable.clone());
    assert_eq!(search.find(), Ok(variable));

    let flag = touch(&at("flag/libonnxruntime.so.1.31.1"));
    search.flag = Some(at("flag"));
    assert_eq!(search.find(), Ok(flag));
}

#[test]
fn of_several_libraries_the_right_version_is_taken_and_others_are_not_libraries() {
    let root = tempfile::tempdir().expect("a folder");
    touch(&root.path().join("libonnxruntime.so.1.20.0"));
    touch(&root.path().join("libonnxruntime_providers_shared.so"));
    let right = touch(&root.path().join("libonnxruntime.so.1.31.1"));
    let search = RuntimeSearch { flag: Some(root.path().to_owned()), ..RuntimeSearch::default() };
    assert_eq!(search.find(), Ok(right));
}

#[test]
fn a_named_place_without_the_library_is_an_error_even_if_another_place_has_it() {
    let root = tempfile::tempdir().expect("a folder");
    touch(&root.path().join("libonnxruntime.so"));
    let search = RuntimeSearch {
        flag: Some(root.path().join("missing")),
        binary_folder: Some(root.path().to_owned()),
        ..RuntimeSearch::default()
    };
    let error = search.find().expect_err("the flag names nothing");
    assert!(matches!(error, ConfigError::RuntimeNotThere { origin: "--onnxruntime", .. }), "{error}");
}

#[test]
fn onnxruntime_nowhere_is_one_line_with_the_mend() {
    let error = RuntimeSearch::default().find().expect_err("no place has it");
    let expected = "ONNX Runtime 1.31.1 not found; run \"make setup\" or pass --onnxruntime PATH";
    assert_eq!(error.to_string(), expected);
}

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    uploads: UploadArgs,
}

#[test]
fn settings_are_checked_before_anything_starts() {
    let root = tempfile::tempdir().expect("a folder");
    let library = touch(&root.path().join("libonnxruntime.so"));
    let folder = root.path().display().to_string();
    let data = root.path().join("data");
    fs::create_dir(&data).expect("a folder");
    let data = data.display().to_string();
    let configure = |extra: &[&str]| {
        let library = library.display().to_string();
        let mut arguments = vec!["transferscore", "--models", &folder, "--datasets", &data, "--onnxruntime", &library];
        arguments.extend(extra);
        let Arguments { sources, limits, uploads } =
            Arguments::try_parse_from(arguments).expect("arguments that parse");
        ServeConfig::new(sources, limits, ([127, 0, 0, 1], 0).into())?.with_uploads(uploads)
    };

    let config = configure(&["--threads", "3", "--request-memory", "2"]).expect("a valid configuration");
    assert_eq!((config.threads, config.request_bytes, config.onnxruntime), (3, 2 << 20, library.clone()));
    assert_eq!(config.batch_size, 3 * 64, "every thread has a tile");
    let both = configure(&["--models", &format!("{folder}:{folder}")]).expect("several folders in one argument");
    assert_eq!(both.models.len(), 3);

    assert_eq!(config.uploads, None, "uploads are to be asked for");
    let uploads = configure(&["--allow-uploads", "--upload-limit", "3"]).expect("uploads").uploads.expect("some");
    assert_eq!((uploads.models, uploads.file_bytes), (folder.clone().into(), 3 << 20));
    let other = root.path().join("other");
    fs::create_dir(&other).expect("a folder");
    let config = configure(&["--allow-uploads", "--upload-models", other.to_str().expect("a path")]).expect("uploads");
    assert_eq!(config.uploads.expect("some").models, other);
    assert_eq!(config.models, [folder.clone().into(), other], "what is uploaded is listed");
    for (arguments, expected) in [
        (&["--allow-uploads", "--upload-limit", "0"][..], "--upload-limit is 0; give 1 to 4096"),
        (&["--allow-uploads", "--upload-space", "0"], "--upload-space is 0; give 1 to 17592186044415"),
        (
            &["--allow-uploads", "--upload-datasets", "/no/such"],
            "--upload-datasets /no/such: not a folder; give an existing one",
        ),
    ] {
        assert_eq!(configure(arguments).expect_err(expected).to_string(), expected);
    }
    let one =
        configure(&["--allow-uploads", "--upload-datasets", &format!("{folder}/data/..")]).expect_err("one folder");
    assert!(one.to_string().contains("--upload-models or --upload-datasets"), "{one}");

    for (arguments, expected) in [
        (["--models", "/no/such/folder"], "--models /no/such/folder: not a folder; give an existing one"),
        (["--datasets", "/no/such/folder"], "--datasets /no/such/folder: not a folder; give an existing one"),
        (["--batch-size", "0"], "--batch-size is 0; give 1 to 4096"),
        (["--sample-limit", "7"], "--sample-limit is 7; give 8 to 4294967295"),
        (["--request-memory", "0"], "--request-memory is 0; give 1 to 17592186044415"),
        (["--memory", "0"], "--memory is 0; give 1 to 17592186044415"),
        (["--concurrent-requests", "0"], "--concurrent-requests is 0; give 1 to 256"),
    ] {
        assert_eq!(configure(&arguments).expect_err(expected).to_string(), expected);
    }
}
