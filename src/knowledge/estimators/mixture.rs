//! N-LEEP (Li et al. 2021): LEEP with the components of a Gaussian mixture of the features in place of the source's classes, so
//! that sources which are no classifiers have it too.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, Zip, concatenate, parallel::prelude::*, s};

use super::{Task, expected_prediction};
use crate::{
    knowledge::{Error, Score},
    limits,
    stats::{Purpose, product, stream, unit_interval},
};

/// Share of the variance that the principal axes keep, and the most axes.
const ENERGY: f64 = 0.8;
const AXES: usize = 32;
/// Components a class, as in the paper, but at most one for so many samples.
const COMPONENTS_A_CLASS: usize = 5;
const SAMPLES_A_COMPONENT: usize = 2;
/// Steps of k-means before the mixture.
const CLUSTERING_STEPS: usize = 5;
/// Change of the mean log likelihood at which the mixture is done, scikit-learn's default, and the most steps.
const TOLERANCE: f64 = 1e-3;
const STEPS: usize = 20;
/// Added to every variance, as a share of the mean variance.
const VARIANCE_FLOOR: f64 = 1e-6;
/// Logarithm of a share that rounding swallows: of 500 components all together stay below 1e-17.
const NEGLIGIBLE: f64 = -46.0;
/// Rows that are worked on together.
const BLOCK: usize = 1_024;

/// N-LEEP: features on the principal axes that hold 80 % of their variance (at most 32 axes), a mixture of five Gaussians a
/// class with diagonal covariances, started from seeded k-means; LEEP of the posterior probabilities of its components.
///
/// The interval holds the mixture fixed.
pub(super) fn n_leep(task: &Task<'_>) -> Result<Score, Error> {
    let (classes, spectrum, rows) = (task.classes()?, task.spectrum()?, task.rows()?);
    let total = spectrum.values.sum();
    let mut kept = 0.0;
    let below = spectrum.values.iter().take_while(|&&value| {
        kept += value;
        kept <= ENERGY * total
    });
    let n_axes = (below.count() + 1).min(spectrum.rank).min(AXES);
    let mut points = spectrum.along_first(rows.centred.view(), n_axes);
    // In units in which the mean variance is 1.
    let n = points.nrows() as f64;
    let scale = (points.iter().map(|x| x * x).sum::<f64>() / (n * n_axes as f64)).sqrt();
    points /= scale;
    let n_components = (COMPONENTS_A_CLASS * classes.count())
        .min(points.nrows() / SAMPLES_A_COMPONENT)
        .clamp(1, limits::MIXTURE_COMPONENTS.max(classes.count()));
    let start = Mixture::from_clusters(points.view(), n_components, task.options().seed, VARIANCE_FLOOR);
    let mixture = start.fitted(points.view(), VARIANCE_FLOOR, TOLERANCE, STEPS);
    expected_prediction::of_probabilities(task, mixture.posterior(points.view()).0.view())
}

/// A mixture of Gaussians with diagonal covariances.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// (K), summing to 1.
    pub weights: Array1<f64>,
    /// (K, q).
    pub means: Array2<f64>,
    /// (K, q), positive.
    pub variances: Array2<f64>,
}

impl Mixture {
    /// The mixture of clusters of the points (N, q): k-means++ (Arthur and Vassilvitskii 2007) by the seed, then a few steps of
    /// Lloyd's.
    pub fn from_clusters(points: ArrayView2<'_, f64>, n_components: usize, seed: u64, variance_floor: f64) -> Self {
        let mut centres = spread_centres(points, n_components, seed);
        let mut nearest = nearest_centres(points, &centres);
        for _ in 0..CLUSTERING_STEPS {
            centres = moved(points, &nearest, centres);
            let next = nearest_centres(points, &centres);
            if next == nearest {
                break;
            }
            nearest = next;
        }
        let mut posterior = Array2::zeros((points.nrows(), n_components));
        for (mut row, &centre) in posterior.rows_mut().into_iter().zip(&nearest) {
            row.get_mut(centre).into_iter().for_each(|entry| *entry = 1.0);
        }
        Mixture::of_posterior(points, posterior.view(), variance_floor)
    }

    /// Expectation maximisation on points (N, q), until the mean log likelihood changes by less than the tolerance.
    #[must_use]
    pub fn fitted(self, points: ArrayView2<'_, f64>, variance_floor: f64, tolerance: f64, steps: usize) -> Self {
        let (mut mixture, mut before) = (self, f64::NEG_INFINITY);
        for _ in 0..steps {
            let expectation = mixture.expectation();
            let sums = over_blocks(points, |block, _| {
                let (posterior, likelihood) = expectation.of(block);
                Moments { likelihood, ..Moments::of(block, posterior.view()) }
            });
            let sums = sums.into_iter().reduce(Moments::plus).unwrap_or_default();
            let likelihood = sums.likelihood / points.nrows() as f64;
            mixture = sums.mixture(variance_floor);
            if (likelihood - before).abs() < tolerance {
                break;
            }
            before = likelihood;
        }
        mixture
    }

    /// The probability of each component given each of the points (N, q): (N, K); and the mean log likelihood of a point.
    pub fn posterior(&self, points: ArrayView2<'_, f64>) -> (Array2<f64>, f64) {
        let expectation = self.expectation();
        let blocks = over_blocks(points, |block, _| expectation.of(block));
        let sum: f64 = blocks.iter().map(|(_, sum)| sum).sum();
        let views: Vec<_> = blocks.iter().map(|(block, _)| block.view()).collect();
        let n = points.nrows();
        let posterior = concatenate(Axis(0), &views).unwrap_or_else(|_| Array2::zeros((n, self.weights.len())));
        (posterior, sum / n as f64)
    }

    fn expectation(&self) -> Expectation {
        let q = self.means.ncols() as f64;
        let precisions = self.variances.mapv(f64::recip);
        let scaled = &self.means * &precisions;
        let constants: Array1<f64> = Zip::from(&self.weights)
            .and(self.means.rows())
            .and(self.variances.rows())
            .map_collect(|weight, mean, variances| {
                let spread = variances.fold(0.0, |sum, variance| sum + variance.ln());
                let length: f64 = mean.iter().zip(variances).map(|(mean, variance)| mean * mean / variance).sum();
                weight.ln() - 0.5 * (spread + length + q * std::f64::consts::TAU.ln())
            });
        Expectation { factors: beside((&precisions * -0.5).view(), scaled.view()), constants }
    }

    /// The likeliest mixture, given the probability of each component for each of the points.
    fn of_posterior(points: ArrayView2<'_, f64>, posterior: ArrayView2<'_, f64>, variance_floor: f64) -> Self {
        let sums = over_blocks(points, |block, start| {
            Moments::of(block, posterior.slice(s![start..start + block.nrows(), ..]))
        });
        sums.into_iter().reduce(Moments::plus).unwrap_or_default().mixture(variance_floor)
    }
}

/// Does something with each block of points and the place of its first, side by side; results in the order of the blocks.
fn over_blocks<T: Send>(points: ArrayView2<'_, f64>, act: impl Fn(ArrayView2<'_, f64>, usize) -> T + Sync) -> Vec<T> {
    let n = points.nrows();
    let starts: Vec<usize> = (0..n).step_by(BLOCK).collect();
    starts.into_par_iter().map(|start| act(points.slice(s![start..(start + BLOCK).min(n), ..]), start)).collect()
}

/// The logarithm of each component's density as a product: −½ Σ (x − μ)²/σ² is x² and x against −1/2σ² and μ/σ².
struct Expectation {
    /// (K, 2q).
    factors: Array2<f64>,
    /// (K).
    constants: Array1<f64>,
}

impl Expectation {
    /// The probability of each component given each point of a block, and the sum of the points' log likelihoods.
    fn of(&self, block: ArrayView2<'_, f64>) -> (Array2<f64>, f64) {
        let squares_and_points = beside(block.mapv(|x| x * x).view(), block);
        let mut logarithms = product(squares_and_points.view(), self.factors.t()) + &self.constants;
        let sum = logarithms.rows_mut().into_iter().map(normalise).sum();
        (logarithms, sum)
    }
}

/// Sums over points that a mixture is made of.
#[derive(Clone, Debug, Default)]
struct Moments {
    /// Of each component's probabilities, (K).
    sizes: Array1<f64>,
    /// Of squares and points by these weights, (K, 2q).
    sums: Array2<f64>,
    /// Of log likelihoods.
    likelihood: f64,
}

impl Moments {
    fn of(block: ArrayView2<'_, f64>, posterior: ArrayView2<'_, f64>) -> Self {
        let squares_and_points = beside(block.mapv(|x| x * x).view(), block);
        let sums = product(posterior.t(), squares_and_points.view());
        Moments { sizes: posterior.sum_axis(Axis(0)), sums, likelihood: 0.0 }
    }

    fn plus(mut self, other: Moments) -> Self {
        self.sizes += &other.sizes;
        self.sums += &other.sums;
        self.likelihood += other.likelihood;
        self
    }

    fn mixture(self, variance_floor: f64) -> Mixture {
        // scikit-learn's guard against components that no point belongs to.
        let sizes = self.sizes + 10.0 * f64::EPSILON;
        let moments = self.sums / sizes.view().insert_axis(Axis(1));
        let q = moments.ncols() / 2;
        let means = moments.slice(s![.., q..]).to_owned();
        let squares = moments.slice(s![.., ..q]);
        let variances = (&squares - &(&means * &means)).mapv(|variance| variance.max(0.0) + variance_floor);
        let total = sizes.sum();
        Mixture { weights: sizes / total, means, variances }
    }
}

/// Turns logarithms into shares that sum to 1; the logarithm of what they summed to.
fn normalise(mut row: ndarray::ArrayViewMut1<'_, f64>) -> f64 {
    let largest = row.fold(f64::NEG_INFINITY, |largest, &x| largest.max(x));
    // Most are too small to matter beside the largest, and need no exponential.
    row.mapv_inplace(|x| if x - largest < NEGLIGIBLE { 0.0 } else { (x - largest).exp() });
    let sum = row.sum();
    row /= sum;
    largest + sum.ln()
}

/// Two matrices of the same height side by side.
fn beside(left: ArrayView2<'_, f64>, right: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut both = Array2::zeros((left.nrows(), left.ncols() + right.ncols()));
    both.slice_mut(s![.., ..left.ncols()]).assign(&left);
    both.slice_mut(s![.., left.ncols()..]).assign(&right);
    both
}

/// Points as centres, each drawn with a probability in proportion to its squared distance to the nearest before it.
fn spread_centres(points: ArrayView2<'_, f64>, n_centres: usize, seed: u64) -> Array2<f64> {
    let mut rng = stream(seed, Purpose::MixtureStart, 0);
    let mut distances = vec![1.0; points.nrows()];
    let mut centres = Array2::zeros((n_centres, points.ncols()));
    for (index, mut centre) in centres.rows_mut().into_iter().enumerate() {
        let mut left = unit_interval(&mut rng) * distances.iter().sum::<f64>();
        let chosen = distances.iter().position(|distance| {
            left -= distance;
            left < 0.0
        });
        centre.assign(&points.row(chosen.unwrap_or(0)));
        for (distance, point) in distances.iter_mut().zip(points.rows()) {
            let to_centre = squared_distance(point, centre.view());
            *distance = if index == 0 { to_centre } else { distance.min(to_centre) };
        }
    }
    centres
}

/// The nearest centre of each point; the first of equals.
fn nearest_centres(points: ArrayView2<'_, f64>, centres: &Array2<f64>) -> Vec<usize> {
    let lengths = centres.map_axis(Axis(1), |centre| 0.5 * centre.dot(&centre));
    let starts: Vec<usize> = (0..points.nrows()).step_by(BLOCK).collect();
    starts
        .into_par_iter()
        .flat_map_iter(|start| {
            let block = points.slice(s![start..(start + BLOCK).min(points.nrows()), ..]);
            let nearness = product(block, centres.t()) - &lengths;
            let best = nearness.rows().into_iter().map(|row| {
                let best = row.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (centre, &nearness)| {
                    if nearness > best.1 { (centre, nearness) } else { best }
                });
                best.0
            });
            best.collect::<Vec<_>>()
        })
        .collect()
}

/// Each centre moved to the mean of its points; one without points stays.
fn moved(points: ArrayView2<'_, f64>, nearest: &[usize], mut centres: Array2<f64>) -> Array2<f64> {
    let mut sums = Array2::<f64>::zeros(centres.dim());
    let mut sizes = Array1::<f64>::zeros(centres.nrows());
    for (point, &centre) in points.rows().into_iter().zip(nearest) {
        let mut sum = sums.row_mut(centre);
        sum += &point;
        sizes.get_mut(centre).into_iter().for_each(|size| *size += 1.0);
    }
    for ((mut centre, sum), &size) in centres.rows_mut().into_iter().zip(sums.rows()).zip(&sizes) {
        if size > 0.0 {
            centre.assign(&(&sum / size));
        }
    }
    centres
}

fn squared_distance(a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}
