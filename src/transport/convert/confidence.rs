//! How intervals are made.

use super::field::out_of_range;
use crate::{error::Result, limits, scoring::types::Confidence, transport::proto};

/// How intervals are made, with the documented defaults.
pub fn confidence(confidence: Option<proto::Confidence>) -> Result<Confidence> {
    let confidence = confidence.unwrap_or_default();
    let level = confidence.level.unwrap_or(limits::DEFAULT_CONFIDENCE_LEVEL);
    if !(level > 0.0 && level < 1.0) {
        return Err(out_of_range("confidence.level", level, "a number between 0 and 1, such as 0.95"));
    }
    let resamples = match confidence.resamples as usize {
        0 => limits::DEFAULT_RESAMPLES,
        resamples => resamples,
    };
    if !(limits::MIN_RESAMPLES..=limits::RESAMPLES).contains(&resamples) {
        let allowed = format!("{} to {}, or 0 for the default", limits::MIN_RESAMPLES, limits::RESAMPLES);
        return Err(out_of_range("confidence.resamples", resamples, &allowed));
    }
    Ok(Confidence { level, resamples })
}
