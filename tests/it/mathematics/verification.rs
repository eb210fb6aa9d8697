//! Pair verification against scikit-learn and closed forms.

use ndarray::{Array2, s};
use serde_json::Value;
use transferscore::knowledge::{Error, verification};

use super::support::{close, contains_its_value, matrix, normal, number, numbers, resamples};

fn golden() -> Value {
    serde_json::from_str(include_str!("../../golden/estimators.json")).unwrap()
}

/// Identities of `each` samples in `n_axes` dimensions, `distance` apart.
fn identities(count: usize, each: usize, n_axes: usize, distance: f64, seed: u64) -> (Array2<f64>, Vec<u32>) {
    let labels: Vec<u32> = (0..count * each).map(|sample| (sample / each) as u32).collect();
    let centres = normal((count, n_axes), seed) * distance;
    let noise = normal((count * each, n_axes), seed + 1);
    let embeddings =
        Array2::from_shape_fn(noise.dim(), |(row, axis)| noise[[row, axis]] + centres[[labels[row] as usize, axis]]);
    (embeddings, labels)
}

#[test]
fn figures_of_a_draw_come_near_those_of_all_pairs() {
    let golden = &golden()["verification"];
    let embeddings = matrix(&golden["embeddings"]);
    let labels: Vec<u32> = numbers(&golden["labels"]).into_iter().map(|label| label as u32).collect();
    let found = verification(embeddings.view(), &labels, 1, &resamples(labels.len())).unwrap();
    assert_eq!(found.n_pairs as f64, number(&golden["n_matched"]).min(number(&golden["n_mismatched"])));
    close(found.roc_auc.value, number(&golden["roc_auc_of_all"]), 0.03);
    contains_its_value(&found.roc_auc);
    contains_its_value(&found.accuracy);
}

#[test]
fn distant_identities_are_verified_and_unrelated_ones_are_not() {
    let (embeddings, labels) = identities(20, 10, 16, 20.0, 1);
    let found = verification(embeddings.view(), &labels, 1, &resamples(200)).unwrap();
    assert!(found.accuracy.value > 0.99 && found.roc_auc.value > 0.999, "{found:?}");
    assert!(found.true_accept_rates[0].as_ref().unwrap().value > 0.98);
    assert_eq!(found.n_pairs, 20 * 45);
    // 900 pairs of two identities would be too few for one in a thousand; there are 19,000.
    assert!(found.true_accept_rates[1].as_ref().unwrap().value > 0.9);

    let (embeddings, labels) = identities(20, 10, 16, 0.0, 2);
    let found = verification(embeddings.view(), &labels, 1, &resamples(200)).unwrap();
    close(found.accuracy.value, 0.5, 0.06);
    close(found.roc_auc.value, 0.5, 0.06);
    close(found.true_accept_rates[0].as_ref().unwrap().value, 0.01, 0.02);
}

/// One identity along an axis, the other against it: every cosine is 1 or −1.
#[test]
fn opposite_identities_are_told_apart_at_zero() {
    let embeddings = Array2::from_shape_fn((20, 3), |(row, axis)| {
        if axis > 0 {
            0.0
        } else if row < 10 {
            2.0
        } else {
            -3.0
        }
    });
    let labels: Vec<u32> = (0..20).map(|row| u32::from(row >= 10)).collect();
    let found = verification(embeddings.view(), &labels, 1, &resamples(20)).unwrap();
    assert_eq!((found.accuracy.value, found.roc_auc.value), (1.0, 1.0));
    close(found.threshold, 0.0, 1e-12);
    assert_eq!(found.n_pairs, 90);
}

#[test]
fn the_area_is_the_share_of_ordered_pairs() {
    let (embeddings, labels) = identities(2, 6, 3, 0.7, 5);
    let found = verification(embeddings.view(), &labels, 1, &resamples(12)).unwrap();
    // 30 matched pairs of 36 mismatched: fewer than all are drawn, so the share of all comes near only.
    let unit = |row: usize| &embeddings.row(row) / embeddings.row(row).dot(&embeddings.row(row)).sqrt();
    let (mut matched, mut mismatched) = (Vec::new(), Vec::new());
    for first in 0..12 {
        for second in first + 1..12 {
            let cosine = unit(first).dot(&unit(second));
            if labels[first] == labels[second] { matched.push(cosine) } else { mismatched.push(cosine) }
        }
    }
    let above = matched.iter().flat_map(|a| mismatched.iter().map(move |b| f64::from(u8::from(a > b)))).sum::<f64>();
    close(found.roc_auc.value, above / (30.0 * 36.0), 0.05);
}

#[test]
fn the_seed_draws_the_pairs() {
    let (embeddings, labels) = identities(3, 8, 4, 1.0, 3);
    let of = |seed| verification(embeddings.view(), &labels, seed, &resamples(24)).unwrap();
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn verification_input_is_checked() {
    let (embeddings, labels) = identities(3, 4, 4, 1.0, 3);
    let of = |embeddings: &Array2<f64>, labels: &[u32]| {
        verification(embeddings.view(), labels, 1, &resamples(12)).unwrap_err()
    };
    assert_eq!(of(&embeddings, &[4; 12]), Error::SingleClass);
    let different: Vec<u32> = (0..12).collect();
    assert_eq!(of(&embeddings, &different), Error::NoMatchedPairs);
    assert!(matches!(of(&embeddings, &labels[1..]), Error::SampleCount { expected: 12, found: 11, .. }));
    let mut broken = embeddings.clone();
    broken.slice_mut(s![4, ..]).fill(f64::INFINITY);
    assert!(matches!(of(&broken, &labels), Error::NotFinite { sample: 4, .. }));
    let zero = Array2::zeros((12, 4));
    assert!(verification(zero.view(), &labels, 1, &resamples(12)).unwrap().accuracy.value <= 0.5);
}
