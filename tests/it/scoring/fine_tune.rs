//! Fine-tuning: what it reaches, what it gives back, what it refuses.

use std::sync::OnceLock;

use ndarray::Array2;
use transferscore::{
    cancel::Cancel,
    error::{Error, Reason},
    gradient::Graph,
    runtime::Feed,
    scoring::{Scorer, Scoring, types::*},
};

use super::{attack, bundled, bundled_with, options, pair, repository, scorer};
use crate::{
    dataset::{npy, npz},
    gradient::{calculus::Random, model::Model},
    support::runtime,
};

/// One scorer for all that change nothing in it.
fn shared() -> &'static Scorer {
    static SCORER: OnceLock<Scorer> = OnceLock::new();
    SCORER.get_or_init(bundled)
}

fn request(model: &str, options: FineTuneOptions) -> FineTuneRequest {
    FineTuneRequest {
        model: model.to_owned(),
        probe: Probe::Dataset("digits".to_owned()),
        max_samples: 0,
        options,
        seed: 3,
        confidence: Confidence { level: 0.95, resamples: 100 },
    }
}

fn whole() -> FineTuneOptions {
    FineTuneOptions { mode: FineTuneMode::Whole, learning_rate: Some(0.03), ..FineTuneOptions::default() }
}

fn tuned(scorer: &Scorer, request: &FineTuneRequest) -> Result<FineTuned, Error> {
    scorer.fine_tune(request, &mut |_| (), &Cancel::default())
}

fn accuracy(tuned: &FineTuned) -> f64 {
    tuned.scores.accuracy.as_ref().unwrap().value
}

/// The digits source that shares no class with the task, as a whole; made once.
fn far_source() -> &'static FineTuned {
    static TUNED: OnceLock<FineTuned> = OnceLock::new();
    TUNED.get_or_init(|| tuned(shared(), &request("digits-0", whole())).unwrap())
}

#[test]
fn a_source_of_other_classes_learns_the_task() {
    let tuned = far_source();
    let scores = &tuned.scores;
    let accuracy = accuracy(tuned);
    assert!(accuracy > 0.9 && accuracy > scores.majority_accuracy.unwrap() + 0.5, "{scores:?}");
    // Of four classes, as evenly held out as they are.
    assert!((0.25..0.3).contains(&scores.majority_accuracy.unwrap()), "{scores:?}");
    let estimate = scores.accuracy.as_ref().unwrap();
    assert!(estimate.lower < accuracy && accuracy <= estimate.upper && estimate.upper <= 1.0);
    let (first, last) = (scores.curve.first().unwrap(), scores.curve.last().unwrap());
    assert!(last.training_loss < 0.5 * first.training_loss && last.held_out_loss < first.held_out_loss);
    assert_eq!((last.number, last.held_out_accuracy), (20, Some(accuracy)));
    assert!((last.held_out_loss - scores.cross_entropy.as_ref().unwrap().value).abs() < 1e-12);
    assert_eq!(scores.runs, [RunLength { best: 20, run: 20 }]);
    assert_eq!(scores.n_training_samples + scores.n_held_out_samples, tuned.n_samples);
    // 29,404 weights of the source, among them a head of 4 x 48 + 4, as the new one has.
    assert_eq!(scores.n_trained, 29_404);
    assert!(scores.options.batch_size == 32 && scores.options.momentum == Some(0.9));
}

#[test]
fn the_file_is_the_model_that_was_judged() {
    let tuned = far_source();
    let summary = shared().model("digits-0").unwrap().summary;
    let summary = format!("summary = \"digits-0 fine-tuned on digits; before: {summary}\"\n");
    let output = format!("\n[output]\nkind = \"logits\"\naccuracy = {:?}\n", accuracy(tuned));
    assert_eq!(tuned.manifest, summary + &output);
    let graph = Graph::parse(tuned.onnx.clone().into()).unwrap();
    let names = |ports: Vec<transferscore::gradient::Port>| ports.into_iter().map(|port| port.name).collect::<Vec<_>>();
    assert_eq!((names(graph.inputs()), names(graph.outputs())), (vec!["image".to_owned()], vec!["logits".to_owned()]));
    // ONNX Runtime takes the file as it is, and it is right as often as was told.
    let (pixels, labels) = digits();
    let held_out = transferscore::training::share(&labels, 0.25, 3).held_out;
    let executable = runtime().compile(tuned.onnx.clone()).unwrap();
    let images = pixels.to_shape((labels.len(), 1, 8, 8)).unwrap().to_owned().into_dyn();
    let given = executable.run(&[("image", Feed::from(images.view()))]).unwrap();
    let logits = given[0].view().unwrap();
    let hits = held_out.iter().filter(|&&sample| {
        let row: Vec<f32> = (0..4).map(|class| logits[[sample, class]]).collect();
        row.iter().enumerate().all(|(class, &logit)| class == labels[sample] || logit < row[labels[sample]])
    });
    assert_eq!(hits.count() as f64 / held_out.len() as f64, accuracy(tuned));
}

/// The bundled probe set.
fn digits() -> (Array2<f32>, Vec<usize>) {
    let store = transferscore::dataset::DatasetStore::open(&[repository("models/datasets")]).unwrap();
    let set = store.get("digits").unwrap();
    let labels = set.labels().unwrap().iter().map(|&label| label as usize).collect();
    (set.tile(0..set.n_samples()), labels)
}

#[test]
fn a_head_learns_on_fixed_features_and_leaves_the_rest() {
    let head = FineTuneOptions { learning_rate: Some(0.1), epochs: 30, ..FineTuneOptions::default() };
    let far = tuned(shared(), &request("digits-0", head.clone())).unwrap();
    let near = tuned(shared(), &request("digits-75", head.clone())).unwrap();
    assert_eq!(far.scores.n_trained, 4 * 48 + 4);
    assert!(accuracy(&near) > accuracy(&far) && accuracy(&far) > 0.6, "{} {}", accuracy(&near), accuracy(&far));
    // Whole training changes features; a head alone does not.
    let before = Graph::parse(std::fs::read(repository("models/digits-0/model.onnx")).unwrap().into()).unwrap();
    let after = Graph::parse(far.onnx.clone().into()).unwrap();
    let name = "convolution1.weight";
    assert_eq!(before.constant(name), after.constant(name));
    let whole = Graph::parse(far_source().onnx.clone().into()).unwrap();
    assert_ne!(before.constant(name), whole.constant(name));
    // Changed images cannot be trained on as fixed features; the result is still a head.
    let flipped = FineTuneOptions { augmentation: Augmentation { flip: false, shift: 1 }, epochs: 3, ..head };
    let shifted = tuned(shared(), &request("digits-75", flipped)).unwrap();
    assert_eq!(shifted.scores.n_trained, 4 * 48 + 4);
}

#[test]
fn a_kept_head_starts_where_the_model_is() {
    let kept = FineTuneOptions { keep_head: true, epochs: 1, learning_rate: Some(1e-6), ..FineTuneOptions::default() };
    for mode in [FineTuneMode::Head, FineTuneMode::Whole] {
        // This source was trained on the task.
        let tuned = tuned(shared(), &request("digits-100", FineTuneOptions { mode, ..kept.clone() })).unwrap();
        assert!(accuracy(&tuned) > 0.97, "{mode:?}: {}", accuracy(&tuned));
        assert!(tuned.manifest.contains("classes = [\"4\", \"6\", \"2\", \"7\"]"), "{}", tuned.manifest);
        let expected = if mode == FineTuneMode::Whole { 29_404 } else { 4 * 48 + 4 };
        assert_eq!(tuned.scores.n_trained, expected);
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_whatever_the_threads() {
    let options = FineTuneOptions { epochs: 2, folds: 3, patience: 1, optimizer: FineTuneOptimizer::AdamW, ..whole() };
    let of = |threads, batch| tuned(&bundled_with(threads, batch), &request("digits-50", options.clone())).unwrap();
    let expected = of(1, 1);
    let again = of(2, 64);
    assert_eq!(again.onnx, expected.onnx);
    assert_eq!(format!("{:?}", again.scores), format!("{:?}", expected.scores));
    let other = tuned(shared(), &FineTuneRequest { seed: 4, ..request("digits-50", options) }).unwrap();
    assert_ne!(other.onnx, expected.onnx);
}

#[test]
fn folds_judge_every_sample_and_early_stops_keep_the_best_epoch() {
    let options =
        FineTuneOptions { folds: 2, patience: 2, epochs: 40, learning_rate: Some(0.3), ..FineTuneOptions::default() };
    let tuned = tuned(shared(), &request("digits-25", options)).unwrap();
    let scores = &tuned.scores;
    assert_eq!((scores.n_held_out_samples, scores.runs.len()), (tuned.n_samples, 2));
    for run in &scores.runs {
        assert!(run.best <= run.run && (run.run == 40 || run.run == run.best + 2), "{run:?}");
    }
    assert_eq!(scores.curve.len(), scores.runs.iter().map(|run| run.run).max().unwrap());
}

#[test]
fn it_is_a_measure_of_a_score_where_it_is_named() {
    let mut wanted = options();
    wanted.attack = attack(AttackMethod::Fgsm);
    wanted.knowledge.measures = vec![KnowledgeMeasure::FineTune];
    wanted.knowledge.fine_tune = FineTuneOptions { epochs: 5, ..FineTuneOptions::default() };
    wanted.seed = 3;
    let scores = shared().score(&pair("digits-75", wanted.clone()), &Cancel::default()).unwrap().knowledge;
    let measured = scores.fine_tune.expect("it was named");
    assert!(scores.linear_probe.is_none());
    // The same as on its own: features, splits and orders are the same.
    let alone = tuned(shared(), &request("digits-75", wanted.knowledge.fine_tune.clone())).unwrap();
    assert_eq!(measured.curve, alone.scores.curve);
    assert_eq!(measured.accuracy.unwrap().value, accuracy(&alone));
    wanted.knowledge.measures = Vec::new();
    wanted.knowledge.fine_tune = FineTuneOptions::default();
    let scores = shared().score(&pair("digits-75", wanted), &Cancel::default()).unwrap().knowledge;
    assert!(scores.fine_tune.is_none() && scores.linear_probe.is_some());
}

#[test]
fn progress_counts_every_sample_and_a_cancelled_training_stops() {
    let mut told = Vec::new();
    let cancel = Cancel::default();
    let wanted = request("digits-25", FineTuneOptions { epochs: 3, ..FineTuneOptions::default() });
    let done = shared().fine_tune(&wanted, &mut |progress| told.push(progress), &cancel).unwrap();
    let n_passed = 3 * done.scores.n_training_samples as u64;
    let last = told.last().unwrap();
    assert_eq!((last.done, last.total, last.stage.as_str()), (n_passed, n_passed, "digits-25"));
    let mut n_told = 0;
    let stopped = shared().fine_tune(
        &wanted,
        &mut |_| {
            n_told += 1;
            cancel.cancel();
        },
        &cancel,
    );
    assert_eq!((stopped.unwrap_err().reason, n_told), (Reason::Cancelled, 1));
}

#[test]
fn a_loss_that_is_no_longer_finite_names_the_learning_rate() {
    let wild = FineTuneOptions { learning_rate: Some(1e5), ..whole() };
    let error = tuned(shared(), &request("digits-25", wild)).unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), (Reason::OptionOutOfRange, Some("options.learning_rate")));
    assert!(error.message.contains("100000") && error.message.contains("lower learning_rate"), "{}", error.message);
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let base = FineTuneOptions::default;
    let adam = FineTuneOptimizer::AdamW;
    let cases = [
        ("epochs", FineTuneOptions { epochs: 1_001, ..base() }),
        ("batch_size", FineTuneOptions { batch_size: 1_025, ..base() }),
        ("learning_rate", FineTuneOptions { learning_rate: Some(0.0), ..base() }),
        ("learning_rate", FineTuneOptions { learning_rate: Some(f64::NAN), ..base() }),
        ("weight_decay", FineTuneOptions { weight_decay: Some(-0.1), ..base() }),
        ("momentum", FineTuneOptions { momentum: Some(1.0), ..base() }),
        ("momentum", FineTuneOptions { momentum: Some(0.9), optimizer: adam, ..base() }),
        ("nesterov", FineTuneOptions { nesterov: true, momentum: Some(0.0), ..base() }),
        ("warm_up", FineTuneOptions { warm_up: Some(1.5), ..base() }),
        ("held_out", FineTuneOptions { held_out: Some(1.0), ..base() }),
        ("held_out", FineTuneOptions { held_out: Some(0.5), folds: 3, ..base() }),
        ("folds", FineTuneOptions { folds: 1, ..base() }),
        ("folds", FineTuneOptions { folds: 21, ..base() }),
        ("patience", FineTuneOptions { patience: 1_001, ..base() }),
        ("shift", FineTuneOptions { augmentation: Augmentation { flip: false, shift: 65 }, ..base() }),
    ];
    for (field, options) in cases {
        let error = tuned(shared(), &request("digits-25", options)).unwrap_err();
        assert_eq!(error.field, Some(format!("options.{field}")), "{error}");
    }
    let few_classes = FineTuneOptions { keep_head: true, ..base() };
    let inline =
        InlineDataset { shape: vec![1, 8, 8], samples: vec![0.5; 64 * 10], labels: vec![0, 1, 0, 1, 0, 1, 0, 1, 0, 1] };
    let two = FineTuneRequest { probe: Probe::Inline(inline.clone()), ..request("digits-25", few_classes) };
    let error = tuned(shared(), &two).unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), (Reason::OptionUnsupported, Some("options.keep_head")));
    let moved = FineTuneOptions { augmentation: Augmentation { flip: true, shift: 0 }, ..base() };
    let flat = InlineDataset { shape: vec![64], ..inline.clone() };
    let wanted = FineTuneRequest { probe: Probe::Inline(flat), ..request("digits-25", moved) };
    let error = tuned(shared(), &wanted).unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), (Reason::OptionUnsupported, Some("options.augmentation")));
    for labels in [Vec::new(), vec![1; 10]] {
        let inline = InlineDataset { labels, ..inline.clone() };
        let wanted = FineTuneRequest { probe: Probe::Inline(inline), ..request("digits-25", base()) };
        assert_eq!(tuned(shared(), &wanted).unwrap_err().reason, Reason::ProbeMismatch);
    }
    let error = tuned(shared(), &request("no-such", base())).unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), (Reason::ModelNotFound, Some("model")));
}

#[test]
fn targets_are_regressed_and_a_batch_that_the_file_fixes_is_kept() {
    let models = tempfile::tempdir().unwrap();
    let datasets = tempfile::tempdir().unwrap();
    let network = |shape: &str| {
        Model::new(17)
            .input("x", shape)
            .weight("w", &[5, 12])
            .weight("b", &[12])
            .weight("v", &[12, 3])
            .node("Gemm", &["x", "w", "b"], &["g"], &[])
            .node("Tanh", &["g"], &["f"], &[])
            .node("MatMul", &["f", "v"], &["y"], &[])
            .output("y")
            .bytes()
    };
    std::fs::write(models.path().join("free.onnx"), network("n,5")).unwrap();
    std::fs::write(models.path().join("fixed.onnx"), network("4,5")).unwrap();
    let mut random = Random::new(1);
    let x: Vec<f32> = (0..90 * 5).map(|_| random.between(-1.0, 1.0)).collect();
    let y: Vec<f32> = x.chunks(5).flat_map(|x| [3.0 + x[0] - x[4], (x[1] * x[2]).sin()]).collect();
    let set = npz(&[("x", npy(&[90, 5], &x)), ("y", npy(&[90, 2], &y))]);
    std::fs::write(datasets.path().join("task.npz"), set).unwrap();
    let scorer = scorer(vec![models.path().to_owned()], vec![datasets.path().to_owned()]);
    let wanted = |model: &str, mode| FineTuneRequest {
        model: model.to_owned(),
        probe: Probe::Dataset("task".to_owned()),
        ..request(model, FineTuneOptions { mode, epochs: 100, learning_rate: Some(0.05), ..FineTuneOptions::default() })
    };
    for (model, batch) in [("free", 32), ("fixed", 4)] {
        let [head, whole] = [FineTuneMode::Head, FineTuneMode::Whole].map(|mode| {
            let tuned = tuned(&scorer, &wanted(model, mode)).unwrap();
            let FineTuneScores { accuracy, cross_entropy, majority_accuracy, .. } = &tuned.scores;
            assert!(accuracy.is_none() && cross_entropy.is_none() && majority_accuracy.is_none());
            let last = tuned.scores.curve.last().unwrap();
            let error = tuned.scores.mean_squared_error.as_ref().unwrap().value;
            assert!((last.held_out_loss - error).abs() < 1e-12 && last.held_out_accuracy.is_none());
            assert!(last.training_loss < tuned.scores.curve[0].training_loss);
            tuned
        });
        let [of_head, of_whole] = [&head, &whole].map(|tuned| tuned.scores.r2.as_ref().unwrap().value);
        assert!(of_head > 0.8 && of_whole > 0.85, "{model}: {of_head} {of_whole}");
        assert_eq!((head.scores.n_trained, whole.scores.n_trained), (26, 26 + 72));
        assert_eq!((head.scores.options.batch_size, whole.scores.options.batch_size), (32, batch));
        // The rate goes with the batch: in proportion with SGD, by the root with AdamW.
        let share = batch as f64 / 32.0;
        assert_eq!(whole.scores.options.learning_rate, Some(0.05 * share));
        let mut adam = wanted(model, FineTuneMode::Whole);
        adam.options = FineTuneOptions { optimizer: FineTuneOptimizer::AdamW, epochs: 1, ..adam.options };
        let adam = tuned(&scorer, &adam).unwrap().scores.options.learning_rate;
        assert_eq!(adam, Some(0.05 * share.sqrt()));
        assert!(whole.manifest.contains("kind = \"embedding\""), "{}", whole.manifest);
        let graph = Graph::parse(whole.onnx.into()).unwrap();
        assert_eq!(graph.outputs()[0].value_type.as_ref().unwrap().rank(), Some(2));
    }
}

#[test]
fn a_head_is_trained_for_at_least_five_hundred_steps() {
    let of = |max_samples| {
        let wanted = FineTuneRequest { max_samples, ..request("digits-75", FineTuneOptions::default()) };
        tuned(shared(), &wanted).unwrap().scores.options.epochs
    };
    // Two batches of 32 hold 60 samples, six hold all 182.
    assert_eq!((of(60), of(0)), (250, 84));
}

/// Samples of numbers, with targets or labels beside them, and a small network on them.
fn numbers_task(entries: &[(&str, Vec<u8>)]) -> (Scorer, [tempfile::TempDir; 2]) {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let network = Model::new(17)
        .input("x", "n,5")
        .weight("w", &[5, 12])
        .node("MatMul", &["x", "w"], &["g"], &[])
        .node("Tanh", &["g"], &["f"], &[])
        .weight("v", &[12, 3])
        .node("MatMul", &["f", "v"], &["y"], &[])
        .output("y")
        .bytes();
    std::fs::write(folders[0].path().join("net.onnx"), network).unwrap();
    let x: Vec<f32> = inputs();
    for (name, y) in entries {
        let set = npz(&[("x", npy(&[90, 5], &x)), ("y", y.clone())]);
        std::fs::write(folders[1].path().join(format!("{name}.npz")), set).unwrap();
    }
    (scorer(vec![folders[0].path().to_owned()], vec![folders[1].path().to_owned()]), folders)
}

fn inputs() -> Vec<f32> {
    let mut random = Random::new(4);
    (0..90 * 5).map(|_| random.between(-1.0, 1.0)).collect()
}

#[test]
fn what_targets_are_measured_in_changes_nothing() {
    let targets = |unit: f32, start: f32| {
        let y: Vec<f32> = inputs().chunks(5).map(|x| start + unit * (x[0] - x[1] * x[2])).collect();
        npy(&[90, 1], &y)
    };
    let (scorer, _folders) = numbers_task(&[("plain", targets(1.0, 0.0)), ("grams", targets(1e6, 3e7))]);
    for mode in [FineTuneMode::Head, FineTuneMode::Whole] {
        let of = |set: &str| {
            let options = FineTuneOptions { mode, epochs: 40, learning_rate: Some(0.05), ..FineTuneOptions::default() };
            let wanted = FineTuneRequest { probe: Probe::Dataset(set.to_owned()), ..request("net", options) };
            tuned(&scorer, &wanted).unwrap()
        };
        let [plain, grams] = ["plain", "grams"].map(of);
        let r2 = |tuned: &FineTuned| tuned.scores.r2.as_ref().unwrap().value;
        assert!(r2(&plain) > 0.5 && (r2(&plain) - r2(&grams)).abs() < 1e-3, "{} {}", r2(&plain), r2(&grams));
        let error = |tuned: &FineTuned| tuned.scores.mean_squared_error.as_ref().unwrap().value;
        assert!((error(&grams) / error(&plain) / 1e12 - 1.0).abs() < 1e-2);
        let first = |tuned: &FineTuned| tuned.scores.curve[0].training_loss;
        assert!((first(&grams) / first(&plain) / 1e12 - 1.0).abs() < 1e-2);
        // The files give the targets themselves, in their unit.
        let x = Array2::from_shape_vec((90, 5), inputs()).unwrap().into_dyn();
        let [plain, grams] = [&plain, &grams].map(|tuned| {
            let given = runtime().compile(tuned.onnx.clone()).unwrap().run(&[("x", Feed::from(x.view()))]).unwrap();
            given[0].view().unwrap().to_owned()
        });
        for (plain, grams) in plain.iter().zip(&grams) {
            assert!(((grams - 3e7) / 1e6 - plain).abs() < 1e-2, "{plain} {grams}");
        }
    }
}

#[test]
fn labels_with_gaps_are_the_same_task() {
    let class = |x: &[f32]| i64::from(x[0] > 0.3) + i64::from(x[1] > 0.0);
    let labels = |names: [i64; 3]| {
        let y: Vec<i64> = inputs().chunks(5).map(|x| names[class(x) as usize]).collect();
        npy(&[90], &y)
    };
    let (scorer, _folders) = numbers_task(&[("dense", labels([0, 1, 2])), ("gaps", labels([3, 10, 60_000]))]);
    let of = |set: &str| {
        let options = FineTuneOptions { epochs: 30, ..whole() };
        tuned(&scorer, &FineTuneRequest { probe: Probe::Dataset(set.to_owned()), ..request("net", options) }).unwrap()
    };
    let (dense, gaps) = (of("dense"), of("gaps"));
    assert_eq!((&dense.scores, &dense.onnx), (&gaps.scores, &gaps.onnx));
    assert!(gaps.manifest.contains("classes = [\"3\", \"10\", \"60000\"]"), "{}", gaps.manifest);
    assert!(!dense.manifest.contains("classes"), "{}", dense.manifest);
}

#[test]
fn options_of_a_training_that_is_not_asked_for_are_refused() {
    let mut wanted = options();
    wanted.knowledge.fine_tune = FineTuneOptions { epochs: 5, ..FineTuneOptions::default() };
    let error = shared().score(&pair("digits-75", wanted), &Cancel::default()).unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), (Reason::OptionUnsupported, Some("knowledge.fine_tune")));
}
