//! Which of several attacks hurts a target most, sample by sample (Zamir et al. 2018, section 3.4; Liang et al. 2021).

use ndarray::{Array1, Array2, ArrayView1, ArrayView2};

use super::{Error, error::check_finite};

/// Shares of wins stay within this of 0 and 1, so that no ratio of them is infinite.
const LEAST_SHARE: f64 = 0.001;
/// Steps of the power iteration. The matrix is positive and close to consistent, so few are taken.
const STEPS: usize = 10_000;
/// Change of the weights at which the iteration ends.
const TOLERANCE: f64 = 1e-14;

/// The outcome of a tournament between sources.
#[derive(Clone, Debug, PartialEq)]
pub struct Tournament {
    /// W (k, k): the share of samples on which the row's source hurts more than the column's, ties counting half, clipped to
    /// 0.001..0.999; ½ on the diagonal.
    pub shares: Array2<f64>,
    /// The principal eigenvector of the matrix of W_ij/W_ji, scaled to a sum of 1: larger is stronger.
    pub weights: Array1<f64>,
}

/// Lets sources compete for one target. `hurt` (k, N) tells how much each source's attack moves the target, or costs it, on
/// each sample; only the order within a sample counts.
///
/// # Errors
/// When a number is not finite, or there are no samples or no sources.
pub fn tournament(hurt: ArrayView2<'_, f64>) -> Result<Tournament, Error> {
    check_finite("the effect of an attack", hurt)?;
    let (k, n) = hurt.dim();
    if k == 0 || n == 0 {
        return Err(Error::SampleCount { what: "effects of attacks", expected: 1, found: 0 });
    }
    let shares = Array2::from_shape_fn((k, k), |(row, column)| {
        wins(hurt.row(row), hurt.row(column)).clamp(LEAST_SHARE, 1.0 - LEAST_SHARE)
    });
    let weights = principal_eigenvector((&shares / &shares.t()).view());
    Ok(Tournament { shares, weights })
}

/// The share of samples on which the first is larger, ties counting half.
fn wins(first: ArrayView1<'_, f64>, second: ArrayView1<'_, f64>) -> f64 {
    let win = |(a, b): (&f64, &f64)| if a > b { 1.0 } else { f64::from(u8::from(a == b)) / 2.0 };
    first.iter().zip(second).map(win).sum::<f64>() / first.len() as f64
}

/// The eigenvector of the largest eigenvalue of a positive matrix, scaled to a sum of 1: positive, by Perron and Frobenius.
fn principal_eigenvector(matrix: ArrayView2<'_, f64>) -> Array1<f64> {
    let k = matrix.nrows();
    let mut weights = Array1::from_elem(k, 1.0 / k as f64);
    for _ in 0..STEPS {
        let next = matrix.dot(&weights);
        let next = &next / next.sum();
        let change = (&next - &weights).iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
        weights = next;
        if change <= TOLERANCE {
            break;
        }
    }
    weights
}
