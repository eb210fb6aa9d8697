//! What attacks ascend, and its derivative by a model's outputs, in f64.
//!
//! The same losses as the graphs of [`crate::gradient::compose::with_loss`] on flattened outputs. In f64 the gradient of
//! a confident prediction does not vanish: its probability differs from 1 where f32 says that it is 1.

use ndarray::{Array2, ArrayView2};

use super::argmax;
pub use crate::gradient::compose::Loss;

/// A loss, and what it measures from, for some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct LossTarget {
    pub loss: Loss,
    /// Rows x outputs: class probabilities, one-hot for classes, or the outputs to move away from. See [`Loss`].
    pub target: Array2<f32>,
}

/// As [`Loss::LogitsRatio`] has it (Croce and Hein 2020, in the authors' code).
const RATIO_SHIFT: f64 = 1e-12;

/// The loss of each row of `outputs`, and its derivative by them, of their shape.
pub fn loss_and_cotangents(
    loss: Loss,
    outputs: ArrayView2<'_, f32>,
    targets: ArrayView2<'_, f32>,
) -> (Vec<f64>, Array2<f32>) {
    let mut cotangents = Array2::zeros(outputs.dim());
    let rows = cotangents.rows_mut().into_iter().zip(outputs.rows()).zip(targets.rows());
    let losses = rows.map(|((mut to, outputs), target)| {
        let wide = |row: ndarray::ArrayView1<'_, f32>| row.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (value, cotangent) = of_row(loss, &wide(outputs), &wide(target));
        to.iter_mut().zip(cotangent).for_each(|(to, from)| *to = from as f32);
        value
    });
    (losses.collect(), cotangents)
}

fn of_row(loss: Loss, outputs: &[f64], target: &[f64]) -> (f64, Vec<f64>) {
    match loss {
        Loss::SoftCrossEntropy | Loss::KullbackLeibler => {
            let (logs, weight) = (log_softmax(outputs), target.iter().sum::<f64>());
            let cross: f64 = target.iter().zip(&logs).map(|(t, log)| -t * log).sum();
            let entropy =
                if loss == Loss::KullbackLeibler { target.iter().map(|&t| -t * log_or_0(t)).sum() } else { 0.0 };
            (cross - entropy, logs.iter().zip(target).map(|(log, t)| weight * log.exp() - t).collect())
        }
        Loss::SquaredDeviation => {
            let differences: Vec<f64> = outputs.iter().zip(target).map(|(z, t)| z - t).collect();
            (differences.iter().map(|d| d * d).sum(), differences.iter().map(|d| 2.0 * d).collect())
        }
        Loss::Margin => {
            let (value, places) = margin(outputs, target);
            (value, weighted(outputs.len(), &places))
        }
        Loss::LogitsRatio => {
            let (value, [other, own]) = margin(outputs, target);
            let mut order: Vec<usize> = (0..outputs.len()).collect();
            let at = |index: usize| outputs.get(index).copied().unwrap_or(0.0);
            order.sort_by(|&a, &b| at(b).total_cmp(&at(a)));
            let (first, third) = (order.first().copied().unwrap_or(0), order.get(2).copied().unwrap_or(0));
            let span = at(first) - at(third) + RATIO_SHIFT;
            let ratio = value / span;
            let slope = ratio / span;
            let scaled = |(index, weight): (usize, f64)| (index, weight / span);
            (ratio, weighted(outputs.len(), &[scaled(other), scaled(own), (first, -slope), (third, slope)]))
        }
    }
}

/// The largest other logit less that of the target's class, and the two places with their weights.
fn margin(outputs: &[f64], target: &[f64]) -> (f64, [(usize, f64); 2]) {
    let own = argmax(target.iter());
    let masked = outputs.iter().enumerate().map(|(index, &z)| if index == own { f64::NEG_INFINITY } else { z });
    let other = argmax(masked.collect::<Vec<f64>>().iter());
    let at = |index: usize| outputs.get(index).copied().unwrap_or(0.0);
    (at(other) - at(own), [(other, 1.0), (own, -1.0)])
}

/// A vector that is 0 but at some places, whose weights add.
fn weighted(length: usize, places: &[(usize, f64)]) -> Vec<f64> {
    let mut vector = vec![0.0; length];
    for &(index, weight) in places {
        if let Some(entry) = vector.get_mut(index) {
            *entry += weight;
        }
    }
    vector
}

fn log_softmax(outputs: &[f64]) -> Vec<f64> {
    let largest = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = outputs.iter().map(|z| (z - largest).exp()).sum();
    outputs.iter().map(|z| z - largest - sum.ln()).collect()
}

/// ln t, and 0 at 0, where t ln t is meant.
fn log_or_0(t: f64) -> f64 {
    if t > 0.0 { t.ln() } else { 0.0 }
}
