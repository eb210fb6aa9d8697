//! Dense decompositions in f64, shared out in a way that the size alone decides and so independent of the thread count.
//!
//! Only this file, `tridiagonal` and `product` name faer.

use faer::{
    Accum, Mat, MatRef, Par,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{
        cholesky::llt::factor as cholesky,
        evd::{self, ComputeEigenvectors},
        matmul::matmul,
        svd::{self, ComputeSvdVectors},
    },
};
use ndarray::{Array1, Array2, ArrayView2};

use super::{Error, product, tridiagonal::TridiagonalForm};

/// Rows from which a symmetric matrix is decomposed in two parts.
const LARGE: usize = 512;

/// Eigenvalues and eigenvectors of a symmetric matrix.
#[derive(Clone, Debug)]
pub struct SymmetricEigen {
    /// Largest first.
    pub values: Array1<f64>,
    /// (d, d), an eigenvector a column, in the order of the values.
    pub vectors: Array2<f64>,
}

impl SymmetricEigen {
    /// Decomposes `matrix` (d, d), of which the lower triangle is read.
    ///
    /// # Errors
    /// When the iteration does not converge, which finite entries of sane range never cause.
    pub fn of(matrix: ArrayView2<'_, f64>) -> Result<Self, Error> {
        let d = matrix.nrows();
        let failed = refusal(matrix)?;
        if d == 0 {
            return Ok(SymmetricEigen { values: Array1::zeros(0), vectors: Array2::zeros((0, 0)) });
        }
        let matrix = to_faer(matrix);
        let par = parts_of(d);
        let mut vectors = Mat::zeros(d, d);
        let mut values = Mat::zeros(d, 1);
        let need = evd::self_adjoint_evd_scratch::<f64>(d, ComputeEigenvectors::Yes, par, Default::default());
        evd::self_adjoint_evd(
            matrix.as_ref(),
            values.col_mut(0).as_diagonal_mut(),
            Some(vectors.as_mut()),
            par,
            MemStack::new(&mut MemBuffer::new(need)),
            Default::default(),
        )
        .map_err(|_| failed)?;
        // faer gives ascending order.
        Ok(SymmetricEigen {
            values: Array1::from_shape_fn(d, |i| *values.get(d - 1 - i, 0)),
            vectors: to_array(vectors.as_ref().reverse_cols()),
        })
    }

    /// Number of eigenvalues above `cut` times the largest.
    pub fn rank(&self, cut: f64) -> usize {
        let bound = self.values.first().copied().unwrap_or(0.0) * cut;
        self.values.iter().take_while(|&&value| value > bound && value > 0.0).count()
    }

    /// W (d, r) with W Wᵀ the Moore-Penrose inverse of a positive semidefinite matrix: the eigenvectors, each divided by
    /// the root of its eigenvalue. Eigenvalues up to `cut` times the largest count as zero.
    pub fn inverse_root(&self, cut: f64) -> Array2<f64> {
        let rank = self.rank(cut);
        Array2::from_shape_fn((self.vectors.nrows(), rank), |(row, i)| {
            self.vectors.get((row, i)).copied().unwrap_or(0.0) / self.values.get(i).copied().unwrap_or(1.0).sqrt()
        })
    }
}

/// Eigenvalues of a symmetric matrix, and its eigenvectors as a product of factors: several times as fast to make as the
/// eigenvectors themselves where the matrix is large, and as good for a few vectors.
pub struct FactoredEigen {
    /// Largest first.
    pub values: Array1<f64>,
    form: TridiagonalForm,
    /// The eigenvectors of the tridiagonal matrix, in the order of the values.
    vectors: Mat<f64>,
}

impl FactoredEigen {
    /// Decomposes `matrix` (d, d), which is symmetric.
    ///
    /// # Errors
    /// When the iteration does not converge, which finite entries of sane range never cause.
    pub fn of(matrix: ArrayView2<'_, f64>) -> Result<Self, Error> {
        let d = matrix.nrows();
        let failed = refusal(matrix)?;
        let par = parts_of(d);
        let form = TridiagonalForm::of(to_faer(matrix), par);
        let (mut values, mut vectors) = (Mat::zeros(d, 1), Mat::zeros(d, d));
        let column = |entries: &[f64]| Mat::from_fn(d, 1, |i, _| entries.get(i).copied().unwrap_or(0.0));
        let (diagonal, beside) = (column(&form.diagonal), column(&form.beside));
        let need = evd::self_adjoint_evd_scratch::<f64>(d, ComputeEigenvectors::Yes, par, Default::default());
        evd::tridiagonal_self_adjoint_evd(
            diagonal.col(0).as_diagonal(),
            beside.col(0).as_diagonal(),
            values.col_mut(0).as_diagonal_mut(),
            Some(vectors.as_mut()),
            par,
            MemStack::new(&mut MemBuffer::new(need)),
            Default::default(),
        )
        .map_err(|_| failed)?;
        // faer gives ascending order.
        let vectors = vectors.reverse_cols().to_owned();
        Ok(FactoredEigen { values: Array1::from_shape_fn(d, |i| *values.get(d - 1 - i, 0)), form, vectors })
    }

    /// Rows (m, d) along the eigenvectors: (m, d).
    pub fn along(&self, rows: ArrayView2<'_, f64>) -> Array2<f64> {
        let mut columns = to_faer(rows.t());
        self.form.forth(columns.as_mut());
        let mut along = Mat::zeros(rows.nrows(), self.vectors.ncols());
        matmul(along.as_mut(), Accum::Replace, columns.transpose(), self.vectors.as_ref(), 1.0, Par::Seq);
        to_array(along.as_ref())
    }

    /// The eigenvectors of the largest eigenvalues, (d, count).
    pub fn leading(&self, count: usize) -> Array2<f64> {
        let mut leading = self.vectors.subcols(0, count.min(self.vectors.ncols())).to_owned();
        self.form.back(leading.as_mut());
        to_array(leading.as_ref())
    }
}

/// In how many parts faer works on a symmetric matrix (d, d): two where it is large, however many threads there are, since
/// the parts decide the order of the sums.
fn parts_of(d: usize) -> Par {
    if d >= LARGE { Par::rayon(2) } else { Par::Seq }
}

/// The error of a matrix whose decomposition fails.
///
/// # Errors
/// That error, where the matrix is not square or an entry not finite.
fn refusal(matrix: ArrayView2<'_, f64>) -> Result<Error, Error> {
    let (rows, columns) = matrix.dim();
    let failed = Error::NoConvergence { rows, columns };
    if rows == columns && matrix.iter().all(|x| x.is_finite()) { Ok(failed) } else { Err(failed) }
}

/// The largest eigenvalue of a symmetric matrix (d, d), of which the lower triangle is read; 0 for an empty one.
///
/// # Errors
/// When the iteration does not converge, which finite entries of sane range never cause.
pub fn largest_eigenvalue(matrix: ArrayView2<'_, f64>) -> Result<f64, Error> {
    let d = matrix.nrows();
    let failed = refusal(matrix)?;
    if d == 0 {
        return Ok(0.0);
    }
    let mut values = Mat::zeros(d, 1);
    let need = evd::self_adjoint_evd_scratch::<f64>(d, ComputeEigenvectors::No, Par::Seq, Default::default());
    evd::self_adjoint_evd(
        to_faer(matrix).as_ref(),
        values.col_mut(0).as_diagonal_mut(),
        None,
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(need)),
        Default::default(),
    )
    .map_err(|_| failed)?;
    Ok(*values.get(d - 1, 0))
}

/// Eigenvalues of a Gram matrix up to this share of the largest are rounding.
const GRAM_CUT: f64 = 1e-12;
/// Columns a row from which a matrix is decomposed through its Gram matrix.
const WIDE: usize = 8;

/// Left singular vectors and singular values of a matrix, without the right ones.
#[derive(Clone, Debug)]
pub struct LeftSingular {
    /// (rows, min(rows, columns)), orthonormal columns.
    pub left: Array2<f64>,
    /// Largest first.
    pub values: Array1<f64>,
}

impl LeftSingular {
    /// Decomposes `matrix` (rows, columns). A matrix many times as wide as high is decomposed through its Gram matrix, to
    /// which singular values below 1e-6 of the largest are zero.
    ///
    /// # Errors
    /// When the iteration does not converge, which finite entries of sane range never cause.
    pub fn of(matrix: ArrayView2<'_, f64>) -> Result<Self, Error> {
        let (rows, columns) = matrix.dim();
        let failed = Error::NoConvergence { rows, columns };
        if !matrix.iter().all(|x| x.is_finite()) {
            return Err(failed);
        }
        let size = rows.min(columns);
        if size == 0 {
            return Ok(LeftSingular { left: Array2::zeros((rows, 0)), values: Array1::zeros(0) });
        }
        if columns > WIDE * rows {
            // The matrix itself would be decomposed in memory of the square of its columns.
            let eigen = SymmetricEigen::of(product(matrix, matrix.t()).view())?;
            let cut = eigen.values.first().copied().unwrap_or(0.0) * GRAM_CUT;
            let values = eigen.values.mapv(|value| if value > cut { value.sqrt() } else { 0.0 });
            return Ok(LeftSingular { left: eigen.vectors, values });
        }
        let matrix = to_faer(matrix);
        let mut left = Mat::zeros(rows, size);
        let mut values = Mat::zeros(size, 1);
        let need = svd::svd_scratch::<f64>(
            rows,
            columns,
            ComputeSvdVectors::Thin,
            ComputeSvdVectors::No,
            Par::Seq,
            Default::default(),
        );
        svd::svd(
            matrix.as_ref(),
            values.col_mut(0).as_diagonal_mut(),
            Some(left.as_mut()),
            None,
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(need)),
            Default::default(),
        )
        .map_err(|_| failed)?;
        Ok(LeftSingular { left: to_array(left.as_ref()), values: Array1::from_shape_fn(size, |i| *values.get(i, 0)) })
    }
}

/// L⁻¹ B for the Cholesky factor L of `matrix` M (d, d), positive definite: the product of its transpose with itself is
/// Bᵀ M⁻¹ B.
///
/// `None` where the matrix is not safely positive definite: a pivot of L below `pivot_cut` times the largest.
pub fn half_solve(matrix: ArrayView2<'_, f64>, right: ArrayView2<'_, f64>, pivot_cut: f64) -> Option<Array2<f64>> {
    let d = matrix.nrows();
    if right.nrows() != d {
        return None;
    }
    let factor = cholesky_factor(matrix)?;
    let pivots = (0..d).map(|i| *factor.get(i, i));
    let (smallest, largest) =
        pivots.fold((f64::INFINITY, 0.0_f64), |(low, high), pivot| (low.min(pivot), high.max(pivot)));
    if smallest <= largest * pivot_cut {
        return None;
    }
    let mut solution = to_faer(right);
    faer::linalg::triangular_solve::solve_lower_triangular_in_place(factor.as_ref(), solution.as_mut(), Par::Seq);
    Some(to_array(solution.as_ref()))
}

/// M⁻¹ B for `matrix` M (d, d), positive definite, by its Cholesky factor; `None` where it is not.
pub fn solve_positive(matrix: ArrayView2<'_, f64>, right: ArrayView2<'_, f64>) -> Option<Array2<f64>> {
    if right.nrows() != matrix.nrows() {
        return None;
    }
    let factor = cholesky_factor(matrix)?;
    let mut solution = to_faer(right);
    faer::linalg::triangular_solve::solve_lower_triangular_in_place(factor.as_ref(), solution.as_mut(), Par::Seq);
    let upper = factor.as_ref().transpose();
    faer::linalg::triangular_solve::solve_upper_triangular_in_place(upper, solution.as_mut(), Par::Seq);
    Some(to_array(solution.as_ref()))
}

/// ln|M| of `matrix` M (d, d), positive definite; `None` where it is not.
pub fn log_determinant(matrix: ArrayView2<'_, f64>) -> Option<f64> {
    let factor = cholesky_factor(matrix)?;
    Some((0..matrix.nrows()).map(|i| 2.0 * factor.get(i, i).ln()).sum())
}

/// The Cholesky factor of a matrix of which the lower triangle is read: lower triangular, what is above is not cleared.
fn cholesky_factor(matrix: ArrayView2<'_, f64>) -> Option<Mat<f64>> {
    let d = matrix.nrows();
    if d == 0 || matrix.ncols() != d {
        return None;
    }
    let mut factor = to_faer(matrix);
    let need = cholesky::cholesky_in_place_scratch::<f64>(d, Par::Seq, Default::default());
    cholesky::cholesky_in_place(
        factor.as_mut(),
        Default::default(),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(need)),
        Default::default(),
    )
    .ok()?;
    Some(factor)
}

fn to_faer(matrix: ArrayView2<'_, f64>) -> Mat<f64> {
    let mut copy = Mat::zeros(matrix.nrows(), matrix.ncols());
    for (to, from) in copy.col_iter_mut().zip(matrix.columns()) {
        to.iter_mut().zip(from).for_each(|(to, &from)| *to = from);
    }
    copy
}

fn to_array(matrix: MatRef<'_, f64>) -> Array2<f64> {
    Array2::from_shape_fn(matrix.shape(), |(row, column)| *matrix.get(row, column))
}
