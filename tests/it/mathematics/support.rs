//! Golden values, synthetic arrays, and what it means to be close.

use ndarray::{Array2, Array3};
use serde_json::Value;
use transferscore::{
    metric::{self, CrossGrams, GradientMatching, GradientMoments, gradient_matching},
    stats::{Confidence, Estimate, Purpose, Resamples, standard_normal, stream},
};

pub fn golden() -> Value {
    serde_json::from_str(include_str!("../../golden/mathematics.json")).unwrap()
}

/// Golden values of `make_metrics.py`.
pub fn metrics() -> Value {
    serde_json::from_str(include_str!("../../golden/metrics.json")).unwrap()
}

/// Golden values of `make_groups.py`.
pub fn groups() -> Value {
    serde_json::from_str(include_str!("../../golden/groups.json")).unwrap()
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

pub fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(number).collect()
}

pub fn matrix(value: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = value.as_array().unwrap().iter().map(numbers).collect();
    let columns = rows[0].len();
    Array2::from_shape_vec((rows.len(), columns), rows.concat()).unwrap()
}

pub fn jacobians(value: &Value) -> Array3<f32> {
    let samples: Vec<Array2<f64>> = value.as_array().unwrap().iter().map(matrix).collect();
    let (d, n_pixels) = samples[0].dim();
    Array3::from_shape_fn((samples.len(), d, n_pixels), |(x, a, i)| samples[x][[a, i]] as f32)
}

pub fn resamples(n_samples: usize) -> Resamples {
    Resamples::new(n_samples, Confidence { level: 0.95, resamples: 200 }, 11).unwrap()
}

/// Standard normal numbers.
pub fn normal(shape: (usize, usize), seed: u64) -> Array2<f64> {
    let mut rng = stream(seed, Purpose::Subsample, 0);
    Array2::from_shape_simple_fn(shape, || standard_normal(&mut rng))
}

pub fn normal_jacobians(shape: (usize, usize, usize), seed: u64) -> Array3<f32> {
    let mut rng = stream(seed, Purpose::Subsample, 1);
    Array3::from_shape_simple_fn(shape, || standard_normal(&mut rng) as f32)
}

#[track_caller]
pub fn close(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "found {found}, expected {expected} to within {tolerance}");
}

#[track_caller]
pub fn contains_its_value(estimate: &Estimate) {
    let Estimate { value, lower, upper, .. } = *estimate;
    assert!(lower <= value && value <= upper, "{lower} <= {value} <= {upper}");
    assert!(lower.is_finite() && upper.is_finite());
}

/// The moments of whole Jacobians, added at once.
pub fn moments(target: &Array3<f32>, source: &Array3<f32>, resamples: &Resamples) -> GradientMoments {
    let mut moments = GradientMoments::new(resamples, target.dim().1, source.dim().1);
    let positions: Vec<usize> = (0..target.dim().0).collect();
    moments.add(&positions, &CrossGrams::of(target.view(), source.view()).unwrap()).unwrap();
    moments
}

pub fn matching(
    target: &Array3<f32>,
    source: &Array3<f32>,
    resamples: &Resamples,
) -> Result<GradientMatching, metric::Error> {
    gradient_matching(&moments(target, source, resamples), resamples)
}
