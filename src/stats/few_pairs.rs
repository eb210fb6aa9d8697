//! The coefficients of few pairs under permutations of one side, without sorting or memory: all 40,320 of eight pairs are
//! tried for each score of a ranking.

use super::{agreement::ENUMERATED_SOURCES, correlation::Correlations, pairs::Pairs};

/// At most [`ENUMERATED_SOURCES`] pairs, both sides of which vary.
pub struct FewPairs {
    k: usize,
    x: Side,
    y: Side,
}

/// One side; entries from k on are not used.
struct Side {
    places: [usize; ENUMERATED_SOURCES],
    /// Values less their mean, over the root of the sum of their squares; so that an inner product is a correlation.
    values: [f64; ENUMERATED_SOURCES],
    /// The same of the average ranks.
    ranks: [f64; ENUMERATED_SOURCES],
}

impl FewPairs {
    /// `None` for more pairs, and where a side does not vary.
    pub fn new(pairs: &Pairs) -> Option<FewPairs> {
        let k = pairs.len();
        if k > ENUMERATED_SOURCES {
            return None;
        }
        let [x, y] = pairs.sides().map(|(places, values, ranks)| {
            let mut padded = [0; ENUMERATED_SOURCES];
            padded.iter_mut().zip(places).for_each(|(padded, &place)| *padded = place);
            Some(Side { places: padded, values: standardised(values)?, ranks: standardised(&ranks)? })
        });
        Some(FewPairs { k, x: x?, y: y? })
    }

    /// The coefficients where pair i has the y of pair `order[i]`; `order` permutes 0..k.
    #[allow(
        clippy::indexing_slicing,
        reason = "an order of k pairs permutes 0..k, and k is at most the arrays' length"
    )]
    pub fn permuted(&self, order: &[usize]) -> Correlations {
        // Of each pair: Σ sgn(x_i − x_j) sgn(y_i − y_j), how many pairs do not tie with it in x and in y, and its rank by x
        // and by y, ties broken by the other.
        let mut agreement = [0.0; ENUMERATED_SOURCES];
        let (mut untied_x, mut untied_y) = (agreement, agreement);
        let (mut by_x, mut by_y) = ([0_u8; ENUMERATED_SOURCES], [0_u8; ENUMERATED_SOURCES]);
        let (mut pearson, mut spearman) = (0.0, 0.0);
        for (i, &to) in order.iter().enumerate().take(self.k) {
            pearson += self.x.values[i] * self.y.values[to];
            spearman += self.x.ranks[i] * self.y.ranks[to];
            for (j, &other) in order.iter().enumerate().take(i) {
                let x = self.x.places[i].cmp(&self.x.places[j]);
                let y = self.y.places[to].cmp(&self.y.places[other]);
                let product = f64::from(x as i8 * y as i8);
                let (differs_x, differs_y) = (f64::from(x.is_ne()), f64::from(y.is_ne()));
                for pair in [i, j] {
                    agreement[pair] += product;
                    untied_x[pair] += differs_x;
                    untied_y[pair] += differs_y;
                }
                by_x[if x.then(y).is_lt() { i } else { j }] += 1;
                by_y[if y.then(x).is_lt() { i } else { j }] += 1;
            }
        }
        let tau = |weight: &dyn Fn(usize) -> f64| {
            let sum = |of: &[f64; ENUMERATED_SOURCES]| (0..self.k).map(|pair| weight(pair) * of[pair]).sum::<f64>();
            (sum(&agreement) / (sum(&untied_x).sqrt() * sum(&untied_y).sqrt())).clamp(-1.0, 1.0)
        };
        let weighted = |ranks: [u8; ENUMERATED_SOURCES]| tau(&|pair| 1.0 / (1.0 + f64::from(ranks[pair])));
        Correlations {
            pearson: pearson.clamp(-1.0, 1.0),
            spearman: spearman.clamp(-1.0, 1.0),
            kendall: tau(&|_| 1.0),
            weighted_kendall: (weighted(by_x) + weighted(by_y)) / 2.0,
        }
    }
}

/// Centred and scaled to length 1; `None` where there is no length.
fn standardised(values: &[f64]) -> Option<[f64; ENUMERATED_SOURCES]> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let length = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>().sqrt();
    let mut padded = [0.0; ENUMERATED_SOURCES];
    padded.iter_mut().zip(values).for_each(|(padded, value)| *padded = (value - mean) / length);
    (length > 0.0 && length.is_finite()).then_some(padded)
}
