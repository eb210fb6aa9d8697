//! Output changes to first order.

use ndarray::{Array2, ArrayView2, ArrayView3, Axis, parallel::prelude::*};

use crate::attack::JacobianError;

/// J(x) δ(x) of each sample, (N, d), from Jacobians (N, d, n) and perturbations (N, n), added in f64.
///
/// # Errors
/// When the two are not of the same samples and pixels, or a number is not finite.
pub fn first_order_deviations(
    jacobians: ArrayView3<'_, f32>,
    perturbations: ArrayView2<'_, f32>,
) -> Result<Array2<f64>, JacobianError> {
    let (n_samples, d, n_pixels) = jacobians.dim();
    let (found, pixels) = perturbations.dim();
    if found != n_samples {
        return Err(JacobianError::Shape { expected: found, rows: d, found: n_samples, found_rows: d });
    }
    if pixels != n_pixels {
        return Err(JacobianError::Pixels { left: n_pixels, right: pixels });
    }
    let mut deviations = Array2::zeros((n_samples, d));
    deviations
        .axis_iter_mut(Axis(0))
        .into_par_iter()
        .zip(jacobians.axis_iter(Axis(0)))
        .zip(perturbations.axis_iter(Axis(0)))
        .for_each(|((mut deviation, jacobian), perturbation)| {
            for (to, gradient) in deviation.iter_mut().zip(jacobian.rows()) {
                *to = gradient.iter().zip(perturbation).map(|(&g, &p)| f64::from(g) * f64::from(p)).sum();
            }
        });
    match deviations.rows().into_iter().position(|row| row.iter().any(|x: &f64| !x.is_finite())) {
        Some(sample) => Err(JacobianError::NotFinite { sample }),
        None => Ok(deviations),
    }
}
