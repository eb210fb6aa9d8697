//! Products of Jacobians, sample by sample: what the first-order quantities are made of.

use ndarray::{Array2, ArrayView2, ArrayView3, Axis, parallel::prelude::*};

use super::JacobianError;
use crate::stats::accumulate_product;

/// Pixels that are converted to f64 at once: both blocks of a usual Jacobian stay in the cache.
const PIXEL_BLOCK: usize = 512;

/// A(x) B(x)ᵀ for each sample x of two stacks (N, a, n) and (N, b, n): (N, a·b), rows of A first.
///
/// The products are exact in f64 and are added in f64, so the result is accurate to about n·1e-16 relative to ‖A‖‖B‖.
///
/// # Errors
/// When the stacks disagree in samples or pixels, or a number is not finite.
pub fn sample_grams(a: ArrayView3<'_, f32>, b: ArrayView3<'_, f32>) -> Result<Array2<f64>, JacobianError> {
    let ((n_samples, rows, n_pixels), (found, found_rows, right)) = (a.dim(), b.dim());
    if found != n_samples {
        return Err(JacobianError::Shape { expected: n_samples, rows: found_rows, found, found_rows });
    }
    if right != n_pixels {
        return Err(JacobianError::Pixels { left: n_pixels, right });
    }
    let mut grams = Array2::zeros((n_samples, rows * found_rows));
    grams.axis_iter_mut(Axis(0)).into_par_iter().zip(a.axis_iter(Axis(0))).zip(b.axis_iter(Axis(0))).for_each(
        |((mut gram, a), b)| {
            let product = product(a, b);
            gram.iter_mut().zip(&product).for_each(|(to, &from)| *to = from);
        },
    );
    // A number that is not finite anywhere in a Jacobian makes an entry of its products so.
    match grams.rows().into_iter().position(|row| row.iter().any(|x| !x.is_finite())) {
        Some(sample) => Err(JacobianError::NotFinite { sample }),
        None => Ok(grams),
    }
}

/// A Bᵀ of one sample.
fn product(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f64> {
    let mut sum = Array2::zeros((a.nrows(), b.nrows()));
    for (a, b) in a.axis_chunks_iter(Axis(1), PIXEL_BLOCK).zip(b.axis_chunks_iter(Axis(1), PIXEL_BLOCK)) {
        accumulate_product(widened(a).view(), widened(b).t(), &mut sum);
    }
    sum
}

fn widened(block: ArrayView2<'_, f32>) -> Array2<f64> {
    let mut wide = Array2::zeros(block.dim());
    for (mut to, from) in wide.rows_mut().into_iter().zip(block.rows()) {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = f64::from(from));
    }
    wide
}
