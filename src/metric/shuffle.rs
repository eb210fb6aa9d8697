//! Random pairings of the samples' rows: the null in which the two models have nothing to do with each other.

use std::ops::Range;

use ndarray::{Array2, ArrayView2};

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

    /// For a range of the samples `kept`: those whose rows take their place, and the rows' signs.
    pub fn part(&self, kept: &[usize], range: Range<usize>) -> (Vec<usize>, &[f64]) {
        let order = self.order.get(range.clone()).unwrap_or_default();
        let from = order.iter().filter_map(|&index| kept.get(index).copied()).collect();
        (from, self.signs.get(range).unwrap_or_default())
    }
}

/// The rows at some places, each times its factors, once for each factor, side by side: (places, width · factors).
///
/// ndarray's own selection takes many times as long for rows of ten numbers, and shuffles select millions.
pub(super) fn gathered<const K: usize>(
    rows: ArrayView2<'_, f64>,
    places: impl ExactSizeIterator<Item = (usize, [f64; K])>,
) -> Array2<f64> {
    let (n_rows, width) = (places.len(), rows.ncols());
    let rows = rows.as_standard_layout();
    let all = rows.as_slice().unwrap_or_default();
    let mut values = Vec::with_capacity(n_rows * width * K);
    for (place, factors) in places {
        let row = all.get(place * width..(place + 1) * width).unwrap_or_default();
        for factor in factors {
            values.extend(row.iter().map(|x| x * factor));
        }
    }
    Array2::from_shape_vec((n_rows, width * K), values).unwrap_or_default()
}
