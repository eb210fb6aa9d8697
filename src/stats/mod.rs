//! Statistics: seeded resampling, intervals, nulls, correlations.

mod estimate;

pub use estimate::{Confidence, Estimate, ShuffledNull};
