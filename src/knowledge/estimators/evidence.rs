//! LogME (You et al. 2021): the log evidence of a Bayesian linear model of the targets on the features, maximised over its
//! two precisions, divided by N; the mean over one-hot classes or over targets.

use ndarray::{Array1, Array2, ArrayView1, Axis, parallel::prelude::*};

use super::{Task, spectrum::Spectrum};
use crate::{
    knowledge::{Classes, Error, Score},
    limits,
    stats::product,
};

/// What the authors add to the squared norm of the weights and of the residuals, so that a perfect fit has a value.
const EPSILON: f64 = 1e-5;
/// Relative change of α/β at the fixed point.
const TOLERANCE: f64 = 1e-6;
const ITERATIONS: usize = 1_000;

/// LogME of the uncentred features F: for each target y, max over α, β of
/// (p/2)ln α + (N/2)ln β − ½ ln|αI + βFᵀF| − (β/2)‖y − F m‖² − (α/2)‖m‖² − (N/2)ln 2π, m = β(αI + βFᵀF)⁻¹Fᵀy.
///
/// By the fixed point of You et al. 2022 (arXiv 2110.10545), run to the end: γ = tr(FᵀF(FᵀF + t)⁻¹), α = γ/(‖m‖² + 1e-5),
/// β = (N − γ)/(‖y − F m‖² + 1e-5), t = α/β, from α = β = 1. Where features are dependent, directions without features
/// count neither in p nor in the determinant, as in the paper.
pub(super) fn log_me(task: &Task<'_>) -> Result<Score, Error> {
    let (rows, spectrum) = (task.rows()?, task.spectrum()?);
    let evidence = Evidence::new(spectrum, rows.mean.view(), rows.rows.nrows());
    if let (Err(Error::NoLabels), Some(targets)) = (task.classes(), task.targets()) {
        let projections = spectrum.along(product(targets.t(), rows.rows.view()).view());
        let squares = targets.map_axis(Axis(0), |target| target.dot(&target));
        return Ok(Score::of(evidence.mean(&projections, &squares)));
    }
    let classes = task.classes()?;
    let value = |classes: &Classes| {
        let projections = spectrum.along(classes.sums(rows.rows.view()).view());
        let squares = Array1::from_iter(classes.sizes().iter().map(|&size| size as f64));
        evidence.mean(&projections, &squares)
    };
    let score = Score::of(value(classes));
    let is_cheap = rows.rows.len() <= limits::SHUFFLED_NUMBERS;
    Ok(if is_cheap { score.with_shuffled(task.shuffled(classes, value)) } else { score })
}

/// FᵀF = Λ + N ν νᵀ along the principal axes of the centred features: a diagonal and the mean's rank one, so that every
/// quantity of an iteration takes O(p) by Sherman and Morrison.
struct Evidence<'a> {
    /// λ, (p).
    values: ArrayView1<'a, f64>,
    /// ν: the mean along the axes, (p).
    mean: Array1<f64>,
    n: f64,
}

impl<'a> Evidence<'a> {
    fn new(spectrum: &'a Spectrum, mean: ArrayView1<'_, f64>, n_samples: usize) -> Self {
        let mean = spectrum.along(mean.insert_axis(Axis(0))).row(0).to_owned();
        Evidence { values: spectrum.values.view(), mean, n: n_samples as f64 }
    }

    /// The mean evidence of targets, given Fᵀy along the axes (targets, p) and ‖y‖² (targets).
    fn mean(&self, projections: &Array2<f64>, squares: &Array1<f64>) -> f64 {
        let rows: Vec<_> = projections.rows().into_iter().zip(squares).collect();
        let values: Vec<f64> = rows.into_par_iter().map(|(projection, &square)| self.of(projection, square)).collect();
        values.iter().sum::<f64>() / values.len() as f64
    }

    fn of(&self, projection: ArrayView1<'_, f64>, square: f64) -> f64 {
        let (mut alpha, mut beta) = (1.0, 1.0);
        for _ in 0..ITERATIONS {
            let t = alpha / beta;
            let fit = self.fit(projection, square, t);
            alpha = fit.gamma / (fit.weights + EPSILON);
            beta = (self.n - fit.gamma).max(f64::EPSILON) / (fit.residuals + EPSILON);
            if (alpha / beta - t).abs() <= TOLERANCE * t {
                break;
            }
        }
        let fit = self.fit(projection, square, alpha / beta);
        let p = self.values.len() as f64;
        // ln|αI + βFᵀF| = p ln β + ln|t + FᵀF|.
        let determinant = p * beta.ln() + self.log_determinant(alpha / beta);
        let fitted = beta / 2.0 * fit.residuals + alpha / 2.0 * fit.weights;
        let evidence = p / 2.0 * alpha.ln() + self.n / 2.0 * (beta / std::f64::consts::TAU).ln() - determinant / 2.0;
        (evidence - fitted) / self.n
    }

    /// ln|FᵀF + t|.
    fn log_determinant(&self, t: f64) -> f64 {
        let values = self.values.iter().zip(&self.mean);
        let (of_values, of_mean) = values.fold((0.0, 0.0), |(logarithm, first), (&value, &mean)| {
            (logarithm + (value + t).ln(), first + mean * mean / (value + t))
        });
        of_values + (1.0 + self.n * of_mean).ln()
    }

    fn fit(&self, projection: ArrayView1<'_, f64>, square: f64, t: f64) -> Fit {
        let mut gamma = 0.0;
        // νᵀ(Λ + t)⁻¹ν, νᵀ(Λ + t)⁻²ν, νᵀ(Λ + t)⁻¹b.
        let (mut mean_first, mut mean_second, mut mean_target) = (0.0, 0.0, 0.0);
        for ((&value, &mean), &target) in self.values.iter().zip(&self.mean).zip(projection) {
            let inverse = 1.0 / (value + t);
            gamma += value * inverse;
            mean_first += mean * mean * inverse;
            mean_second += mean * mean * inverse * inverse;
            mean_target += mean * target * inverse;
        }
        let pivot = 1.0 + self.n * mean_first;
        let along_mean = self.n * mean_target / pivot;
        let (mut weights, mut explained) = (0.0, 0.0);
        for ((&value, &mean), &target) in self.values.iter().zip(&self.mean).zip(projection) {
            let weight = (target - along_mean * mean) / (value + t);
            weights += weight * weight;
            explained += weight * target;
        }
        Fit {
            gamma: gamma + t * self.n * mean_second / pivot,
            weights,
            residuals: (square - explained - t * weights).max(0.0),
        }
    }
}

/// What an iteration needs at one t.
struct Fit {
    gamma: f64,
    /// ‖m‖².
    weights: f64,
    /// ‖y − F m‖².
    residuals: f64,
}
