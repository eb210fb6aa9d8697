//! A number with its uncertainty.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Bits;

/// How intervals are made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Confidence {
    /// Coverage, in (0, 1).
    pub level: f64,
    /// Bootstrap resamples.
    pub resamples: usize,
}

/// A value with its bootstrap interval and what chance would give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// On the probe set itself.
    pub value: f64,
    /// Lower end of the interval.
    pub lower: f64,
    /// Upper end of the interval.
    pub upper: f64,
    /// What unrelated models give at this sample count, from a closed form.
    pub null_floor: Option<f64>,
    /// The null from shuffling the sample pairing.
    pub shuffled: Option<ShuffledNull>,
    /// What the interval was made from.
    pub replicates: Replicates,
}

/// The values on the bootstrap resamples, in the order of the resamples: two estimates made with the same resamples are
/// compared pairwise by them. Cheap to clone; empty where they were dropped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Option<Bits>", into = "Option<Bits>")]
pub struct Replicates(Option<Arc<[f64]>>);

impl Replicates {
    /// Keeps these values; one that is not finite stands for a resample without a usable sample.
    pub fn new(values: &[f64]) -> Self {
        Replicates(Some(values.into()))
    }

    /// Keeps nothing.
    pub const fn none() -> Self {
        Replicates(None)
    }

    /// Empty where there are none.
    pub fn values(&self) -> &[f64] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The values transformed one by one.
    #[must_use]
    pub fn map(&self, of: impl Fn(f64) -> f64) -> Self {
        Replicates(self.0.as_ref().map(|values| values.iter().map(|&value| of(value)).collect()))
    }
}

impl From<Option<Bits>> for Replicates {
    fn from(written: Option<Bits>) -> Self {
        Replicates(written.map(|Bits(values)| values.into()))
    }
}

impl From<Replicates> for Option<Bits> {
    fn from(replicates: Replicates) -> Self {
        replicates.0.map(|values| Bits(values.to_vec()))
    }
}

/// Equal to the bit, so that what is not a number equals itself.
impl PartialEq for Replicates {
    fn eq(&self, other: &Self) -> bool {
        let bits = |replicates: &Replicates| -> Vec<u64> { replicates.values().iter().map(|x| x.to_bits()).collect() };
        bits(self) == bits(other)
    }
}

impl Estimate {
    /// A value and the ends of its interval, and nothing else.
    pub const fn of(value: f64, lower: f64, upper: f64) -> Self {
        Estimate { value, lower, upper, null_floor: None, shuffled: None, replicates: Replicates::none() }
    }

    /// A number that does not depend on the samples.
    pub const fn exact(value: f64) -> Self {
        Estimate::of(value, value, value)
    }

    /// The same without what the interval was made from.
    #[must_use]
    pub fn without_replicates(self) -> Self {
        Estimate { replicates: Replicates::none(), ..self }
    }
}

/// The distribution of a metric once the relation between the models is destroyed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShuffledNull {
    /// Mean over shuffles.
    pub mean: f64,
    /// What a metric without relation stays below with the probability of the confidence level, one-sided.
    pub upper: f64,
}

impl ShuffledNull {
    /// Summarises the shuffled values of a metric; `level` in (0, 1). `None` without values.
    ///
    /// A value that is one more of the B shuffled ones is above the k-th of them with the probability 1 - k/(B + 1), so the
    /// upper end is at the place level·(B + 1), and the largest value where that is past the last.
    pub fn of(mut values: Vec<f64>, level: f64) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let place = level * (values.len() + 1) as f64 - 1.0;
        let upper = quantile(&values, if last == 0 { 1.0 } else { place / last as f64 })?;
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        // Values that are all equal have a mean beyond them, by rounding.
        Some(ShuffledNull { mean, upper: upper.max(mean) })
    }
}

/// Quantile of values in ascending order, linear between order statistics (Hyndman and Fan's type 7, NumPy's default).
///
/// `share` is clamped to 0..1. `None` without values.
pub fn quantile(ascending: &[f64], share: f64) -> Option<f64> {
    let last = ascending.len().checked_sub(1)?;
    let position = share.clamp(0.0, 1.0) * last as f64;
    let below = position.floor() as usize;
    let (low, high) = (*ascending.get(below)?, *ascending.get((below + 1).min(last))?);
    Some(low + (high - low) * (position - below as f64))
}

/// Percentile interval of a value from its replicates: the central share `level` of them.
///
/// Where the few or skewed replicates leave the value outside, the nearer end moves to it. Replicates that are not finite are
/// left out; without any, the interval is the value.
pub fn interval(value: f64, replicates: Vec<f64>, level: f64) -> (f64, f64) {
    let replicates = ascending(replicates);
    let tail = (1.0 - level) / 2.0;
    let end = |share| quantile(&replicates, share).unwrap_or(value);
    (end(tail).min(value), end(1.0 - tail).max(value))
}

/// The finite ones of some values, in ascending order.
pub fn ascending(mut values: Vec<f64>) -> Vec<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    values
}
