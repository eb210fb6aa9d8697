//! Numbers of many measurements.

use std::time::Duration;

/// The 50th, 95th and 99th percentile, each a measurement that was made.
pub fn percentiles(measured: &[Duration]) -> [Duration; 3] {
    let mut sorted = measured.to_vec();
    sorted.sort_unstable();
    [50, 95, 99].map(|percent| {
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    })
}
