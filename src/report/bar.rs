//! A value with its interval along an axis that all rows of a table share.

use super::{finding, svg::short};
use crate::stats::Estimate;

/// Places along a bar, in percent of its length.
pub struct Bar {
    pub lower: String,
    pub width: String,
    pub value: String,
    pub chance: Option<String>,
    pub zero: String,
}

/// The range of values that the bars of all rows share.
pub struct BarAxis {
    low: f64,
    high: f64,
}

impl Bar {
    pub fn new(value: &Estimate, axis: &BarAxis) -> Bar {
        Bar {
            lower: axis.percent(value.lower),
            width: axis.width(value.lower, value.upper),
            value: axis.percent(value.value),
            chance: finding::chance(value).map(|chance| axis.percent(chance)),
            zero: axis.percent(0.0),
        }
    }
}

impl BarAxis {
    /// An axis that holds all the estimates, and zero: a bar that starts elsewhere overstates differences.
    pub fn of<'a>(values: impl Iterator<Item = &'a Estimate>) -> BarAxis {
        let ends = values.flat_map(|e| [e.lower, e.value, e.upper, finding::chance(e).unwrap_or(0.0)]);
        let (low, high) =
            ends.filter(|end| end.is_finite()).fold((0.0f64, 0.0f64), |(low, high), end| (low.min(end), high.max(end)));
        BarAxis::between(low, high)
    }

    pub fn between(low: f64, high: f64) -> BarAxis {
        BarAxis { low, high: if high > low { high } else { low + 1.0 } }
    }

    /// Place of a value, leaving 2 % at both ends so that no mark is cut off.
    fn place(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        2.0 + 96.0 * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    fn percent(&self, value: f64) -> String {
        format!("{}%", short(self.place(value)))
    }

    fn width(&self, lower: f64, upper: f64) -> String {
        format!("{}%", short((self.place(upper) - self.place(lower)).max(0.0)))
    }
}
