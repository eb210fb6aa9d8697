//! Projected gradient descent (Madry et al. 2018), under L∞ or L2.
//!
//! The ascent here is for gradients that come from anywhere. Networks ascend in ONNX Runtime, one run a step; that graph
//! (`gradient::compose::attack_step`) is tested against this one.

use ndarray::{Array2, ArrayView2, Zip};

use super::{Ball, Error, PixelRange, gradient_sign::ascent_directions};

/// The settings of projected gradient descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProjectedGradient {
    pub ball: Ball,
    pub range: PixelRange,
    /// At least 1.
    pub steps: u32,
    /// Length of a step in the ball's norm, in pixel units.
    pub step_size: f64,
    /// The seed of a random start; `None` starts at the sample itself.
    pub random_start: Option<u64>,
}

/// Ascends a loss by steps of fixed length, each followed by the projection onto the ball and the clip to the pixel range.
///
/// `samples` is (N, pixels), whose first row is sample `first_sample` of the probe set: a random start depends on that
/// index, not on the batch. `gradient` gives the gradient of the loss at its argument, of the same shape. A zero gradient
/// leaves a sample where it is.
///
/// # Errors
/// When the settings are out of range, or the gradient function fails, or gives another shape or a number that is not
/// finite.
pub fn projected_gradient<E>(
    samples: ArrayView2<'_, f32>,
    first_sample: usize,
    settings: &ProjectedGradient,
    mut gradient: impl FnMut(ArrayView2<'_, f32>) -> Result<Array2<f32>, E>,
) -> Result<Array2<f32>, Error<E>> {
    let ProjectedGradient { ball, range, steps, step_size, random_start } = *settings;
    if steps == 0 {
        return Err(Error::NoSteps);
    }
    let step = step_size as f32;
    if !(step > 0.0 && step.is_finite()) {
        return Err(Error::StepSize(step_size));
    }
    let mut adversarial = match random_start {
        Some(seed) => random_starts(samples, first_sample, ball, range, seed),
        None => samples.to_owned(),
    };
    for _ in 0..steps {
        let directions = ascent_directions(adversarial.view(), ball, &mut gradient)?;
        Zip::from(adversarial.rows_mut()).and(samples.rows()).and(directions.rows()).for_each(
            |mut current, sample, direction| {
                let moved = current.iter().zip(direction).map(|(pixel, d)| pixel + step * d);
                let mut delta: Vec<f32> = moved.zip(sample).map(|(pixel, sample)| pixel - sample).collect();
                ball.project(&mut delta);
                for ((pixel, sample), delta) in current.iter_mut().zip(sample).zip(delta) {
                    *pixel = range.clip(sample + delta);
                }
            },
        );
    }
    Ok(adversarial)
}

/// Uniform points of the balls around samples, clipped to the pixel range: where an ascent with a random start begins.
///
/// `samples` is (N, pixels), whose first row is sample `first_sample` of the probe set; a start depends on that index and
/// on the seed alone.
pub fn random_starts(
    samples: ArrayView2<'_, f32>,
    first_sample: usize,
    ball: Ball,
    range: PixelRange,
    seed: u64,
) -> Array2<f32> {
    let mut starts = samples.to_owned();
    for (index, mut row) in starts.rows_mut().into_iter().enumerate() {
        let start = ball.random_start(row.len(), seed, first_sample + index);
        row.iter_mut().zip(start).for_each(|(pixel, delta)| *pixel = range.clip(*pixel + delta));
    }
    starts
}
