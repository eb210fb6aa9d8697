//! A number with its uncertainty.

/// How intervals are made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// Coverage, in (0, 1).
    pub level: f64,
    /// Bootstrap resamples.
    pub resamples: usize,
}

/// A value with its bootstrap interval and what chance would give.
#[derive(Clone, Copy, Debug, PartialEq)]
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
}

/// The distribution of a metric once the relation between the models is destroyed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShuffledNull {
    /// Mean over shuffles.
    pub mean: f64,
    /// Quantile over shuffles at the confidence level, one-sided.
    pub upper: f64,
}

impl ShuffledNull {
    /// Summarises the shuffled values of a metric; `level` in (0, 1). `None` without values.
    pub fn of(mut values: Vec<f64>, level: f64) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let upper = quantile(&values, level)?;
        Some(ShuffledNull { mean: values.iter().sum::<f64>() / values.len() as f64, upper })
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
