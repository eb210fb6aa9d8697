//! Estimators that weigh the spread of the class means against the spread of all features: H-score, its shrunk form and
//! TransRate.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, parallel::prelude::*};

use super::{Task, spectrum::Spectrum};
use crate::{
    knowledge::{Classes, Error, Score},
    stats::{gram_of_columns, gram_of_rows, log_determinant},
};

/// Squared distortion of the coding rate, as in the authors' code.
const DISTORTION: f64 = 1e-4;

/// H-score (Bao et al. 2019): tr(cov(f)⁺ cov(E[f|y])), both covariances over N − 1.
///
/// Shuffled labels give (C − 1)·rank/(N − 1) on average, exactly. With fewer samples than features it is C − 1 whatever the
/// features, and so is the floor.
pub(super) fn h_score(task: &Task<'_>) -> Result<Score, Error> {
    let (classes, spectrum) = (task.classes()?, task.spectrum()?);
    let between = between(task, classes, spectrum)?;
    let value = between.iter().zip(&spectrum.values).take(spectrum.rank).map(|(b, value)| b / value).sum();
    let floor = (classes.count() - 1) as f64 * spectrum.rank as f64 / (task.features().nrows() as f64 - 1.0);
    Ok(Score::of(value).with_floor(floor))
}

/// Regularised H-score (Ibrahim, Ponomareva, Mazumder 2022): tr(cov_α(f)⁻¹ (1 − α)cov(E[f|y])), cov_α the covariance (over
/// N) shrunk to a multiple of the identity by Ledoit and Wolf 2004, cov(E[f|y]) over N − 1.
pub(super) fn regularized_h_score(task: &Task<'_>) -> Result<Score, Error> {
    let (classes, spectrum, rows) = (task.classes()?, task.spectrum()?, task.rows()?);
    let n = rows.rows.nrows() as f64;
    let shrinkage = Shrinkage::of(spectrum, rows.centred.view(), rows.n_features);
    let between = between(task, classes, spectrum)?;
    let spread = between.iter().zip(&spectrum.values).take(spectrum.rank);
    let shrunk = |value: f64| (1.0 - shrinkage.share) * value / n + shrinkage.share * shrinkage.variance;
    let scale = (1.0 - shrinkage.share) / (n - 1.0);
    let value = scale * spread.map(|(b, &value)| b / shrunk(value)).sum::<f64>();
    let kept = spectrum.values.iter().take(spectrum.rank).map(|&value| value / shrunk(value)).sum::<f64>();
    let floor = scale * (classes.count() - 1) as f64 / (n - 1.0) * kept;
    Ok(Score::of(value).with_floor(floor))
}

/// Σ_c n_c (m_c − μ)² along each axis, (p).
fn between(task: &Task<'_>, classes: &Classes, spectrum: &Spectrum) -> Result<Array1<f64>, Error> {
    let means = spectrum.along(classes.means(task.rows()?.centred.view()).view());
    let mut between = Array1::zeros(means.ncols());
    for (row, &size) in means.rows().into_iter().zip(classes.sizes()) {
        between.zip_mut_with(&row, |sum, &mean| *sum += size as f64 * mean * mean);
    }
    Ok(between)
}

/// Ledoit and Wolf's shrinkage of a covariance towards the mean variance.
struct Shrinkage {
    /// α, 0..1.
    share: f64,
    /// The mean variance of a feature.
    variance: f64,
}

impl Shrinkage {
    fn of(spectrum: &Spectrum, centred: ArrayView2<'_, f64>, n_features: usize) -> Self {
        let (n, d) = (centred.nrows() as f64, n_features as f64);
        let trace = spectrum.values.sum() / n;
        let squares = spectrum.values.iter().map(|value| value * value).sum::<f64>() / (n * n);
        let fourth = centred.map_axis(Axis(1), |row: ArrayView1<'_, f64>| row.dot(&row).powi(2)).sum() / n;
        let dispersion = (squares - trace * trace / d) / d;
        let error = ((fourth - squares) / (d * n)).clamp(0.0, dispersion.max(0.0));
        let share = if error > 0.0 { error / dispersion } else { 0.0 };
        Shrinkage { share, variance: trace / d }
    }
}

/// TransRate (Huang et al. 2022): R(F, ε) − (1/C) Σ_c R(F_c, ε), R(F, ε) = ½ ln|I + FᵀF/(Nε)|, of features less their mean
/// over all samples; ε = 1e-4 and equal weight of the classes, as in the authors' code.
pub(super) fn trans_rate(task: &Task<'_>) -> Result<Score, Error> {
    let (classes, rows) = (task.classes()?, task.rows()?);
    let whole = coding_rate(rows.scatter.clone(), rows.rows.nrows()).ok_or(Error::NotANumber)?;
    let of_classes: Vec<Option<f64>> = classes
        .members()
        .into_par_iter()
        .map(|members| {
            let own = rows.centred.select(Axis(0), &members);
            let is_high = own.nrows() >= own.ncols();
            let gram = if is_high { gram_of_columns(own.view()) } else { gram_of_rows(own.view()) };
            coding_rate(gram, members.len())
        })
        .collect();
    let of_classes: f64 = of_classes.into_iter().sum::<Option<f64>>().ok_or(Error::NotANumber)?;
    Ok(Score::of(whole - of_classes / classes.count() as f64))
}

/// ½ ln|I + G/(Nε)| of a Gram matrix G of N samples; `None` where it overflows.
fn coding_rate(mut gram: Array2<f64>, n_samples: usize) -> Option<f64> {
    gram /= n_samples as f64 * DISTORTION;
    gram.diag_mut().mapv_inplace(|x| x + 1.0);
    log_determinant(gram.view()).map(|logarithm| 0.5 * logarithm).filter(|rate| rate.is_finite())
}
