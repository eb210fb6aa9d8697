//! Attacks on tiles of real networks, and what they do to networks.

use ndarray::{Array2, ArrayView2, Axis};

use crate::{
    attack::{self, Ball, PixelRange, fast_gradient, random_starts},
    cancel::Cancel,
    dataset::Dataset,
    error::{Error, Reason, Result},
    gradient::compose::Loss,
    metric,
    registry::OutputKind,
    scoring::{
        attack_plan::{AttackPlan, EmpiricalAttack},
        jacobian_rows::JacobianRows,
        network::{Ascent, LossTarget, Network},
        types::{AttackLoss, AttackMethod},
    },
};

/// Samples that run together, with what a network gives for them when clean. One row each.
pub struct CleanTile {
    /// Rows x inputs.
    pub samples: Array2<f32>,
    /// Rows x outputs.
    pub outputs: Array2<f32>,
    /// Rows of the Jacobians, where anything asks for them.
    pub jacobians: Option<JacobianRows>,
}

/// The change of a network's outputs under perturbations, rows x outputs: J δ at first order, else f(x + δ) − f(x).
///
/// # Errors
/// Those of [`Network`].
pub fn deviations(
    plan: &AttackPlan,
    network: &Network,
    tile: &CleanTile,
    perturbations: ArrayView2<'_, f32>,
) -> Result<Array2<f64>> {
    if plan.is_first_order() {
        return match tile.jacobians.as_ref().and_then(JacobianRows::whole) {
            Some(jacobians) => {
                metric::first_order_deviations(jacobians, perturbations).map_err(|cause| numeric(network, &cause))
            }
            None => Ok(network.jvp(tile.samples.view(), perturbations)?.mapv(f64::from)),
        };
    }
    let perturbed = network.outputs((&tile.samples + &perturbations).view())?.outputs;
    Ok(perturbed.mapv(f64::from) - tile.outputs.mapv(f64::from))
}

/// An empirical attack of a network on samples given by their index in the probe set: a perturbation in pixel units for
/// each radius of the plan, rows x inputs.
///
/// # Errors
/// Those of [`Network`]; [`Reason::OptionUnsupported`] for a loss that the network or the probe set does not allow.
pub fn empirical(
    options: &EmpiricalAttack,
    seed: u64,
    network: &Network,
    tile: &CleanTile,
    samples: &[usize],
    probe: &Dataset,
    cancel: &Cancel,
) -> Result<Vec<Array2<f32>>> {
    let loss = options.loss.unwrap_or_else(|| default_loss(network));
    let target = loss_target(loss, network, tile, samples, probe)?;
    let vanishes = matches!(loss, AttackLoss::Kl | AttackLoss::SquaredDeviation);
    let range = if probe.is_pixels() { PixelRange::Unit } else { PixelRange::Unbounded };
    let ball = Ball::new(options.norm, options.epsilon).map_err(attack_failed)?;
    if options.method == AttackMethod::Fgsm && !vanishes {
        let gradient = |at: ArrayView2<'_, f32>| network.loss_gradient(at, &target);
        let adversarial = fast_gradient(tile.samples.view(), ball, range, gradient).map_err(attack_failed)?;
        return Ok(vec![adversarial - &tile.samples]);
    }
    let starts = match options.random_start || vanishes {
        true => {
            let mut starts = tile.samples.clone();
            for (mut row, &sample) in starts.axis_chunks_iter_mut(Axis(0), 1).into_iter().zip(samples) {
                let start = random_starts(row.view(), sample, ball, range, seed);
                row.assign(&start);
            }
            starts
        }
        false => tile.samples.clone(),
    };
    let ascent = Ascent {
        norm: options.norm,
        epsilon: ball.epsilon(),
        step: options.step_size as f32,
        steps: options.steps,
        range,
    };
    let adversarial = network.ascend(starts.view(), tile.samples.view(), &target, &ascent, cancel)?;
    Ok(vec![adversarial - &tile.samples])
}

/// Cross-entropy to the own prediction for logits, which is the paper's; deviation of the output otherwise.
fn default_loss(network: &Network) -> AttackLoss {
    match network.output_kind() {
        OutputKind::Logits => AttackLoss::CrossEntropy,
        OutputKind::Embedding | OutputKind::Dense => AttackLoss::SquaredDeviation,
    }
}

fn loss_target(
    loss: AttackLoss,
    network: &Network,
    tile: &CleanTile,
    samples: &[usize],
    probe: &Dataset,
) -> Result<LossTarget> {
    if loss != AttackLoss::SquaredDeviation && network.output_kind() != OutputKind::Logits {
        let message = format!("model `{}` gives no logits; use the squared deviation", network.name());
        return Err(Error::new(Reason::OptionUnsupported, message).at("attack.loss"));
    }
    match loss {
        AttackLoss::CrossEntropy => {
            let classes: Vec<usize> = tile.outputs.rows().into_iter().map(|row| argmax(row.iter())).collect();
            Ok(LossTarget { loss: Loss::SoftCrossEntropy, target: one_hot(&classes, network.n_outputs()) })
        }
        AttackLoss::CrossEntropyLabels => {
            let Some(labels) = probe.labels() else {
                let message = "the probe set has no labels; use the cross-entropy to the model's own prediction";
                return Err(Error::new(Reason::OptionUnsupported, message).at("attack.loss"));
            };
            if probe.n_classes() > network.n_outputs() {
                let message = format!(
                    "the probe set has {} classes, model `{}` only {}; use the cross-entropy to its own prediction",
                    probe.n_classes(),
                    network.name(),
                    network.n_outputs()
                );
                return Err(Error::new(Reason::OptionUnsupported, message).at("attack.loss"));
            }
            let classes: Vec<usize> =
                samples.iter().filter_map(|&sample| labels.get(sample)).map(|&label| label as usize).collect();
            Ok(LossTarget { loss: Loss::SoftCrossEntropy, target: one_hot(&classes, network.n_outputs()) })
        }
        AttackLoss::Kl => {
            let mut target = tile.outputs.clone();
            target.rows_mut().into_iter().for_each(softmax);
            Ok(LossTarget { loss: Loss::SoftCrossEntropy, target })
        }
        AttackLoss::SquaredDeviation => Ok(LossTarget { loss: Loss::SquaredDeviation, target: tile.outputs.clone() }),
    }
}

/// The place of the largest value; the first of equals.
pub fn argmax<'a, T: PartialOrd + Copy + 'a>(values: impl Iterator<Item = &'a T>) -> usize {
    let mut best: Option<(usize, T)> = None;
    for (index, &value) in values.enumerate() {
        if best.is_none_or(|(_, kept)| value > kept) {
            best = Some((index, value));
        }
    }
    best.map_or(0, |(index, _)| index)
}

fn one_hot(classes: &[usize], width: usize) -> Array2<f32> {
    let mut target = Array2::zeros((classes.len(), width));
    for (mut row, &class) in target.rows_mut().into_iter().zip(classes) {
        if let Some(entry) = row.get_mut(class) {
            *entry = 1.0;
        }
    }
    target
}

fn softmax(mut row: ndarray::ArrayViewMut1<'_, f32>) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.mapv_inplace(|value| (value - largest).exp());
    let sum = row.sum();
    row.mapv_inplace(|value| value / sum);
}

fn numeric(network: &Network, cause: &attack::JacobianError) -> Error {
    Error::new(Reason::ModelExecutionFailed, format!("model `{}`: {cause}", network.name()))
}

fn attack_failed(cause: attack::Error<Error>) -> Error {
    match cause {
        attack::Error::Gradient(error) => error,
        attack::Error::Epsilon(_) => Error::new(Reason::OptionOutOfRange, cause.to_string()).at("attack.epsilon"),
        attack::Error::StepSize(_) => Error::new(Reason::OptionOutOfRange, cause.to_string()).at("attack.step_size"),
        attack::Error::NoSteps => Error::new(Reason::OptionOutOfRange, cause.to_string()).at("attack.steps"),
        attack::Error::GradientShape { .. } | attack::Error::GradientNotFinite { .. } => {
            Error::new(Reason::ModelExecutionFailed, cause.to_string())
        }
    }
}
