//! Matrix products in f64. No sum depends on the number of threads.
//!
//! The products of the mathematics are mostly thin (ten outputs, thousands of samples), where faer is several times faster
//! than ndarray's own.

use faer::{Accum, Mat, MatMut, MatRef, Par, linalg::matmul::matmul};
use ndarray::{Array2, ArrayView2, parallel::prelude::*, s};

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

/// A Bᵀ for A (m, k) and B (n, k) in single precision, for similarities of which only the order counts. Zeros where the
/// inner lengths differ.
pub fn product_of_rows(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<f32> {
    let (m, n) = (a.nrows(), b.nrows());
    let mut result = Array2::zeros((m, n));
    if m == 0 || n == 0 || a.ncols() == 0 || a.ncols() != b.ncols() {
        return result;
    }
    if let Some(result) = result.as_slice_mut() {
        let result = MatMut::from_row_major_slice_mut(result, m, n);
        with_faer(a, |a| with_faer(b, |b| matmul(result, Accum::Replace, a, b.transpose(), 1.0, Par::Seq)));
    }
    result
}

/// Rows or columns of a Gram matrix that are made together.
const GRAM_BLOCK: usize = 256;

/// Xᵀ X of X (n, d): (d, d). Threads share its blocks, each of which is one sequential product.
pub fn gram_of_columns(x: ArrayView2<'_, f64>) -> Array2<f64> {
    with_faer(x, |x| gram(x.transpose()))
}

/// X Xᵀ of X (n, d): (n, n), likewise.
pub fn gram_of_rows(x: ArrayView2<'_, f64>) -> Array2<f64> {
    with_faer(x, gram)
}

/// A Aᵀ: the blocks on and below the diagonal, mirrored.
fn gram(a: MatRef<'_, f64>) -> Array2<f64> {
    let size = a.nrows();
    let mut result = Array2::zeros((size, size));
    if a.ncols() == 0 {
        return result;
    }
    let starts = || (0..size).step_by(GRAM_BLOCK);
    let places: Vec<(usize, usize)> = starts()
        .flat_map(|row| starts().filter(move |&column| column <= row).map(move |column| (row, column)))
        .collect();
    let blocks: Vec<Mat<f64>> = places
        .par_iter()
        .map(|&(row, column)| {
            let part = |start: usize| a.subrows(start, GRAM_BLOCK.min(size - start));
            let (left, right) = (part(row), part(column));
            let mut block = Mat::zeros(left.nrows(), right.nrows());
            matmul(block.as_mut(), Accum::Replace, left, right.transpose(), 1.0, Par::Seq);
            block
        })
        .collect();
    for ((row, column), block) in places.into_iter().zip(blocks) {
        let (height, width) = (block.nrows(), block.ncols());
        let entries = ndarray::Array2::from_shape_fn((height, width), |(i, j)| *block.get(i, j));
        result.slice_mut(s![row..row + height, column..column + width]).assign(&entries);
        result.slice_mut(s![column..column + width, row..row + height]).assign(&entries.t());
    }
    result
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
fn with_faer<T: Copy, R>(view: ArrayView2<'_, T>, act: impl FnOnce(MatRef<'_, T>) -> R) -> R {
    let (rows, columns) = view.dim();
    if let Some(slice) = view.as_slice() {
        return act(MatRef::from_row_major_slice(slice, rows, columns));
    }
    if let Some(slice) = view.t().as_slice() {
        return act(MatRef::from_column_major_slice(slice, rows, columns));
    }
    let owned: Vec<T> = view.iter().copied().collect();
    act(MatRef::from_row_major_slice(&owned, rows, columns))
}
