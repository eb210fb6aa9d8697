//! One step along the gradient: FGSM (Goodfellow et al. 2015), and its L2 form, the fast gradient method.

use ndarray::{Array2, ArrayView2, Zip};

use super::{Ball, Error, PixelRange};

/// x + ε·(steepest ascent direction of the loss at x), clipped to the pixel range.
///
/// `samples` is (N, pixels); `gradient` gives the gradient of the loss that the attack ascends, of the same shape. A sample
/// with a zero gradient stays where it is.
///
/// # Errors
/// When the gradient function fails, or gives another shape or a number that is not finite.
pub fn fast_gradient<E>(
    samples: ArrayView2<'_, f32>,
    ball: Ball,
    range: PixelRange,
    mut gradient: impl FnMut(ArrayView2<'_, f32>) -> Result<Array2<f32>, E>,
) -> Result<Array2<f32>, Error<E>> {
    let direction = ascent_directions(samples, ball, &mut gradient)?;
    let mut adversarial = samples.to_owned();
    Zip::from(&mut adversarial).and(&direction).for_each(|pixel, &d| *pixel = range.clip(*pixel + ball.epsilon() * d));
    Ok(adversarial)
}

/// The unit steps of steepest ascent at `samples`, one a row.
pub(super) fn ascent_directions<E>(
    samples: ArrayView2<'_, f32>,
    ball: Ball,
    gradient: &mut impl FnMut(ArrayView2<'_, f32>) -> Result<Array2<f32>, E>,
) -> Result<Array2<f32>, Error<E>> {
    let gradients = gradient(samples).map_err(Error::Gradient)?;
    if gradients.dim() != samples.dim() {
        return Err(Error::GradientShape { expected: samples.shape().to_vec(), found: gradients.shape().to_vec() });
    }
    if let Some(sample) = gradients.rows().into_iter().position(|row| row.iter().any(|g| !g.is_finite())) {
        return Err(Error::GradientNotFinite { sample });
    }
    let mut directions = gradients.as_standard_layout().into_owned();
    for mut row in directions.rows_mut() {
        if let Some(row) = row.as_slice_mut() {
            ball.norm().steepest_ascent(row);
        }
    }
    Ok(directions)
}
