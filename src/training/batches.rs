//! The order of the samples in an epoch.

use crate::stats::{Purpose, permutation, stream};

/// The samples in a new order for each run and epoch, in batches of `size`, the last one with what is left.
///
/// Runs and epochs count from 0, epochs below 2³².
pub fn batches(samples: &[usize], size: usize, seed: u64, run: usize, epoch: usize) -> Vec<Vec<usize>> {
    let mut rng = stream(seed, Purpose::Batches, ((run as u64) << 32) | epoch as u64);
    let order: Vec<usize> =
        permutation(&mut rng, samples.len()).into_iter().filter_map(|place| samples.get(place).copied()).collect();
    order.chunks(size.max(1)).map(<[usize]>::to_vec).collect()
}
