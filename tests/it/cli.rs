//! The command line as a process: exit codes, one clear line of error, tables and JSON from a server with a fake domain.

use std::process::{Command, Output};

use prost::Message;
use transferscore::{dataset::DatasetStore, gradient::onnx::ModelProto};

use super::{
    gradient::model::Model,
    support,
    transport::fake::{Fake, Running},
};

/// Some file; the fake takes any.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/models/digits-50/model.onnx");

/// Runs the command with an environment that has none of its variables.
pub fn run(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("an empty folder");
    let mut command = Command::new(env!("CARGO_BIN_EXE_transferscore"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TRANSFERSCORE_") || name == "ORT_DYLIB_PATH" {
            command.env_remove(name);
        }
    }
    command.args(arguments).current_dir(folder.path()).output().expect("the binary runs")
}

async fn run_against(running: &Running, arguments: &[&str]) -> Output {
    let mut arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    arguments.extend(["--server".to_owned(), running.address.to_string()]);
    let running = move || run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(running).await.expect("no panic")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[test]
fn exit_codes_tell_usage_from_failed_work() {
    for (arguments, code, error) in [
        (&["--version"][..], 0, ""),
        (&["score", "--help"], 0, ""),
        (&[], 2, "Usage"),
        (&["fly"], 2, "unrecognized subcommand"),
        (&["score", "a"], 2, "<REFERENCE>"),
        (&["serve", "--listen", "nowhere"], 2, "--listen"),
        (&["serve"], 2, "error: --models models: not a folder; give an existing one"),
        (&["models", "--models", ".", "--datasets", "nowhere"], 2, "error: --datasets nowhere: not a folder"),
        (&["models", "--log", "=="], 2, "error: --log"),
        (&["models", "--onnxruntime", "/x", "--models", ".", "--datasets", "."], 2, "error: --onnxruntime /x: no ONNX"),
        (&["models", "--server", "not an address"], 2, "error: not an address is not an address; give HOST:PORT"),
        (&["models", "load", "a"], 2, "--server"),
        (&["models", "--json", "load", "a"], 2, "cannot be used with"),
        (&["datasets", "upload", "nowhere.npz", "--server", "127.0.0.1:1"], 1, "error: cannot read nowhere.npz"),
        (&["serve", "--upload-models", "."], 2, "--allow-uploads"),
        (&["models", "--server", "127.0.0.1:1"], 1, "error: cannot reach 127.0.0.1:1"),
    ] {
        let output = run(arguments);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(error), "{arguments:?}: {stderr}");
        if error.starts_with("error: ") {
            assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
            assert!(output.stdout.is_empty(), "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn answers_are_tables_for_people() {
    let running = Running::start(Fake::default()).await;
    for (arguments, words) in [
        (&["models"][..], &["ok", "batchx64", "1000", "a model"][..]),
        (&["datasets"], &["digits", "1x8x8"]),
        (&["check", "ok"], &["2 x Gemm", "18", "yes"]),
        (
            &["score", "source", "ok", "--dataset", "digits"],
            &["combined, reference to source", "0.250 [0.250, 0.250]", "0.200", "linear probe, accuracy"],
        ),
        (
            &["rank", "--reference", "ok", "--dataset", "digits", "first", "second"],
            &[
                "first",
                "second",
                "0.250",
                "Recommended: first. By one score it is the best in 75 % of resamples.",
                "linear probe accuracy, and what predicts it best over the sources:",
                "combined, reference to source",
                "0.90 [0.40, 1.00]",
                "0.020",
            ],
        ),
        (
            &["compare", "ok", "other", "third", "--dataset", "digits"],
            &["third", "0.500", "affinity", "0.250", "ok, other"],
        ),
        (
            &["attack", "ok", "--dataset", "digits", "--evaluate", "other", "--epsilon", "0.1", "--epsilon", "0.2"],
            &["success on other", "0.500 (0.000 clean)", "0.100", "0.200"],
        ),
        (&["models", "load", "ok", "--dataset", "digits"], &["ok is ready for samples of 1x8x8, its outputs are 10"]),
        (&["models", "unload", "ok"], &["ok is no longer in memory"]),
        (&["models", "upload", FILE, "--name", "ok", "--overwrite"], &["uploaded ok, SHA-256 00, in place of"]),
        (&["datasets", "upload", FILE, "--name", "ok"], &["uploaded ok: 8 samples of 1x8x8, 4 classes (npz)"]),
        (&["datasets", "delete", "ok"], &["deleted ok, 5188 bytes"]),
        (
            &["finetune", "ok", "--dataset", "digits", "--mode", "whole"],
            &["0.750 [0.750, 0.750]", "6 trained on, 2 held out"],
        ),
    ] {
        let output = run_against(&running, arguments).await;
        let stdout = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stderr.is_empty(), "{arguments:?}: {}", text(&output.stderr));
        for word in words {
            assert!(stdout.contains(word), "{arguments:?} says nothing of {word:?}:\n{stdout}");
        }
    }
}

#[tokio::test]
async fn answers_are_protocol_buffer_json_for_machines() {
    let running = Running::start(Fake::default()).await;
    let json = async |arguments: &[&str]| -> Vec<serde_json::Value> {
        let output = run_against(&running, arguments).await;
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    };

    let models = json(&["models", "--json"]).await;
    assert_eq!(models[0]["models"][0]["nParameters"], "1000");
    assert_eq!(models[0]["models"][0]["outputKind"], "OUTPUT_KIND_LOGITS");
    let datasets = json(&["datasets", "--json"]).await;
    assert_eq!(datasets[0]["datasets"][0]["targetSize"], 0);
    let uploaded = json(&["models", "upload", FILE, "--name", "ok", "--json"]).await;
    assert_eq!(uploaded[0]["model"]["sizeBytes"], std::fs::metadata(FILE).expect(FILE).len().to_string());
    let check = json(&["check", "ok", "--json"]).await;
    assert_eq!(check[0]["differentiable"], true);

    let arguments = ["score", "source", "ok", "--dataset", "digits", "--json", "--epsilon", "0.1"];
    let scores = json(&arguments).await;
    assert_eq!(scores[0]["referenceToSource"]["combined"]["value"], 0.25);

    let arguments = ["rank", "--reference", "ok", "--dataset", "digits", "--json", "first", "second"];
    let events = json(&arguments).await;
    assert_eq!(events.len(), 3, "two rows and the ranking");
    assert_eq!(events[0]["row"]["sourceModel"], "first");
    assert_eq!(events[2]["ranking"]["sources"][1]["rank"], 2);

    let arguments = ["compare", "ok", "other", "--dataset", "digits", "--json", "--cluster-by", "affinity"];
    let events = json(&arguments).await;
    assert_eq!(events.len(), 1, "the comparison");
    assert_eq!(events[0]["comparison"]["rows"][1]["alpha1"][0]["value"], 0.5);
    assert_eq!(events[0]["comparison"]["clusterBy"], "TASK_MATRIX_AFFINITY");

    let arguments = ["attack", "ok", "--dataset", "digits", "--json", "--attack", "mi-fgsm", "--decay", "0.5"];
    let events = json(&arguments).await;
    assert_eq!(events.len(), 3, "examples of two radii and the summary");
    assert_eq!(events[1]["examples"]["sampleIndices"], serde_json::json!([4, 7]));
    assert_eq!(events[2]["summary"]["attack"]["method"], "ATTACK_METHOD_MI_FGSM");
    assert_eq!(events[2]["summary"]["attack"]["momentum"]["decay"], 0.5);
}

#[tokio::test]
async fn refusals_are_one_line_and_code_1() {
    let running = Running::start(Fake::default()).await;
    for (arguments, error) in [
        (
            &["score", "source", "nowhere", "--dataset", "digits"][..],
            "error: there is no model nowhere; ListModels lists those there are (MODEL_NOT_FOUND, reference_model)\n",
        ),
        (
            &["score", "source", "ok", "--dataset", "digits", "--epsilon", "-1"],
            "error: attack.epsilon is -1; give a finite number greater than 0, or leave it out for the default \
             (OPTION_OUT_OF_RANGE, attack.epsilon)\n",
        ),
    ] {
        let output = run_against(&running, arguments).await;
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(1), error), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[tokio::test]
async fn a_ranking_is_reported_as_a_page() {
    let running = Running::start(Fake::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.html");
    let arguments = ["rank", "--reference", "ok", "--dataset", "digits", "first", "second", "--by", "recommended"];
    let figures = folder.path().join("figures");
    let files = ["--report", file.to_str().unwrap(), "--figures", figures.to_str().unwrap(), "--examples", "2"];
    let output = run_against(&running, &[&arguments[..], &files].concat()).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(file).expect("the page");
    for part in [
        "ranked by the recommendation",
        "Recommended: first",
        "What predicts linear probe accuracy?",
        "<figure>",
        "TransferScoreService/RankSources",
        "&#34;reference_model&#34;:&#34;ok&#34;",
        "What an attack on ok looks like",
    ] {
        assert!(page.contains(part), "lacks {part:?}");
    }
    let figures = names_in(&folder.path().join("figures"));
    assert!(figures.contains(&"example-4.svg".to_owned()), "{figures:?}");
    assert!(figures.iter().any(|name| name.ends_with("-and-linear-probe-accuracy.svg")), "{figures:?}");
}

fn names_in(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
}

#[tokio::test]
async fn a_comparison_is_reported_as_a_page_against_known_groups() {
    let running = Running::start(Fake::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let (file, figures) = (folder.path().join("report.html"), folder.path().join("figures"));
    // The groups name the models.
    let arguments =
        ["compare", "--dataset", "digits", "--group", "far = ok, third", "--group", "near=other", "--report"];
    let arguments = [&arguments[..], &[file.to_str().unwrap(), "--figures", figures.to_str().unwrap()]].concat();
    let output = run_against(&running, &arguments).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    for words in ["adjusted Rand index", "0.625", "95 % of shuffles below", "25 %", "merges with the distances: 0.750"]
    {
        assert!(table.contains(words), "lacks {words:?}:\n{table}");
    }
    let page = std::fs::read_to_string(file).expect("the page");
    for part in ["ok (far), other (near)", "TransferScoreService/CompareTasks", "Tournament of the attacks"] {
        assert!(page.contains(part), "lacks {part:?}");
    }
    let mut figures = names_in(&figures);
    figures.sort();
    assert_eq!(figures, ["matrix-affinity.svg", "matrix-alpha1.svg", "matrix-alpha2.svg", "matrix-combined.svg"]);

    let groups = folder.path().join("groups.toml");
    std::fs::write(&groups, "far = [\"ok\", \"third\"]\nnear = [\"other\"]\n").expect("a file");
    let arguments = ["compare", "--dataset", "digits", "--json", "--group-file", groups.to_str().unwrap()];
    let output = run_against(&running, &arguments).await;
    let event: serde_json::Value = serde_json::from_str(text(&output.stdout).trim()).expect("one event");
    let agreement = &event["comparison"]["groupAgreement"];
    assert_eq!(agreement["knownGroups"][0]["models"], serde_json::json!(["ok", "third"]));
    assert_eq!(agreement["adjustedRandIndex"]["pValue"], 0.25);

    std::fs::write(&groups, "far = 3").expect("a file");
    let output =
        run_against(&running, &["compare", "--dataset", "digits", "--group-file", groups.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let output = run_against(&running, &["compare", "--dataset", "digits"]).await;
    assert_eq!(output.status.code(), Some(2), "neither models nor groups");
}

#[tokio::test]
async fn an_attack_is_reported_as_a_page() {
    let running = Running::start(Fake::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("report.html");
    let arguments = ["attack", "ok", "--dataset", "digits", "--evaluate", "other", "--report", file.to_str().unwrap()];
    let output = run_against(&running, &arguments).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = std::fs::read_to_string(file).expect("the page");
    for part in [
        "What does it take to fool ok?",
        "Within a radius of 0.100 the attack succeeds on ok in 50 % of samples; on other in 50 % of samples.",
        "Success over the radius",
        "What an attack on ok looks like",
        "Sample 4, labelled",
        "TransferScoreService/Attack<pre>",
    ] {
        assert!(page.contains(part), "lacks {part:?}");
    }
    assert_eq!(page.matches("<figcaption>Sample").count(), 2, "of the first radius alone");
}

#[tokio::test]
async fn examples_are_written_as_arrays() {
    let running = Running::start(Fake::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("examples.npz");
    let output =
        run_against(&running, &["attack", "ok", "--dataset", "digits", "--output", file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let mut archive = zip::ZipArchive::new(std::fs::File::open(file).expect("the file")).expect("an archive");
    let mut array = |name: &str| {
        let mut bytes = Vec::new();
        let mut entry = archive.by_name(&format!("{name}.npy")).expect(name);
        std::io::Read::read_to_end(&mut entry, &mut bytes).expect(name);
        bytes
    };
    let pixels = array("x");
    let pixels = npyz::NpyFile::new(pixels.as_slice()).expect("an array");
    assert_eq!(pixels.shape(), [4, 1, 1, 3]);
    let once = [0.1_f32, 0.2, 0.3, 0.4, 0.5, 0.6];
    assert_eq!(pixels.into_vec::<f32>().expect("floats"), [once, once].concat());
    let numbers = |bytes: Vec<u8>| npyz::NpyFile::new(bytes.as_slice()).expect("an array").into_vec::<f64>().unwrap();
    assert_eq!(numbers(array("epsilon")), [0.1, 0.1, 0.2, 0.2]);
    assert_eq!(numbers(array("loss")), [1.0, 2.0, 1.0, 2.0]);
    let places = |bytes: Vec<u8>| npyz::NpyFile::new(bytes.as_slice()).expect("an array").into_vec::<i64>().unwrap();
    assert_eq!(places(array("index")), [4, 7, 4, 7]);
    assert_eq!(places(array("y")), [0, 1, 0, 1]);
    assert_eq!(places(array("adversarial_class")), [2, 1, 2, 1]);
    let success = array("success");
    let success = npyz::NpyFile::new(success.as_slice()).expect("an array").into_vec::<bool>().expect("truths");
    assert_eq!(success, [true, false, true, false]);
}

#[test]
fn examples_of_a_real_network_are_a_dataset_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("attacked.npz").display().to_string();
    let (library, bundled) = (support::library().display().to_string(), concat!(env!("CARGO_MANIFEST_DIR"), "/models"));
    let datasets = format!("{bundled}/datasets");
    let places = ["--models", bundled, "--datasets", &datasets, "--onnxruntime", &library];
    let attack = ["--attack", "fgsm", "--epsilon", "0.1", "--max-samples", "30", "--evaluate", "digits-100"];
    let output = run(&[
        &["attack", "digits-reference", "--dataset", "digits", "--output", &file],
        &attack[..],
        &places,
    ]
    .concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("success on digits-100"), "{}", text(&output.stdout));
    let attacked =
        DatasetStore::open(&[folder.path().to_owned()]).expect("a folder").get("attacked").expect("a dataset");
    assert_eq!((attacked.n_samples(), attacked.shape(), attacked.n_classes()), (30, &[1, 8, 8][..], 4));
    assert!(attacked.is_pixels() && attacked.labels().is_some_and(|labels| labels.len() == 30));
}

#[test]
fn a_fine_tuned_network_is_a_model_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("tuned/model.onnx").display().to_string();
    let (library, bundled) = (support::library().display().to_string(), concat!(env!("CARGO_MANIFEST_DIR"), "/models"));
    let datasets = format!("{bundled}/datasets");
    let places = ["--models", bundled, "--datasets", &datasets, "--onnxruntime", &library, "--json"];
    let training = ["--epochs", "3", "--batch", "16", "--optimizer", "adamw", "--held-out", "0.3"];
    let tuned =
        run(&[&["finetune", "digits-75", "--dataset", "digits", "--output", &file], &training[..], &places].concat());
    assert_eq!(tuned.status.code(), Some(0), "{}", text(&tuned.stderr));
    let summary: serde_json::Value = serde_json::from_str(&text(&tuned.stdout)).expect("JSON");
    assert_eq!(summary["scores"]["curve"].as_array().map(Vec::len), Some(3));
    assert_eq!(summary["scores"]["options"]["optimizer"], "FINE_TUNE_OPTIMIZER_ADAMW");
    let bytes = std::fs::metadata(&file).expect("a file").len();
    assert_eq!(summary["sizeBytes"], bytes.to_string());
    let own = folder.path().display().to_string();
    let models = run(&["models", "--json", "--models", &own, "--datasets", &datasets, "--onnxruntime", &library]);
    let models: serde_json::Value = serde_json::from_str(&text(&models.stdout)).expect("JSON");
    assert_eq!((&models["models"][0]["name"], &models["models"][0]["problem"]), (&"tuned".into(), &"".into()));
    assert!(models["models"][0]["summary"].to_string().starts_with("\"digits-75 fine-tuned on digits"));
}

#[tokio::test]
async fn a_gradient_graph_is_written_whole() {
    let running = Running::start(Fake::default()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("gradient.onnx").display().to_string();
    let output = run_against(&running, &["gradient", "ok", "--output", &file]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(std::fs::metadata(&file).expect("the file").len(), 3_000_000);
}

#[test]
fn a_model_file_is_checked_and_differentiated_without_server_and_runtime() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/digits-reference/model.onnx");
    let output = run(&["check", model, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let check: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(check["differentiable"], true);
    assert_eq!(check["model"]["outputs"][0]["shape"], serde_json::json!(["batch", "4"]));

    for (mode, input, output_name) in
        [("vjp", "cotangent/logits", "gradient/image"), ("jvp", "tangent/image", "tangent/logits")]
    {
        let file = folder.path().join("graph.onnx").display().to_string();
        let output = run(&["gradient", model, "--output", &file, "--mode", mode]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let bytes = std::fs::read(&file).expect("the graph's file");
        let graph = transferscore::gradient::Graph::parse(bytes.into()).expect("a model");
        assert!(graph.inputs().iter().any(|port| port.name == input), "{mode}");
        assert!(graph.outputs().iter().any(|port| port.name == output_name), "{mode}");
    }

    let mut half = ModelProto::decode(std::fs::read(model).expect("the model").as_slice()).expect("a model");
    crate::gradient::model::retype(&mut half, 10);
    let path = folder.path().join("half.onnx").display().to_string();
    std::fs::write(&path, half.encode_to_vec()).expect("a file");
    for (flags, element) in [(&[][..], "float16"), (&["--float32"], "float32")] {
        let file = folder.path().join("graph.onnx").display().to_string();
        let output = run(&[&["gradient", &path, "--output", &file], flags].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr).contains("--float32"), element == "float16", "{}", text(&output.stderr));
        let bytes = std::fs::read(&file).expect("the graph's file");
        let graph = transferscore::gradient::Graph::parse(bytes.into()).expect("a model");
        for port in graph.inputs().iter().chain(&graph.outputs()) {
            assert_eq!(port.element().map(|element| element.name()), Some(element), "{}", port.name);
        }
    }

    let garbage = folder.path().join("garbage.onnx");
    std::fs::write(&garbage, b"not a model").expect("a file");
    for path in [garbage, folder.path().join("missing.onnx")] {
        let path = path.display().to_string();
        let output = run(&["check", &path]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with(&format!("error: {path}: ")) && stderr.lines().count() == 1, "{stderr}");
    }
}

/// `check --verify` on a file.
fn verified(file: &str, more: &[&str]) -> Output {
    let library = support::library().display().to_string();
    run(&[&["check", file, "--verify", "--onnxruntime", &library], more].concat())
}

#[test]
fn derivatives_are_measured_and_wrong_ones_fail() {
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/models/digits-reference/model.onnx");
    let output = verified(bundled, &["--json", "--seed", "5"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let measured: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(measured["passes"], true, "{measured}");
    assert_eq!(measured["precision"], "float64");
    let agreement = &measured["agreements"][0];
    assert_eq!((&agreement["input"], &agreement["output"]), (&"image".into(), &"logits".into()));
    for error in ["tangentError", "gradientError", "adjointError"] {
        let error = agreement[error].as_f64().expect(error);
        assert!((0.0..1e-6).contains(&error), "{agreement}");
    }
    let table = verified(bundled, &[]);
    assert!(text(&table.stdout).contains("vjp error") && table.status.success(), "{}", text(&table.stdout));

    // A staircase of a step far below that of the difference rises like x, and has the derivative 0 everywhere.
    let staircase = Model::new(18)
        .input("x", "n,4")
        .floats("many", &[], &[1e12])
        .node("Mul", &["x", "many"], &["m"], &[])
        .node("Floor", &["m"], &["f"], &[])
        .node("Div", &["f", "many"], &["d"], &[])
        .node("Add", &["x", "d"], &["y"], &[])
        .output("y");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staircase.onnx").display().to_string();
    std::fs::write(&file, staircase.bytes()).expect("a file");
    let output = verified(&file, &["--json"]);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with(&format!("error: {file}: the largest relative error is 5.0e-1, more")), "{stderr}");
    let measured: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&measured["passes"], &measured["agreements"][0]["kinkNear"]), (&false.into(), &false.into()));
}

#[test]
fn placeholders_of_weights_can_be_measured_with_random_ones() {
    let model = Model::new(13)
        .input("x", "n,3,6,6")
        .integers("shape", &[4, 3, 3, 3])
        .floats("bias", &[4], &[0.5; 4])
        .node("ConstantOfShape", &["shape"], &["w"], &[])
        .node("Conv", &["x", "w", "bias"], &["c"], &[])
        .node("Sigmoid", &["c"], &["y"], &[])
        .output("y");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("placeholders.onnx").display().to_string();
    std::fs::write(&file, model.bytes()).expect("a file");
    for (more, constant) in [(&["--json"][..], true), (&["--json", "--random-weights"], false)] {
        let output = verified(&file, more);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let measured: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(measured["agreements"][0]["constant"], constant, "{measured}");
    }
    let bundled = concat!(env!("CARGO_MANIFEST_DIR"), "/models/digits-reference/model.onnx");
    let refused = verified(bundled, &["--random-weights"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("no weight has one value"), "{}", text(&refused.stderr));
}
