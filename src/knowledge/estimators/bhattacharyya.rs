//! GBC (Pándy et al. 2022): how much the classes overlap, each taken for a Gaussian with a diagonal covariance.

use ndarray::{Array1, Array2, ArrayView1, Axis, Zip, parallel::prelude::*};

use super::Task;
use crate::knowledge::{Classes, Error, Score};

/// A class's variance of a feature is at least this share of the feature's own, so that a feature which is constant within a
/// class, or a class of one sample, tells classes apart strongly but not infinitely.
const VARIANCE_FLOOR: f64 = 1e-10;
/// Ratios that are multiplied before a logarithm is taken: 8 of them stay below 10³⁰⁰ at the largest ratio that the floor
/// lets through.
const RATIOS: usize = 8;

/// GBC: −Σ over unordered pairs of classes of exp(−D_B), D_B = ⅛(μ_a − μ_b)ᵀΣ⁻¹(μ_a − μ_b) + ½ ln(|Σ|/√(|Σ_a||Σ_b|)),
/// Σ = (Σ_a + Σ_b)/2, with population variances. Features that do not vary take no part.
pub(super) fn gbc(task: &Task<'_>) -> Result<Score, Error> {
    let classes = task.classes()?;
    let (means, variances) = moments(task, classes)?;
    let count = classes.count();
    let pairs: Vec<(usize, usize)> = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b))).collect();
    let coefficients: Vec<f64> = pairs
        .into_par_iter()
        .map(|(a, b)| coefficient([means.row(a), variances.row(a)], [means.row(b), variances.row(b)]))
        .collect();
    Ok(Score::of(-coefficients.iter().sum::<f64>()))
}

/// Mean and variance of the varying features within each class, (C, varying) each, in units of each feature's deviation, of
/// which the distance does not depend.
fn moments(task: &Task<'_>, classes: &Classes) -> Result<(Array2<f64>, Array2<f64>), Error> {
    let features = task.features();
    let n = features.nrows() as f64;
    let centre = features.sum_axis(Axis(0)) / n;
    // Each class alone, so that classes can be shared out: sums of deviations, of their squares from the class's own mean, and of
    // their squares from the common one.
    let of_classes: Vec<[Array1<f64>; 3]> = classes
        .members()
        .into_par_iter()
        .map(|members| {
            let mut mean = Array1::<f64>::zeros(features.ncols());
            for &sample in &members {
                Zip::from(&mut mean)
                    .and(features.row(sample))
                    .and(&centre)
                    .for_each(|mean, x, centre| *mean += x - centre);
            }
            mean /= members.len() as f64;
            let (mut squares, mut total) = (Array1::zeros(mean.len()), Array1::zeros(mean.len()));
            for &sample in &members {
                let entries = features.row(sample).into_iter().zip(&centre).zip(&mean);
                for (((&x, &centre), &mean), (square, total)) in entries.zip(squares.iter_mut().zip(&mut total)) {
                    let deviation = x - centre;
                    *square += (deviation - mean) * (deviation - mean);
                    *total += deviation * deviation;
                }
            }
            [mean, squares / members.len() as f64, total]
        })
        .collect();
    let mut total = Array1::<f64>::zeros(features.ncols());
    let mut means = Array2::<f64>::zeros((classes.count(), features.ncols()));
    let mut variances = means.clone();
    let rows = means.rows_mut().into_iter().zip(variances.rows_mut());
    for ((mut to_mean, mut to_variance), [mean, variance, of_class]) in rows.zip(&of_classes) {
        to_mean.assign(mean);
        to_variance.assign(variance);
        total += of_class;
    }
    total /= n;
    let size = features.fold(0.0_f64, |size, x| size.max(x.abs()));
    let varying: Vec<usize> =
        total.iter().enumerate().filter(|(_, total)| total.sqrt() > 1e-12 * size).map(|(place, _)| place).collect();
    if varying.is_empty() {
        return Err(Error::ConstantFeatures);
    }
    let scale = total.select(Axis(0), &varying);
    let means = means.select(Axis(1), &varying) / scale.mapv(f64::sqrt);
    let variances = variances.select(Axis(1), &varying) / &scale;
    Ok((means, variances.mapv(|variance| variance.max(VARIANCE_FLOOR))))
}

/// exp(−D_B) of two classes, each its means and variances.
fn coefficient(a: [ArrayView1<'_, f64>; 2], b: [ArrayView1<'_, f64>; 2]) -> f64 {
    let ([mean_a, variance_a], [mean_b, variance_b]) = (a, b);
    let (mut apart, mut logarithm, mut ratios, mut pending) = (0.0, 0.0, 1.0_f64, 0);
    for (((mean_a, mean_b), variance_a), variance_b) in mean_a.iter().zip(mean_b).zip(variance_a).zip(variance_b) {
        let variance = 0.5 * (variance_a + variance_b);
        apart += (mean_a - mean_b) * (mean_a - mean_b) / variance;
        ratios *= variance * variance / (variance_a * variance_b);
        pending += 1;
        if pending == RATIOS {
            logarithm += ratios.ln();
            (ratios, pending) = (1.0, 0);
        }
    }
    logarithm += ratios.ln();
    (-apart / 8.0 - logarithm / 4.0).exp()
}
