//! Settings: flags over environment over a file over defaults.

use std::{path::Path, process::Command};

use tempfile::TempDir;

use super::certificates::put;
use crate::{server_process::repository, support};

/// What `serve --check-config` says: exit code, output and errors.
fn check(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_transferscore"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TRANSFERSCORE_")) {
        command.env_remove(name);
    }
    let output = command
        .args(["serve", "--check-config"])
        .args(arguments)
        .env("ORT_DYLIB_PATH", support::library())
        .envs(variables.iter().copied())
        .current_dir(folder)
        .output()
        .expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A file of settings with the bundled models.
fn settings(folder: &Path, further: &str) -> String {
    let (models, datasets) = (repository("models"), repository("models/datasets"));
    let text = format!("models = [{models:?}]\ndatasets = {datasets:?}\nlog = \"warn\"\n{further}");
    put(folder, "settings.toml", &text).display().to_string()
}

#[test]
fn flags_come_before_the_environment_before_the_file_before_defaults() {
    let folder = TempDir::new().expect("a folder");
    let path = settings(folder.path(), "threads = 3\nsample-limit = 33\nqueued-requests = 5\n");
    let environment = [("TRANSFERSCORE_THREADS", "4"), ("TRANSFERSCORE_SAMPLE_LIMIT", "44")];
    let (code, output, errors) = check(folder.path(), &environment, &["--config", &path, "--threads", "5"]);
    assert_eq!(code, Some(0), "{errors}");
    for line in ["threads = 5", "sample-limit = 44", "queued-requests = 5", "concurrent-requests = 2"] {
        assert!(output.lines().any(|found| found == line), "{line} is not in\n{output}");
    }

    // What it prints is a file of settings that says the same.
    let again = put(folder.path(), "again.toml", &output).display().to_string();
    assert_eq!(check(folder.path(), &[("TRANSFERSCORE_CONFIG", &again)], &[]).1, output);
}

#[test]
fn settings_that_make_no_sense_are_one_line_that_names_them() {
    let folder = TempDir::new().expect("a folder");
    let pem = put(folder.path(), "nonsense.pem", "nonsense").display().to_string();
    for (further, expected) in [
        ("thread = 1", "settings.toml: there is no setting thread; those there are: allow-uploads, batch-size"),
        ("config = \"x\"", "there is no setting config"),
        ("threads = 0", "settings.toml: invalid value '0' for '--threads <N>'"),
        ("threads = {}", "threads is neither a plain value nor a list of such"),
        ("threads =", "settings.toml: "),
        ("drain-seconds = 100000", "--drain-seconds is 100000; give 0 to 86400"),
        ("tls-cert = \"a.pem\"", "--tls-cert takes --tls-key too"),
        ("web-origin = \"*\"", "--web-origin *: not the origin of a web page"),
        (format!("tls-cert = {pem:?}\ntls-key = {pem:?}").as_str(), "nonsense.pem: "),
        ("tokens = \"nowhere.toml\"", "nowhere.toml: cannot be read"),
        ("traces = \"nowhere\"", "--traces nowhere: not the address of a collector"),
        ("traces = \"http://localhost:4318/v1/traces\"", "without a path"),
    ] {
        let path = settings(folder.path(), further);
        let (code, output, errors) = check(folder.path(), &[], &["--config", &path]);
        assert_eq!(code, Some(2), "{further}: {output}{errors}");
        assert!(errors.starts_with("error: ") && errors.contains(expected), "{further}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
    let (code, _, errors) = check(folder.path(), &[], &["--config", "nowhere.toml"]);
    assert_eq!(code, Some(2));
    assert!(errors.contains("nowhere.toml"), "{errors}");
}

#[test]
fn traces_take_a_program_that_was_built_with_them() {
    let folder = TempDir::new().expect("a folder");
    let path = settings(folder.path(), "traces = \"http://localhost:4317\"");
    let (code, output, errors) = check(folder.path(), &[], &["--config", &path]);
    if cfg!(feature = "opentelemetry") {
        assert_eq!(code, Some(0), "{errors}");
        assert!(output.lines().any(|line| line == "traces = \"http://localhost:4317\""), "{output}");
    } else {
        assert_eq!(code, Some(2), "{output}");
        let expected = "error: --traces: this program was built without it; build it with --features opentelemetry\n";
        assert_eq!(errors, expected);
    }
}
