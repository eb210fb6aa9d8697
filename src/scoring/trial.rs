//! The work that scores are made of, by itself: input gradients and attacks of one model, to be timed.
//!
//! It goes the way of every call: in tiles of the model's height, side by side on the runtime's threads. What is told of a
//! result, [`Trial::readings`], is computed apart from it.

use std::sync::Arc;

use ndarray::Array2;

use crate::{
    attack::{Loss, Model, Norm, argmax, loss_and_cotangents},
    cancel::Cancel,
    dataset::Dataset,
    error::{Error, Reason, Result},
    registry::OutputKind,
    runtime::Runtime,
    scoring::{
        attack_plan::EmpiricalAttack,
        empirical::{Attack, Attacked, Job, one_hot},
        network::Network,
        types::Pooling,
    },
};

/// Samples that a result is told by.
const READ_SAMPLES: usize = 8;

/// What is done to every sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exercise {
    /// The gradient of the cross-entropy to the model's own prediction; of half the squared length of outputs that are no
    /// logits.
    Gradient,
    /// The trial's attack, from the samples' clean outputs on.
    Attack,
}

/// A model, samples of a probe set and an attack, ready to run.
pub struct Trial {
    pub(super) runtime: Arc<Runtime>,
    pub(super) network: Arc<Network>,
    pub(super) probe: Dataset,
    pub(super) attack: EmpiricalAttack,
    pub(super) batch_size: usize,
}

impl Trial {
    /// Samples that there are to work on.
    pub fn n_samples(&self) -> usize {
        self.probe.n_samples()
    }

    /// Samples that run together.
    pub fn tile(&self) -> usize {
        self.network.tile()
    }

    /// Of one sample.
    pub fn sample_shape(&self) -> &[usize] {
        self.probe.shape()
    }

    /// Steps of the attack.
    pub fn steps(&self) -> u32 {
        self.attack.steps
    }

    /// The execution provider that the model runs on.
    pub fn provider(&self) -> &str {
        self.runtime.provider()
    }

    pub fn n_threads(&self) -> usize {
        self.runtime.workers().n_threads()
    }

    /// Does the exercise to the first `n_samples`: for each tile its gradients or perturbations, rows x inputs.
    ///
    /// # Errors
    /// [`Reason::ProbeMismatch`] where there are fewer samples, or none is asked for; [`Reason::ModelExecutionFailed`];
    /// [`Reason::OptionUnsupported`] for an attack that the model does not allow.
    pub fn run(&self, exercise: Exercise, n_samples: usize) -> Result<Vec<Array2<f32>>> {
        if n_samples == 0 || n_samples > self.n_samples() {
            let message = format!("{n_samples} samples of `{}`; give 1 to {}", self.probe.name(), self.n_samples());
            return Err(Error::new(Reason::ProbeMismatch, message).at("samples"));
        }
        let samples: Vec<usize> = (0..n_samples).collect();
        let tiles: Vec<&[usize]> = samples.chunks(self.tile()).collect();
        let mut results = Vec::with_capacity(tiles.len());
        let work = |samples: &&[usize]| match exercise {
            Exercise::Gradient => self.gradients(samples),
            Exercise::Attack => self.perturbations(samples),
        };
        let in_flight = self.batch_size.div_ceil(self.tile());
        self.runtime.workers().in_order(&tiles, in_flight, work, |tile| {
            results.push(tile);
            Ok::<_, Error>(())
        })?;
        Ok(results)
    }

    /// What tells one result from another, for each of the first samples: the L2 norm of a gradient; the attack's loss
    /// after it.
    ///
    /// # Errors
    /// As [`Trial::run`].
    pub fn readings(&self, exercise: Exercise, results: &[Array2<f32>]) -> Result<Vec<f64>> {
        let Some(first) = results.first() else { return Ok(Vec::new()) };
        let n_read = first.nrows().min(READ_SAMPLES);
        let rows = first.rows().into_iter().take(n_read);
        if exercise == Exercise::Gradient {
            return Ok(rows.map(|row| Norm::L2.length(&row.to_vec())).collect());
        }
        let samples: Vec<usize> = (0..n_read).collect();
        let mut attacked = self.probe.samples(&samples);
        attacked.rows_mut().into_iter().zip(rows).for_each(|(mut to, by)| to += &by);
        self.attacking(&samples, |attack| Ok(attack.losses(attacked.view())?.0))
    }

    fn gradients(&self, samples: &[usize]) -> Result<Array2<f32>> {
        let has_logits = self.network.output_kind() == OutputKind::Logits;
        let pulled = self.network.pullback(self.probe.samples(samples).view(), &mut |_, outputs| {
            if !has_logits {
                return Ok(vec![outputs.to_owned()]);
            }
            let classes: Vec<usize> = outputs.rows().into_iter().map(|row| argmax(row.iter())).collect();
            let target = one_hot(&classes, outputs.ncols());
            Ok(vec![loss_and_cotangents(Loss::SoftCrossEntropy, outputs, target.view()).1])
        })?;
        pulled.gradients.into_iter().next().ok_or_else(|| Error::new(Reason::Internal, "a pullback without a gradient"))
    }

    fn perturbations(&self, samples: &[usize]) -> Result<Array2<f32>> {
        let found = self.attacking(samples, |attack| attack.perturbations())?;
        found.into_iter().next().ok_or_else(|| Error::new(Reason::Internal, "an attack without a radius"))
    }

    /// Does something with the attack on some samples.
    fn attacking<T>(&self, samples: &[usize], work: impl FnOnce(&Attack<'_>) -> Result<T>) -> Result<T> {
        let rows = self.probe.samples(samples);
        let outputs = self.network.outputs(rows.view())?.outputs;
        let sources = [Attacked { network: &self.network, outputs: outputs.view() }];
        let job = Job {
            plan: &self.attack,
            seed: 0,
            sources: &sources,
            pooling: Pooling::Losses,
            rows: rows.view(),
            samples,
            probe: &self.probe,
            cancel: &Cancel::default(),
        };
        work(&Attack::new(&job)?)
    }
}
