//! Models whose folders bring their gradient graphs.

use std::{fs, path::Path};

use transferscore::{
    cancel::Cancel,
    error::Reason,
    gradient::{Graph, vjp},
    scoring::{Scorer, Scoring, types::*},
};

use super::{attack, options, pair};
use crate::{gradient::pullbacks::network, server_process::repository};

const IMAGE: [i64; 3] = [1, 8, 8];

/// A scorer of the bundled models, `own` with a determinant and its gradient graph, and `twin` multiplied out.
fn scorer(folder: &Path) -> Scorer {
    let twin = network(IMAGE, true).bytes();
    fs::create_dir(folder.join("own")).unwrap();
    fs::write(folder.join("own/model.onnx"), network(IMAGE, false).bytes()).unwrap();
    fs::write(folder.join("own/gradient.onnx"), gradient(&twin)).unwrap();
    fs::write(folder.join("twin.onnx"), &twin).unwrap();
    super::scorer(vec![repository("models"), folder.to_owned()], vec![repository("models/datasets")])
}

fn gradient(model: &bytes::Bytes) -> Vec<u8> {
    vjp(&Graph::parse(model.clone()).unwrap(), &[], &[]).unwrap().to_onnx()
}

fn values(scores: &PairScores) -> [f64; 5] {
    let (to, from) = (&scores.source_to_reference, &scores.reference_to_source);
    [to.alpha1.value, to.combined.value, from.alpha1.value, from.tau2.as_ref().unwrap().value, scores.tau1.value]
}

#[test]
fn they_score_as_the_same_model_in_a_form_that_is_differentiated() {
    let folder = tempfile::tempdir().unwrap();
    let scorer = scorer(folder.path());
    assert_eq!(scorer.check("own").unwrap().obstacles, []);
    for method in [AttackMethod::Virtual, AttackMethod::Pgd] {
        let score = |source: &str| {
            let options = ScoreOptions { attack: attack(method), max_samples: 64, ..options() };
            values(&scorer.score(&pair(source, options), &Cancel::default()).unwrap())
        };
        for (found, expected) in score("own").into_iter().zip(score("twin")) {
            assert!((found - expected).abs() <= 1e-4, "{method:?}: {found} instead of {expected}");
        }
    }
}

#[test]
fn what_they_bring_is_part_of_their_version_and_verified() {
    let folder = tempfile::tempdir().unwrap();
    let scorer = scorer(folder.path());
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
