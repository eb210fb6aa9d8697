//! What is timed is the work of real calls: the same gradients, the same attack.

use ndarray::{Array2, Axis, concatenate};
use transferscore::{
    cancel::Cancel,
    error::Reason,
    scoring::{Exercise, Scoring, types::*},
};

use super::{attack, bundled, bundled_with};

const MODEL: &str = "digits-50";
const SAMPLES: usize = 70;

/// What the call `attack` makes of the first samples: clean and attacked, rows x inputs, and the losses after it.
fn called(attack: AttackOptions) -> (Array2<f32>, Array2<f32>, Vec<f64>) {
    let request = AdversarialRequest {
        models: vec![MODEL.to_owned()],
        pooling: Pooling::Losses,
        evaluated_models: Vec::new(),
        probe: Probe::Dataset("digits".to_owned()),
        max_samples: 0,
        attack,
        seed: 0,
        with_clean_samples: true,
    };
    let (mut clean, mut attacked, mut losses) = (Vec::new(), Vec::new(), Vec::new());
    let mut on_event = |event| {
        if let AdversarialEvent::Examples(examples) = event {
            clean.extend(examples.clean_samples);
            attacked.push(examples.samples);
            losses.extend(examples.losses);
        }
    };
    bundled().attack(&request, &mut on_event, &Cancel::default()).unwrap();
    (stacked(&clean), stacked(&attacked), losses)
}

fn stacked(tiles: &[Array2<f32>]) -> Array2<f32> {
    concatenate(Axis(0), &tiles.iter().map(|tile| tile.view()).collect::<Vec<_>>()).unwrap()
}

#[test]
fn the_attack_is_that_of_the_call() {
    let options = AttackOptions { steps: 3, ..attack(AttackMethod::Pgd) };
    let trial = bundled().trial(MODEL, "digits", &options).unwrap();
    assert_eq!((trial.steps(), trial.sample_shape()), (3, &[1, 8, 8][..]));
    let perturbations = trial.run(Exercise::Attack, SAMPLES).unwrap();
    let (clean, attacked, losses) = called(options);
    for (row, perturbation) in stacked(&perturbations).rows().into_iter().enumerate() {
        for (pixel, by) in perturbation.iter().enumerate() {
            assert!((clean[[row, pixel]] + by - attacked[[row, pixel]]).abs() < 1e-6, "sample {row}, pixel {pixel}");
        }
    }
    let readings = trial.readings(Exercise::Attack, &perturbations).unwrap();
    for (reading, loss) in readings.iter().zip(&losses) {
        assert!((reading - loss).abs() < 1e-5, "{readings:?}");
    }
    assert_eq!(readings.len(), 8);
}

#[test]
fn the_gradient_is_that_which_one_step_goes_along() {
    let epsilon = 0.1;
    let options = AttackOptions { norm: Some(Norm::L2), epsilon: Some(epsilon), ..attack(AttackMethod::Fgsm) };
    let trial = bundled().trial(MODEL, "digits", &options).unwrap();
    let tiles = trial.run(Exercise::Gradient, SAMPLES).unwrap();
    let lengths = trial.readings(Exercise::Gradient, &tiles).unwrap();
    let (clean, attacked, _) = called(options);
    let mut n_compared = 0;
    for ((row, gradient), length) in stacked(&tiles).rows().into_iter().enumerate().zip(lengths) {
        for (pixel, slope) in gradient.iter().enumerate() {
            let (from, to) = (clean[[row, pixel]], attacked[[row, pixel]]);
            // A step that ends at a bound was cut.
            if to > 0.0 && to < 1.0 {
                let expected = epsilon * f64::from(*slope) / length;
                assert!((f64::from(to - from) - expected).abs() < 1e-6, "sample {row}, pixel {pixel}");
                n_compared += 1;
            }
        }
    }
    assert!(n_compared > 100, "{n_compared}");
}

#[test]
fn threads_and_samples_in_flight_change_nothing() {
    let run = |threads, batch_size| {
        let trial = bundled_with(threads, batch_size).trial(MODEL, "digits", &attack(AttackMethod::Pgd)).unwrap();
        [Exercise::Gradient, Exercise::Attack].map(|exercise| stacked(&trial.run(exercise, SAMPLES).unwrap()))
    };
    assert_eq!(run(1, 1), run(3, 512));
}

#[test]
fn trials_that_make_no_sense_are_refused() {
    let refusal = bundled().trial(MODEL, "digits", &attack(AttackMethod::Virtual)).err().unwrap();
    assert_eq!(refusal.reason, Reason::OptionUnsupported);
    let trial = bundled().trial(MODEL, "digits", &attack(AttackMethod::Pgd)).unwrap();
    for n_samples in [0, trial.n_samples() + 1] {
        assert_eq!(trial.run(Exercise::Gradient, n_samples).unwrap_err().reason, Reason::ProbeMismatch, "{n_samples}");
    }
}
