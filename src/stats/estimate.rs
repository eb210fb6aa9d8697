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
