//! Clients that other people wrote, against the real server: grpcurl, Python's grpcio, and buf on the interface.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::server_process::{ServerProcess, repository};

/// A program of the test clients' environment; none, with a line that says so, where it could not be set up.
///
/// # Panics
/// Under CI, where a missing client is a failure.
fn client(program: &str) -> Option<PathBuf> {
    let path = repository(".venv/bin").join(program);
    if repository(".venv/stamp").exists() && path.exists() {
        return Some(path);
    }
    let missing = format!("{program} is not in .venv/: run \"make clients\"");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
    eprintln!("skipped: {missing}");
    None
}

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

/// What a program that must succeed wrote to its standard output.
fn stdout(program: &Path, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr).into_owned());
    assert!(output.status.success(), "{arguments:?}: {}\n{out}{err}", output.status);
    out
}

#[test]
fn buf_finds_nothing_to_lint_in_the_interface() {
    let Some(buf) = client("buf") else { return };
    stdout(&buf, &["lint"]);
}

#[test]
fn buf_finds_the_interface_that_clients_were_promised() {
    let Some(buf) = client("buf") else { return };
    let promised = repository("tests/clients/interface.binpb");
    let promised = promised.to_str().unwrap();
    stdout(&buf, &["breaking", "--against", promised]);

    // It tells when a field gets another name, number or type.
    let changed = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(changed.path().join("proto/transferscore/v1")).unwrap();
    std::fs::copy(repository("buf.yaml"), changed.path().join("buf.yaml")).unwrap();
    for file in std::fs::read_dir(repository("proto/transferscore/v1")).unwrap() {
        let file = file.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap();
        let text = text.replace("string sha256 = 2;", "bytes sha256 = 2;").replace("bool overwrite = 5;", "");
        std::fs::write(changed.path().join("proto/transferscore/v1").join(file.file_name()), text).unwrap();
    }
    let output = run(&buf, &["breaking", changed.path().to_str().unwrap(), "--against", promised]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success());
    for change in ["field \"5\" with name \"overwrite\"", "Field \"2\" with name \"sha256\""] {
        assert!(told.contains(change), "{change} is not told: {told}");
    }
}

#[test]
fn grpcurl_lists_and_describes_the_services() {
    let Some(grpcurl) = client("grpcurl") else { return };
    let server = ServerProcess::start_bundled();
    let listed = stdout(&grpcurl, &["-plaintext", &server.address, "list"]);
    let services: Vec<&str> = listed.lines().collect();
    for service in [
        "grpc.health.v1.Health",
        "transferscore.v1.DatasetService",
        "transferscore.v1.JobService",
        "transferscore.v1.ModelService",
        "transferscore.v1.TransferScoreService",
    ] {
        assert!(services.contains(&service), "{service} is not among {services:?}");
    }

    let described =
        stdout(&grpcurl, &["-plaintext", &server.address, "describe", "transferscore.v1.TransferScoreService"]);
    assert!(described.contains("returns ( stream .transferscore.v1.RankSourcesResponse )"), "{described}");
}

#[test]
fn grpcurl_needs_three_strings_for_a_score() {
    let Some(grpcurl) = client("grpcurl") else { return };
    let server = ServerProcess::start_bundled();
    let request = json!({"source_model": "digits-50", "reference_model": "digits-reference", "dataset": "digits"});
    let answer = stdout(
        &grpcurl,
        &[
            "-plaintext",
            "-d",
            &request.to_string(),
            &server.address,
            "transferscore.v1.TransferScoreService/TransferScore",
        ],
    );
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let golden: Value =
        serde_json::from_str(&std::fs::read_to_string(repository("tests/golden/digits.json")).unwrap()).unwrap();
    for (ours, theirs) in [("sourceToReference", "source_to_reference"), ("referenceToSource", "reference_to_source")] {
        for metric in ["alpha1", "alpha2", "combined"] {
            let expected = golden["sources"]["digits-50"][theirs][metric].as_f64().unwrap();
            let value = answer[ours][metric]["value"].as_f64().unwrap();
            assert!((value - expected).abs() < 1e-4, "{ours}.{metric}: {value}, the oracle says {expected}");
        }
    }
    assert_eq!(answer["provenance"]["nSamples"], 182);
}

#[test]
fn grpcurl_shows_what_is_wrong_with_a_request() {
    let Some(grpcurl) = client("grpcurl") else { return };
    let server = ServerProcess::start_bundled();
    let ask = |request: Value| -> Value {
        let output = run(
            &grpcurl,
            &[
                "-plaintext",
                "-format-error",
                "-d",
                &request.to_string(),
                &server.address,
                "transferscore.v1.TransferScoreService/TransferScore",
            ],
        );
        assert!(!output.status.success(), "{request} was accepted");
        serde_json::from_slice(&output.stderr).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
    };
    let reason = |status: &Value| -> Option<Value> {
        let details = status["details"].as_array()?;
        details.iter().find(|detail| detail["@type"] == "type.googleapis.com/google.rpc.ErrorInfo").cloned()
    };

    let unknown = ask(json!({"source_model": "digits-49", "reference_model": "digits-reference", "dataset": "digits"}));
    assert_eq!(unknown["code"], 5, "{unknown}");
    assert!(unknown["message"].as_str().unwrap().contains("digits-49"), "{unknown}");
    assert_eq!(reason(&unknown).unwrap()["reason"], "MODEL_NOT_FOUND", "{unknown}");

    let negative = ask(json!({
        "source_model": "digits-50", "reference_model": "digits-reference", "dataset": "digits",
        "attack": {"epsilon": -1.0},
    }));
    assert_eq!(negative["code"], 3, "{negative}");
    assert_eq!(reason(&negative).unwrap()["reason"], "OPTION_OUT_OF_RANGE", "{negative}");
}

#[test]
fn a_python_client_works_from_the_proto_files_alone() {
    let Some(python) = client("python") else { return };
    let server = ServerProcess::start_bundled();
    let script = repository("tests/clients/client.py");
    let proto = repository("proto");
    let said = stdout(&python, &[script.to_str().unwrap(), &server.address, proto.to_str().unwrap()]);
    assert!(said.ends_with("8 checks passed\n"), "{said}");
}
