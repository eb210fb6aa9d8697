//! DeepFool (Moosavi-Dezfooli et al. 2016, algorithm 2): the way to the nearest boundary, as if the model were linear.

use ndarray::{Array2, ArrayView1, ArrayView2};

use super::{Error, Goal, Model, Norm, PixelRange, gradient_sign::checked};

/// The settings of DeepFool. Foolbox and the authors take 50 steps, 10 candidates, an overshoot of 0.02.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeepFool {
    pub norm: Norm,
    pub range: PixelRange,
    /// At least 1.
    pub steps: u32,
    /// Classes that are considered, by their clean logits, the present one included; at least 2.
    pub candidates: usize,
    /// How much farther than the boundary to go, as a share; 0 or more.
    pub overshoot: f64,
}

/// Added to each step's length, so that a boundary that is only touched is crossed; as in the authors' code.
const PUSH: f64 = 1e-4;
/// Keeps lengths of zero gradients from being divided by.
const LEAST_LENGTH: f64 = 1e-8;

/// The samples, (N, pixels), moved until they are what `goal` wants or the steps are over. A step goes to the nearest
/// linearised boundary between the class that is the strongest at the clean sample and another one: distance |f|/‖w‖_q with
/// f the difference of the logits, w its gradient and q dual to the norm (equations 10 and 11). Steps add up, and their sum
/// is stretched by the overshoot. With clipping, as in Foolbox.
///
/// `watch` is asked before each step whether anybody still wants the result.
///
/// # Errors
/// With fewer than two classes; when the model fails or gives gradients that are not finite; those of `watch`.
pub fn deepfool<E>(
    model: &dyn Model<Error = E>,
    samples: ArrayView2<'_, f32>,
    goal: &Goal,
    settings: &DeepFool,
    mut watch: impl FnMut() -> Result<(), E>,
) -> Result<Array2<f32>, Error<E>> {
    let mut outputs = model.outputs(samples).map_err(Error::Gradient)?;
    let candidates: Vec<Vec<usize>> =
        outputs.rows().into_iter().map(|row| strongest(row, settings.candidates)).collect();
    let n_others = settings.candidates.min(outputs.ncols()).saturating_sub(1);
    if n_others == 0 {
        return Err(Error::FewClasses { needed: 2, found: outputs.ncols() });
    }
    let mut adversarial = samples.to_owned();
    let mut total = Array2::<f64>::zeros(samples.dim());
    for _ in 0..settings.steps {
        watch().map_err(Error::Gradient)?;
        let done: Vec<bool> =
            outputs.rows().into_iter().enumerate().map(|(row, logits)| goal.is_reached(row, logits)).collect();
        if done.iter().all(|&done| done) {
            break;
        }
        let width = outputs.ncols();
        let pulled = model
            .pullback(adversarial.view(), &mut |rows, _| {
                let candidates = candidates.get(rows).unwrap_or_default();
                Ok((1..=n_others).map(|other| differences(candidates, other, width)).collect())
            })
            .map_err(Error::Gradient)?;
        let mut gradients = Vec::with_capacity(n_others);
        for gradient in pulled.gradients {
            gradients.push(checked(samples, gradient)?);
        }
        let rows = adversarial.rows_mut().into_iter().zip(total.rows_mut()).zip(samples.rows()).zip(&candidates);
        for (row, (((mut adversarial, mut total), sample), candidates)) in rows.enumerate() {
            if done.get(row).copied().unwrap_or(true) {
                continue;
            }
            let logits = pulled.outputs.row(row);
            let gradients: Vec<ArrayView1<'_, f32>> = gradients.iter().map(|all| all.row(row)).collect();
            let Some(step) = nearest(settings.norm, logits, candidates, &gradients) else { continue };
            total.iter_mut().zip(step).for_each(|(sum, step)| *sum += step);
            for ((pixel, &sample), &moved) in adversarial.iter_mut().zip(sample).zip(&total) {
                *pixel = settings.range.clip((f64::from(sample) + (1.0 + settings.overshoot) * moved) as f32);
            }
        }
        outputs = model.outputs(adversarial.view()).map_err(Error::Gradient)?;
    }
    Ok(adversarial)
}

/// The classes of the largest logits, the largest first, the first of equals first.
fn strongest(logits: ArrayView1<'_, f32>, count: usize) -> Vec<usize> {
    let mut classes: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
    classes.sort_by(|a, b| b.1.total_cmp(&a.1));
    classes.into_iter().take(count).map(|(class, _)| class).collect()
}

/// Cotangents of the difference between each row's candidate `other` and its first one.
fn differences(candidates: &[Vec<usize>], other: usize, width: usize) -> Array2<f32> {
    let mut cotangents = Array2::zeros((candidates.len(), width));
    for (mut row, candidates) in cotangents.rows_mut().into_iter().zip(candidates) {
        for (place, weight) in [(other, 1.0), (0, -1.0)] {
            if let Some(entry) = candidates.get(place).and_then(|&class| row.get_mut(class)) {
                *entry += weight;
            }
        }
    }
    cotangents
}

/// The step to the nearest boundary.
fn nearest(
    norm: Norm,
    logits: ArrayView1<'_, f32>,
    candidates: &[usize],
    gradients: &[ArrayView1<'_, f32>],
) -> Option<Vec<f64>> {
    let logit = |place: usize| candidates.get(place).and_then(|&class| logits.get(class)).map(|&z| f64::from(z));
    let own = logit(0)?;
    let mut best: Option<(f64, Vec<f32>)> = None;
    for (place, gradient) in gradients.iter().enumerate() {
        let gradient = gradient.to_vec();
        let distance = (logit(place + 1)? - own).abs() / (norm.dual_length(&gradient) + LEAST_LENGTH);
        if best.as_ref().is_none_or(|(least, _)| distance < *least) {
            best = Some((distance, gradient));
        }
    }
    let (distance, gradient) = best?;
    let length = distance + PUSH;
    Some(match norm {
        Norm::L2 => {
            let factor = length / (norm.length(&gradient) + LEAST_LENGTH);
            gradient.iter().map(|&g| f64::from(g) * factor).collect()
        }
        Norm::Linf => gradient.iter().map(|&g| if g == 0.0 { 0.0 } else { length * f64::from(g.signum()) }).collect(),
    })
}
