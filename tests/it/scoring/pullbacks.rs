//! Models whose folders bring their gradient graphs.

use std::{fs, path::Path};

use transferscore::{
    cancel::Cancel,
    error::Reason,
    gradient::{Graph, vjp},
    scoring::{Scorer, Scoring, types::*},
};

use super::{attack, options, pair};
use crate::{
    gradient::{
        model::{Model, Value, float_value, integer_tensor, retype},
        pullbacks::network,
    },
    server_process::repository,
};

const IMAGE: [i64; 3] = [1, 8, 8];

/// A scorer of the bundled models, `own` with the gradient graph of `twin`, and that model itself.
fn scorer(folder: &Path, own: &Model, twin: &Model) -> Scorer {
    fs::create_dir(folder.join("own")).unwrap();
    fs::write(folder.join("own/model.onnx"), own.bytes()).unwrap();
    fs::write(folder.join("own/gradient.onnx"), gradient(&twin.bytes())).unwrap();
    fs::write(folder.join("twin.onnx"), twin.bytes()).unwrap();
    super::scorer(vec![repository("models"), folder.to_owned()], vec![repository("models/datasets")])
}

fn gradient(model: &bytes::Bytes) -> Vec<u8> {
    vjp(&Graph::parse(model.clone()).unwrap(), &[], &[]).unwrap().to_onnx()
}

fn values(scores: &PairScores) -> [f64; 5] {
    let (to, from) = (&scores.source_to_reference, &scores.reference_to_source);
    [to.alpha1.value, to.combined.value, from.alpha1.value, from.tau2.as_ref().unwrap().value, scores.tau1.value]
}

/// The values of `own` and of `twin` under several attacks.
#[track_caller]
fn score_alike(scorer: &Scorer, tolerance: f64) {
    assert_eq!(scorer.check("own").unwrap().obstacles, []);
    for method in [AttackMethod::Virtual, AttackMethod::Pgd] {
        let score = |source: &str| {
            let options = ScoreOptions { attack: attack(method), max_samples: 64, ..options() };
            values(&scorer.score(&pair(source, options), &Cancel::default()).unwrap())
        };
        for (found, expected) in score("own").into_iter().zip(score("twin")) {
            assert!((found - expected).abs() <= tolerance, "{method:?}: {found} instead of {expected}");
        }
    }
}

#[test]
fn they_score_as_the_same_model_in_a_form_that_is_differentiated() {
    let [own, twin] = [network(IMAGE, false), network(IMAGE, true)];
    let [mut half_own, mut half_twin] = [own.clone(), twin.clone()];
    for model in [&mut half_own, &mut half_twin] {
        retype(&mut model.proto, 10);
    }
    for (own, twin) in [(own, twin), (half_own, half_twin), (repeated(true), repeated(false))] {
        let folder = tempfile::tempdir().unwrap();
        score_alike(&scorer(folder.path(), &own, &twin), 1e-4);
    }
}

/// A network with a layer that is repeated, as an operator that repeats a graph or written out. The file does not tell the type
/// of what the repetition gives.
fn repeated(in_a_loop: bool) -> Model {
    let model = Model::new(17)
        .input("image", "n,1,8,8")
        .weight("w", &[64, 16])
        .weight("u", &[16, 16])
        .weight("v", &[16, 4])
        .node("Flatten", &["image"], &["f"], &[])
        .node("MatMul", &["f", "w"], &["h0"], &[]);
    let model = match in_a_loop {
        true => {
            let mut body = Model::new(17);
            body.graph().input = vec![
                float_value("turn", Some("")),
                float_value("go_on", Some("")),
                float_value("before", Some("n,16")),
            ];
            let body = body
                .typed("turn", 7)
                .typed("go_on", 9)
                .node("Identity", &["go_on"], &["goes_on"], &[])
                .node("MatMul", &["before", "u"], &["m"], &[])
                .node("Tanh", &["m"], &["after"], &[])
                .output("goes_on")
                .output("after")
                .typed("goes_on", 9);
            let mut model = model;
            let turns = integer_tensor("turns", &[], &[2]);
            model.graph().initializer.push(turns);
            let body = Value::Graph(body.proto.graph.unwrap());
            model.node("Loop", &["turns", "", "h0"], &["h2"], &[("body", body)])
        }
        false => model
            .node("MatMul", &["h0", "u"], &["m1"], &[])
            .node("Tanh", &["m1"], &["h1"], &[])
            .node("MatMul", &["h1", "u"], &["m2"], &[])
            .node("Tanh", &["m2"], &["h2"], &[]),
    };
    let mut model = model.node("MatMul", &["h2", "v"], &["y"], &[]);
    model.graph().output = vec![float_value("y", Some("n,4"))];
    model
}

#[test]
fn what_they_bring_is_part_of_their_version_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let scorer = scorer(folder.path(), &network(IMAGE, false), &network(IMAGE, true));
    let file = folder.path().join("own/gradient.onnx");
    let load = || scorer.load_model("own", Some("digits"), &Cancel::default());
    load().unwrap();
    let digest = || scorer.check("own").unwrap().model.digest;
    let right = digest();

    // That of another network: the same tensors, other weights.
    let mut other = network(IMAGE, true);
    let weights = &mut other.graph().initializer[1].raw_data;
    let halves = weights.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()) / 2.0);
    *weights = halves.flat_map(f32::to_le_bytes).collect::<Vec<u8>>().into();
    fs::write(&file, gradient(&other.bytes())).unwrap();
    assert_ne!(digest(), right);
    let error = load().unwrap_err();
    assert_eq!(error.reason, Reason::ModelInvalid);
    assert!(error.message.contains("disagrees with finite differences of model.onnx"), "{}", error.message);

    fs::write(&file, b"no graph").unwrap();
    let error = scorer.check("own").unwrap_err();
    assert!(error.reason == Reason::ModelInvalid && error.message.contains("gradient.onnx: "), "{}", error.message);

    fs::remove_file(&file).unwrap();
    assert_eq!(scorer.check("own").unwrap().obstacles.len(), 1);
    assert_eq!(load().unwrap_err().reason, Reason::ModelNotDifferentiable);

    fs::write(&file, gradient(&network(IMAGE, true).bytes())).unwrap();
    load().unwrap();
    assert_eq!(digest(), right);
}
