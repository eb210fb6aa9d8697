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

/// An experiment on three of the bundled sources, with the reference in another folder.
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
compare.models = ["digits-0", "digits-100", "digits-reference"]
compare.dataset = "probe"
compare.max_samples = 40
compare.known_groups = [{ name = "near", models = ["digits-100", "digits-reference"] }, { name = "far", models = ["digits-0"] }]
"#;

impl Bench {
    fn new(calls: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench { folder };
        for name in ["digits-0", "digits-50", "digits-100", "digits-reference"] {
            let from = repository("models").join(name);
            let to = bench.path(if name == "digits-reference" { "other" } else { "toy" }).join(name);
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
        let head = "title = \"Toy\"\nquestion = \"Does it run?\"\nmodels = [\"../other\"]\n";
        fs::write(self.path("toy/experiment.toml"), format!("{head}{calls}")).unwrap();
    }

    fn run(&self, more: &[&str]) -> Output {
        let [toy, data, output] = ["toy", "data", "results"].map(|name| self.path(name).display().to_string());
        let library = super::support::library().display().to_string();
        let fixed = ["experiment", &toy, "--output", &output, "--onnxruntime", &library];
        let data = if more.contains(&"--data") { Vec::new() } else { vec!["--data", data.as_str()] };
        run(&[&fixed, data.as_slice(), more].concat())
    }

    fn calls(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path("results/calls"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Sources of a call whose combined score, from reference to source, is above its shuffled null.
    fn above_chance(&self, call: &str) -> u64 {
        let answer = json(&self.path(&format!("results/calls/{call}.json")));
        let rows = answer["rows"].as_array().unwrap();
        let is_above = |row: &&Value| {
            let score = &row["scores"]["referenceToSource"]["combined"];
            score["value"].as_f64().unwrap() > score["shuffledNullUpper"].as_f64().unwrap()
        };
        rows.iter().filter(is_above).count() as u64
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
    let above_chance = |score: &str| {
        let of_score = agreement.iter().find(|one| one["score"] == score).unwrap();
        of_score["n_above_chance"].as_u64()
    };
    assert_eq!(above_chance("reference_to_source.combined"), Some(bench.above_chance("fgsm")));
    assert_eq!(above_chance("recommendation"), None);
    let comparison = &calls[1]["comparison"];
    assert_eq!(comparison["models"].as_array().unwrap().len(), 3);
    assert_eq!(comparison["known_groups"]["near"], serde_json::json!(["digits-100", "digits-reference"]));
    for column in 0..3 {
        let of_column = (0..3).map(|row| comparison["affinity"][row][column].as_f64().unwrap());
        assert!((of_column.sum::<f64>() - 1.0).abs() < 1e-9 && comparison["affinity"][column][column] == 0.0);
    }
    assert!(result["seconds"].as_f64().unwrap() > 0.0 && result["title"] == "Toy");
    // Also that of the call which an earlier process made.
    let peaks =
        bench.calls().into_iter().map(|name| json(&bench.path("results/calls").join(name))["peak_bytes"].as_u64());
    assert_eq!(result["peak_bytes"].as_u64(), peaks.max().unwrap());
    assert!(cfg!(not(target_os = "linux")) || result["peak_bytes"].as_u64() > Some(1 << 20));
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
fn rankings_for_several_references_make_a_matrix_and_the_papers_figures_stand_beside_ours() {
    let call = |name: &str, reference: &str| {
        format!(
            "[[calls]]\nname = \"{name}\"\ntitle = \"{name}\"\nrank = {{ reference_model = \"{reference}\", \
             dataset = \"probe\", max_samples = 60, confidence = {{ resamples = 100 }} }}\n"
        )
    };
    let together = r#"
[[datasets.probe]]
path = "digits.npz"
[[transfers]]
title = "Who helps whom"
score = "knowledge.affine_transfer.held_out_r2"
[[published]]
title = "Accuracies"
call = "to-reference"
score = "knowledge.linear_probe.accuracy"
rows = [
    { name = "few", value = 0.5, sources = ["digits-0"] },
    { name = "most", value = 0.9, sources = ["digits-50", "digits-100"] },
    { name = "none", value = 0.7, sources = ["digits-7"] },
]
"#;
    let calls = [call("to-reference", "digits-reference"), call("to-half", "digits-50"), together.to_owned()].concat();
    let bench = Bench::new(&calls);
    let [data, none] = ["data", "none"].map(|name| bench.path(name).display().to_string());
    // The first folder of data has nothing.
    let run = bench.run(&["--data", &none, "--data", &data]);
    assert!(run.status.success(), "{}", text(&run.stderr));
    let result = json(&bench.path("results/result.json"));
    let row = |call: &str, source: &str| {
        let rows = json(&bench.path(&format!("results/calls/{call}.json")));
        let rows = rows["rows"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["sourceModel"] == source).unwrap()["scores"]["knowledge"].clone()
    };
    let matrix = &result["transfers"][0];
    let models = ["digits-reference", "digits-50", "digits-0", "digits-100"];
    assert_eq!(matrix["models"], serde_json::json!(models));
    for (source, from) in models.iter().enumerate() {
        for (reference, (call, to)) in [("to-reference", models[0]), ("to-half", models[1])].iter().enumerate() {
            let found = &matrix["values"][source][reference];
            match from == to {
                true => assert!(found.is_null()),
                false => assert_eq!(*found, row(call, from)["affineTransfer"]["heldOutR2"]["value"]),
            }
        }
        assert!(matrix["values"][source][2].is_null(), "no ranking has that reference");
    }
    let published = &result["published"][0];
    let probe = |source| row("to-reference", source)["linearProbe"]["accuracy"]["value"].as_f64().unwrap();
    assert_eq!(published["rows"][0]["ours"].as_f64().unwrap(), probe("digits-0"));
    let mean = (probe("digits-50") + probe("digits-100")) / 2.0;
    assert!((published["rows"][1]["ours"].as_f64().unwrap() - mean).abs() < 1e-12);
    assert!(published["rows"][2]["ours"].is_null());
    assert!((published["spearman"].as_f64().unwrap() - 1.0).abs() < 1e-12);
    let page = fs::read_to_string(bench.path("results/report.html")).unwrap();
    assert!(page.contains("Who helps whom") && page.contains("Beside the paper: Accuracies"));
    assert!(page.contains("<title>digits-0 to digits-reference: "));

    bench.define(&calls.replace("call = \"to-reference\"", "call = \"to-nowhere\""));
    assert!(text(&bench.run(&[]).stderr).contains("published `Accuracies`: there is no ranking `to-nowhere`"));
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
        ("compare.", "rank.", &["call `tasks`", "known_groups"]),
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
