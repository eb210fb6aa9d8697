//! Singular triples of Jacobians that are too large to be written down, from their products with vectors.
//!
//! Golub-Kahan-Lanczos bidiagonalisation with full reorthogonalisation (Golub and Van Loan, Matrix Computations, 4th
//! edition, section 10.4): after k steps J V = U B with B upper bidiagonal, k products with J and k + 1 with Jᵀ; the
//! singular triples of B tend to those of J from the strongest down. A step costs one JVP and one VJP. Every sample has
//! its own iteration and ends at its own step, so results do not depend on which samples travel together.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, s};

use super::{DEAD_LENGTH, IterationError, virtual_attack::signed};
use crate::stats::{self, Purpose, SymmetricEigen, project_out, standard_normal, stream};

/// Products with the Jacobians of some samples, a row a sample.
pub trait JacobianProducts {
    type Error;

    /// J t for tangents (rows, n): (rows, d).
    ///
    /// # Errors
    /// Whatever keeps the product from being computed.
    fn jvp(&self, tangents: ArrayView2<'_, f32>) -> Result<Array2<f32>, Self::Error>;

    /// Jᵀ c for cotangents (rows, d): (rows, n).
    ///
    /// # Errors
    /// Whatever keeps the product from being computed.
    fn vjp(&self, cotangents: ArrayView2<'_, f32>) -> Result<Array2<f32>, Self::Error>;
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LanczosSettings {
    /// Singular triples wanted, at least 1, the strongest first.
    pub levels: usize,
    /// A triple has converged when ‖Jᵀu − σv‖ ≤ tolerance · σ₁.
    pub tolerance: f64,
    /// Most steps, at least `levels`; what has not converged by then is given as it is.
    pub max_steps: usize,
    /// Seed of the start vectors; each depends on it and on the sample's index alone.
    pub seed: u64,
}

/// The strongest singular triples of some Jacobians.
#[derive(Clone, Debug, PartialEq)]
pub struct SingularTriples {
    /// Unit right singular vectors v, an array (rows, n) for each level; zero rows for dead samples.
    pub right: Vec<Array2<f32>>,
    /// J v = σ u, an array (rows, d) for each level.
    pub deviations: Vec<Array2<f64>>,
    /// ‖Jᵀu − σv‖/σ₁ of the level that has converged least, a number a row; 0 for dead samples.
    pub residuals: Vec<f64>,
    /// Steps taken, a number a row.
    pub steps: Vec<usize>,
}

/// Steps between two looks at the residuals.
const LOOK_EVERY: usize = 2;
/// A new direction this short beside the longest is rounding of float32 products: the Krylov space is exhausted.
const EXHAUSTED: f64 = 1e-6;
/// A vector that keeps this share of its length is orthogonal to what was taken off; Daniel et al. 1976 have 1/√2.
const STABLE: f64 = 0.7;

/// The strongest singular triples of the Jacobians of `samples`, given by their index in the probe set.
///
/// Where a Jacobian has fewer directions than `levels`, its missing levels are zero.
///
/// # Errors
/// Those of the products.
pub fn singular_triples<J: JacobianProducts>(
    jacobians: &J,
    samples: &[usize],
    n_outputs: usize,
    settings: &LanczosSettings,
) -> Result<SingularTriples, IterationError<J::Error>> {
    let mut starts = Array2::<f32>::zeros((samples.len(), n_outputs));
    for (mut row, &sample) in starts.rows_mut().into_iter().zip(samples) {
        let mut rng = stream(settings.seed, Purpose::Lanczos, sample as u64);
        row.iter_mut().for_each(|x| *x = standard_normal(&mut rng) as f32);
    }
    // A start in the row space: what lies outside would never leave the iteration.
    let first = jacobians.vjp(starts.view()).map_err(IterationError::Product)?;
    let n_inputs = first.ncols();
    let mut rows: Vec<Bidiagonal> = first.rows().into_iter().map(|first| Bidiagonal::start(first, n_outputs)).collect();
    for step in 1..=settings.max_steps {
        if rows.iter().all(|row| row.done) {
            break;
        }
        let tangents = gathered(&rows, n_inputs, |row| &row.right);
        let images = jacobians.jvp(tangents.view()).map_err(IterationError::Product)?;
        rows.iter_mut().zip(images.rows()).for_each(|(row, image)| row.take_image(image));
        let cotangents = gathered(&rows, n_outputs, |row| &row.left);
        let images = jacobians.vjp(cotangents.view()).map_err(IterationError::Product)?;
        for (row, image) in rows.iter_mut().zip(images.rows()) {
            row.take_transposed_image(image);
            if step % LOOK_EVERY == 0 || step == settings.max_steps || row.done {
                row.look(settings)?;
            }
        }
    }
    Ok(collected(&mut rows, n_inputs, n_outputs, settings)?)
}

/// The last vector of each iteration that still runs; zeros for the others.
fn gathered<'a>(rows: &'a [Bidiagonal], width: usize, of: impl Fn(&'a Bidiagonal) -> &'a Basis) -> Array2<f32> {
    let mut last = Array2::zeros((rows.len(), width));
    for (mut to, row) in last.rows_mut().into_iter().zip(rows) {
        if let Some(vector) = of(row).last().filter(|_| !row.done) {
            to.assign(&ArrayView1::from(vector));
        }
    }
    last
}

fn collected(
    rows: &mut [Bidiagonal],
    n_inputs: usize,
    n_outputs: usize,
    settings: &LanczosSettings,
) -> Result<SingularTriples, stats::Error> {
    let n_rows = rows.len();
    let mut triples = SingularTriples {
        right: vec![Array2::zeros((n_rows, n_inputs)); settings.levels],
        deviations: vec![Array2::zeros((n_rows, n_outputs)); settings.levels],
        residuals: Vec::with_capacity(n_rows),
        steps: Vec::with_capacity(n_rows),
    };
    for (index, row) in rows.iter_mut().enumerate() {
        row.look(settings)?;
        triples.residuals.push(row.residual);
        triples.steps.push(row.diagonal.len());
        let levels = triples.right.iter_mut().zip(&mut triples.deviations).zip(&row.found);
        for ((right, deviations), found) in levels {
            // The sign is arbitrary and fixed as in the exact virtual attack.
            let (left, turned) = signed(row.left.combined(&found.left));
            deviations.row_mut(index).assign(&(left * found.sigma));
            let direction = row.right.combined(&found.right) * if turned { -1.0 } else { 1.0 };
            let length = direction.dot(&direction).sqrt();
            right.row_mut(index).assign(&direction.mapv(|x| (x / length) as f32));
        }
    }
    Ok(triples)
}

/// Orthonormal vectors, one after another.
struct Basis {
    width: usize,
    vectors: Vec<f32>,
}

impl Basis {
    fn new(width: usize) -> Self {
        Basis { width, vectors: Vec::new() }
    }

    fn last(&self) -> Option<&[f32]> {
        self.vectors.rchunks_exact(self.width.max(1)).next()
    }

    /// Adds what is new in a vector, made to length 1, and gives the length that it had; `None` where it is no longer than
    /// `least`.
    fn extend(&mut self, vector: ArrayView1<'_, f32>, least: f64) -> Option<f64> {
        let mut rest = vector.to_vec();
        let before = length(&rest);
        project_out(&mut rest, &self.vectors);
        // Where little is left most of it is rounding of what was taken off.
        if length(&rest) < STABLE * before {
            project_out(&mut rest, &self.vectors);
        }
        let length = length(&rest);
        if !(length > least && length > DEAD_LENGTH && length.is_finite()) {
            return None;
        }
        self.vectors.extend(rest.iter().map(|&x| (f64::from(x) / length) as f32));
        Some(length)
    }

    /// Σ weights_k · vectors_k.
    fn combined(&self, weights: &Array1<f64>) -> Array1<f64> {
        let mut sum = Array1::zeros(self.width);
        for (vector, &weight) in self.vectors.chunks_exact(self.width.max(1)).zip(weights) {
            sum.iter_mut().zip(vector).for_each(|(to, &x)| *to += weight * f64::from(x));
        }
        sum
    }
}

fn length(vector: &[f32]) -> f64 {
    vector.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt()
}

/// One sample's iteration.
struct Bidiagonal {
    /// v₁, v₂, …: one more than there are steps, until the space is exhausted.
    right: Basis,
    /// u₁, u₂, …
    left: Basis,
    /// α of J v_k = α_k u_k + β_{k−1} u_{k−1}.
    diagonal: Vec<f64>,
    /// β of Jᵀ u_k = α_k v_k + β_k v_{k+1}.
    beside: Vec<f64>,
    done: bool,
    /// Whether the left space is exhausted: then the last β belongs to B, which is wider than high, and J V = U B.
    wide: bool,
    found: Vec<Triple>,
    residual: f64,
}

/// A singular triple of the bidiagonal matrix.
struct Triple {
    sigma: f64,
    left: Array1<f64>,
    right: Array1<f64>,
}

impl Bidiagonal {
    fn start(first: ArrayView1<'_, f32>, n_outputs: usize) -> Self {
        let mut right = Basis::new(first.len());
        let done = right.extend(first, 0.0).is_none();
        Bidiagonal {
            right,
            left: Basis::new(n_outputs),
            diagonal: Vec::new(),
            beside: Vec::new(),
            done,
            wide: false,
            found: Vec::new(),
            residual: 0.0,
        }
    }

    /// The longest coefficient so far, close to σ₁.
    fn scale(&self) -> f64 {
        self.diagonal.iter().chain(&self.beside).copied().fold(0.0, f64::max)
    }

    fn take_image(&mut self, image: ArrayView1<'_, f32>) {
        if self.done {
            return;
        }
        match self.left.extend(image, EXHAUSTED * self.scale()) {
            Some(length) => self.diagonal.push(length),
            None => (self.done, self.wide) = (true, true),
        }
    }

    fn take_transposed_image(&mut self, image: ArrayView1<'_, f32>) {
        if self.done {
            return;
        }
        match self.right.extend(image, EXHAUSTED * self.scale()) {
            Some(length) => self.beside.push(length),
            None => self.done = true,
        }
    }

    /// The singular triples of B and how far the wanted ones are from those of J.
    fn look(&mut self, settings: &LanczosSettings) -> Result<(), stats::Error> {
        let k = self.diagonal.len();
        let width = if self.wide { self.beside.len() + 1 } else { k };
        let mut bidiagonal = Array2::<f64>::zeros((k, width));
        bidiagonal.diag_mut().iter_mut().zip(&self.diagonal).for_each(|(to, &alpha)| *to = alpha);
        let above = bidiagonal.slice_mut(s![.., 1.min(width)..]);
        above.into_diag().iter_mut().zip(&self.beside).for_each(|(to, &beta)| *to = beta);
        let eigen = SymmetricEigen::of(bidiagonal.dot(&bidiagonal.t()).view())?;
        let strongest = eigen.values.first().map_or(0.0, |value| value.max(0.0).sqrt());
        let next = match self.beside.last() {
            Some(&beta) if self.beside.len() == k && !self.wide => beta,
            _ => 0.0,
        };
        self.found.clear();
        self.residual = 0.0;
        for (&value, left) in eigen.values.iter().zip(eigen.vectors.columns()).take(settings.levels) {
            let sigma = value.max(0.0).sqrt();
            if sigma <= DEAD_LENGTH || sigma < EXHAUSTED * strongest {
                break;
            }
            let last = left.last().copied().unwrap_or(0.0);
            self.residual = self.residual.max(next * last.abs() / strongest);
            self.found.push(Triple { sigma, left: left.to_owned(), right: bidiagonal.t().dot(&left) / sigma });
        }
        let enough = self.found.len() >= settings.levels && self.residual <= settings.tolerance;
        self.done = self.done || enough;
        Ok(())
    }
}
