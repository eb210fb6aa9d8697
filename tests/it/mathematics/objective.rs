//! What attacks ascend: losses and their derivatives, input transformations, ensembles, goals.

use std::convert::Infallible;

use ndarray::{Array2, ArrayView2, array, s};
use transferscore::attack::{
    Goal, InputDiversity, Loss, LossTarget, MeanOutputs, Model, Objective, TargetClass, Term, Transforms,
    TranslationKernel, loss_and_cotangents,
};

use super::{
    attack_models::{Linear, one_hot},
    support::{close, normal, numbers},
};

const LOSSES: [Loss; 5] =
    [Loss::SoftCrossEntropy, Loss::KullbackLeibler, Loss::SquaredDeviation, Loss::Margin, Loss::LogitsRatio];

#[test]
fn losses_have_their_values() {
    let outputs = array![[1.0_f32, 3.0, 2.0, -1.0]];
    let sum = [1.0_f64, 3.0, 2.0, -1.0].iter().map(|z| z.exp()).sum::<f64>().ln();
    let spread = array![[0.5_f32, 0.5, 0.0, 0.0]];
    let value = |loss, target: &Array2<f32>| loss_and_cotangents(loss, outputs.view(), target.view()).0[0];
    close(value(Loss::SoftCrossEntropy, &one_hot(&[2], 4)), sum - 2.0, 1e-12);
    close(value(Loss::KullbackLeibler, &spread), sum - 2.0 - 2.0_f64.ln(), 1e-12);
    close(value(Loss::SquaredDeviation, &spread), 0.25 + 6.25 + 4.0 + 1.0, 1e-12);
    // The target is not the strongest, then it is: the ratio has z₁ − z₃ = 2 below.
    close(value(Loss::Margin, &one_hot(&[2], 4)), 1.0, 1e-12);
    close(value(Loss::Margin, &one_hot(&[1], 4)), -1.0, 1e-12);
    close(value(Loss::LogitsRatio, &one_hot(&[3], 4)), 4.0 / 2.0, 1e-11);
    close(value(Loss::LogitsRatio, &one_hot(&[1], 4)), -1.0 / 2.0, 1e-11);
}

#[test]
fn cotangents_are_the_derivatives_of_losses() {
    // Multiples of 1/64, so that f32 holds the shifted outputs exactly.
    let outputs = normal((5, 6), 1).mapv(|x| (x * 64.0).round() as f32 / 64.0);
    let target = one_hot(&[0, 1, 2, 3, 4], 6);
    let step = 1.0_f32 / 4096.0;
    for loss in LOSSES {
        let (_, cotangents) = loss_and_cotangents(loss, outputs.view(), target.view());
        for output in 0..6 {
            let shifted = |by: f32| {
                let mut outputs = outputs.clone();
                outputs.column_mut(output).mapv_inplace(|z| z + by);
                loss_and_cotangents(loss, outputs.view(), target.view()).0
            };
            let (up, down) = (shifted(step), shifted(-step));
            for row in 0..5 {
                let slope = (up[row] - down[row]) / (2.0 * f64::from(step));
                close(f64::from(cotangents[[row, output]]), slope, 1e-5);
            }
        }
    }
}

#[test]
fn a_confident_prediction_still_has_a_gradient() {
    // In f32 its probability is 1.
    let outputs = array![[40.0_f32, 0.0, 0.0]];
    let (losses, cotangents) = loss_and_cotangents(Loss::SoftCrossEntropy, outputs.view(), one_hot(&[0], 3).view());
    assert!(losses[0] >= 0.0 && cotangents[[0, 1]] > 0.0, "{cotangents}");
}

fn linear(seed: u64) -> Linear {
    Linear { weights: normal((4, 48), seed), bias: normal((1, 4), seed + 50).row(0).to_owned() }
}

fn objective<'a>(
    models: &[&'a dyn Model<Error = Infallible>],
    transforms: &Transforms,
    seed: u64,
    samples: &[usize],
) -> Objective<'a, Infallible> {
    let classes: Vec<usize> = samples.iter().map(|sample| sample % 4).collect();
    let target = LossTarget { loss: Loss::SoftCrossEntropy, target: one_hot(&classes, 4) };
    let terms = models.iter().map(|&model| Term { model, target: target.clone() }).collect();
    Objective::new(terms, false, transforms, &[3, 4, 4], seed, samples)
}

fn pixels(rows: usize) -> Array2<f32> {
    normal((rows, 48), 9).mapv(|x| (0.5 + 0.2 * x).clamp(0.0, 1.0) as f32)
}

const ALL: Transforms = Transforms {
    diversity: Some(InputDiversity { probability: 0.7, least_size: 0.5 }),
    translation: Some(TranslationKernel { size: 3, reach: 2.0 }),
    scales: 3,
};

#[test]
fn a_transformed_gradient_is_that_of_the_transformed_loss() {
    // Without smoothing, which is no transformation of the input.
    let transforms = Transforms { translation: None, ..ALL };
    let (model, samples, indices) = (linear(1), pixels(5), [3, 8, 1, 0, 7]);
    let evaluate = |at: ArrayView2<'_, f32>| objective(&[&model], &transforms, 4, &indices).evaluate(at).unwrap();
    let gradients = evaluate(samples.view()).gradients;
    for pixel in (0..48).step_by(5) {
        let shifted = |by: f32| {
            let mut samples = samples.clone();
            samples.column_mut(pixel).mapv_inplace(|x| x + by);
            evaluate(samples.view()).losses
        };
        let (up, down) = (shifted(1e-2), shifted(-1e-2));
        for row in 0..5 {
            close(f64::from(gradients[[row, pixel]]), (up[row] - down[row]) / 2e-2, 2e-3);
        }
    }
}

#[test]
fn transformations_depend_on_the_sample_and_the_seed_alone() {
    let (model, samples) = (linear(1), pixels(5));
    let whole = objective(&[&model], &ALL, 4, &[3, 8, 1, 0, 7]).evaluate(samples.view()).unwrap();
    let part = objective(&[&model], &ALL, 4, &[8, 0]).evaluate(samples.slice(s![1..4;2, ..])).unwrap();
    assert_eq!(part.gradients, whole.gradients.slice(s![1..4;2, ..]));
    let mut again = objective(&[&model], &ALL, 4, &[3, 8, 1, 0, 7]);
    assert_eq!(again.evaluate(samples.view()).unwrap(), whole);
    // Another look draws anew, another seed draws something else.
    assert_ne!(again.evaluate(samples.view()).unwrap().gradients, whole.gradients);
    let other = objective(&[&model], &ALL, 5, &[3, 8, 1, 0, 7]).evaluate(samples.view()).unwrap();
    assert_ne!(other.gradients, whole.gradients);
}

/// A model whose outputs are its pixels, so that a view shows in them.
struct Identity;

impl Model for Identity {
    type Error = Infallible;

    fn outputs(&self, samples: ArrayView2<'_, f32>) -> Result<Array2<f32>, Infallible> {
        Ok(samples.to_owned())
    }

    fn pullback(
        &self,
        samples: ArrayView2<'_, f32>,
        choose: &mut transferscore::attack::Choose<'_, Infallible>,
    ) -> Result<transferscore::attack::Pullback, Infallible> {
        let gradients = choose(0..samples.nrows(), samples)?;
        Ok(transferscore::attack::Pullback { outputs: samples.to_owned(), gradients })
    }
}

#[test]
fn diverse_inputs_are_smaller_pictures_in_their_old_frame() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../../golden/attacks.json")).unwrap();
    let picture = super::attack_peers::first_picture();
    let transforms = Transforms {
        diversity: Some(InputDiversity { probability: 1.0, least_size: 0.625 }),
        translation: None,
        scales: 1,
    };
    let mut sizes = std::collections::BTreeSet::new();
    for sample in 0..60 {
        let target = LossTarget { loss: Loss::SquaredDeviation, target: Array2::zeros((1, 64)) };
        let terms: Vec<Term<'_, Infallible>> = vec![Term { model: &Identity, target }];
        let mut objective = Objective::new(terms, false, &transforms, &[1, 8, 8], 0, &[sample]);
        let white = objective.evaluate(Array2::ones((1, 64)).view()).unwrap().outputs;
        let lit: Vec<(usize, usize)> =
            (0..64).filter(|&place| white[[0, place]] > 0.5).map(|place| (place / 8, place % 8)).collect();
        let (top, left) = lit[0];
        let (bottom, right) = lit[lit.len() - 1];
        let size = (bottom - top + 1, right - left + 1);
        assert_eq!(lit.len(), size.0 * size.1, "a rectangle");
        sizes.insert(size.0);
        if size == (6, 6) {
            // Drawn again with the same index: the same frame.
            let terms: Vec<Term<'_, Infallible>> = vec![Term {
                model: &Identity,
                target: LossTarget { loss: Loss::SquaredDeviation, target: Array2::zeros((1, 64)) },
            }];
            let mut objective = Objective::new(terms, false, &transforms, &[1, 8, 8], 0, &[sample]);
            let seen = objective.evaluate(picture.view()).unwrap().outputs;
            let expected = numbers(&golden["resized"]);
            for (index, expected) in expected.into_iter().enumerate() {
                let place = (top + index / 6) * 8 + left + index % 6;
                close(f64::from(seen[[0, place]]), expected, 1e-6);
            }
        }
    }
    // From 5 on, the upper end exclusive.
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [5, 6, 7]);
}

#[test]
fn an_ensemble_in_outputs_is_the_model_of_mean_weights() {
    let (a, b, samples) = (linear(1), linear(2), pixels(5));
    let mean = Linear { weights: (&a.weights + &b.weights) / 2.0, bias: (&a.bias + &b.bias) / 2.0 };
    let ensemble = MeanOutputs::new(vec![&a as &dyn Model<Error = Infallible>, &b]).unwrap();
    let indices = [0, 1, 2, 3, 4];
    let found = objective(&[&ensemble], &Transforms::NONE, 0, &indices).evaluate(samples.view()).unwrap();
    let expected = objective(&[&mean], &Transforms::NONE, 0, &indices).evaluate(samples.view()).unwrap();
    assert!((&found.gradients - &expected.gradients).iter().all(|x| x.abs() < 1e-5));
    assert!((&found.outputs - &expected.outputs).iter().all(|x| x.abs() < 1e-5));
    found.losses.iter().zip(&expected.losses).for_each(|(a, b)| close(*a, *b, 1e-5));
}

#[test]
fn an_ensemble_in_losses_is_the_mean_of_losses_and_gradients() {
    let (a, b, samples, indices) = (linear(1), linear(2), pixels(5), [0, 1, 2, 3, 4]);
    let of = |models: &[&dyn Model<Error = Infallible>]| {
        objective(models, &Transforms::NONE, 0, &indices).evaluate(samples.view()).unwrap()
    };
    let (both, a, b) = (of(&[&a, &b]), of(&[&a]), of(&[&b]));
    let expected = (&a.gradients + &b.gradients) / 2.0;
    assert!((&both.gradients - &expected).iter().all(|x| x.abs() < 1e-6));
    for row in 0..5 {
        close(both.losses[row], (a.losses[row] + b.losses[row]) / 2.0, 1e-12);
    }
}

#[test]
fn goals_know_the_class_to_leave_or_to_reach() {
    let logits = array![[1.0_f32, 4.0, -2.0, 3.0], [0.0, 0.0, 0.0, 0.0]];
    for (target, expected) in
        [(TargetClass::Given(2), [2, 2]), (TargetClass::LeastLikely, [2, 1]), (TargetClass::NextMostLikely, [3, 1])]
    {
        let goal = Goal::targeting(target, logits.view(), &[1, 0]);
        assert_eq!((goal.classes(), goal.is_targeted()), (&expected[..], true), "{target:?}");
    }
    let (leave, reach) = (Goal::away_from(vec![1, 2]), Goal::towards(vec![1, 2]));
    assert_eq!((leave.is_reached(0, logits.row(0)), reach.is_reached(0, logits.row(0))), (false, true));
    assert_eq!((leave.is_reached(1, logits.row(1)), reach.is_reached(1, logits.row(1))), (true, false));
}
