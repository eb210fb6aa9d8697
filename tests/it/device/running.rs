//! Scores on a card are those of the processor.

use ndarray::{Array2, ArrayD};
use transferscore::{
    cancel::Cancel,
    config::{DeviceConfig, Precision},
    runtime::{Carry, Executable, Iteration, Runtime, RuntimeError},
    scoring::{Scoring, types::*},
};

use super::{rehearsed, rehearsed_with, scorer};
use crate::{
    gradient::model::Model,
    scoring::{attack, bundled_with, options, pair},
};

fn requests() -> Vec<PairRequest> {
    let pgd = AttackOptions { random_start: true, steps: 3, ..attack(AttackMethod::Pgd) };
    [attack(AttackMethod::Virtual), pgd, attack(AttackMethod::DeepFool)]
        .map(|attack| pair("digits-50", ScoreOptions { attack, seed: 3, ..options() }))
        .into()
}

/// The numbers that a text tells.
fn numbers(text: &str) -> Vec<f64> {
    let is_part = |character: char| character.is_ascii_digit() || matches!(character, '.' | '-' | '+' | 'e');
    text.split(|character| !is_part(character)).filter_map(|word| word.parse().ok()).collect()
}

#[test]
fn scores_on_a_card_are_those_of_the_processor() {
    let (card, processor) = (rehearsed(), bundled_with(2, 64));
    let on_card = scorer(&card);
    for request in requests() {
        let given = on_card.score(&request, &Cancel::default()).unwrap();
        let expected = processor.score(&request, &Cancel::default()).unwrap();
        assert_eq!(given.provenance.provider, "CPUExecutionProvider (rehearsal)");
        for (given, expected) in [
            (&given.source_to_reference, &expected.source_to_reference),
            (&given.reference_to_source, &expected.reference_to_source),
        ] {
            for (given, expected) in [(&given.alpha1, &expected.alpha1), (&given.alpha2, &expected.alpha2)] {
                assert!((given.value - expected.value).abs() <= 1e-6, "{given:?} is not {expected:?}");
            }
        }
        let (given, expected) = (numbers(&format!("{given:?}")), numbers(&format!("{expected:?}")));
        assert_eq!(given.len(), expected.len());
        for (given, expected) in given.iter().zip(&expected) {
            // The card's graphs round otherwise, and two hundred steps of training carry that into a cross-entropy.
            assert!((given - expected).abs() <= 1e-4 * expected.abs().max(1.0), "{given} is not {expected}");
        }
    }
}

#[test]
fn half_precision_changes_scores_by_about_its_rounding() {
    let half = rehearsed_with(DeviceConfig { precision: Precision::Float16, ..DeviceConfig::default() });
    let single = rehearsed();
    let score = |runtime, request| scorer(runtime).score(request, &Cancel::default()).unwrap();
    for request in &requests()[..2] {
        let (given, expected) = (score(&half, request), score(&single, request));
        assert_eq!(given.provenance.provider, "CPUExecutionProvider (rehearsal, float16)");
        let (given, expected) = (given.source_to_reference.alpha1.value, expected.source_to_reference.alpha1.value);
        let difference = (given - expected).abs();
        assert!(difference > 0.0 && difference < 1e-2, "{given} is not {expected}");
    }
}

#[test]
fn the_same_request_gives_the_same_bits_on_a_card_too() {
    for request in requests() {
        let score = || format!("{:?}", scorer(&rehearsed()).score(&request, &Cancel::default()).unwrap());
        assert_eq!(score(), score());
    }
}

#[test]
fn steps_that_are_recorded_give_what_others_give() {
    let recorded = rehearsed_with(DeviceConfig { cuda_graphs: true, ..DeviceConfig::default() });
    for request in requests() {
        let score = |runtime| format!("{:?}", scorer(runtime).score(&request, &Cancel::default()).unwrap());
        assert_eq!(score(&recorded), score(&rehearsed()));
    }
}

/// `y = x + u`, `z = 2 y`.
fn adder(runtime: &std::sync::Arc<Runtime>) -> Executable {
    let model = Model::new(17).input("x", "n,2").input("u", "n,2").node("Add", &["x", "u"], &["y"], &[]);
    let model = model.node("Add", &["y", "y"], &["z"], &[]).output("y").output("z");
    runtime.compile_for_steps(model.bytes()).unwrap()
}

fn iterated(adder: &Executable, rows: usize, runs: u32) -> (ArrayD<f32>, Vec<f32>) {
    let (x, u) = (Array2::<f32>::ones((rows, 2)).into_dyn(), Array2::<f32>::from_elem((rows, 2), 0.5).into_dyn());
    let iteration = Iteration {
        feeds: &[("x", x.view()), ("u", u.view())],
        carries: &[Carry { output: "y", input: "x" }],
        watched: &["z"],
        runs,
    };
    let mut seen = Vec::new();
    let carried = adder.iterate(&iteration, |watched| {
        seen.push(watched[0][[0, 0]]);
        Ok::<_, RuntimeError>(())
    });
    (carried.unwrap().remove(0), seen)
}

#[test]
fn carried_values_stay_on_the_card_from_run_to_run_and_from_shape_to_shape() {
    for cuda_graphs in [false, true] {
        let adder = adder(&rehearsed_with(DeviceConfig { cuda_graphs, ..DeviceConfig::default() }));
        for (rows, runs) in [(3, 0), (3, 1), (3, 4), (2, 3), (3, 2), (3, 5)] {
            let (carried, seen) = iterated(&adder, rows, runs);
            let expected = 1.0 + 0.5 * runs as f32;
            assert_eq!(carried, ArrayD::from_elem(vec![rows, 2], expected), "{rows} rows, {runs} runs, {cuda_graphs}");
            assert_eq!(seen, (1..=runs).map(|run| 2.0 + run as f32).collect::<Vec<_>>());
        }
    }
}

#[test]
fn outputs_that_stay_are_inputs_of_another_graph() {
    let runtime = rehearsed();
    let adder = adder(&runtime);
    let (x, u) = (Array2::<f32>::ones((3, 2)).into_dyn(), Array2::<f32>::from_elem((3, 2), 0.5).into_dyn());
    let first = adder.run_keeping(&[("x", x.view().into()), ("u", u.view().into())], |name| name == "y").unwrap();
    assert_eq!(first[0].name(), "y");
    let second = adder.run(&[("x", (&first[0]).into()), ("u", (&first[1]).into())]).unwrap();
    // 1.5 + 3.
    assert_eq!(second[0].view().unwrap(), ArrayD::from_elem(vec![3, 2], 4.5));
    let wrong = Array2::<f32>::ones((3, 3)).into_dyn();
    let refused = adder.run(&[("x", wrong.view().into()), ("u", u.view().into())]).map(drop);
    assert!(matches!(refused, Err(RuntimeError::Run(_))), "{refused:?}");
    assert!(adder.run(&[("x", x.view().into()), ("u", u.view().into())]).is_ok());
}
