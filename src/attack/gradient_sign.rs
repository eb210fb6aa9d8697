//! One step along the gradient: FGSM (Goodfellow et al. 2015), and its L2 form, the fast gradient method.

use ndarray::{Array2, ArrayView2, Zip};

use super::{Ball, Error, Norm, PixelRange};

/// x + ε·(steepest ascent direction of the loss at x), clipped to the pixel range, for each ball: one gradient serves all.
///
/// `samples` is (N, pixels); `gradient` gives the gradient of the loss that the attack ascends, of the same shape. A sample
/// with a zero gradient stays where it is.
///
/// # Errors
/// When the gradient function fails, or gives another shape or a number that is not finite.
pub fn fast_gradient<E>(
    samples: ArrayView2<'_, f32>,
    balls: &[Ball],
    range: PixelRange,
    gradient: impl FnOnce(ArrayView2<'_, f32>) -> Result<Array2<f32>, E>,
) -> Result<Vec<Array2<f32>>, Error<E>> {
    let gradients = checked(samples, gradient(samples).map_err(Error::Gradient)?)?;
    let stepped = balls.iter().map(|ball| {
        let mut adversarial = samples.to_owned();
        let directions = ascent_directions(gradients.clone(), ball.norm());
        let epsilon = ball.epsilon();
        Zip::from(&mut adversarial).and(&directions).for_each(|pixel, &d| *pixel = range.clip(*pixel + epsilon * d));
        adversarial
    });
    Ok(stepped.collect())
}

/// The unit steps of steepest ascent, one a row.
pub(super) fn ascent_directions(mut gradients: Array2<f32>, norm: Norm) -> Array2<f32> {
    for mut row in gradients.rows_mut() {
        if let Some(row) = row.as_slice_mut() {
            norm.steepest_ascent(row);
        }
    }
    gradients
}

/// Gradients in row-major order, refused where they are not those of the samples.
pub(super) fn checked<E>(samples: ArrayView2<'_, f32>, gradients: Array2<f32>) -> Result<Array2<f32>, Error<E>> {
    if gradients.dim() != samples.dim() {
        return Err(Error::GradientShape { expected: samples.shape().to_vec(), found: gradients.shape().to_vec() });
    }
    if let Some(sample) = gradients.rows().into_iter().position(|row| row.iter().any(|g| !g.is_finite())) {
        return Err(Error::GradientNotFinite { sample });
    }
    Ok(gradients.as_standard_layout().into_owned())
}
