//! Models on disk: names, manifests, versions, and what lies outside the folders.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use transferscore::{
    error::{Error, Kind, Reason},
    limits,
    registry::{
        Features, Layout, Manifest, Name, OutputKind, Registry, RegistryError, ShelfError, VersionCache, close_names,
    },
};

fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

fn open(dir: &Path) -> Registry {
    Registry::open(&[dir.to_owned()]).unwrap()
}

#[test]
fn a_name_is_one_plain_path_component() {
    let long = "a".repeat(limits::NAME_BYTES);
    for good in ["a", "ResNet-18_v1.5", "0", &long] {
        assert_eq!(Name::parse(good).unwrap().as_str(), good);
    }
    let too_long = format!("{long}a");
    for bad in ["", ".", "..", ".hidden", "a/b", "../a", "a\\b", "a b", "a\0", "é", "a\n", &too_long] {
        assert!(Name::parse(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn close_names_are_those_within_a_third_of_edits_nearest_first() {
    let known = ["resnet-18", "resnet-50", "vgg", "lenet", "resnet-18-wide"];
    assert_eq!(close_names("resnet-81", known), ["resnet-18", "resnet-50"]);
    assert_eq!(close_names("RESNET-18", known), ["resnet-18", "resnet-50", "resnet-18-wide"]);
    assert_eq!(close_names("vg", known), ["vgg"]);
    assert!(close_names("transformer", known).is_empty());
    assert!(close_names("", known).is_empty());
}

#[test]
fn folders_with_a_model_and_bare_files_are_models_and_nothing_else_is() {
    let dir = folder(&[
        ("b/model.onnx", b"B"),
        ("b/other.onnx", b"-"),
        ("a.onnx", b"A"),
        ("empty/readme.md", b"-"),
        ("notes.txt", b"-"),
        (".hidden/model.onnx", b"-"),
        ("deep/er/model.onnx", b"-"),
    ]);
    let registry = open(dir.path());
    assert_eq!(registry.names(), ["a", "b"]);
    let model = registry.get("b").unwrap();
    assert_eq!((model.name(), model.bytes().as_ref(), model.size_bytes()), ("b", b"B".as_slice(), 1));
    // sha256sum of the byte "B".
    assert_eq!(model.digest().to_string(), "df7e70e5021544f4834bbee64a9e3789febc4be81470df629cad6ddb03320a5c");
    assert_eq!(*model.manifest(), Manifest::default());
}

#[test]
fn a_name_in_two_places_is_refused_with_both_named() {
    let one = folder(&[("a.onnx", b"1"), ("twice.onnx", b"1")]);
    let two = folder(&[("twice/model.onnx", b"2")]);
    let folders = [one.path().to_owned(), two.path().to_owned()];
    let message = Registry::open(&folders).unwrap_err().to_string();
    assert!(message.contains("twice.onnx") && message.contains(&two.path().display().to_string()), "{message}");

    // One that turns up later spoils its own name only.
    let three = folder(&[]);
    let registry = Registry::open(&[one.path().to_owned(), three.path().to_owned()]).unwrap();
    fs::write(three.path().join("twice.onnx"), b"3").unwrap();
    assert!(matches!(registry.get("twice"), Err(RegistryError::Shelf(ShelfError::Ambiguous { .. }))));
    let problems: Vec<bool> = registry.list().iter().map(|listed| listed.problem.is_some()).collect();
    assert_eq!(problems, [false, true]);
    registry.get("a").unwrap();
    // The same folder twice is one folder.
    Registry::open(&[one.path().to_owned(), one.path().join(".")]).unwrap();
}

#[test]
fn an_unknown_name_is_not_found_and_close_names_are_suggested() {
    let dir = folder(&[("resnet-18.onnx", b"1")]);
    let registry = open(dir.path());
    let error = Error::from(registry.get("resnet-81").unwrap_err());
    assert_eq!((error.reason, error.kind()), (Reason::ModelNotFound, Kind::NotFound));
    assert!(error.message.contains("did you mean resnet-18?"), "{error}");
    for name in ["", "../resnet-18", "/etc/passwd", "resnet-18/../resnet-18", &"x".repeat(10_000)] {
        let error = Error::from(registry.get(name).unwrap_err());
        assert_eq!(error.reason, Reason::ModelNotFound, "{name}");
        assert!(error.message.len() < 500, "a long name is echoed whole");
    }
}

#[test]
fn a_missing_folder_is_named() {
    let message = Registry::open(&[PathBuf::from("/no/such/folder")]).unwrap_err().to_string();
    assert!(message.contains("model folder /no/such/folder"), "{message}");
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_listed_with_their_problem_and_refused() {
    use std::os::unix::fs::symlink;
    let outside = folder(&[("secret.onnx", b"S"), ("whole/model.onnx", b"S"), ("model.toml", b"summary = 'S'")]);
    let dir = folder(&[("real.onnx", b"R"), ("kept/model.onnx", b"K")]);
    let at = |name: &str| dir.path().join(name);
    symlink(outside.path().join("secret.onnx"), at("file.onnx")).unwrap();
    symlink(outside.path().join("whole"), at("whole")).unwrap();
    symlink(outside.path().join("model.toml"), at("kept/model.toml")).unwrap();
    symlink("nowhere.onnx", at("dangling.onnx")).unwrap();
    symlink("real.onnx", at("alias.onnx")).unwrap();
    let registry = open(dir.path());
    for name in ["file", "whole", "kept"] {
        let error = registry.get(name).unwrap_err();
        assert!(matches!(error, RegistryError::Shelf(ShelfError::Escapes { .. })), "{name}: {error}");
        assert!(!error.to_string().contains(&outside.path().display().to_string()), "tells where the link leads");
    }
    assert!(matches!(registry.get("dangling"), Err(RegistryError::Shelf(ShelfError::Unreadable { .. }))));
    assert_eq!(registry.get("alias").unwrap().bytes().as_ref(), b"R");
    let listed: Vec<(String, bool)> =
        registry.list().into_iter().map(|listed| (listed.name, listed.problem.is_some())).collect();
    let expected =
        [("alias", false), ("dangling", true), ("file", true), ("kept", false), ("real", false), ("whole", true)];
    assert_eq!(listed, expected.map(|(name, problem)| (name.to_owned(), problem)));
}

#[test]
fn a_replaced_file_becomes_a_new_version_and_the_old_one_lives_on() {
    let dir = folder(&[("a/model.onnx", b"old")]);
    let registry = open(dir.path());
    let old = registry.get("a").unwrap();
    assert!(Arc::ptr_eq(&old, &registry.get("a").unwrap()), "an unchanged file is read again");

    fs::write(dir.path().join("a/model.onnx"), b"newer").unwrap();
    let new = registry.get("a").unwrap();
    assert_eq!((old.bytes().as_ref(), new.bytes().as_ref()), (b"old".as_slice(), b"newer".as_slice()));
    assert_ne!(old.digest(), new.digest());

    // Same length, same moment: a rename over the file is noticed all the same.
    fs::write(dir.path().join("next"), b"other").unwrap();
    fs::rename(dir.path().join("next"), dir.path().join("a/model.onnx")).unwrap();
    assert_eq!(registry.get("a").unwrap().bytes().as_ref(), b"other");

    fs::write(dir.path().join("a/model.toml"), b"summary = 'now with a manifest'").unwrap();
    assert_eq!(registry.get("a").unwrap().manifest().summary, "now with a manifest");

    fs::write(dir.path().join("b.onnx"), b"B").unwrap();
    registry.get("b").unwrap();
    fs::remove_dir_all(dir.path().join("a")).unwrap();
    assert!(registry.get("a").is_err());
    assert_eq!(registry.names(), ["b"]);
}

#[test]
fn broken_models_stay_listed_and_say_what_is_wrong() {
    let dir =
        folder(&[("void.onnx", b""), ("m/model.onnx", b"M"), ("m/model.toml", b"colour = 1"), ("a b.onnx", b"-")]);
    let huge = fs::File::create(dir.path().join("huge.onnx")).unwrap();
    // Sparse: takes no space.
    huge.set_len(limits::MODEL_BYTES + 1).unwrap();
    let registry = open(dir.path());
    assert_eq!(registry.names(), ["a b", "huge", "m", "void"]);
    let expected = [
        ("void", "void.onnx is empty"),
        ("m", "m/model.toml, line 1: unknown field `colour`"),
        ("huge", "more than the 2147483648 allowed"),
        ("a b", "the name contains ' '"),
    ];
    for (name, part) in expected {
        let message = registry.get(name).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
        assert!(!message.contains(&dir.path().display().to_string()), "tells where the folder lies: {message}");
    }
    assert_eq!(Error::from(registry.get("m").unwrap_err()).kind(), Kind::FailedPrecondition);
}

#[test]
fn a_manifest_is_read_as_documented() {
    let text = r#"
        summary = "CIFAR-10, CC0"
        [input]
        size = [32, 48]
        mean = [0.49, 0.48, 0.45]
        std = [0.25, 0.24, 0.26]
        layout = "nhwc"
        [output]
        kind = "embedding"
        classes = ["cat", "dog"]
        features = "pool"
        accuracy = 0.93
    "#;
    let manifest = Manifest::parse("model.toml", text.as_bytes()).unwrap();
    assert_eq!(manifest.summary, "CIFAR-10, CC0");
    assert_eq!((manifest.input.size, manifest.input.layout), (Some([32, 48]), Layout::Nhwc));
    let normalisation = manifest.input.normalisation.unwrap();
    assert_eq!((normalisation.mean, normalisation.std), (vec![0.49, 0.48, 0.45], vec![0.25, 0.24, 0.26]));
    assert_eq!(manifest.output.kind, Some(OutputKind::Embedding));
    assert_eq!(manifest.output.classes, ["cat", "dog"]);
    assert_eq!(manifest.output.features, Features::Tensor("pool".to_owned()));
    assert_eq!(manifest.output.accuracy, Some(0.93));
    // A mean without deviations, and the reverse, leave the other neutral.
    let half = |text: &str| Manifest::parse("f", text.as_bytes()).unwrap().input.normalisation.unwrap();
    assert_eq!(half("[input]\nmean = [0.5, 0.25]").std, [1.0, 1.0]);
    assert_eq!(half("[input]\nstd = [0.5]").mean, [0.0]);
    assert_eq!(Manifest::parse("f", b"[output]\nfeatures = 'auto'").unwrap().output.features, Features::Auto);
}

#[test]
fn a_manifest_is_written_as_it_is_read() {
    let full = "summary = \"of \\\"digits\\\"\"\n\n[input]\nsize = [32, 24]\nmean = [0.49, 1e-7]\nstd = [0.25, 2.0]\n\
                layout = \"nhwc\"\n\n[output]\nkind = \"dense\"\nclasses = [\"a\", \"b\"]\nfeatures = \"pool\"\naccuracy = 0.75\n";
    let manifest = Manifest::parse("f", full.as_bytes()).unwrap();
    assert_eq!(Manifest::parse("f", manifest.to_toml().as_bytes()).unwrap(), manifest);
    assert_eq!(Manifest::default().to_toml(), "summary = \"\"\n");
}

#[test]
fn a_bad_manifest_names_file_key_and_mend() {
    let expected: [(&[u8], &str); 16] = [
        (b"\xff", "f.toml: not UTF-8"),
        (b"summary = 'a'\n[input", "f.toml, line 2:"),
        (b"[input]\nsizes = [1, 2]", "f.toml, line 2: unknown field `sizes`"),
        (b"[output]\nkind = 'logit'", "unknown variant `logit`, expected one of `logits`, `embedding`, `dense`"),
        (b"summary = \"a\\nb\"", "f.toml: summary has line breaks"),
        (b"[input]\nsize = [32]", "input.size is [32]; give [height, width]"),
        (b"[input]\nsize = [32, 32, 3]", "input.size is [32, 32, 3]"),
        (b"[input]\nsize = [-1, 32]", "input.size is [-1, 32]"),
        (b"[input]\nsize = [32, 100000]", "each from 1 to 8192"),
        (b"[input]\nmean = [0.5]\nstd = [0.5, 0.5]", "input.std has 2 values, input.mean 1"),
        (b"[input]\nmean = [nan]", "input.mean contains NaN"),
        (b"[input]\nmean = []", "input.mean has 0 values"),
        (b"[input]\nstd = [0.0]", "input.std contains 0; give positive numbers"),
        (b"[output]\nclasses = ['a', ' ']", "output.classes has an empty name at place 1"),
        (b"[output]\naccuracy = 93.0", "output.accuracy is 93; give a share from 0 to 1"),
        (b"[output]\naccuracy = nan", "output.accuracy is NaN; give a share"),
    ];
    for (text, part) in expected {
        let message = Manifest::parse("f.toml", text).unwrap_err().to_string();
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
    let deep = format!("summary = {}1", "[".repeat(100_000));
    Manifest::parse("f.toml", deep.as_bytes()).unwrap_err();
}

#[test]
fn the_cache_forgets_the_least_recently_used_and_stays_within_its_bound() {
    let cache: VersionCache<u32, &str> = VersionCache::new("tested", 10);
    let value = |text: &'static str| Arc::new(text);
    cache.put("a", 1, &value("a"), 4);
    cache.put("b", 1, &value("b"), 4);
    assert!(cache.get("a", &1).is_some());
    cache.put("c", 1, &value("c"), 4);
    assert!(cache.get("b", &1).is_none(), "the least recently used stays");
    assert!(cache.get("a", &1).is_some() && cache.get("c", &1).is_some());
    assert_eq!(cache.bytes(), 8);
    assert!(cache.get("a", &2).is_none(), "an old version passes for a new one");
    cache.put("a", 2, &value("a2"), 6);
    assert_eq!((cache.bytes(), *cache.get("a", &2).unwrap()), (10, "a2"));
    cache.put("a", 3, &value("too large"), 11);
    assert!(cache.get("a", &3).is_none() && cache.get("a", &2).is_none());
    assert_eq!(cache.bytes(), 4);
}

#[test]
fn files_beside_a_model_belong_to_its_version() {
    use prost::Message;
    use transferscore::gradient::{
        Graph,
        onnx::{GraphProto, ModelProto, OperatorSetIdProto, StringStringEntryProto, TensorProto},
    };
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let tensor = TensorProto {
        name: "w".into(),
        dims: vec![2],
        data_type: 1,
        external_data: vec![entry("location", "model.data")],
        data_location: 1,
        ..Default::default()
    };
    let graph = GraphProto { initializer: vec![tensor], ..Default::default() };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 13 }];
    let model = ModelProto { graph: Some(graph), opset_import, ..Default::default() }.encode_to_vec();
    let dir = folder(&[("m/model.onnx", model.as_slice())]);
    let registry = open(dir.path());
    let parse = |registry: &Registry| {
        let snapshot = registry.get("m").unwrap();
        let graph = Graph::parse_with(snapshot.bytes().clone(), &|path| snapshot.external(path));
        (snapshot.digest(), graph.map(|graph| graph.n_parameters()))
    };
    let (missing, graph) = parse(&registry);
    assert!(graph.unwrap_err().to_string().contains("`model.data` is not in the model's folder"));
    fs::write(dir.path().join("m/model.data"), [0u8; 8]).unwrap();
    let (first, graph) = parse(&registry);
    assert_eq!(graph.unwrap(), 2);
    assert!(Arc::ptr_eq(&registry.get("m").unwrap(), &registry.get("m").unwrap()));
    fs::write(dir.path().join("m/other"), [1u8; 8]).unwrap();
    fs::rename(dir.path().join("m/other"), dir.path().join("m/model.data")).unwrap();
    let (second, _) = parse(&registry);
    assert!(missing != first && first != second);
    #[cfg(unix)]
    {
        fs::remove_file(dir.path().join("m/model.data")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.path().join("m/model.data")).unwrap();
        assert!(matches!(registry.get("m"), Err(RegistryError::Shelf(ShelfError::Escapes { .. }))));
    }
}
