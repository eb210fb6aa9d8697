//! Which device is taken, what is said where it cannot be, and which nodes it runs.

use std::process::Command;

use clap::Parser;
use transferscore::config::{ConfigError, DeviceArgs, DeviceChoice, DeviceConfig, Precision};

use crate::{gradient::model::Model, support};

const BINARY: &str = env!("CARGO_BIN_EXE_transferscore");

#[derive(Debug, Parser)]
struct Flags {
    #[command(flatten)]
    device: DeviceArgs,
}

fn configured(words: &[&str]) -> Result<DeviceConfig, ConfigError> {
    let flags = Flags::try_parse_from(["transferscore"].iter().chain(words)).unwrap_or_else(|error| panic!("{error}"));
    DeviceConfig::new(flags.device)
}

#[test]
fn devices_are_named_in_one_way() {
    let choice = |text: &str| text.parse::<DeviceChoice>();
    for (text, expected) in [
        ("auto", DeviceChoice::Auto),
        ("cpu", DeviceChoice::Cpu),
        ("cuda:0", DeviceChoice::Cuda(vec![0])),
        ("cuda:1,cuda:0", DeviceChoice::Cuda(vec![1, 0])),
        ("rehearsal", DeviceChoice::Rehearsal),
    ] {
        let read = choice(text).unwrap();
        assert_eq!((&read, read.to_string().as_str()), (&expected, text));
    }
    assert_eq!(choice("cuda").unwrap(), DeviceChoice::Cuda(vec![0]));
    for text in ["", "gpu", "CUDA", "cuda:", "cuda:-1", "cuda:64", "cuda:0,", "cuda:0,cpu", "cuda:0x1", "0"] {
        let error = choice(text).unwrap_err();
        assert!(error.contains("give auto, cpu, cuda, or cards from cuda:0"), "{text}: {error}");
    }
    assert!(choice("cuda:1,cuda:1").unwrap_err().contains("name each card once"));
}

#[test]
fn settings_of_cards_are_checked() {
    let config =
        configured(&["--device", "cuda:1", "--device-memory", "4096", "--precision", "tf32", "--channels-last"]);
    let expected = DeviceConfig {
        choice: DeviceChoice::Cuda(vec![1]),
        memory_bytes: Some(4 << 30),
        precision: Precision::Tf32,
        channels_last: true,
        cuda_graphs: false,
    };
    assert_eq!(config, Ok(expected));
    assert_eq!(configured(&[]), Ok(DeviceConfig::default()));
    let small = configured(&["--device-memory", "1"]).unwrap_err();
    assert!(small.to_string().starts_with("--device-memory is 1; give 256 to"), "{small}");
    let several = configured(&["--device", "cuda:0,cuda:1", "--cuda-graphs"]).unwrap_err().to_string();
    assert_eq!(several, "--cuda-graphs is for one graphics card; name one with --device, or leave it out");
    for flags in [["--precision", "tf32"], ["--device-memory", "1000"], ["--cuda-graphs", "true"]] {
        let flags: Vec<&str> = if flags[1] == "true" { vec![flags[0]] } else { flags.to_vec() };
        let error = configured(&[&["--device", "cpu"], &flags[..]].concat()).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("{} is for graphics cards, and --device is cpu; leave one of them out", flags[0])
        );
    }
}

/// A bundled model's file in a folder of its own.
fn model() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    let convolution = Model::new(17).input("x", "n,3,8,8").weight("w", &[4, 3, 3, 3]);
    let model = convolution.node("Conv", &["x", "w"], &["c"], &[]).node("Relu", &["c"], &["y"], &[]).output("y");
    std::fs::write(&path, model.bytes()).unwrap();
    (folder, path)
}

fn check(device: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let (_folder, path) = model();
    let mut command = Command::new(BINARY);
    command
        .args(["check", path.to_str().unwrap(), "--device", device])
        .args(more)
        .env("ORT_DYLIB_PATH", support::library());
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn where_each_node_runs_is_told() {
    for (device, adjoint) in [("cpu", "Conv"), ("rehearsal", "ConvTranspose")] {
        let (code, output, errors) = check(device, &["--json"]);
        assert_eq!(code, Some(0), "{errors}");
        let told: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(told["provider"], "CPUExecutionProvider");
        let operators = told["operators"].as_array().unwrap();
        assert!(operators.iter().all(|row| row["provider"] == "CPUExecutionProvider"), "{output}");
        let has = |name: &str| operators.iter().any(|row| row["operator"] == name);
        assert!(has(adjoint) && has("ConvTranspose") == (adjoint == "ConvTranspose"), "{output}");
        let (_, table, _) = check(device, &[]);
        assert!(table.contains("runs on") && table.contains(adjoint), "{table}");
    }
}

#[test]
fn a_card_that_does_not_work_is_refused_with_what_mends_it() {
    let (code, _, errors) = check("cuda:0", &[]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.starts_with("error: device cuda:0 cannot be used: "), "{errors}");
    assert!(["make setup DEVICE=cuda", "CUDA 13", "driver"].iter().any(|mend| errors.contains(mend)), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn nodes_are_told_of_files_only_and_measured_on_the_processor_only() {
    let (_folder, path) = model();
    let refused = |words: &[&str]| {
        let output = Command::new(BINARY).arg("check").args(words).args(["--device", "cpu"]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, errors) = refused(&["digits-50"]);
    assert!(code == Some(2) && errors.contains("--device needs the path of an .onnx file"), "{errors}");
    let (code, errors) = refused(&[path.to_str().unwrap(), "--verify"]);
    assert!(code == Some(2) && errors.contains("leave --device out"), "{errors}");
}
