//! The pseudo-inverse of a second moment, on all samples and on resamples of them.

use ndarray::{Array2, ArrayView2};

use super::Error;
use crate::stats::{SymmetricEigen, half_solve, product};

/// Eigenvalues up to this share of the largest are rounding of f32 numbers, and count as zero.
pub(super) const ROUNDING: f64 = 1e-12;
/// Pivots of a resampled, whitened moment below this share of the largest send it to the eigenvalue route.
const PIVOT_CUT: f64 = 1e-5;

/// Roots R (d, r) of pseudo-inverses, M^† = R Rᵀ, where M = E[z zᵀ] over samples or resamples.
///
/// In coordinates where the moment of all samples is the identity, that of a resample is close to it, and a Cholesky factor
/// takes the place of the much slower eigenvectors.
pub(super) struct MomentInverse {
    root: Array2<f64>,
    cut: f64,
}

impl MomentInverse {
    /// Decomposes the moment of all samples, (d, d). Eigenvalues up to the share `cut` of the largest count as zero.
    pub fn of(moment: ArrayView2<'_, f64>, cut: f64) -> Result<Self, Error> {
        Ok(MomentInverse { root: SymmetricEigen::of(moment)?.inverse_root(cut), cut })
    }

    /// R for all samples.
    pub fn root(&self) -> &Array2<f64> {
        &self.root
    }

    /// R for a resample, from its moment (d, d).
    pub fn resampled_root(&self, moment: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
        let whitened = product(product(self.root.t(), moment).view(), self.root.view());
        match half_solve(whitened.view(), self.root.t(), PIVOT_CUT) {
            Some(transposed) => Ok(transposed.reversed_axes()),
            // The resample spans fewer directions than the samples: the pseudo-inverse keeps those it has.
            None => Ok(SymmetricEigen::of(moment)?.inverse_root(self.cut)),
        }
    }
}
