//! Paired values, sorted once, so that any resample or permutation of them is correlated in O(k log k).
//!
//! A pair may be drawn several times. Its copies tie with each other on both sides, so a resample needs only how often each
//! pair was drawn. Invariant: places and orders index the pairs, and every value is finite.

use super::correlation::Correlations;

/// k pairs of values.
#[derive(Clone, Debug)]
pub struct Pairs {
    x: Side,
    y: Side,
}

/// One side of the pairs.
#[derive(Clone, Debug)]
struct Side {
    values: Vec<f64>,
    /// Each value's place among the distinct values, from 0.
    places: Vec<usize>,
    /// Pairs in ascending order, ties by the other side.
    order: Vec<usize>,
}

/// Sums over some pairs: copies, and their weights by the ranks of either side.
type Sums = [f64; 3];

impl Pairs {
    /// `None` for unequal lengths and values that are not finite.
    pub fn new(x: &[f64], y: &[f64]) -> Option<Pairs> {
        if x.len() != y.len() || x.iter().chain(y).any(|value| !value.is_finite()) {
            return None;
        }
        Some(Pairs::ordered((x.to_vec(), places(x)), (y.to_vec(), places(y))))
    }

    /// k.
    pub fn len(&self) -> usize {
        self.x.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Of x and of y: each value's place among the distinct values, the values, and their average ranks.
    pub fn sides(&self) -> [(&[usize], &[f64], Vec<f64>); 2] {
        let once = vec![1; self.len()];
        [&self.x, &self.y].map(|side| (side.places.as_slice(), side.values.as_slice(), side.ranks(&once)))
    }

    /// The same values of x with those of y in another order: pair i gets the y of pair `order[i]`.
    #[must_use]
    pub fn permuted(&self, order: &[usize]) -> Pairs {
        let (values, places) =
            order.iter().filter_map(|&from| Some((*self.y.values.get(from)?, *self.y.places.get(from)?))).unzip();
        Pairs::ordered((self.x.values.clone(), self.x.places.clone()), (values, places))
    }

    fn ordered(x: (Vec<f64>, Vec<usize>), y: (Vec<f64>, Vec<usize>)) -> Pairs {
        let order = |first: &[usize], second: &[usize]| {
            let mut keys: Vec<(usize, usize, usize)> =
                first.iter().zip(second).enumerate().map(|(pair, (&a, &b))| (a, b, pair)).collect();
            keys.sort_unstable();
            keys.into_iter().map(|(_, _, pair)| pair).collect::<Vec<usize>>()
        };
        let (by_x, by_y) = (order(&x.1, &y.1), order(&y.1, &x.1));
        Pairs { x: Side { values: x.0, places: x.1, order: by_x }, y: Side { values: y.0, places: y.1, order: by_y } }
    }

    /// The coefficients of a resample that drew each pair `counts` times; `None` where it drew fewer than two values of a
    /// side.
    pub fn correlations(&self, counts: &[usize]) -> Option<Correlations> {
        let varies = |side: &Side| {
            let mut drawn = side.places.iter().zip(counts).filter(|(_, count)| **count > 0).map(|(place, _)| place);
            drawn.next().is_some_and(|first| drawn.any(|place| place != first))
        };
        if counts.len() != self.x.values.len() || !varies(&self.x) || !varies(&self.y) {
            return None;
        }
        let (kendall, weighted_kendall) = self.taus(counts)?;
        Some(Correlations {
            pearson: product_moment(&self.x.values, &self.y.values, counts)?,
            spearman: product_moment(&self.x.ranks(counts), &self.y.ranks(counts), counts)?,
            kendall,
            weighted_kendall,
        })
    }

    /// Tau-b, and the weighted tau.
    ///
    /// Pairs are visited in the order of x. Of those visited, with a smaller x, a tree over the places of y tells how many
    /// lie below and above, and their weights. Two pairs of c and d copies and weights V and W in all weigh d V + c W
    /// together.
    #[allow(clippy::indexing_slicing, reason = "places and orders index the pairs, as this type guarantees")]
    fn taus(&self, counts: &[usize]) -> Option<(f64, f64)> {
        let (by_x, by_y) = (self.x.weights(counts), self.y.weights(counts));
        let sums = |pair: usize| -> Sums { [counts[pair] as f64, by_x[pair], by_y[pair]] };
        let mut tree = Tree::new(self.y.values.len());
        let mut all: Sums = [0.0; 3];
        // Σ over pairs of pairs that agree, less those that disagree, of 1 and of the two weights.
        let mut agreement: Sums = [0.0; 3];
        for ties in self.x.order.chunk_by(|&a, &b| self.x.places[a] == self.x.places[b]) {
            for &pair in ties.iter().filter(|&&pair| counts[pair] > 0) {
                let (below, up_to) = (tree.below(self.y.places[pair]), tree.below(self.y.places[pair] + 1));
                let margin = [0, 1, 2].map(|sum| below[sum] - (all[sum] - up_to[sum]));
                let own = sums(pair);
                agreement[0] += own[0] * margin[0];
                agreement[1] += own[1] * margin[0] + own[0] * margin[1];
                agreement[2] += own[2] * margin[0] + own[0] * margin[2];
            }
            for &pair in ties.iter().filter(|&&pair| counts[pair] > 0) {
                let own = sums(pair);
                tree.add(self.y.places[pair], own);
                all = [0, 1, 2].map(|sum| all[sum] + own[sum]);
            }
        }
        let tau = |agreement: f64, weights: &dyn Fn(usize) -> f64| {
            let scale = self.x.untied(counts, weights).sqrt() * self.y.untied(counts, weights).sqrt();
            (scale > 0.0).then(|| (agreement / scale).clamp(-1.0, 1.0))
        };
        let unweighted = tau(agreement[0], &|pair| counts[pair] as f64 / 2.0)?;
        let (first, second) = (tau(agreement[1], &|pair| by_x[pair])?, tau(agreement[2], &|pair| by_y[pair])?);
        Some((unweighted, (first + second) / 2.0))
    }
}

impl Side {
    /// The pairs in ascending order, those of one value together.
    fn ties(&self) -> impl Iterator<Item = &[usize]> {
        self.order.chunk_by(move |a, b| self.places.get(*a) == self.places.get(*b))
    }

    /// Average rank of each pair's copies, from 1; meaningless for a pair that was not drawn.
    fn ranks(&self, counts: &[usize]) -> Vec<f64> {
        let mut ranks = vec![0.0; counts.len()];
        let mut below = 0;
        for ties in self.ties() {
            let n_ties: usize = ties.iter().filter_map(|&pair| counts.get(pair)).sum();
            for &pair in ties {
                if let Some(rank) = ranks.get_mut(pair) {
                    *rank = below as f64 + (n_ties as f64 + 1.0) / 2.0;
                }
            }
            below += n_ties;
        }
        ranks
    }

    /// What each pair's copies weigh in all: 1/(1 + r) for a copy of rank r, from 0, the largest first.
    fn weights(&self, counts: &[usize]) -> Vec<f64> {
        let mut weights = vec![0.0; counts.len()];
        let mut rank = 0;
        for &pair in self.order.iter().rev() {
            let count = counts.get(pair).copied().unwrap_or(0);
            if let Some(weight) = weights.get_mut(pair) {
                *weight = (rank..rank + count).map(|rank| 1.0 / (1 + rank) as f64).sum();
            }
            rank += count;
        }
        weights
    }

    /// Σ over pairs of copies with different values of what both weigh.
    fn untied(&self, counts: &[usize], weights: &dyn Fn(usize) -> f64) -> f64 {
        let (mut n, mut sum, mut tied) = (0, 0.0, 0.0);
        for ties in self.ties() {
            let n_ties: usize = ties.iter().filter_map(|&pair| counts.get(pair)).sum();
            let weight: f64 = ties.iter().map(|&pair| weights(pair)).sum();
            n += n_ties;
            sum += weight;
            tied += weight * n_ties.saturating_sub(1) as f64;
        }
        sum * (n as f64 - 1.0) - tied
    }
}

/// Sums by place, and those below any place, in O(log k) each (Fenwick 1994).
struct Tree {
    nodes: Vec<Sums>,
}

impl Tree {
    fn new(n_places: usize) -> Tree {
        Tree { nodes: vec![[0.0; 3]; n_places + 1] }
    }

    fn add(&mut self, place: usize, sums: Sums) {
        let mut at = place + 1;
        while let Some(node) = self.nodes.get_mut(at) {
            node.iter_mut().zip(sums).for_each(|(node, sum)| *node += sum);
            at += at & at.wrapping_neg();
        }
    }

    /// Sums of the places before this one.
    fn below(&self, place: usize) -> Sums {
        let (mut at, mut sums) = (place, [0.0; 3]);
        while let (Some(node), true) = (self.nodes.get(at), at > 0) {
            sums.iter_mut().zip(node).for_each(|(sum, node)| *sum += node);
            at &= at - 1;
        }
        sums
    }
}

/// Each value's place among the distinct values.
fn places(values: &[f64]) -> Vec<usize> {
    // Adding 0 makes -0 equal 0 in the total order as well.
    let mut distinct: Vec<f64> = values.iter().map(|value| value + 0.0).collect();
    distinct.sort_by(f64::total_cmp);
    distinct.dedup();
    values.iter().map(|value| distinct.partition_point(|other| other < value)).collect()
}

/// The product-moment correlation of pairs that count as often as `counts` says; `None` where one side is constant.
pub(super) fn product_moment(x: &[f64], y: &[f64], counts: &[usize]) -> Option<f64> {
    let n = counts.iter().sum::<usize>() as f64;
    let mean = |values: &[f64]| values.iter().zip(counts).map(|(value, &count)| value * count as f64).sum::<f64>() / n;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for ((a, b), &count) in x.iter().zip(y).zip(counts) {
        let (a, b, count) = (a - mean_x, b - mean_y, count as f64);
        xx += count * a * a;
        yy += count * b * b;
        xy += count * a * b;
    }
    let scale = xx.sqrt() * yy.sqrt();
    (scale > 0.0 && scale.is_finite()).then(|| (xy / scale).clamp(-1.0, 1.0))
}
