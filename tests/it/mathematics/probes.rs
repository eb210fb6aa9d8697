//! Gradient matching by random output probes.

use ndarray::{Array2, Array3};
use serde_json::Value;
use transferscore::{
    metric::{CrossGrams, Error, GradientMatching, GradientMoments, gradient_matching_by_probes},
    stats::{Purpose, random_sign, stream},
};

use super::support::{close, jacobians, matching, matrix, metrics, normal_jacobians, number, resamples};

/// The rows w_kᵀJ/√r for probes (r, d).
fn probed(jacobians: &Array3<f32>, probes: &Array2<f64>) -> Array3<f32> {
    let (n, d, pixels) = jacobians.dim();
    let root = (probes.nrows() as f64).sqrt();
    Array3::from_shape_fn((n, probes.nrows(), pixels), |(x, k, i)| {
        ((0..d).map(|a| probes[[k, a]] * f64::from(jacobians[[x, a, i]])).sum::<f64>() / root) as f32
    })
}

fn by_probes(target: &Array3<f32>, source: &Array3<f32>, probes: &Array2<f64>) -> Result<GradientMatching, Error> {
    let n = target.dim().0;
    let resamples = resamples(n);
    let mut moments = GradientMoments::new(&resamples, probes.nrows(), source.dim().1);
    let grams = CrossGrams::of(probed(target, probes).view(), source.view()).unwrap();
    moments.add(&(0..n).collect::<Vec<_>>(), &grams).unwrap();
    gradient_matching_by_probes(&moments, &resamples)
}

fn agree(case: &Value, target: &Array3<f32>, source: &Array3<f32>) {
    let signs = matrix(&case["signs"]);
    let found = by_probes(target, source, &signs).unwrap();
    close(found.explained.value, number(&case["explained"]), 1e-6);
    close(found.distance.value, number(&case["distance"]), 1e-6);
    let errors = found.probes.unwrap();
    assert_eq!(errors.n_probes, signs.nrows());
    close(errors.explained, number(&case["explained_error"]), 1e-6);
    close(errors.distance, number(&case["distance_error"]), 1e-6);
}

#[test]
fn probes_and_their_errors_agree_with_numpy_and_all_signs_with_the_whole() {
    let case = &metrics()["probed"];
    let (source, target) = (jacobians(&case["source"]), jacobians(&case["target"]));
    agree(&case["some"], &target, &source);
    agree(&case["every"], &target, &source);
    let whole = matching(&target, &source, &resamples(target.dim().0)).unwrap();
    close(whole.explained.value, number(&case["every"]["explained"]), 1e-9);
    close(whole.distance.value, number(&case["every"]["distance"]), 1e-9);
    assert_eq!(whole.probes, None);
}

#[test]
fn probes_are_unbiased_and_their_error_is_the_spread_over_draws() {
    let (source, noise) = (normal_jacobians((20, 3, 8), 1), normal_jacobians((20, 40, 8), 2));
    let mut target = noise;
    for (x, mut jacobian) in target.outer_iter_mut().enumerate() {
        for (a, mut row) in jacobian.outer_iter_mut().enumerate() {
            row.scaled_add((a % 5) as f32 / 3.0, &source.slice(ndarray::s![x, a % 3, ..]));
        }
    }
    let whole = matching(&target, &source, &resamples(20)).unwrap();
    let draws: Vec<GradientMatching> = (0..150)
        .map(|draw| {
            let mut rng = stream(draw, Purpose::OutputProbes, 0);
            let probes = Array2::from_shape_simple_fn((24, 40), || random_sign(&mut rng));
            by_probes(&target, &source, &probes).unwrap()
        })
        .collect();
    let check = |of: fn(&GradientMatching) -> (f64, f64), expected: f64| {
        let (values, errors): (Vec<f64>, Vec<f64>) = draws.iter().map(of).unzip();
        let mean = values.iter().sum::<f64>() / 150.0;
        let spread = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 149.0).sqrt();
        // A ratio and a root of unbiased numbers are themselves biased, by less than their spread over draws.
        close(mean, expected, 0.35 * spread);
        close(errors.iter().sum::<f64>() / 150.0 / spread, 1.0, 0.2);
    };
    check(|found| (found.explained.value, found.probes.unwrap().explained), whole.explained.value);
    check(|found| (found.distance.value, found.probes.unwrap().distance), whole.distance.value);
}

#[test]
fn one_probe_has_no_error_to_tell() {
    let (source, target) = (normal_jacobians((9, 2, 4), 1), normal_jacobians((9, 3, 4), 2));
    assert_eq!(by_probes(&target, &source, &Array2::ones((1, 3))), Err(Error::TooFewProbes));
}
