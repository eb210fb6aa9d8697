//! How surely one estimate is above others that were made with the same bootstrap resamples.
//!
//! On a resample all sources are measured on the same drawn samples, so what is hard or easy about those samples falls out
//! of the comparison: the paired bootstrap. Resamples on which an estimate has no finite value are left out.

use super::Estimate;

/// What sums of shares miss by rounding.
const ROUNDING: f64 = 1e-12;

/// The probability that `a` is above `b`: the share of resamples on which it is, ties counting half. 0..1.
///
/// `None` where the replicates were dropped, are not of the same number of resamples, or have no resample in common.
pub fn probability_above(a: &Estimate, b: &Estimate) -> Option<f64> {
    let (a, b) = (a.replicates.values(), b.replicates.values());
    if a.len() != b.len() {
        return None;
    }
    let pairs = a.iter().zip(b).filter(|(a, b)| a.is_finite() && b.is_finite());
    let (sum, count) = pairs.fold((0.0, 0_usize), |(sum, count), (a, b)| {
        let share = if a > b { 1.0 } else { f64::from(u8::from(a == b)) / 2.0 };
        (sum + share, count + 1)
    });
    (count > 0).then(|| sum / count as f64)
}

/// [`probability_above`] of each estimate (a row) over each other (a column); 1/2 on the diagonal.
///
/// `None` where one of them is.
pub fn probabilities_above(estimates: &[Estimate]) -> Option<Vec<Vec<f64>>> {
    let rows = estimates.iter().map(|a| estimates.iter().map(|b| probability_above(a, b)).collect());
    rows.collect()
}

/// The probability of each estimate to be the largest: the share of resamples on which it is, shared evenly between ties.
/// The probabilities add up to 1.
///
/// `None` without estimates, and as in [`probability_above`].
pub fn probability_best(estimates: &[Estimate]) -> Option<Vec<f64>> {
    let replicates: Vec<&[f64]> = estimates.iter().map(|estimate| estimate.replicates.values()).collect();
    let n_resamples = replicates.first()?.len();
    if replicates.iter().any(|values| values.len() != n_resamples) {
        return None;
    }
    let mut shares = vec![0.0; estimates.len()];
    let mut count = 0_usize;
    for resample in 0..n_resamples {
        let values: Vec<f64> = replicates.iter().filter_map(|values| values.get(resample).copied()).collect();
        if values.iter().any(|value| !value.is_finite()) {
            continue;
        }
        count += 1;
        let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let n_ties = values.iter().filter(|&&value| value == largest).count() as f64;
        let best = shares.iter_mut().zip(&values).filter(|(_, value)| **value == largest);
        best.for_each(|(share, _)| *share += 1.0 / n_ties);
    }
    (count > 0).then(|| shares.into_iter().map(|share| share / count as f64).collect())
}

/// The places of estimates from the largest value to the smallest. Of equal values the one that is more probably the largest
/// ([`probability_best`]) comes first, of equally probable ones the earlier.
pub fn best_first(estimates: &[Estimate]) -> Vec<usize> {
    let best = probability_best(estimates).unwrap_or_default();
    let shares = best.into_iter().chain(std::iter::repeat(0.0));
    let mut order: Vec<(usize, f64, f64)> =
        estimates.iter().zip(shares).enumerate().map(|(place, (one, share))| (place, one.value, share)).collect();
    order.sort_by(|(_, left, left_share), (_, right, right_share)| {
        right.total_cmp(left).then(right_share.total_cmp(left_share))
    });
    order.into_iter().map(|(place, ..)| place).collect()
}

/// The sources among which the best one is with the given probability: the fewest, most probable first, whose probabilities
/// of being best add up to it. Indices, in that order; ties keep the order given.
pub fn contenders(probability_best: &[f64], probability: f64) -> Vec<usize> {
    let mut order: Vec<(usize, f64)> = probability_best.iter().copied().enumerate().collect();
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    let mut reached = 0.0;
    let needed = order.iter().take_while(|(_, share)| {
        let is_needed = reached < probability - ROUNDING;
        reached += share;
        is_needed
    });
    needed.map(|(index, _)| *index).collect()
}
