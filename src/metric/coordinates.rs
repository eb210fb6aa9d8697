//! Rows of more numbers than there are rows, in fewer coordinates.

use ndarray::{ArrayView2, Axis, CowArray, Ix2, s};

use super::Error;
use crate::{
    limits::MOMENT_OUTPUTS,
    stats::{SymmetricEigen, product},
};

/// Eigenvalues up to this share of the largest are rounding.
const EIGENVALUE_CUT: f64 = 1e-14;

/// The rows (N, d) themselves where d ≤ N; otherwise their coordinates (N, r), r ≤ N, in an orthonormal basis of what they
/// span, from the eigenvectors of their Gram matrix.
///
/// Lengths, inner products, and everything else that no rotation of the outputs changes stay as they are.
///
/// # Errors
/// When the coordinates would still be too many for their moment to be inverted.
pub(super) fn coordinates(rows: ArrayView2<'_, f64>) -> Result<CowArray<'_, f64, Ix2>, Error> {
    let (n_samples, d) = rows.dim();
    if n_samples.min(d) > MOMENT_OUTPUTS {
        return Err(Error::TooManyOutputs { n_outputs: d, limit: MOMENT_OUTPUTS });
    }
    if d <= n_samples {
        return Ok(rows.into());
    }
    // W Wᵀ = U S² Uᵀ, so W = (U S) Vᵀ and U S are the coordinates.
    let eigen = SymmetricEigen::of(product(rows, rows.t()).view())?;
    let rank = eigen.rank(EIGENVALUE_CUT).max(1);
    let lengths = eigen.values.mapv(|value| value.max(0.0).sqrt());
    let coordinates = eigen.vectors * lengths.insert_axis(Axis(0));
    Ok(coordinates.slice_move(s![.., ..rank]).into())
}
