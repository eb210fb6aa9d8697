//! Experiments through the real binary: calls of a folder, kept as they finish.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;

use super::{
    cli::{run, text},
    server_process::repository,
};

/// An experiment on two of the bundled sources, in a folder of its own.
struct Bench {
    folder: tempfile::TempDir,
}

const CALLS: &str = r#"
[[datasets.probe]]
path = "elsewhere"
[[datasets.probe]]
path = "digits.npz"

[[calls]]
name = "fgsm"
title = "FGSM"
rank.source_models = ["digits-0", "digits-50", "digits-100"]
rank.reference_model = "digits-reference"
rank.dataset = "probe"
rank.attack = { method = "ATTACK_METHOD_FGSM", epsilon = 0.1 }
rank.confidence = { resamples = 100 }
lines = { axis = "shared classes, %", levels = [0, 50, 100] }

[[calls]]
name = "absent"
title = "A model that is not there"
rank = { source_models = ["digits-0", "digits-9"], reference_model = "digits-reference", dataset = "probe" }

[[calls]]
name = "tasks"
title = "Who attacks whom"
compare = { models = ["digits-0", "digits-100", "digits-reference"], dataset = "probe", max_samples = 40 }
"#;

impl Bench {
    fn new(calls: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench { folder };
        for name in ["digits-0", "digits-50", "digits-100", "digits-reference"] {
            let from = repository("models").join(name);
            let to = bench.path("toy").join(name);
            fs::create_dir_all(&to).unwrap();
            for file in ["model.onnx", "model.toml"] {
                fs::copy(from.join(file), to.join(file)).unwrap();
            }
        }
        fs::create_dir_all(bench.path("data")).unwrap();
        fs::copy(repository("models/datasets/digits.npz"), bench.path("data/digits.npz")).unwrap();
        bench.define(calls);
        bench
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn define(&self, calls: &str) {
        let head = "title = \"Toy\"\nquestion = \"Does it run?\"\n";
        fs::write(self.path("toy/experiment.toml"), format!("{head}{calls}")).unwrap();
    }

    fn run(&self, more: &[&str]) -> Output {
        let [toy, data, output] = ["toy", "data", "results"].map(|name| self.path(name).display().to_string());
        let library = super::support::library().display().to_string();
        let fixed = ["experiment", &toy, "--data", &data, "--output", &output, "--onnxruntime", &library];
        run(&[&fixed, more].concat())
    }

    fn calls(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path("results/calls"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

#[test]
fn finished_calls_are_kept_and_a_second_run_goes_on_behind_them() {
    let bench = Bench::new(CALLS);
    // As if it had been killed after the first call.
    let first = bench.run(&["--call", "fgsm"]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert_eq!(bench.calls(), ["fgsm.json"]);
    let second = bench.run(&[]);
    let told = text(&second.stderr);
    assert!(second.status.success(), "{told}");
    assert!(
        told.contains("1/3 FGSM: done before") && told.contains("2/3 A model that is not there: left out"),
        "{told}"
    );
    assert!(told.contains("digits-9") && !told.contains("Who attacks whom: done"), "{told}");
    assert_eq!(bench.calls(), ["fgsm.json", "tasks.json"]);

    let result = json(&bench.path("results/result.json"));
    let calls = result["calls"].as_array().unwrap();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0]["ranking"]["sources"], serde_json::json!(["digits-100", "digits-50", "digits-0"]));
    let agreement = calls[0]["ranking"]["agreement"].as_array().unwrap();
    assert!(agreement.iter().any(|one| one["score"] == "reference_to_source.alpha1" && one["n_sources"] == 3));
    assert_eq!(calls[1]["comparison"]["models"].as_array().unwrap().len(), 3);
    assert!(result["seconds"].as_f64().unwrap() > 0.0 && result["title"] == "Toy");
    let page = fs::read_to_string(bench.path("results/report.html")).unwrap();
    for words in ["Toy", "Does it run?", "FGSM", "Over the shared classes, %", "Who attacks whom"] {
        assert!(page.contains(words), "{words}");
    }
    let figures: Vec<String> = fs::read_dir(bench.path("results/figures"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(figures.iter().any(|name| name.starts_with("fgsm-scores")), "{figures:?}");
    // What was kept reads the same as what was answered.
    let third = bench.run(&["--json"]);
    let again: Value = serde_json::from_str(&text(&third.stdout)).unwrap();
    assert_eq!(again["calls"], result["calls"]);
    let told = text(&third.stderr);
    assert!(told.contains("FGSM: done before") && told.contains("Who attacks whom: done before"), "{told}");
}

#[test]
fn a_changed_call_or_model_is_run_anew() {
    let bench = Bench::new(CALLS);
    let run = |more: &[&str]| {
        let output = bench.run(&[&["--call", "fgsm"], more].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr).contains("done before")
    };
    assert!(!run(&[]) && run(&[]) && !run(&["--again"]));
    bench.define(&CALLS.replace("epsilon = 0.1", "epsilon = 0.2"));
    assert!(!run(&[]) && run(&[]));
    fs::copy(repository("models/digits-50/model.onnx"), bench.path("toy/digits-0/model.onnx")).unwrap();
    assert!(!run(&[]) && run(&[]));
    // A file that was cut short counts as none.
    let file = bench.path("results/calls/fgsm.json");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(!run(&[]));
}

#[test]
fn what_is_wrong_with_an_experiment_is_told_by_name() {
    let bench = Bench::new(CALLS);
    for (from, to, words) in [
        ("rank.dataset = \"probe\"", "rank.datasets = \"probe\"", &["call `fgsm`", "datasets"][..]),
        ("ATTACK_METHOD_FGSM", "ATTACK_METHOD_FSGM", &["call `fgsm`", "ATTACK_METHOD_FSGM"]),
        ("name = \"tasks\"", "name = \"fgsm\"", &["call `fgsm`", "a name of its own"]),
        ("name = \"tasks\"", "name = \"../tasks\"", &["a name of its own"]),
        ("path = \"digits.npz\"", "path = \"nowhere.npz\"", &["`probe`", "elsewhere", "nowhere.npz", "--data"]),
        ("title = \"FGSM\"", "titel = \"FGSM\"", &["titel"]),
        ("compare = {", "rank = {", &["call `tasks`", "models"]),
        ("levels = [0, 50, 100]", "levels = [0, 100]", &["call `fgsm`", "a level for each"]),
    ] {
        bench.define(&CALLS.replace(from, to));
        let output = bench.run(&[]);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{to}: {told}");
        assert!(words.iter().all(|word| told.contains(word)), "{to}: {told}");
    }
    bench.define(CALLS);
    let unknown = bench.run(&["--call", "pgd"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).contains("no call `pgd`; there are fgsm, absent, tasks"),
        "{}",
        text(&unknown.stderr)
    );
    bench.define("calls = []\n");
    assert!(text(&bench.run(&[]).stderr).contains("nothing to run"));
    let nowhere = run(&["experiment", "no-such"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(text(&nowhere.stderr).contains("no-such"), "{}", text(&nowhere.stderr));
}
