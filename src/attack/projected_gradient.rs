//! Projected gradient ascent (Madry et al. 2018), under L∞ or L2, with momentum where wanted (MI-FGSM, Dong et al. 2018).
//!
//! The ascent here is for gradients that come from anywhere. Plain networks ascend in ONNX Runtime, one run a step; that
//! graph (`gradient::compose::attack_step`) is tested against this one.

use ndarray::{Array2, ArrayView2, Zip};

use super::{
    Ball, Error, PixelRange,
    gradient_sign::{ascent_directions, checked},
};
pub use crate::gradient::compose::Accumulated;

/// What is kept of earlier steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Momentum {
    /// 0 or more; the authors take 1.
    pub decay: f64,
    pub of: Accumulated,
}

/// The settings of projected gradient ascent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProjectedGradient {
    pub ball: Ball,
    pub range: PixelRange,
    /// At least 1.
    pub steps: u32,
    /// Length of a step in the ball's norm, in pixel units.
    pub step_size: f64,
    pub momentum: Option<Momentum>,
}

/// Ascends a loss by steps of fixed length, each followed by the projection onto the ball and the clip to the pixel range.
///
/// `samples` and `starts` are (N, pixels). `gradient` gives the gradient of the loss at its argument, of the same shape. A
/// zero gradient leaves a sample where its momentum takes it.
///
/// # Errors
/// When the settings are out of range, or the gradient function fails, or gives another shape or a number that is not
/// finite.
pub fn projected_gradient<E>(
    samples: ArrayView2<'_, f32>,
    starts: ArrayView2<'_, f32>,
    settings: &ProjectedGradient,
    mut gradient: impl FnMut(ArrayView2<'_, f32>) -> Result<Array2<f32>, E>,
) -> Result<Array2<f32>, Error<E>> {
    let ProjectedGradient { ball, range, steps, step_size, momentum } = *settings;
    if steps == 0 {
        return Err(Error::NoSteps);
    }
    let step = step_size as f32;
    if !(step > 0.0 && step.is_finite()) {
        return Err(Error::StepSize(step_size));
    }
    let mut adversarial = starts.to_owned();
    let mut kept = Array2::<f32>::zeros(samples.dim());
    for _ in 0..steps {
        let mut gradients = checked(samples, gradient(adversarial.view()).map_err(Error::Gradient)?)?;
        if let Some(Momentum { decay, of }) = momentum {
            gradients = match of {
                Accumulated::Gradients => of_sum_one(gradients),
                Accumulated::Directions => ascent_directions(gradients, ball.norm()),
            };
            Zip::from(&mut kept).and(&gradients).for_each(|kept, g| *kept = decay as f32 * *kept + g);
            gradients.assign(&kept);
        }
        let directions = ascent_directions(gradients, ball.norm());
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

/// Each row over the sum of its absolute values; a zero row stays.
fn of_sum_one(mut gradients: Array2<f32>) -> Array2<f32> {
    for mut row in gradients.rows_mut() {
        let sum: f64 = row.iter().map(|&g| f64::from(g).abs()).sum();
        if sum > 0.0 {
            row.mapv_inplace(|g| (f64::from(g) / sum) as f32);
        }
    }
    gradients
}

/// Uniform points of the balls around samples, clipped to the pixel range: where an ascent with a random start begins.
///
/// `samples` is (N, pixels), `indices` the rows' indices in the probe set: a start depends on the index, the seed and the
/// restart alone.
pub fn random_starts(
    samples: ArrayView2<'_, f32>,
    indices: &[usize],
    ball: Ball,
    range: PixelRange,
    seed: u64,
    restart: u32,
) -> Array2<f32> {
    let mut starts = samples.to_owned();
    for (&index, mut row) in indices.iter().zip(starts.rows_mut()) {
        let start = ball.random_start(row.len(), seed, index, restart);
        row.iter_mut().zip(start).for_each(|(pixel, delta)| *pixel = range.clip(*pixel + delta));
    }
    starts
}
