//! One ranking from several scores: rank aggregation by weighted Borda counts (Borda 1781; Young 1974 for what sets it
//! apart), which need no common scale and in which one score that is far off cannot outweigh the others.
//!
//! A source's share under a score is the share of the other sources that it is above, ties counting half: the Borda count
//! scaled to 0..1. Its aggregate is the weighted mean over scores.

use super::{Confidence, Estimate, Purpose, Replicates, estimate::interval, stream, unit_interval};

/// Shares are whole multiples of one over this, so that those that differ by rounding alone are equal.
const STEPS: f64 = (1_u64 << 46) as f64;

/// One score's say: an estimate for each source, larger is better.
#[derive(Clone, Debug)]
pub struct Ballot {
    /// Above 0; only ratios between ballots count.
    pub weight: f64,
    pub estimates: Vec<Estimate>,
}

/// The mean share of other sources that each source is above, 0..1, with an interval. A single source has 1.
///
/// The resamples are those that the estimates were made with, and each also weighs the scores anew, by their weights times
/// standard exponential numbers (the Bayesian bootstrap, Rubin 1981): so a lead counts as certain only where it depends
/// neither on which samples were drawn nor on which scores have a say. Estimates without `confidence.resamples` replicates
/// keep their value, and so does one on a resample on which it is not finite.
///
/// `None` without ballots or sources, for ballots of different lengths, a weight that is not above 0, and values that are not
/// finite.
pub fn mean_share_below(ballots: &[Ballot], confidence: Confidence, seed: u64) -> Option<Vec<Estimate>> {
    let n_sources = ballots.first()?.estimates.len();
    let is_usable = |ballot: &Ballot| {
        let finite = ballot.estimates.iter().all(|estimate| estimate.value.is_finite());
        ballot.weight > 0.0 && ballot.weight.is_finite() && ballot.estimates.len() == n_sources && finite
    };
    if n_sources == 0 || !ballots.iter().all(is_usable) {
        return None;
    }
    let value = aggregate(ballots, |estimate| estimate.value, |weight| weight);
    let mut replicates = vec![Vec::with_capacity(confidence.resamples); n_sources];
    for resample in 0..confidence.resamples {
        let mut rng = stream(seed, Purpose::ScoreWeights, resample as u64);
        let drawn = |estimate: &Estimate| match estimate.replicates.values() {
            values if values.len() == confidence.resamples => {
                values.get(resample).copied().filter(|value| value.is_finite()).unwrap_or(estimate.value)
            }
            _ => estimate.value,
        };
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let shares = aggregate(ballots, drawn, |weight| -(1.0 - unit_interval(&mut rng)).ln() * weight);
        replicates.iter_mut().zip(shares).for_each(|(replicates, share)| replicates.push(share));
    }
    let estimates = value.into_iter().zip(replicates).map(|(value, replicates)| {
        let kept = Replicates::new(&replicates);
        let (lower, upper) = interval(value, replicates, confidence.level);
        Estimate { replicates: kept, ..Estimate::of(value, lower, upper) }
    });
    Some(estimates.collect())
}

fn aggregate(ballots: &[Ballot], value: impl Fn(&Estimate) -> f64, mut weight: impl FnMut(f64) -> f64) -> Vec<f64> {
    let n_sources = ballots.first().map_or(0, |ballot| ballot.estimates.len());
    let (mut sums, mut total) = (vec![0.0; n_sources], 0.0);
    for ballot in ballots {
        let values: Vec<f64> = ballot.estimates.iter().map(&value).collect();
        let weight = weight(ballot.weight);
        total += weight;
        sums.iter_mut().zip(shares_below(&values)).for_each(|(sum, share)| *sum += weight * share);
    }
    // All weights 0 has probability 0; a number must come out of it all the same. Rounded, so that equals are equal.
    let rounded = |share: f64| (share * STEPS).round() / STEPS;
    sums.into_iter().map(|sum| if total > 0.0 { rounded(sum / total).clamp(0.0, 1.0) } else { 0.5 }).collect()
}

/// The share of the other values that each is above, ties counting half.
fn shares_below(values: &[f64]) -> Vec<f64> {
    let n_others = values.len().saturating_sub(1);
    if n_others == 0 {
        return vec![1.0; values.len()];
    }
    let mut ascending = values.to_vec();
    ascending.sort_by(f64::total_cmp);
    let share = |value: &f64| {
        let below = ascending.partition_point(|other| other < value);
        let tied = ascending.partition_point(|other| other <= value) - below - 1;
        (below as f64 + tied as f64 / 2.0) / n_others as f64
    };
    values.iter().map(share).collect()
}
