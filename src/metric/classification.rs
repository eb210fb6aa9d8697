//! What an attack does to a model's answers, judged by the task: losses, fooling rates, similarity by transferability.

use ndarray::{Array1, ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

use super::{
    Error,
    error::{check_finite, check_samples},
};
use crate::stats::{Estimate, Resamples};

/// The share, in percent, below which [`similarity`] no longer falls: the logarithm of 0 has no value.
const LEAST_PERCENT: f64 = 0.01;

/// What is right, for each sample.
#[derive(Clone, Copy, Debug)]
pub enum Truth<'a> {
    /// Classes, each below the number of logits. The loss is cross-entropy, −log of the softmax of f(x) at y, in nats.
    Labels(&'a [u32]),
    /// Regression or dense targets, (N, outputs). The loss is the squared error ‖f(x) − y‖².
    Targets(ArrayView2<'a, f32>),
}

/// A model's outputs on clean samples and its deviations under attacks, (N, d).
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    pub clean: ArrayView2<'a, f32>,
    /// Under its own attack: white box.
    pub own: ArrayView2<'a, f64>,
    /// Under the other model's attack.
    pub black: ArrayView2<'a, f64>,
}

/// What model 1's attack does to model 2, judged by the task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossScores {
    /// E[ℓ(f₂(x + δ₁), y)].
    pub attack_loss: Estimate,
    /// E[ℓ(f₂(x), y)].
    pub clean_loss: Estimate,
    /// E[ℓ(f₂(x + δ₂), y)]: under model 2's own attack.
    pub white_box_loss: Estimate,
    /// E[ℓ(f₂(x + δ₁), y)]/E[ℓ(f₂(x + δ₂), y)]; `None` where the white-box loss is 0.
    pub loss_ratio: Option<Estimate>,
    /// With labels; `None` where model 2 classifies no sample rightly.
    pub fooling_rate: Option<Estimate>,
    /// The same of those samples on which the attack changes the class that model 1 itself gives; `None` where there are
    /// none, or model 1 gives no classes.
    pub conditional_fooling_rate: Option<Estimate>,
}

/// The losses of model 2 under model 1's attack, its clean and its white-box loss, and with labels its fooling rates.
///
/// `attacked` has model 1's outputs where they are logits, of any classes: its attack counts as successful where it changes
/// the class of the largest.
///
/// # Errors
/// When the rows do not belong together, a label has no logit, or a loss is not finite.
pub fn losses(
    truth: Truth<'_>,
    answers: &Answers<'_>,
    attacked: Option<&Answers<'_>>,
    resamples: &Resamples,
) -> Result<LossScores, Error> {
    check(truth, answers, resamples.n_samples())?;
    let of = |deviations| losses_of(truth, answers.clean, deviations);
    let (on_clean, on_attacked, on_own) = (of(None), of(Some(answers.black)), of(Some(answers.own)));
    let loss_ratio = if on_own.sum() > 0.0 {
        Some(resamples.ratio(on_attacked.view(), on_own.view(), |ratio| ratio)?)
    } else {
        None
    };
    let mean = |losses: &Array1<f64>| resamples.mean(&losses.to_vec());
    let (fooling_rate, conditional_fooling_rate) = match truth {
        Truth::Targets(_) => (None, None),
        Truth::Labels(labels) => {
            let fooled = fooled(labels, answers);
            let succeeded = match attacked {
                Some(attacked) => changed(attacked, resamples.n_samples())?,
                None => vec![false; fooled.len()],
            };
            let both = fooled
                .iter()
                .zip(succeeded)
                .map(|(fooled, succeeded)| fooled.filter(|_| succeeded))
                .collect::<Vec<_>>();
            (share(&fooled, resamples)?, share(&both, resamples)?)
        }
    };
    Ok(LossScores {
        attack_loss: mean(&on_attacked)?,
        clean_loss: mean(&on_clean)?,
        white_box_loss: mean(&on_own)?,
        loss_ratio,
        fooling_rate,
        conditional_fooling_rate,
    })
}

/// Similarity by attack transferability (Hwang et al. 2024): log max(0.01, 100·½(rate_{1→2} + rate_{2→1})) over the samples
/// that both models classify rightly when clean, where rate_{1→2} is the share that model 2 gets wrong under model 1's
/// attack. At most log 100 ≈ 4.61; `None` where there is no such sample.
///
/// # Errors
/// When the rows do not belong together, or a label has no logit.
pub fn similarity(
    labels: &[u32],
    first: &Answers<'_>,
    second: &Answers<'_>,
    resamples: &Resamples,
) -> Result<Option<Estimate>, Error> {
    check(Truth::Labels(labels), first, resamples.n_samples())?;
    check(Truth::Labels(labels), second, resamples.n_samples())?;
    let pairs = fooled(labels, first).into_iter().zip(fooled(labels, second));
    let half = |fooled: bool| f64::from(u8::from(fooled)) / 2.0;
    let shares: Vec<Option<f64>> = pairs.map(|(first, second)| Some(half(first?) + half(second?))).collect();
    if shares.iter().all(Option::is_none) {
        return Ok(None);
    }
    let share = resamples.mean_of_live(&shares)?;
    let of = |share: f64| (100.0 * share).max(LEAST_PERCENT).ln();
    Ok(Some(Estimate {
        replicates: share.replicates.map(of),
        ..Estimate::of(of(share.value), of(share.lower), of(share.upper))
    }))
}

/// The share of yes among the samples that have an answer; `None` without any.
fn share(answers: &[Option<bool>], resamples: &Resamples) -> Result<Option<Estimate>, Error> {
    if answers.iter().all(Option::is_none) {
        return Ok(None);
    }
    Ok(Some(resamples.share(answers)?))
}

/// Whether the other's attack makes a model wrong, for the samples that it gets right when clean.
fn fooled(labels: &[u32], answers: &Answers<'_>) -> Vec<Option<bool>> {
    let classes = classes(answers.clean, answers.black).into_iter().zip(labels);
    let fooled =
        classes.map(|([clean, attacked], &label)| (clean == label as usize).then_some(attacked != label as usize));
    fooled.collect()
}

/// Whether a model's own attack changes its class.
fn changed(answers: &Answers<'_>, n_samples: usize) -> Result<Vec<bool>, Error> {
    check_rows(answers.clean, answers.own, n_samples)?;
    Ok(classes(answers.clean, answers.own).into_iter().map(|[clean, attacked]| clean != attacked).collect())
}

/// The class of each sample when clean, and with a deviation.
fn classes(clean: ArrayView2<'_, f32>, deviations: ArrayView2<'_, f64>) -> Vec<[usize; 2]> {
    let rows = clean.rows().into_iter().zip(deviations.rows());
    let classes = rows.map(|(clean, deviation)| {
        let attacked = clean.iter().zip(deviation).map(|(&output, change)| f64::from(output) + change);
        [largest(clean.iter().map(|&output| f64::from(output))), largest(attacked)]
    });
    classes.collect()
}

/// The place of the largest value; the first of equals.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    let better = |best: (usize, f64), next: (usize, f64)| if next.1 > best.1 { next } else { best };
    values.enumerate().reduce(better).map_or(0, |(index, _)| index)
}

/// The loss of each sample, clean or with a deviation.
fn losses_of(truth: Truth<'_>, clean: ArrayView2<'_, f32>, deviations: Option<ArrayView2<'_, f64>>) -> Array1<f64> {
    let loss = |(sample, clean): (usize, ArrayView1<'_, f32>)| {
        let mut row = clean.mapv(f64::from);
        if let Some(deviations) = deviations {
            row += &deviations.row(sample);
        }
        match truth {
            Truth::Labels(labels) => cross_entropy(row.view(), labels.get(sample).map_or(0, |&label| label as usize)),
            Truth::Targets(targets) => {
                row.iter().zip(targets.row(sample)).map(|(output, &target)| (output - f64::from(target)).powi(2)).sum()
            }
        }
    };
    clean.rows().into_iter().enumerate().map(loss).collect()
}

/// −log softmax(logits)[label], in nats.
fn cross_entropy(logits: ArrayView1<'_, f64>, label: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - largest).exp()).sum();
    sum.ln() + largest - logits.get(label).copied().unwrap_or(largest)
}

fn check(truth: Truth<'_>, answers: &Answers<'_>, n_samples: usize) -> Result<(), Error> {
    check_rows(answers.clean, answers.black, n_samples)?;
    check_rows(answers.clean, answers.own, n_samples)?;
    let outputs = answers.clean.ncols();
    match truth {
        Truth::Labels(labels) => {
            check_samples("labels", n_samples, labels.len())?;
            match labels.iter().position(|&label| label as usize >= outputs) {
                Some(sample) => Err(Error::Label { sample, n_outputs: outputs }),
                None => Ok(()),
            }
        }
        Truth::Targets(targets) => {
            check_samples("targets", n_samples, targets.nrows())?;
            if targets.ncols() != outputs {
                return Err(Error::RowLength { what: "targets", expected: outputs, found: targets.ncols() });
            }
            Ok(())
        }
    }
}

fn check_rows(clean: ArrayView2<'_, f32>, deviations: ArrayView2<'_, f64>, n_samples: usize) -> Result<(), Error> {
    check_samples("outputs", n_samples, clean.nrows())?;
    check_samples("deviations", n_samples, deviations.nrows())?;
    check_finite("the deviation", deviations)?;
    let (expected, found) = (clean.ncols(), deviations.ncols());
    if found != expected {
        return Err(Error::RowLength { what: "deviations", expected, found });
    }
    Ok(())
}
