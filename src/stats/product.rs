//! Matrix products in f64, sequential.
//!
//! The products of the mathematics are mostly thin (ten outputs, thousands of samples), where faer is several times faster
//! than ndarray's own.

use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};
use ndarray::{Array2, ArrayView2};

/// A B for A (m, k) and B (k, n), in row-major order. Zeros where the inner lengths differ, which callers rule out.
pub fn product(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut result = Array2::zeros((a.nrows(), b.ncols()));
    accumulate_product(a, b, &mut result);
    result
}

/// Adds A B to `sum`, which is in row-major order.
pub(crate) fn accumulate_product(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>, sum: &mut Array2<f64>) {
    let (m, n) = sum.dim();
    debug_assert!(a.ncols() == b.nrows() && a.nrows() == m && b.ncols() == n);
    if m == 0 || n == 0 || a.ncols() == 0 || a.ncols() != b.nrows() || a.nrows() != m || b.ncols() != n {
        return;
    }
    let Some(sum) = sum.as_slice_mut() else { return };
    let sum = MatMut::from_row_major_slice_mut(sum, m, n);
    with_faer(a, |a| with_faer(b, |b| matmul(sum, Accum::Add, a, b, 1.0, Par::Seq)));
}

/// Takes from `vector` (n) what lies along the rows of `basis` (k, n), which are orthonormal: v − Bᵀ B v, in f32.
pub fn project_out(vector: &mut [f32], basis: &[f32]) {
    let n = vector.len();
    let k = basis.len().checked_div(n).unwrap_or(0);
    if k == 0 || basis.len() != k * n {
        return;
    }
    let basis = MatRef::from_row_major_slice(basis, k, n);
    let mut along = vec![0.0_f32; k];
    let from = MatRef::from_column_major_slice(vector, n, 1);
    matmul(MatMut::from_column_major_slice_mut(&mut along, k, 1), Accum::Replace, basis, from, 1.0, Par::Seq);
    let along = MatRef::from_column_major_slice(&along, k, 1);
    let rest = MatMut::from_column_major_slice_mut(vector, n, 1);
    matmul(rest, Accum::Add, basis.transpose(), along, -1.0, Par::Seq);
}

/// Hands a view over to faer without a copy where it is contiguous by rows or by columns.
fn with_faer<R>(view: ArrayView2<'_, f64>, act: impl FnOnce(MatRef<'_, f64>) -> R) -> R {
    let (rows, columns) = view.dim();
    if let Some(slice) = view.as_slice() {
        return act(MatRef::from_row_major_slice(slice, rows, columns));
    }
    if let Some(slice) = view.t().as_slice() {
        return act(MatRef::from_column_major_slice(slice, rows, columns));
    }
    let owned: Vec<f64> = view.iter().copied().collect();
    act(MatRef::from_row_major_slice(&owned, rows, columns))
}
