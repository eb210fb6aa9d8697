//! What an estimator gives: a number, with an interval where one is honest.

use serde::{Deserialize, Serialize};

use crate::stats::{Estimate, ShuffledNull};

/// An estimator's number. Estimators that are means over samples have an interval; of the others, which would have to be
/// computed anew on every resample, only the value is known, and no interval is made up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Without an interval both ends are the value.
    estimate: Estimate,
    has_interval: bool,
}

impl Score {
    /// A number with its interval.
    pub const fn with_interval(estimate: Estimate) -> Self {
        Score { estimate, has_interval: true }
    }

    /// A number without an interval.
    pub const fn of(value: f64) -> Self {
        Score { estimate: Estimate::of(value, value, value), has_interval: false }
    }

    /// What labels without a relation to the features give on average, from a closed form.
    #[must_use]
    pub fn with_floor(mut self, floor: f64) -> Self {
        self.estimate.null_floor = Some(floor);
        self
    }

    /// What shuffled labels give.
    #[must_use]
    pub fn with_shuffled(mut self, shuffled: Option<ShuffledNull>) -> Self {
        self.estimate.shuffled = shuffled;
        self
    }

    pub const fn value(&self) -> f64 {
        self.estimate.value
    }

    /// The number with its interval; `None` where it has none.
    pub fn estimate(&self) -> Option<&Estimate> {
        self.has_interval.then_some(&self.estimate)
    }

    /// From a closed form: what labels without a relation to the features give.
    pub const fn null_floor(&self) -> Option<f64> {
        self.estimate.null_floor
    }

    /// What shuffled labels give.
    pub const fn shuffled(&self) -> Option<ShuffledNull> {
        self.estimate.shuffled
    }
}
