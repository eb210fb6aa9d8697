//! Multinomial logistic regression: (1/N) Σ −log softmax(W x_i + b)[y_i] + (l2/2)‖W‖²_F, intercepts unpenalised.
//!
//! In scikit-learn's terms, C = 1/(l2·N).

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};

use super::{
    Error,
    lbfgs::{Minimum, minimise},
};
use crate::stats::product;

/// Largest entry of the gradient of the objective at a solution.
const TOLERANCE: f64 = 1e-6;
const ITERATIONS: usize = 2_000;

/// Samples to fit, with features of comparable scale.
pub struct LogisticProblem<'a> {
    /// (N, m).
    features: ArrayView2<'a, f64>,
    /// (m, N): a copy in the order that the gradient's product reads fastest.
    transposed: Array2<f64>,
    /// (N, classes), a 1 in each row.
    indicators: Array2<f64>,
    /// Mean square of each feature, (m).
    mean_squares: Array1<f64>,
}

/// A solution.
#[derive(Clone, Debug, PartialEq)]
pub struct LogisticFit {
    /// (m + 1, classes); the last row holds the intercepts.
    pub weights: Array2<f64>,
    /// The objective there.
    pub objective: f64,
    /// Largest absolute entry of its gradient there.
    pub gradient: f64,
    pub iterations: usize,
}

impl<'a> LogisticProblem<'a> {
    /// The problem of samples (N, m) with classes in `0..n_classes`.
    ///
    /// # Errors
    /// When there is not one class for each sample.
    pub fn new(features: ArrayView2<'a, f64>, classes: &[usize], n_classes: usize) -> Result<Self, Error> {
        let n = features.nrows();
        if classes.len() != n {
            return Err(Error::SampleCount { what: "classes", expected: n, found: classes.len() });
        }
        let mut indicators = Array2::zeros((n, n_classes));
        for (mut row, &class) in indicators.rows_mut().into_iter().zip(classes) {
            if let Some(entry) = row.get_mut(class) {
                *entry = 1.0;
            }
        }
        let mean_squares = features.map_axis(Axis(0), |column| column.dot(&column) / n.max(1) as f64);
        let transposed = features.t().as_standard_layout().into_owned();
        Ok(LogisticProblem { features, transposed, indicators, mean_squares })
    }

    /// Solves for one strength, from a start such as the solution for the strength before.
    ///
    /// # Errors
    /// When the strength is not positive, or the gradient does not come down to 1e-6.
    pub fn solve(&self, l2: f64, start: Option<&LogisticFit>) -> Result<LogisticFit, Error> {
        if !(l2 > 0.0 && l2.is_finite()) {
            return Err(Error::Strength(l2));
        }
        let n_classes = self.indicators.ncols();
        let shape = (self.features.ncols() + 1, n_classes);
        let start = match start {
            Some(fit) if fit.weights.dim() == shape => fit.weights.clone(),
            _ => Array2::zeros(shape),
        };
        // The Hessian's diagonal is E[p(1 − p) x²] + l2, and p(1 − p) averages (1 − 1/C)/C where nothing is known yet.
        let spread = (1.0 - 1.0 / n_classes as f64) / n_classes as f64;
        let curvature = self.mean_squares.mapv(|square| 1.0 / (spread * square + l2));
        let mut preconditioner = Array2::from_elem(shape, 1.0 / spread);
        for (mut row, value) in preconditioner.rows_mut().into_iter().zip(curvature) {
            row.fill(value);
        }
        let Minimum { point, value, gradient, iterations } =
            minimise(start, &preconditioner, TOLERANCE, ITERATIONS, |weights| self.objective(weights, l2));
        if gradient > TOLERANCE {
            return Err(Error::NotConverged { tolerance: TOLERANCE, iterations, reached: gradient });
        }
        Ok(LogisticFit { weights: point, objective: value, gradient, iterations })
    }

    /// The objective and its gradient.
    fn objective(&self, weights: &Array2<f64>, l2: f64) -> (f64, Array2<f64>) {
        let n = self.features.nrows() as f64;
        let m = self.features.ncols();
        let mut scores = log_probabilities(self.features, weights);
        let loss =
            -scores.iter().zip(&self.indicators).map(|(score, &one)| if one > 0.0 { *score } else { 0.0 }).sum::<f64>();
        scores.mapv_inplace(f64::exp);
        scores -= &self.indicators;
        let penalised = weights.slice(ndarray::s![..m, ..]);
        let penalty: f64 = penalised.iter().map(|w| w * w).sum();
        let of_weights = product(self.transposed.view(), scores.view()) / n + &penalised * l2;
        let of_intercepts = (scores.sum_axis(Axis(0)) / n).insert_axis(Axis(0));
        let gradient = concatenate(Axis(0), &[of_weights.view(), of_intercepts.view()]);
        (loss / n + 0.5 * l2 * penalty, gradient.unwrap_or_else(|_| Array2::zeros(weights.dim())))
    }
}

impl LogisticFit {
    /// log softmax(W x + b) of samples (N, m): (N, classes).
    pub fn log_probabilities(&self, features: ArrayView2<'_, f64>) -> Array2<f64> {
        log_probabilities(features, &self.weights)
    }
}

fn log_probabilities(features: ArrayView2<'_, f64>, weights: &Array2<f64>) -> Array2<f64> {
    let m = features.ncols();
    let mut scores = product(features, weights.slice(ndarray::s![..m, ..])) + weights.row(m);
    for mut row in scores.rows_mut() {
        let largest = row.fold(f64::NEG_INFINITY, |largest, &score| largest.max(score));
        let normaliser = largest + row.iter().map(|score| (score - largest).exp()).sum::<f64>().ln();
        row.mapv_inplace(|score| score - normaliser);
    }
    scores
}
