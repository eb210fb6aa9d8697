//! Solvers, levels, groups of samples and kept answers: what changes speed and memory changes no value.

use transferscore::{
    cancel::Cancel,
    error::Reason,
    scoring::{Scorer, Scoring, types::*},
};

use super::{attack, bundled, config, options, pair, scorer};
use crate::{gradient::model::Model, server_process::repository, support};

fn score(source: &str, options: ScoreOptions) -> PairScores {
    bundled().score(&pair(source, options), &Cancel::default()).unwrap()
}

fn with_virtual(virtual_attack: VirtualAttackOptions) -> ScoreOptions {
    ScoreOptions { attack: AttackOptions { virtual_attack, ..attack(AttackMethod::Virtual) }, ..options() }
}

/// The adversarial values of a pair.
fn values(scores: &PairScores) -> Vec<f64> {
    let of = |scores: &DirectionalScores| {
        [scores.alpha1.value, scores.alpha2.value, scores.combined.value, scores.tau2.as_ref().unwrap().value]
    };
    let matching =
        scores.gradient_matching.as_ref().map(|matching| [matching.distance.value, matching.explained.value]);
    let directions = [of(&scores.source_to_reference), of(&scores.reference_to_source)].concat();
    directions.into_iter().chain([scores.tau1.value]).chain(matching.into_iter().flatten()).collect()
}

#[track_caller]
fn all_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= tolerance, "value {index}: {found} instead of {expected}");
    }
}

#[test]
fn lanczos_agrees_with_the_exact_solver() {
    let exact = score("digits-50", options());
    let lanczos =
        score("digits-50", with_virtual(VirtualAttackOptions { solver: Solver::Lanczos, ..Default::default() }));
    all_close(&values(&lanczos), &values(&exact), 1e-4);
    let (exact, lanczos) = (exact.source_solver.unwrap(), lanczos.source_solver.unwrap());
    assert_eq!((exact.solver, exact.mean_steps, exact.max_residual), (Solver::Exact, 0.0, 0.0));
    assert_eq!((lanczos.solver, lanczos.n_converged), (Solver::Lanczos, exact.n_converged));
    assert!(lanczos.mean_steps >= 1.0 && lanczos.max_residual <= 1e-5);
}

#[test]
fn levels_are_singular_directions_of_falling_strength() {
    let options = with_virtual(VirtualAttackOptions { levels: 3, ..Default::default() });
    let scores = score("digits-reference", options);
    assert_eq!(scores.variants.iter().map(|scores| scores.variant.level).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(scores.variants[0].source_to_reference, scores.source_to_reference);
    for variant in &scores.variants {
        // A model against itself: the same direction, the same deviation.
        assert!((variant.tau1.value - 1.0).abs() < 1e-6);
        assert!((variant.source_to_reference.alpha1.value - 1.0).abs() < 1e-5);
    }
}

#[test]
fn a_model_without_so_many_directions_is_refused_by_the_field() {
    let request = pair("digits-50", with_virtual(VirtualAttackOptions { levels: 11, ..Default::default() }));
    let error = bundled().score(&request, &Cancel::default()).expect_err("digits-50 has four outputs");
    assert_eq!(error.reason, Reason::OptionUnsupported);
    assert_eq!(error.field.as_deref(), Some("attack.virtual_attack.levels"));
}

#[test]
fn several_radii_in_one_call_are_what_each_gives_by_itself() {
    for method in [AttackMethod::Virtual, AttackMethod::Fgsm, AttackMethod::Pgd] {
        let at = |epsilons: Vec<f64>| {
            let attack = AttackOptions { epsilons, ..attack(method) };
            score("digits-50", ScoreOptions { attack, ..options() })
        };
        let together = at(vec![0.02, 0.1]);
        assert_eq!(together.variants.len(), 2, "{method:?}");
        for variant in &together.variants {
            let alone = at(vec![variant.variant.epsilon.unwrap()]);
            assert!(alone.variants.is_empty(), "one variant is the answer itself");
            assert_eq!(alone.reference_to_source, variant.reference_to_source, "{method:?}");
            assert_eq!(alone.source_to_reference, variant.source_to_reference, "{method:?}");
        }
    }
}

#[test]
fn groups_of_samples_change_the_mispaired_nulls_and_no_value() {
    let in_groups = |group_bytes| {
        let config = transferscore::scoring::ScorerConfig {
            group_bytes,
            ..config(vec![repository("models")], vec![repository("models/datasets")], 64)
        };
        let scorer = Scorer::open(config, support::runtime()).unwrap();
        scorer.score(&pair("digits-75", options()), &Cancel::default()).unwrap()
    };
    let (whole, parted) = (in_groups(1 << 30), in_groups(1));
    assert_eq!(values(&whole), values(&parted));
    assert_eq!(whole.knowledge, parted.knowledge);
    let null = |scores: &PairScores| scores.source_to_reference.alpha1.shuffled.unwrap().mean;
    assert_ne!(null(&whole), null(&parted));
    assert!((null(&whole) / null(&parted) - 1.0).abs() < 0.1, "{} {}", null(&whole), null(&parted));
}

#[test]
fn a_repeated_call_runs_no_model_and_gives_the_same_answer() {
    let scorer = bundled();
    let request = |sources: &[&str], seed| RankingRequest {
        source_models: sources.iter().map(|&name| name.to_owned()).collect(),
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("digits".to_owned()),
        options: ScoreOptions { seed, ..options() },
        rank_by: RankingMetric::CombinedReferenceToSource,
        recommend_from: Vec::new(),
    };
    let rank = |request: &RankingRequest| {
        let (mut progress, mut rows) = (Vec::new(), Vec::new());
        let mut on_event = |event| match event {
            RankingEvent::Progress(now) => progress.push(now),
            RankingEvent::Row { source_model, scores } => rows.push((source_model, scores)),
        };
        let ranking = scorer.rank(request, &mut on_event, &Cancel::default()).unwrap();
        (progress, rows, ranking)
    };
    let (progress, rows, ranking) = rank(&request(&["digits-0", "digits-50"], 0));
    assert!(!progress.is_empty());
    let (progress, rows_again, ranking_again) = rank(&request(&["digits-0", "digits-50"], 0));
    assert!(progress.is_empty(), "{progress:?}");
    assert_eq!((rows_again, ranking_again), (rows.clone(), ranking));
    // One that is new among those that are known: rows keep the order of the request.
    let (progress, mixed, _) = rank(&request(&["digits-0", "digits-100", "digits-50"], 0));
    assert!(progress.iter().all(|now| now.stage != "digits-0" && now.total == progress[0].total));
    assert_eq!(
        mixed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["digits-0", "digits-100", "digits-50"]
    );
    assert_eq!((&mixed[0], &mixed[2]), (&rows[0], &rows[1]));
    let (progress, ..) = rank(&request(&["digits-0"], 1));
    assert!(!progress.is_empty(), "another seed is another call");
}

/// A convolutional network from pictures to pictures; its weights depend on their names.
fn autoencoder(name: &str) -> Model {
    let (encode, decode) = (format!("{name} encode"), format!("{name} decode"));
    let padded = [("pads", [1, 1, 1, 1].into())];
    Model::new(17)
        .input("x", "n,3,64,64")
        .weight(&encode, &[8, 3, 3, 3])
        .weight(&decode, &[3, 8, 3, 3])
        .node("Conv", &["x", &encode], &["h"], &padded)
        .node("Tanh", &["h"], &["t"], &[])
        .node("Conv", &["t", &decode], &["y"], &padded)
        .output("y")
}

#[test]
fn dense_outputs_are_scored_without_their_jacobian() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["first", "second"] {
        std::fs::write(folder.path().join(format!("{name}.onnx")), autoencoder(name).bytes()).unwrap();
    }
    let scorer = scorer(vec![folder.path().to_owned(), repository("models")], Vec::new());
    let samples = 8;
    let values_of = |i: usize| ((i as f32 * 0.37).sin() + 1.0) / 2.0;
    let request = |source: &str, reference: &str| PairRequest {
        source_model: source.to_owned(),
        reference_model: reference.to_owned(),
        probe: Probe::Inline(InlineDataset {
            shape: vec![3, 64, 64],
            samples: (0..samples * 3 * 64 * 64).map(values_of).collect(),
            labels: Vec::new(),
        }),
        options: options(),
    };
    let itself = scorer.score(&request("first", "first"), &Cancel::default()).unwrap();
    // The largest singular values of convolutions lie close together, so the direction is found before it is proven.
    let solver = itself.source_solver.unwrap();
    assert_eq!(solver.solver, Solver::Lanczos);
    assert!(solver.max_residual < 1e-3 && solver.n_converged < samples, "{solver:?}");
    assert!((itself.source_to_reference.alpha1.value - 1.0).abs() < 1e-4);
    assert!((itself.tau1.value - 1.0).abs() < 1e-4);
    assert!((itself.gradient_matching.unwrap().explained.value - 1.0).abs() < 1e-6);
    let other = scorer.score(&request("second", "first"), &Cancel::default()).unwrap();
    assert!(other.source_to_reference.alpha1.value < 0.99);
    assert!(other.tau1.value < 0.99);
}
