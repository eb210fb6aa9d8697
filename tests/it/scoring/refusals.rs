//! Models and datasets that cannot be scored: each its reason and its mend, and the scorer works on.

use std::path::Path;

use prost::Message;
use tempfile::TempDir;
use transferscore::{
    cancel::Cancel,
    error::{Error, Reason},
    gradient::onnx::{ModelProto, NodeProto, TensorProto},
    scoring::{Scorer, Scoring, types::*},
};

use super::{attack, config, options, scorer};
use crate::server_process::repository;

/// The bundled reference, to be changed.
fn model() -> ModelProto {
    let bytes = std::fs::read(repository("models/digits-reference/model.onnx")).unwrap();
    ModelProto::decode(bytes.as_slice()).unwrap()
}

fn changed(change: impl FnOnce(&mut ModelProto)) -> Vec<u8> {
    let mut model = model();
    change(&mut model);
    model.encode_to_vec()
}

fn first_node<'a>(model: &'a mut ModelProto, operator: &str) -> &'a mut NodeProto {
    let nodes = &mut model.graph.as_mut().unwrap().node;
    nodes.iter_mut().find(|node| node.op_type == operator).unwrap()
}

fn first_weight(model: &mut ModelProto) -> &mut TensorProto {
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    tensors.iter_mut().find(|tensor| tensor.dims.len() == 4).unwrap()
}

/// A folder with broken models beside the good ones, and one with broken datasets.
struct Bench {
    scorer: Scorer,
    _folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        let datasets = folder.path().join("datasets");
        std::fs::create_dir_all(&models).unwrap();
        std::fs::create_dir_all(&datasets).unwrap();
        write_models(&models);
        std::fs::write(datasets.join("garbage.npz"), b"not an archive").unwrap();
        let whole = std::fs::read(repository("models/datasets/digits.npz")).unwrap();
        std::fs::write(datasets.join("truncated.npz"), &whole[..whole.len() / 2]).unwrap();
        std::fs::write(datasets.join("good.npz"), whole).unwrap();
        Bench { scorer: scorer(vec![models, repository("models")], vec![datasets]), _folder: folder }
    }

    fn refuse(&self, request: &PairRequest) -> Error {
        let refused = self.scorer.score(request, &Cancel::default());
        refused.expect_err("the request is bad")
    }
}

fn write_models(folder: &Path) {
    let write = |name: &str, bytes: Vec<u8>| std::fs::write(folder.join(format!("{name}.onnx")), bytes).unwrap();
    let whole = std::fs::read(repository("models/digits-reference/model.onnx")).unwrap();
    write("empty", Vec::new());
    write("garbage", b"\xff\xfe not a model".to_vec());
    write("truncated", whole[..whole.len() / 2].to_vec());
    write("sampled", changed(|model| first_node(model, "Relu").op_type = "RandomNormalLike".to_owned()));
    write(
        "foreign",
        changed(|model| {
            let node = first_node(model, "Relu");
            node.domain = "com.example".to_owned();
            node.op_type = "Secret".to_owned();
        }),
    );
    write(
        "not-a-number",
        changed(|model| {
            let weight = first_weight(model);
            weight.raw_data = vec![0xff; weight.raw_data.len()].into();
        }),
    );
    write("huge", changed(|model| first_weight(model).dims = vec![1 << 40, 1 << 40, 3, 3]));
    write("negative", changed(|model| first_weight(model).dims = vec![-1, 1, 3, 3]));
    write(
        "circular",
        changed(|model| {
            let output = first_node(model, "Gemm").output.clone();
            first_node(model, "Relu").input = output;
        }),
    );
    write(
        "whole-numbers",
        changed(|model| {
            let input = &mut model.graph.as_mut().unwrap().input[0];
            let Some(onnx_type) = input.r#type.as_mut() else { return };
            if let Some(transferscore::gradient::onnx::type_proto::Value::TensorType(tensor)) = &mut onnx_type.value {
                tensor.elem_type = 7;
            }
        }),
    );
    let colour = changed(|model| {
        let weight = first_weight(model);
        weight.dims[1] = 3;
        weight.raw_data = weight.raw_data.repeat(3).into();
        let input = &mut model.graph.as_mut().unwrap().input[0];
        let Some(onnx_type) = input.r#type.as_mut() else { return };
        if let Some(transferscore::gradient::onnx::type_proto::Value::TensorType(tensor)) = &mut onnx_type.value {
            let channels = &mut tensor.shape.as_mut().unwrap().dim[1];
            channels.value = Some(transferscore::gradient::onnx::tensor_shape_proto::dimension::Value::DimValue(3));
        }
    });
    write("colour", colour);
}

fn named(source: &str, reference: &str, dataset: &str) -> PairRequest {
    PairRequest {
        source_model: source.to_owned(),
        reference_model: reference.to_owned(),
        probe: Probe::Dataset(dataset.to_owned()),
        options: options(),
    }
}

fn good(change: impl FnOnce(&mut PairRequest)) -> PairRequest {
    let mut request = named("digits-0", "digits-reference", "good");
    change(&mut request);
    request
}

fn inline(shape: &[u32], samples: Vec<f32>, labels: &[u32]) -> PairRequest {
    let probe = InlineDataset { shape: shape.to_vec(), samples, labels: labels.to_vec() };
    good(|request| request.probe = Probe::Inline(probe))
}

#[test]
fn a_smoothness_that_is_none_is_refused() {
    for smoothness in [-1.0, f64::NAN, f64::INFINITY] {
        let options = ScoreOptions { theory: Some(TheoryOptions { smoothness: Some(smoothness) }), ..options() };
        let error =
            super::bundled().score(&super::pair("digits-75", options), &Cancel::default()).expect_err("a refusal");
        assert_eq!(
            (error.reason, error.field.as_deref()),
            (Reason::OptionOutOfRange, Some("theory_checks.smoothness"))
        );
    }
}

#[test]
fn each_bad_thing_has_its_reason_its_field_and_its_mend() {
    let bench = Bench::new();
    let check = |request: PairRequest, reason: Reason, field: Option<&str>, mend: &str| {
        let error = bench.refuse(&request);
        assert_eq!(error.reason, reason, "{mend}: {error}");
        assert_eq!(error.field.as_deref(), field, "{mend}: {error}");
        assert!(error.message.contains(mend), "{error} does not say {mend}");
    };
    let source = Some("source_model");
    check(named("digits-1", "digits-reference", "good"), Reason::ModelNotFound, source, "digits-100");
    check(named("../digits-0", "digits-reference", "good"), Reason::ModelNotFound, source, "name");
    check(named("digits-0", "nobody", "good"), Reason::ModelNotFound, Some("reference_model"), "nobody");
    check(named("digits-0", "digits-reference", "goood"), Reason::DatasetNotFound, Some("dataset"), "good");
    for (name, says) in [
        ("empty", "put an ONNX model there"),
        ("garbage", "not an ONNX model"),
        ("truncated", "ONNX model"),
        ("foreign", "Secret"),
        ("huge", "limit"),
        ("negative", "negative dimension"),
        ("circular", "node"),
        ("whole-numbers", "int64"),
    ] {
        check(named(name, "digits-reference", "good"), Reason::ModelInvalid, source, says);
    }
    check(named("sampled", "digits-reference", "good"), Reason::ModelNotDifferentiable, source, "RandomNormalLike");
    check(named("not-a-number", "digits-reference", "good"), Reason::ModelExecutionFailed, source, "NaN");
    check(named("colour", "digits-reference", "good"), Reason::ProbeMismatch, source, "3 channels");
    for name in ["garbage", "truncated"] {
        check(named("digits-0", "digits-reference", name), Reason::DatasetInvalid, Some("dataset"), "numpy.savez");
    }
    let shape = [1, 8, 8];
    let pixels = |value: f32| vec![value; 64 * 10];
    check(inline(&shape, pixels(f32::NAN), &[]), Reason::ProbeInvalid, Some("inline_dataset.samples"), "NaN");
    check(inline(&shape, pixels(255.0), &[]), Reason::ProbeInvalid, Some("inline_dataset.samples"), "divide by 255");
    check(inline(&shape, vec![0.5; 100], &[]), Reason::ProbeInvalid, Some("inline_dataset.samples"), "multiple");
    check(inline(&shape, pixels(0.5), &[1]), Reason::ProbeInvalid, Some("inline_dataset.labels"), "label");
    check(inline(&[0, 8, 8], pixels(0.5), &[]), Reason::ProbeInvalid, Some("inline_dataset.shape"), "at least 1");
    check(inline(&[64], pixels(0.5), &[]), Reason::ProbeMismatch, Some("reference_model"), "dataset of that shape");
    check(inline(&shape, vec![0.5; 64 * 3], &[]), Reason::ProbeMismatch, Some("dataset"), "8 or more");
    check(good(|r| r.options.max_samples = 3), Reason::ProbeMismatch, Some("max_samples"), "8 or more");
    let with_attack = |attack: AttackOptions| good(|request| request.options.attack = attack);
    let fgsm = attack(AttackMethod::Fgsm);
    let epsilon = Some("attack.epsilon");
    for bad in [-1.0, 0.0, f64::NAN, f64::INFINITY, 1e300] {
        let request = with_attack(AttackOptions { epsilon: Some(bad), ..fgsm.clone() });
        check(request, Reason::OptionOutOfRange, epsilon, "radius in pixel units");
    }
    let steps = with_attack(AttackOptions { steps: 5_000, ..attack(AttackMethod::Pgd) });
    check(steps, Reason::OptionOutOfRange, Some("attack.steps"), "1000 at most");
    let steps = with_attack(AttackOptions { steps: 5, ..fgsm });
    check(steps, Reason::OptionUnsupported, Some("attack.steps"), "leave this option out");
    let norm = with_attack(AttackOptions { norm: Some(Norm::Linf), ..attack(AttackMethod::Virtual) });
    check(norm, Reason::OptionUnsupported, Some("attack.norm"), "leave this option out");
    check(
        good(|r| r.options.knowledge.ridge = Some(-1.0)),
        Reason::OptionOutOfRange,
        Some("knowledge.ridge"),
        "0 or more",
    );

    // After all of that it still answers.
    bench.scorer.score(&good(|_| ()), &Cancel::default()).unwrap();
}

#[test]
fn constant_samples_are_an_error_or_finite_numbers_never_nan() {
    let bench = Bench::new();
    let request = inline(&[1, 8, 8], vec![0.5; 64 * 10], &[0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    match bench.scorer.score(&request, &Cancel::default()) {
        Ok(scores) => assert!(!format!("{scores:?}").contains("NaN"), "{scores:?}"),
        Err(error) => assert_ne!(error.reason, Reason::Internal, "{error}"),
    }
}

#[test]
fn measures_that_need_labels_are_skipped_or_refused_without_them() {
    let bench = Bench::new();
    let samples: Vec<f32> = (0..64 * 20).map(|index| (index % 97) as f32 / 97.0).collect();
    let unlabelled = inline(&[1, 8, 8], samples, &[]);
    let scores = bench.scorer.score(&unlabelled, &Cancel::default()).unwrap();
    assert!(scores.knowledge.function_matching.is_some());
    let skipped: Vec<KnowledgeMeasure> = scores.knowledge.skipped.iter().map(|(measure, _)| *measure).collect();
    let without_labels = [KnowledgeMeasure::FunctionMatching, KnowledgeMeasure::FineTune];
    let needing: Vec<KnowledgeMeasure> =
        KnowledgeMeasure::all().filter(|measure| !without_labels.contains(measure)).collect();
    assert_eq!(skipped, needing);

    let mut named = unlabelled;
    named.options.knowledge.measures = vec![KnowledgeMeasure::LinearProbe];
    let error = bench.refuse(&named);
    assert_eq!((error.reason, error.field.as_deref()), (Reason::OptionUnsupported, Some("knowledge.measures")));
}

#[test]
fn too_much_memory_is_refused_before_any_work_with_a_number_that_fits() {
    let config = transferscore::scoring::ScorerConfig {
        request_bytes: 50_000,
        ..config(vec![repository("models")], vec![repository("models/datasets")], 64)
    };
    let scorer = Scorer::open(config, crate::support::runtime()).unwrap();
    let mut request = named("digits-0", "digits-reference", "digits");
    let error = scorer.score(&request, &Cancel::default()).expect_err("it does not fit");
    assert_eq!((error.reason, error.field.as_deref()), (Reason::LimitExceeded, Some("max_samples")));
    let fits = error.message.split_whitespace().rev().nth(2).and_then(|word| word.parse().ok());
    request.options.max_samples = fits.expect("the message names a number");
    scorer.score(&request, &Cancel::default()).unwrap();
}

#[test]
fn a_cancelled_request_stops() {
    let cancel = Cancel::default();
    cancel.cancel();
    let request = good(|request| request.options.max_samples = 100);
    let error = Bench::new().scorer.score(&request, &cancel).expect_err("it was cancelled");
    assert_eq!(error.reason, Reason::Cancelled);
}

#[test]
fn a_ranking_of_all_models_skips_each_that_cannot_be_scored() {
    let request = RankingRequest {
        source_models: Vec::new(),
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("good".to_owned()),
        options: options(),
        rank_by: RankingMetric::Tau1,
        recommend_from: Vec::new(),
    };
    let ranking = Bench::new().scorer.rank(&request, &mut |_| (), &Cancel::default()).unwrap();
    assert_eq!(ranking.sources.len(), 5);
    let sampled = ranking.skipped.iter().find(|skipped| skipped.source_model == "sampled").unwrap();
    assert!(sampled.reason.contains("RandomNormalLike"), "{}", sampled.reason);
}
