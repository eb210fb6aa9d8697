//! Empirical attacks through real networks: bounds, order of strength, labels.

use prost::Message;
use transferscore::{
    cancel::Cancel,
    error::Reason,
    gradient::onnx::ModelProto,
    scoring::{Scoring, types::*},
};

use super::{attack, bundled, options, pair, scorer};
use crate::server_process::repository;

fn score(source: &str, attack: AttackOptions) -> PairScores {
    bundled().score(&pair(source, ScoreOptions { attack, ..options() }), &Cancel::default()).unwrap()
}

#[test]
fn a_stronger_attack_costs_the_reference_more() {
    let pgd = AttackOptions { epsilon: Some(0.1), steps: 10, ..attack(AttackMethod::Pgd) };
    let fgsm = AttackOptions { epsilon: Some(0.1), ..attack(AttackMethod::Fgsm) };
    // The reference against itself is the white-box attack.
    let loss = |attack| score("digits-reference", attack).source_to_reference.loss.unwrap();
    let (pgd, fgsm) = (loss(pgd), loss(fgsm));
    assert_eq!(pgd.clean_loss.value, fgsm.clean_loss.value);
    assert!(fgsm.attack_loss.value > 2.0 * fgsm.clean_loss.value, "{fgsm:?}");
    assert!(pgd.attack_loss.value > fgsm.attack_loss.value, "{pgd:?} {fgsm:?}");
    assert!(pgd.fooling_rate.unwrap().value > 0.0);
}

#[test]
fn losses_are_told_only_for_models_that_know_the_classes() {
    let scores = score("digits-0", AttackOptions { epsilon: Some(0.1), ..attack(AttackMethod::Fgsm) });
    assert!(scores.source_to_reference.loss.is_some());
    assert!(scores.reference_to_source.loss.is_none());
}

#[test]
fn a_model_against_itself_is_attacked_in_the_white_box() {
    let pgd = AttackOptions { epsilon: Some(0.1), ..attack(AttackMethod::Pgd) };
    let scores = score("digits-reference", pgd.clone());
    let loss = scores.source_to_reference.loss.unwrap();
    assert_eq!(loss.attack_loss, loss.white_box_loss);
    assert_eq!(loss.loss_ratio.unwrap().value, 1.0);
    // Every sample that is fooled is one on which the attack changed the class.
    let (all, fooled) = (loss.fooling_rate.unwrap().value, loss.conditional_fooling_rate.unwrap().value);
    assert!(all < 1.0 && fooled == 1.0, "{all} {fooled}");
    let similarity = scores.similarity.unwrap();
    assert!((similarity.value - (100.0 * all).ln()).abs() < 1e-12);
    assert_eq!(score("digits-0", pgd).similarity, None, "it names other classes");
}

#[test]
fn a_small_virtual_attack_agrees_with_the_first_order() {
    let first_order = score("digits-75", attack(AttackMethod::Virtual));
    let small = score("digits-75", AttackOptions { epsilon: Some(1e-3), ..attack(AttackMethod::Virtual) });
    let (a, b) = (first_order.reference_to_source.alpha1.value, small.reference_to_source.alpha1.value);
    assert!((a - b).abs() < 0.02, "{a} {b}");
    let (a, b) = (first_order.tau1.value, small.tau1.value);
    assert!((a - b).abs() < 1e-6, "{a} {b}");
}

#[test]
fn losses_without_a_gradient_at_the_clean_point_still_attack() {
    for loss in [AttackLoss::Kl, AttackLoss::SquaredDeviation] {
        for method in [AttackMethod::Fgsm, AttackMethod::Pgd] {
            let scores = score("digits-100", AttackOptions { loss: Some(loss), ..attack(method) });
            assert_eq!(scores.source_to_reference.n_dead_samples, 0, "{method:?} {loss:?}");
        }
    }
}

#[test]
fn the_fooling_rate_goes_from_none_to_nearly_all_with_the_radius() {
    let rate = |epsilon| {
        let pgd = AttackOptions { epsilon: Some(epsilon), ..attack(AttackMethod::Pgd) };
        score("digits-reference", pgd).source_to_reference.loss.unwrap().fooling_rate.unwrap().value
    };
    assert_eq!(rate(1e-5), 0.0);
    assert!(rate(0.5) > 0.9);
}

#[test]
fn a_loss_whose_gradient_overflows_is_an_error_and_no_attack() {
    let bytes = std::fs::read(repository("models/digits-reference/model.onnx")).unwrap();
    let mut model = ModelProto::decode(bytes.as_slice()).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let weight = graph.node.iter().find(|node| node.op_type == "Gemm").unwrap().input[1].clone();
    let weight = graph.initializer.iter_mut().find(|tensor| tensor.name == weight).unwrap();
    let values = weight.raw_data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
    weight.raw_data = values.flat_map(|value| (value * 1e25).to_le_bytes()).collect();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("steep.onnx"), model.encode_to_vec()).unwrap();
    let scorer = scorer(vec![folder.path().to_owned(), repository("models")], vec![repository("models/datasets")]);
    let pgd = AttackOptions { loss: Some(AttackLoss::SquaredDeviation), ..attack(AttackMethod::Pgd) };
    let request = pair("steep", ScoreOptions { attack: pgd, ..options() });
    let error = scorer.score(&request, &Cancel::default()).expect_err("squares of 1e25 are no float32");
    assert_eq!((error.reason, error.message.contains("`gradient/")), (Reason::ModelExecutionFailed, true), "{error}");
}
