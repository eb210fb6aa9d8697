//! The Frobenius norm of a weighted mean of outer products, resampled and shuffled: the shape that alpha2 and combined share.
//!
//! For unit rows l_i and r_i and weights w_i: ‖(1/n) Σ_i w_i l_i r_iᵀ‖_F over the n live samples. The working set is a few
//! blocks of fixed size and d1·d2 numbers, whatever the number of samples.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, CowArray, Ix2, parallel::prelude::*, s};

use super::{
    AttackSign,
    shuffle::{Shuffle, gathered, n_shuffles},
};
use crate::{
    attack::DEAD_LENGTH,
    stats::{Estimate, Resamples, accumulate_product, product},
};

/// Numbers of a block of rows or of a Gram matrix that exist at once.
const BLOCK_NUMBERS: usize = 1 << 20;
/// Numbers that a resample may go through for its norm; above, the norm is taken to first order.
const RESAMPLED_NUMBERS: usize = 1 << 23;

/// The rows whose outer products are averaged.
pub(super) struct OuterPairs<'a> {
    /// (N, d1), of any length.
    left: ArrayView2<'a, f64>,
    /// (N, d2), of any length.
    right: ArrayView2<'a, f64>,
    /// What makes the rows unit rows; 0 for dead samples and zero rows.
    left_factors: Array1<f64>,
    right_factors: Array1<f64>,
    /// 1 for live samples, 0 for dead ones.
    live: Array1<f64>,
}

impl<'a> OuterPairs<'a> {
    /// Rows (N, d1) and (N, d2) with their lengths, and which samples are live.
    pub fn new(
        left: (ArrayView2<'a, f64>, ArrayView1<'_, f64>),
        right: (ArrayView2<'a, f64>, ArrayView1<'_, f64>),
        live: Array1<f64>,
    ) -> Self {
        let factors = |lengths: ArrayView1<'_, f64>| -> Array1<f64> {
            let factor = |(&length, &live): (&f64, &f64)| if length > DEAD_LENGTH { live / length } else { 0.0 };
            lengths.iter().zip(&live).map(factor).collect()
        };
        OuterPairs {
            left_factors: factors(left.1),
            right_factors: factors(right.1),
            left: left.0,
            right: right.0,
            live,
        }
    }

    /// ‖(1/n) Σ w_i l_i r_iᵀ‖_F with its bootstrap interval, for each of several weightings (N).
    ///
    /// The square of a mean's norm is larger on resamples than on the samples, by b = Σ‖z_i − z̄‖²/n² in expectation over
    /// resamples (z_i the outer products). That b is taken off each squared replicate, at most down to 0, so that the
    /// interval is centred on the value. The value itself keeps its floor at this sample count: see `null_floor`.
    ///
    /// Where resampling the norm would be slow, its square is taken to first order, ‖z̄*‖² ≈ ‖z̄‖² + 2⟨z̄, z̄* − z̄⟩, which
    /// has no such bias.
    pub fn norms_of_means(&self, weightings: &[Array1<f64>], resamples: &Resamples) -> Vec<Estimate> {
        let n = self.live.sum();
        let means: Vec<Array2<f64>> = weightings.iter().map(|weights| self.sum(weights.view()) / n).collect();
        let values: Vec<f64> = means.iter().map(|mean| mean.iter().map(|x| x * x).sum()).collect();
        let samples = self.left.nrows();
        let by_features = self.width().saturating_mul(weightings.len()).saturating_mul(samples);
        let by_gram = samples.saturating_mul(samples);
        let squared = if by_features.min(by_gram) > RESAMPLED_NUMBERS {
            self.first_order(weightings, &means, &values, resamples)
        } else {
            let squared = if by_features <= by_gram {
                self.by_features(weightings, resamples)
            } else {
                self.by_gram(weightings, resamples)
            };
            let unbiased = squared.into_iter().zip(weightings).zip(&values).map(|((squared, weights), value)| {
                let bias = (self.squared_lengths(weights.view()) / n - value).max(0.0) / n;
                squared.into_iter().map(|square| square - bias).collect()
            });
            unbiased.collect()
        };
        let estimates = values.into_iter().zip(squared);
        let roots = |squared: Vec<f64>| squared.into_iter().map(|square| square.max(0.0).sqrt()).collect();
        estimates.map(|(value, squared)| resamples.percentile(value.sqrt(), roots(squared))).collect()
    }

    /// Σ ‖w_i l_i r_iᵀ‖²_F.
    pub fn squared_lengths(&self, weights: ArrayView1<'_, f64>) -> f64 {
        let present = self.left_factors.iter().zip(&self.right_factors).zip(weights);
        present.map(|((left, right), weight)| if left * right > 0.0 { weight * weight } else { 0.0 }).sum()
    }

    /// The norms of the mean, for each of several weightings of the samples that the right rows come from, after shuffling
    /// which right row goes with which left row.
    pub fn shuffled_norms<const K: usize>(
        &self,
        weightings: &[Array1<f64>; K],
        sign: AttackSign,
        resamples: &Resamples,
    ) -> [Vec<f64>; K] {
        let live: Vec<usize> = (0..self.live.len()).filter(|&i| self.live.get(i).is_some_and(|&l| l > 0.0)).collect();
        let work = live.len().saturating_mul(self.width()).saturating_mul(weightings.len());
        let unit = |&place: &usize| (place, [self.left_factors.get(place).copied().unwrap_or(0.0)]);
        let left = gathered(self.left, live.iter().map(unit));
        let norms: Vec<[f64; K]> = (0..n_shuffles(work))
            .into_par_iter()
            .map(|index| {
                let shuffle = Shuffle::new(&live, sign, resamples.seed(), index);
                self.shuffled(weightings, &live, left.view(), &shuffle)
            })
            .collect();
        std::array::from_fn(|index| norms.iter().filter_map(|norms| norms.get(index).copied()).collect())
    }

    fn shuffled<const K: usize>(
        &self,
        weightings: &[Array1<f64>; K],
        live: &[usize],
        left: ArrayView2<'_, f64>,
        shuffle: &Shuffle,
    ) -> [f64; K] {
        let width = self.right.ncols();
        let mut sums = Array2::zeros((left.ncols(), width * K));
        let step = (BLOCK_NUMBERS / (left.ncols() + sums.ncols()).max(1)).max(1);
        let at = |values: &Array1<f64>, place: usize| values.get(place).copied().unwrap_or(0.0);
        for start in (0..live.len()).step_by(step) {
            let range = start..(start + step).min(live.len());
            let (from, signs) = shuffle.part(live, range.clone());
            let right = from.iter().zip(signs).map(|(&place, &sign)| {
                let factor = sign * at(&self.right_factors, place);
                (place, weightings.each_ref().map(|weights| factor * at(weights, place)))
            });
            accumulate_product(left.slice(s![range, ..]).t(), gathered(self.right, right).view(), &mut sums);
        }
        let n = live.len() as f64;
        let mut norms = [0.0; K];
        for (norm, part) in norms.iter_mut().zip(sums.axis_chunks_iter(Axis(1), width.max(1))) {
            *norm = part.iter().map(|x| x * x).sum::<f64>().sqrt() / n;
        }
        norms
    }

    /// Numbers of one outer product.
    fn width(&self) -> usize {
        self.left.ncols().saturating_mul(self.right.ncols())
    }

    /// Unit rows, zero for dead samples.
    fn rows(&self, samples: Range<usize>) -> [Array2<f64>; 2] {
        let of = |rows: ArrayView2<'_, f64>, factors: &Array1<f64>| {
            scaled(rows.slice(s![samples.clone(), ..]).to_owned(), factors.slice(s![samples.clone()]))
        };
        [of(self.left, &self.left_factors), of(self.right, &self.right_factors)]
    }

    fn ranges(&self, width: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (n, step) = (self.left.nrows(), (BLOCK_NUMBERS / width.max(1)).max(1));
        (0..n).step_by(step).map(move |start| start..(start + step).min(n))
    }

    /// Σ w_i l_i r_iᵀ, (d1, d2).
    fn sum(&self, weights: ArrayView1<'_, f64>) -> Array2<f64> {
        let mut sum = Array2::zeros((self.left.ncols(), self.right.ncols()));
        for range in self.ranges(self.left.ncols() + self.right.ncols()) {
            let [left, right] = self.rows(range.clone());
            let left = scaled(left, weights.slice(s![range]));
            accumulate_product(left.t(), right.view(), &mut sum);
        }
        sum
    }

    /// ‖z̄*‖² of each weighting on each resample, through the resampled means of the outer products.
    fn by_features(&self, weightings: &[Array1<f64>], resamples: &Resamples) -> Vec<Vec<f64>> {
        let (width, n_weightings) = (self.width(), weightings.len());
        let features = |samples: Range<usize>| {
            let [left, right] = self.rows(samples.clone());
            let mut features = Array2::zeros((left.nrows(), width * n_weightings + 1));
            for (index, sample) in samples.enumerate() {
                let mut row = features.row_mut(index);
                let weights = weightings.iter().map(|weights| weights.get(sample).copied().unwrap_or_default());
                let (left, right) = (left.row(index), right.row(index));
                let products =
                    weights.flat_map(|w| left.iter().flat_map(move |l| right.into_iter().map(move |r| w * l * r)));
                let live = self.live.get(sample).copied();
                row.iter_mut().zip(products.chain(live)).for_each(|(to, product)| *to = product);
            }
            CowArray::<f64, Ix2>::from(features)
        };
        let replicates = resamples.map_means(width * n_weightings + 1, features, |means| {
            let drawn = means.last().copied().unwrap_or_default();
            let sums = means.iter().take(width * n_weightings).copied().collect::<Array1<f64>>();
            let norms = sums.axis_chunks_iter(Axis(0), width.max(1)).map(|part| part.dot(&part) / (drawn * drawn));
            norms.collect::<Vec<f64>>()
        });
        turned(&replicates, n_weightings)
    }

    /// The same through the Gram matrix of the outer products, ⟨l_i, l_j⟩⟨r_i, r_j⟩.
    fn by_gram(&self, weightings: &[Array1<f64>], resamples: &Resamples) -> Vec<Vec<f64>> {
        let n = self.left.nrows();
        let kept: Vec<usize> = (0..n).collect();
        let gram = |rows: ArrayView2<'_, f64>, factors: &Array1<f64>, range: &Range<usize>| {
            let products = product(rows, rows.slice(s![range.clone(), ..]).t());
            let columns = factors.slice(s![range.clone()]);
            scaled(products, factors.view()) * columns
        };
        let ranges: Vec<Range<usize>> = self.ranges(n).collect();
        let parts: Vec<Vec<Array1<f64>>> = ranges
            .into_par_iter()
            .map(|range| {
                let gram = gram(self.left, &self.left_factors, &range) * gram(self.right, &self.right_factors, &range);
                let of_weights = |weights: &Array1<f64>| -> Array1<f64> {
                    let blocks = resamples.blocks(&kept).flat_map(|counts| {
                        let drawn = counts * weights;
                        let sums = product(drawn.view(), gram.view());
                        let columns = drawn.slice(s![.., range.clone()]);
                        sums.rows().into_iter().zip(columns.rows()).map(|(a, b)| a.dot(&b)).collect::<Vec<_>>()
                    });
                    blocks.collect()
                };
                weightings.iter().map(of_weights).collect()
            })
            .collect();
        let drawn: Array1<f64> = resamples.blocks(&kept).flat_map(|counts| counts.dot(&self.live)).collect();
        let mut sums = vec![Array1::<f64>::zeros(resamples.n_resamples()); weightings.len()];
        for part in parts {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += &part);
        }
        sums.into_iter().map(|sum| sum.iter().zip(&drawn).map(|(sum, drawn)| sum / (drawn * drawn)).collect()).collect()
    }

    /// The same to first order around the mean of all samples.
    fn first_order(
        &self,
        weightings: &[Array1<f64>],
        means: &[Array2<f64>],
        values: &[f64],
        resamples: &Resamples,
    ) -> Vec<Vec<f64>> {
        // ⟨z̄, z_i⟩ of each sample, a column a weighting, then whether the sample is live.
        let mut numbers = Array2::zeros((self.left.nrows(), weightings.len() + 1));
        numbers.column_mut(weightings.len()).assign(&self.live);
        for range in self.ranges(self.left.ncols() + self.right.ncols()) {
            let [left, right] = self.rows(range.clone());
            for (index, (mean, weights)) in means.iter().zip(weightings).enumerate() {
                let along = (product(left.view(), mean.view()) * &right).sum_axis(Axis(1));
                numbers.slice_mut(s![range.clone(), index]).assign(&(along * weights.slice(s![range.clone()])));
            }
        }
        let rows = |samples: Range<usize>| CowArray::from(numbers.slice(s![samples, ..]));
        let replicates = resamples.map_means(numbers.ncols(), rows, |row| {
            let drawn = row.last().copied().unwrap_or_default();
            row.iter().zip(values).map(|(along, value)| 2.0 * along / drawn - value).collect::<Vec<f64>>()
        });
        turned(&replicates, weightings.len())
    }
}

/// The rows, each times its factor.
fn scaled(rows: Array2<f64>, factors: ArrayView1<'_, f64>) -> Array2<f64> {
    rows * factors.insert_axis(Axis(1))
}

/// A row for each column.
fn turned(rows: &[Vec<f64>], columns: usize) -> Vec<Vec<f64>> {
    (0..columns).map(|column| rows.iter().filter_map(|row| row.get(column).copied()).collect()).collect()
}
