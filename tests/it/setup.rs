//! The set-up script: nothing is fetched twice, damage is noticed, and a failure is one line.

use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::server_process::repository;

/// A repository with nothing but the script.
fn empty_repository() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join(".ci")).unwrap();
    std::fs::copy(repository(".ci/setup-onnxruntime"), folder.path().join(".ci/setup-onnxruntime")).unwrap();
    folder
}

/// The same with ONNX Runtime already there, as the script leaves it.
fn provisioned_repository() -> TempDir {
    let folder = empty_repository();
    let there = repository(".onnxruntime");
    assert!(there.exists(), "ONNX Runtime is not in .onnxruntime/: run \"make setup\"");
    std::fs::create_dir(folder.path().join(".onnxruntime")).unwrap();
    for entry in std::fs::read_dir(there).unwrap() {
        let entry = entry.unwrap();
        symlink(entry.path(), folder.path().join(".onnxruntime").join(entry.file_name())).unwrap();
    }
    folder
}

fn set_up_offline(root: &Path) -> Output {
    set_up_offline_for(root, &[])
}

fn set_up_offline_for(root: &Path, device: &[&str]) -> Output {
    Command::new("python3")
        .arg(root.join(".ci/setup-onnxruntime"))
        .args(device)
        .env("PIP_NO_INDEX", "1")
        .env("PIP_FIND_LINKS", "")
        .output()
        .unwrap()
}

#[test]
fn set_up_without_a_network_fails_with_one_line_and_leaves_nothing() {
    let folder = empty_repository();
    let output = set_up_offline(folder.path());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert!(error.starts_with("error: ") && error.contains("run \"make setup\" again"), "{error}");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [".ci"]);
}

#[test]
fn set_up_needs_no_network_when_everything_is_there() {
    let folder = provisioned_repository();
    let output = set_up_offline(folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.is_empty());
}

#[test]
fn set_up_does_not_accept_a_damaged_library() {
    let folder = provisioned_repository();
    let licence = folder.path().join(".onnxruntime/LICENSE");
    std::fs::remove_file(&licence).unwrap();
    std::fs::write(&licence, "something else").unwrap();
    assert_eq!(set_up_offline(folder.path()).status.code(), Some(1));
}

#[test]
fn set_up_for_another_device_takes_another_library_and_leaves_the_one_there_until_it_has_it() {
    let folder = provisioned_repository();
    for (device, expected) in
        [("cuda", "run \"make setup\" again"), ("tpu", "'tpu' is no device; give one of cpu, cuda")]
    {
        let output = set_up_offline_for(folder.path(), &[device]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(expected) || (device == "cuda" && error.contains("is not published for")), "{error}");
    }
    assert!(set_up_offline_for(folder.path(), &["cpu"]).status.success());
}
