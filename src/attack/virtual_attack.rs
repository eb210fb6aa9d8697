//! The virtual attack (Liang et al. 2021, section 3): the direction that moves a model's output most, to first order.
//!
//! δ_f(x) = argmax of ‖J_f(x) δ‖₂ over ‖δ‖₂ ≤ ε, which is ±ε v₁(J_f(x)). Exact, through the eigenvectors of the d×d Gram
//! matrix J Jᵀ in f64. The sign is arbitrary; it is fixed here by making the largest component of the left singular vector
//! positive, so that the same Jacobian always gives the same direction.

use ndarray::{Array1, Array2, ArrayView1, ArrayView3, Axis, parallel::prelude::*};

use super::{JacobianError, sample_grams};
use crate::stats::SymmetricEigen;

/// A deviation or singular value up to this length is zero: the sample is dead.
pub const DEAD_LENGTH: f64 = 1e-30;

/// A singular value this small beside the strongest is rounding of f32 Jacobians: its direction means nothing.
const RELATIVE_CUT: f64 = 1e-6;

/// A singular triple of each sample's Jacobian, without the right vector, which [`TopSingular::directions`] gives.
#[derive(Clone, Debug, PartialEq)]
pub struct TopSingular {
    /// J Jᵀ of each sample, (N, d·d).
    pub grams: Array2<f64>,
    /// Left singular vectors u, (N, d); zero for a dead sample.
    pub left: Array2<f64>,
    /// Singular values σ, (N); 0 for a dead sample, one whose Jacobian has no such direction.
    pub sigma: Array1<f64>,
}

/// The singular triples of `level` (0 is the strongest) of a stack of Jacobians, (N, d, n).
///
/// # Errors
/// When a Jacobian holds a number that is not finite, or has fewer than `level` + 1 rows or columns.
pub fn top_singular(jacobians: ArrayView3<'_, f32>, level: usize) -> Result<TopSingular, JacobianError> {
    let (_, d, n_pixels) = jacobians.dim();
    let missing = JacobianError::Level { level, rank: d.min(n_pixels) };
    singular_levels(jacobians, level + 1)?.pop().ok_or(missing)
}

/// The singular triples of the `levels` strongest levels of a stack of Jacobians, (N, d, n), the strongest first.
///
/// # Errors
/// When a Jacobian holds a number that is not finite, or has fewer than `levels` rows or columns.
pub fn singular_levels(jacobians: ArrayView3<'_, f32>, levels: usize) -> Result<Vec<TopSingular>, JacobianError> {
    let (n_samples, d, n_pixels) = jacobians.dim();
    if levels > d.min(n_pixels) {
        return Err(JacobianError::Level { level: levels - 1, rank: d.min(n_pixels) });
    }
    let grams = sample_grams(jacobians, jacobians)?;
    let triples: Vec<Vec<Triple>> =
        (0..n_samples).into_par_iter().map(|sample| triples(grams.row(sample), d, levels)).collect::<Result<_, _>>()?;
    let of_level = |level: usize| {
        let mut left = Array2::zeros((n_samples, d));
        let mut sigma = Array1::zeros(n_samples);
        for ((mut left, sigma), triples) in left.rows_mut().into_iter().zip(&mut sigma).zip(&triples) {
            if let Some(Some((value, vector))) = triples.get(level) {
                left.assign(vector);
                *sigma = *value;
            }
        }
        TopSingular { grams: grams.clone(), left, sigma }
    };
    Ok((0..levels).map(of_level).collect())
}

/// σ and u; `None` where they mean nothing.
type Triple = Option<(f64, Array1<f64>)>;

/// σ and u of each level of one Gram matrix; `None` where they mean nothing.
fn triples(gram: ArrayView1<'_, f64>, d: usize, levels: usize) -> Result<Vec<Triple>, JacobianError> {
    let Ok(gram) = gram.into_shape_with_order((d, d)) else { return Ok(Vec::new()) };
    let eigen = SymmetricEigen::of(gram)?;
    let root = |index: usize| eigen.values.get(index).map_or(0.0, |value| value.max(0.0).sqrt());
    let strongest = root(0);
    let triple = |level: usize| {
        let value = root(level);
        let means_nothing = value <= DEAD_LENGTH || value < RELATIVE_CUT * strongest;
        (!means_nothing).then(|| (value, signed(eigen.vectors.column(level).to_owned()).0))
    };
    Ok((0..levels).map(triple).collect())
}

/// The vector or its opposite, with the largest component positive, and whether it is the opposite.
pub(super) fn signed(vector: Array1<f64>) -> (Array1<f64>, bool) {
    let largest = vector.iter().fold(0.0_f64, |kept, &x| if x.abs() > kept.abs() { x } else { kept });
    if largest < 0.0 { (-vector, true) } else { (vector, false) }
}

impl TopSingular {
    /// The unit directions v = Jᵀ u / σ in pixel space, (N, n), from the same Jacobians (N, d, n); zero for dead samples.
    ///
    /// # Errors
    /// When the Jacobians are of another shape.
    pub fn directions(&self, jacobians: ArrayView3<'_, f32>) -> Result<Array2<f32>, JacobianError> {
        let (n_samples, d, n_pixels) = jacobians.dim();
        if (n_samples, d) != self.left.dim() {
            let (expected, rows) = self.left.dim();
            return Err(JacobianError::Shape { expected, rows, found: n_samples, found_rows: d });
        }
        let mut directions = Array2::zeros((n_samples, n_pixels));
        directions.axis_iter_mut(Axis(0)).into_par_iter().enumerate().zip(jacobians.axis_iter(Axis(0))).for_each(
            |((sample, mut row), jacobian)| {
                let direction = self.direction(sample, jacobian);
                row.iter_mut().zip(&direction).for_each(|(to, &from)| *to = from as f32);
            },
        );
        Ok(directions)
    }

    /// The unit direction of one sample in f64.
    pub(crate) fn direction(&self, sample: usize, jacobian: ndarray::ArrayView2<'_, f32>) -> Array1<f64> {
        let mut direction = Array1::<f64>::zeros(jacobian.ncols());
        let sigma = self.sigma.get(sample).copied().unwrap_or(0.0);
        if sigma == 0.0 {
            return direction;
        }
        let left = self.left.row(sample);
        for (gradient, u) in jacobian.rows().into_iter().zip(left) {
            let weight = u / sigma;
            direction.iter_mut().zip(gradient).for_each(|(to, &from)| *to += weight * f64::from(from));
        }
        direction
    }
}
