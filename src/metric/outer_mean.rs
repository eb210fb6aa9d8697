//! The Frobenius norm of a weighted mean of outer products, resampled and shuffled: the shape that alpha2 and combined share.
//!
//! For rows l_i and r_i and weights w_i: ‖(1/N) Σ_i w_i l_i r_iᵀ‖_F.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis, parallel::prelude::*, s};

use super::AttackSign;
use crate::stats::{Estimate, Purpose, Resamples, permutation, product, random_sign, stream};

/// Numbers of a block of features or of a Gram matrix that exist at once.
const BLOCK_NUMBERS: usize = 1 << 21;

/// The rows of the samples that take part in the mean.
pub(super) struct OuterPairs {
    /// (live, d1) unit rows.
    pub left: Array2<f64>,
    /// (live, d2) unit or zero rows.
    pub right: Array2<f64>,
    /// The samples that are live, by their index in the probe set.
    pub live: Vec<usize>,
}

impl OuterPairs {
    /// ‖(1/live) Σ w_i l_i r_iᵀ‖_F with its bootstrap interval, for each of several weightings.
    ///
    /// The square of a mean's norm is larger on resamples than on the samples, by b = Σ‖z_i − z̄‖²/N² in expectation over
    /// resamples (z_i the outer products). That b is taken off each squared replicate, at most down to 0, so that the
    /// interval is centred on the value. The value itself keeps its floor at this sample count: see `null_floor`.
    pub fn norms_of_means(&self, weightings: &[ArrayView1<'_, f64>], resamples: &Resamples) -> Vec<Estimate> {
        let n = self.live.len() as f64;
        let (of_all, resampled) = self.squared_norms(weightings, resamples);
        let drawn: Vec<f64> = resamples.blocks(&self.live).flat_map(|counts| counts.sum_axis(Axis(1))).collect();
        let estimates = weightings.iter().zip(of_all).zip(resampled).map(|((&weights, of_all), resampled)| {
            let value_squared = of_all / (n * n);
            let bias = (self.squared_lengths(weights) / n - value_squared).max(0.0) / n;
            let replicates = resampled.iter().zip(&drawn);
            let replicates = replicates.map(|(norm, drawn)| (norm / (drawn * drawn) - bias).max(0.0).sqrt());
            resamples.percentile(value_squared.sqrt(), replicates.collect())
        });
        estimates.collect()
    }

    /// Σ ‖w_i l_i r_iᵀ‖²_F.
    pub fn squared_lengths(&self, weights: ArrayView1<'_, f64>) -> f64 {
        let square = |row: ArrayView1<'_, f64>| row.dot(&row);
        self.left
            .rows()
            .into_iter()
            .zip(self.right.rows())
            .zip(weights)
            .map(|((left, right), weight)| weight * weight * square(left) * square(right))
            .sum()
    }

    /// For each weighting w: ‖Σ_i w_i l_i r_iᵀ‖²_F, and ‖Σ_i c_i w_i l_i r_iᵀ‖²_F for the counts c of each resample.
    fn squared_norms(&self, weightings: &[ArrayView1<'_, f64>], resamples: &Resamples) -> (Vec<f64>, Vec<Array1<f64>>) {
        let (n, width) = self.right.dim();
        // By features a resample costs N·d1·d2 products, by the Gram matrix of the outer products N².
        let by_features = self.left.ncols() * width <= n;
        let (length, step) = if by_features {
            (self.left.ncols(), (BLOCK_NUMBERS / (n * width).max(1)).max(1))
        } else {
            (n, (BLOCK_NUMBERS / n.max(1)).clamp(1, 512))
        };
        let starts: Vec<usize> = (0..length).step_by(step).collect();
        let parts: Vec<Array2<f64>> = starts
            .into_par_iter()
            .map(|start| {
                let range = start..(start + step).min(length);
                if by_features {
                    let features = self.features(range);
                    self.part(weightings, resamples, |weights| {
                        let sums = product(weights, features.view());
                        row_dots(sums.view(), sums.view())
                    })
                } else {
                    let gram = self.gram(range.clone());
                    self.part(weightings, resamples, |weights| {
                        let sums = product(weights, gram.view());
                        row_dots(sums.view(), weights.slice(s![.., range.clone()]))
                    })
                }
            })
            .collect();
        let whole = parts.into_iter().reduce(|sum, part| sum + part).unwrap_or_default();
        // Rounding can leave a quadratic form of a semidefinite matrix slightly below zero.
        let whole = whole.mapv(|norm: f64| norm.max(0.0));
        let of_all = whole.column(0).to_vec();
        (of_all, whole.rows().into_iter().map(|row| row.slice(s![1..]).to_owned()).collect())
    }

    /// `norms` of each weighting (a row each), on all samples (the first column) and on each resample.
    fn part(
        &self,
        weightings: &[ArrayView1<'_, f64>],
        resamples: &Resamples,
        norms: impl Fn(ArrayView2<'_, f64>) -> Array1<f64>,
    ) -> Array2<f64> {
        let mut part = Array2::zeros((weightings.len(), 1 + resamples.n_resamples()));
        for (mut row, weights) in part.rows_mut().into_iter().zip(weightings) {
            let of_all = norms(weights.insert_axis(Axis(0)));
            let resampled = resamples.blocks(&self.live).flat_map(|counts| norms((&counts * weights).view()));
            row.iter_mut().zip(of_all.into_iter().chain(resampled)).for_each(|(to, norm)| *to = norm);
        }
        part
    }

    /// l_ij r_ik for the columns j of a range: (live, range·d2).
    fn features(&self, columns: Range<usize>) -> Array2<f64> {
        let left = self.left.slice(s![.., columns]);
        let mut features = Array2::zeros((left.nrows(), left.ncols() * self.right.ncols()));
        for ((mut row, left), right) in features.rows_mut().into_iter().zip(left.rows()).zip(self.right.rows()) {
            let products = left.iter().flat_map(|l| right.iter().map(move |r| l * r));
            row.iter_mut().zip(products).for_each(|(to, product)| *to = product);
        }
        features
    }

    /// ⟨l_i, l_j⟩⟨r_i, r_j⟩ for the samples j of a range: (live, range).
    fn gram(&self, samples: Range<usize>) -> Array2<f64> {
        let some = |rows: &Array2<f64>| product(rows.view(), rows.slice(s![samples.clone(), ..]).t());
        some(&self.left) * some(&self.right)
    }

    /// The norms, for each of several weightings of the right rows, after shuffling which right row goes with which left
    /// row: `shuffles` values for each weighting.
    pub fn shuffled_norms(
        &self,
        weightings: &[ArrayView1<'_, f64>],
        sign: AttackSign,
        shuffles: usize,
        seed: u64,
    ) -> Vec<Vec<f64>> {
        let (n, width) = self.right.dim();
        let mut stacked = Array2::zeros((n, width * weightings.len()));
        for (index, weights) in weightings.iter().enumerate() {
            let weighted = &self.right * &weights.insert_axis(Axis(1));
            stacked.slice_mut(s![.., index * width..(index + 1) * width]).assign(&weighted);
        }
        let norms: Vec<Vec<f64>> = (0..shuffles as u64)
            .into_par_iter()
            .map(|shuffle| {
                let paired = shuffled_rows(stacked.view(), sign, seed, shuffle);
                let mean = product(self.left.t(), paired.view()) / n as f64;
                mean.axis_chunks_iter(Axis(1), width.max(1))
                    .map(|part| part.iter().map(|x| x * x).sum::<f64>().sqrt())
                    .collect()
            })
            .collect();
        (0..weightings.len())
            .map(|index| norms.iter().filter_map(|norms| norms.get(index).copied()).collect())
            .collect()
    }
}

/// The rows in another order, each times a random sign where the attack's sign is arbitrary.
pub(super) fn shuffled_rows(rows: ArrayView2<'_, f64>, sign: AttackSign, seed: u64, shuffle: u64) -> Array2<f64> {
    let mut rng = stream(seed, Purpose::Pairing, shuffle);
    let mut shuffled = rows.select(Axis(0), &permutation(&mut rng, rows.nrows()));
    if sign == AttackSign::Arbitrary {
        for mut row in shuffled.rows_mut() {
            let sign = random_sign(&mut rng);
            row.mapv_inplace(|x| x * sign);
        }
    }
    shuffled
}

/// ⟨a_i, b_i⟩ of each row.
fn row_dots(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Array1<f64> {
    a.rows().into_iter().zip(b.rows()).map(|(a, b)| a.dot(&b)).collect()
}
