//! A symmetric matrix as an orthogonal matrix and a tridiagonal one, by way of a band.
//!
//! Dense to band by blocks of reflections (Dongarra, Hammarling, Sorensen 1989; Bischof, Lang, Sun 2000), which is nearly all
//! matrix products, then band to tridiagonal by chasing bulges (Schwarz 1968), which stays in the cache. The usual reduction in
//! one step reads the whole matrix for every column and takes several times as long. The orthogonal matrix is kept as its
//! reflections: for few vectors they cost little, and eigenvectors of the matrix itself need never all be made.

#![allow(clippy::indexing_slicing, reason = "dense kernels: every range is cut to the matrix where it is made")]

use std::{cmp::Ordering, ops::Range};

use faer::{
    Accum, Conj, Mat, MatMut, MatRef, Par,
    dyn_stack::{MemBuffer, MemStack},
    linalg::{householder, matmul::matmul, qr::no_pivoting::factor as qr, triangular_solve},
    prelude::*,
};
use rayon::prelude::*;

/// Width of the band.
const BAND: usize = 32;
/// Entries of a column of the band: its own and those of a bulge.
const HEIGHT: usize = 2 * BAND + 1;
/// Vectors that the reflections of the band are applied to together.
const VECTORS: usize = 32;

/// Q and T of A = Q T Qᵀ, Q orthogonal, T tridiagonal, both (n, n).
pub(super) struct TridiagonalForm {
    /// The diagonal of T, (n).
    pub diagonal: Vec<f64>,
    /// What is beside it, (n - 1).
    pub beside: Vec<f64>,
    blocks: Vec<Block>,
    reflections: Reflections,
    par: Par,
}

/// I − V T⁻¹ Vᵀ on the rows from `start` on.
struct Block {
    start: usize,
    /// V, unit lower trapezoidal; what is above its diagonal is not part of it.
    basis: Mat<f64>,
    /// T, upper triangular.
    factor: Mat<f64>,
}

impl TridiagonalForm {
    /// Of a symmetric matrix (n, n).
    pub fn of(mut matrix: Mat<f64>, par: Par) -> Self {
        let n = matrix.nrows();
        let blocks = to_band(&mut matrix, par);
        let mut band = Band::of(matrix.as_ref());
        let reflections = band.chase();
        let entries = |offset: usize| (0..n.saturating_sub(offset)).map(|j| band.column(j)[offset]).collect();
        TridiagonalForm { diagonal: entries(0), beside: entries(1), blocks, reflections, par }
    }

    /// Qᵀ X for X (n, m), in place.
    pub fn forth(&self, mut vectors: MatMut<'_, f64>) {
        for block in &self.blocks {
            block.apply(vectors.rb_mut(), Direction::Transposed, self.par);
        }
        self.reflections.apply(vectors, Direction::Transposed);
    }

    /// Q X for X (n, m), in place.
    pub fn back(&self, mut vectors: MatMut<'_, f64>) {
        self.reflections.apply(vectors.rb_mut(), Direction::Plain);
        for block in self.blocks.iter().rev() {
            block.apply(vectors.rb_mut(), Direction::Plain, self.par);
        }
    }
}

/// Whether a product of reflections is applied, or its transpose: the same in the other order.
#[derive(Clone, Copy)]
enum Direction {
    Plain,
    Transposed,
}

impl Block {
    fn apply(&self, vectors: MatMut<'_, f64>, direction: Direction, par: Par) {
        let (rows, width) = self.basis.shape();
        let need =
            householder::apply_block_householder_on_the_left_in_place_scratch::<f64>(rows, width, vectors.ncols());
        let mut memory = MemBuffer::new(need);
        let act = match direction {
            Direction::Plain => householder::apply_block_householder_on_the_left_in_place_with_conj,
            Direction::Transposed => householder::apply_block_householder_transpose_on_the_left_in_place_with_conj,
        };
        let target = vectors.subrows_mut(self.start, rows);
        act(self.basis.as_ref(), self.factor.as_ref(), Conj::No, target, par, MemStack::new(&mut memory));
    }
}

/// Leaves of a symmetric matrix the band of its lower triangle; what is outside is not cleared.
fn to_band(matrix: &mut Mat<f64>, par: Par) -> Vec<Block> {
    let n = matrix.nrows();
    let mut blocks = Vec::new();
    for column in (0..n).step_by(BAND) {
        let start = column + BAND;
        let rows = n.saturating_sub(start);
        if rows < 2 {
            break;
        }
        let mut basis = matrix.submatrix(start, column, rows, BAND).to_owned();
        let width = rows.min(BAND);
        let mut factor = Mat::zeros(width, width);
        let need = qr::qr_in_place_scratch::<f64>(rows, BAND, width, par, Default::default());
        let mut memory = MemBuffer::new(need);
        qr::qr_in_place(basis.as_mut(), factor.as_mut(), par, MemStack::new(&mut memory), Default::default());
        matrix.submatrix_mut(start, column, rows, BAND).copy_from(&basis);
        let basis = basis.subcols(0, width).to_owned();
        let v = Mat::from_fn(rows, width, |i, j| match i.cmp(&j) {
            Ordering::Less => 0.0,
            Ordering::Equal => 1.0,
            Ordering::Greater => basis[(i, j)],
        });
        two_sided(matrix.submatrix_mut(start, start, rows, rows), v.as_ref(), factor.as_ref(), par);
        blocks.push(Block { start, basis, factor });
    }
    blocks
}

/// A ← QᵀAQ for Q = I − V T⁻¹ Vᵀ: A − V Zᵀ − Z Vᵀ with X = A V T⁻¹, Z = X − ½ V T⁻ᵀ Vᵀ X.
fn two_sided(mut a: MatMut<'_, f64>, v: MatRef<'_, f64>, factor: MatRef<'_, f64>, par: Par) {
    let (rows, width) = v.shape();
    let mut inverse = Mat::identity(width, width);
    triangular_solve::solve_upper_triangular_in_place(factor, inverse.as_mut(), Par::Seq);
    let times = |left: MatRef<'_, f64>, right: MatRef<'_, f64>| {
        let mut result = Mat::zeros(left.nrows(), right.ncols());
        matmul(result.as_mut(), Accum::Replace, left, right, 1.0, par);
        result
    };
    let y = times(a.rb(), v);
    let mut z = times(y.as_ref(), inverse.as_ref());
    let m = times(inverse.transpose(), times(v.transpose(), z.as_ref()).as_ref());
    matmul(z.as_mut(), Accum::Add, v, m.as_ref(), -0.5, par);
    // Both products at once: [V Z] [Z V]ᵀ.
    let left = Mat::from_fn(rows, 2 * width, |i, j| if j < width { v[(i, j)] } else { z[(i, j - width)] });
    let right = Mat::from_fn(rows, 2 * width, |i, j| if j < width { z[(i, j)] } else { v[(i, j - width)] });
    matmul(a.rb_mut(), Accum::Add, left.as_ref(), right.transpose(), -1.0, par);
}

/// The lower triangle of a symmetric band matrix and room for the bulges: column j holds rows j.. of it.
struct Band {
    n: usize,
    columns: Vec<f64>,
}

impl Band {
    fn of(matrix: MatRef<'_, f64>) -> Self {
        let n = matrix.nrows();
        let mut columns = vec![0.0; n * HEIGHT];
        for (j, column) in columns.chunks_mut(HEIGHT).enumerate() {
            for (i, entry) in column.iter_mut().enumerate().take((BAND + 1).min(n - j)) {
                *entry = matrix[(j + i, j)];
            }
        }
        Band { n, columns }
    }

    fn column(&self, j: usize) -> &[f64] {
        &self.columns[j * HEIGHT..(j + 1) * HEIGHT]
    }

    fn rows_of(&mut self, column: usize, rows: Range<usize>) -> &mut [f64] {
        &mut self.columns[column * HEIGHT..(column + 1) * HEIGHT][rows.start - column..rows.end - column]
    }

    /// Makes the matrix tridiagonal.
    fn chase(&mut self) -> Reflections {
        let n = self.n;
        let mut reflections = Reflections { places: Vec::new(), vectors: Vec::new() };
        let mut v = Vec::with_capacity(BAND);
        for column in 0..n.saturating_sub(2) {
            let mut rows = column + 1..(column + 1 + BAND).min(n);
            let mut eliminated = column;
            while rows.len() >= 2 {
                let scale = reflect(self.rows_of(eliminated, rows.clone()), &mut v);
                reflections.push(rows.clone(), &v, scale);
                for other in eliminated + 1..rows.start {
                    subtract_along(self.rows_of(other, rows.clone()), &v, scale);
                }
                self.both_sides(rows.clone(), &v, scale);
                let below = rows.end..(rows.end + BAND).min(n);
                self.right(rows.clone(), below.clone(), &v, scale);
                eliminated = rows.start;
                rows = below;
            }
        }
        reflections
    }

    /// The block on the diagonal, from both sides: A − v wᵀ − w vᵀ with p = s A v, w = p − ½ s (pᵀv) v.
    fn both_sides(&mut self, rows: Range<usize>, v: &[f64], scale: f64) {
        let mut w = [0.0; BAND];
        let w = &mut w[..v.len()];
        for (i, column) in rows.clone().enumerate() {
            let entries = self.rows_of(column, column..rows.end);
            let (vi, mut sum) = (v[i], entries[0] * v[i]);
            for ((v, w), entry) in v[i + 1..].iter().zip(&mut w[i + 1..]).zip(&entries[1..]) {
                sum += *entry * v;
                *w += *entry * vi;
            }
            w[i] += sum;
        }
        w.iter_mut().for_each(|w| *w *= scale);
        let along = 0.5 * scale * w.iter().zip(v).map(|(w, v)| w * v).sum::<f64>();
        w.iter_mut().zip(v).for_each(|(w, v)| *w -= along * v);
        for (i, column) in rows.clone().enumerate() {
            let (vi, wi) = (v[i], w[i]);
            let entries = self.rows_of(column, column..rows.end);
            entries.iter_mut().zip(&v[i..]).zip(&w[i..]).for_each(|((a, v), w)| *a -= v * wi + w * vi);
        }
    }

    /// The block below, from the right: A − s (A v) vᵀ.
    fn right(&mut self, columns: Range<usize>, below: Range<usize>, v: &[f64], scale: f64) {
        let mut sums = [0.0; BAND];
        let sums = &mut sums[..below.len()];
        for (column, v) in columns.clone().zip(v) {
            sums.iter_mut().zip(self.rows_of(column, below.clone())).for_each(|(sum, a)| *sum += *a * v);
        }
        for (column, v) in columns.zip(v) {
            let along = scale * v;
            self.rows_of(column, below.clone()).iter_mut().zip(&*sums).for_each(|(a, sum)| *a -= sum * along);
        }
    }
}

/// Reflections I − s v vᵀ of some rows, in the order in which they were made.
struct Reflections {
    places: Vec<Place>,
    vectors: Vec<f64>,
}

/// The rows that a reflection acts on, where its vector lies among the vectors, and its s.
struct Place {
    rows: Range<usize>,
    vector: Range<usize>,
    scale: f64,
}

impl Reflections {
    fn push(&mut self, rows: Range<usize>, v: &[f64], scale: f64) {
        let start = self.vectors.len();
        self.vectors.extend_from_slice(v);
        self.places.push(Place { rows, vector: start..self.vectors.len(), scale });
    }

    /// Applies all of them to the columns of a matrix (n, m), to few columns at a time.
    fn apply(&self, vectors: MatMut<'_, f64>, direction: Direction) {
        vectors.par_col_chunks_mut(VECTORS).for_each(|chunk| {
            let (n, m) = chunk.shape();
            let mut rows: Vec<f64> = (0..n * m).map(|place| chunk[(place / m, place % m)]).collect();
            match direction {
                Direction::Plain => self.places.iter().rev().for_each(|place| self.apply_one(place, &mut rows, m)),
                Direction::Transposed => self.places.iter().for_each(|place| self.apply_one(place, &mut rows, m)),
            }
            for (j, column) in chunk.col_iter_mut().enumerate() {
                column.iter_mut().zip(rows.chunks(m)).for_each(|(entry, row)| *entry = row[j]);
            }
        });
    }

    /// Applies one to rows of m numbers each.
    fn apply_one(&self, place: &Place, rows: &mut [f64], m: usize) {
        let v = &self.vectors[place.vector.clone()];
        let rows = &mut rows[place.rows.start * m..place.rows.end * m];
        let mut sums = [0.0; VECTORS];
        for (row, v) in rows.chunks(m).zip(v) {
            sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += x * v);
        }
        for (row, v) in rows.chunks_mut(m).zip(v) {
            let along = v * place.scale;
            row.iter_mut().zip(&sums).for_each(|(x, sum)| *x -= sum * along);
        }
    }
}

/// Makes of x, of which there is an entry or more, a multiple of the first unit vector by I − s v vᵀ with v₀ = 1, and gives s:
/// 0 where nothing is to be done.
fn reflect(x: &mut [f64], v: &mut Vec<f64>) -> f64 {
    v.clear();
    v.extend_from_slice(x);
    let largest = v[1..].iter().fold(0.0_f64, |largest, x| largest.max(x.abs()));
    if largest < f64::MIN_POSITIVE {
        v[1..].fill(0.0);
        v[0] = 1.0;
        return 0.0;
    }
    let beside = largest * v[1..].iter().map(|x| (x / largest).powi(2)).sum::<f64>().sqrt();
    // Away from the first entry, so that nothing cancels.
    let length = v[0].hypot(beside).copysign(v[0]);
    let sum = v[0] + length;
    v[1..].iter_mut().for_each(|x| *x /= sum);
    v[0] = 1.0;
    x[0] = -length;
    x[1..].fill(0.0);
    sum / length
}

/// x − s (vᵀx) v.
fn subtract_along(x: &mut [f64], v: &[f64], scale: f64) {
    let along = scale * x.iter().zip(v).map(|(x, v)| x * v).sum::<f64>();
    x.iter_mut().zip(v).for_each(|(x, v)| *x -= along * v);
}
