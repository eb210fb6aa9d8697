//! Files that ONNX Runtime would not run as they are: with other float types, and with what it crashes on.

use prost::Message;
use transferscore::{
    cancel::Cancel,
    gradient::{Graph, onnx::ModelProto},
    scoring::{Scoring, types::*},
};

use super::{options, pair};
use crate::{
    gradient::model::{Model, retype},
    server_process::repository,
};

/// Scores a file against the bundled reference, after `check` finds it differentiable.
fn scored(file: impl Into<Vec<u8>>) -> PairScores {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file.onnx"), file.into()).unwrap();
    let scorer =
        super::scorer(vec![repository("models"), folder.path().to_owned()], vec![repository("models/datasets")]);
    assert_eq!(scorer.check("file").unwrap().obstacles, []);
    scorer.score(&pair("file", options()), &Cancel::default()).unwrap()
}

/// The bundled source in another float type, by its ONNX code.
fn digits(code: i32) -> Vec<u8> {
    let mut model =
        ModelProto::decode(std::fs::read(repository("models/digits-75/model.onnx")).unwrap().as_slice()).unwrap();
    if code != 1 {
        retype(&mut model, code);
    }
    model.encode_to_vec()
}

#[test]
fn models_of_other_float_types_score_as_in_float32() {
    let expected = scored(digits(1));
    let values = |scores: &PairScores| {
        [
            scores.source_to_reference.alpha1.value,
            scores.source_to_reference.combined.value,
            scores.reference_to_source.tau2.as_ref().unwrap().value,
            scores.tau1.value,
            scores.gradient_matching.as_ref().unwrap().explained.value,
            scores.knowledge.function_matching.as_ref().unwrap().r2.value,
        ]
    };
    for (name, code, tolerance) in [("float64", 11, 0.0), ("float16", 10, 2e-3), ("bfloat16", 16, 2e-2)] {
        let file = digits(code);
        let graph = Graph::parse(file.clone().into()).unwrap();
        assert_eq!(graph.inputs()[0].element().map(|element| element.name()), Some(name));
        let found = scored(file);
        for (found, expected) in values(&found).into_iter().zip(values(&expected)) {
            assert!((found - expected).abs() <= tolerance, "{name}: {found} instead of {expected}");
        }
    }
}

#[test]
fn what_crashes_onnx_runtime_is_written_in_another_form() {
    let image = || Model::new(17).input("x", "n,1,8,8");
    let ellipses = image()
        .weight("w", &[8, 5])
        .weight("v", &[40, 4])
        .node("Einsum", &["w", "x"], &["e"], &[("equation", "...kj,...ik->...ij".into())])
        .node("Flatten", &["e"], &["f"], &[])
        .node("MatMul", &["f", "v"], &["y"], &[])
        .output("y");
    let unnamed = image()
        .integers("sizes", &[32, 16, 16])
        .weight("v", &[16, 4])
        .node("Flatten", &["x"], &["f"], &[])
        .node("Split", &["f", "sizes"], &["", "part", ""], &[("axis", 1.into())])
        .node("MatMul", &["part", "v"], &["y"], &[])
        .output("y");
    for model in [ellipses, unnamed] {
        let scores = scored(model.bytes());
        assert!(scores.source_to_reference.combined.value.is_finite());
        assert!(scores.knowledge.function_matching.unwrap().r2.value > 0.0);
    }
}
