//! Random pairings of the samples' rows: the null in which the two models have nothing to do with each other.

use std::ops::Range;

use ndarray::Array1;

use super::AttackSign;
use crate::{
    limits::NULL_SHUFFLES,
    stats::{Purpose, permutation, random_sign, stream},
};

/// Multiplications that all shuffles of one metric may take together, unless the fewest shuffles take more.
const SHUFFLED_PRODUCTS: usize = 1 << 34;
/// Fewest shuffles. Where each is expensive the norm is over many numbers, and varies little from one to the next.
const FEWEST_SHUFFLES: usize = 20;

/// How many shuffles are made where each takes `products` multiplications.
pub(super) fn n_shuffles(products: usize) -> u64 {
    (SHUFFLED_PRODUCTS / products.max(1)).clamp(FEWEST_SHUFFLES, NULL_SHUFFLES) as u64
}

/// Which sample's row takes the place of which, and with what sign.
pub(super) struct Shuffle {
    order: Vec<usize>,
    signs: Vec<f64>,
}

impl Shuffle {
    /// The shuffle of this index of the samples `kept`.
    pub fn new(kept: &[usize], sign: AttackSign, seed: u64, index: u64) -> Self {
        let mut rng = stream(seed, Purpose::Pairing, index);
        let order = permutation(&mut rng, kept.len());
        let signs = match sign {
            AttackSign::Arbitrary => order.iter().map(|_| random_sign(&mut rng)).collect(),
            AttackSign::Meaningful => vec![1.0; order.len()],
        };
        Shuffle { order, signs }
    }

    /// For a range of the samples `kept`: the samples, those whose rows take their place, and the rows' signs.
    pub fn part<'a>(&self, kept: &'a [usize], range: Range<usize>) -> (&'a [usize], Vec<usize>, Array1<f64>) {
        let to = kept.get(range.clone()).unwrap_or_default();
        let order = self.order.get(range.clone()).unwrap_or_default();
        let from = order.iter().filter_map(|&index| kept.get(index).copied()).collect();
        (to, from, self.signs.get(range).unwrap_or_default().iter().copied().collect())
    }
}
