//! Steps along a network's loss gradients.

use ndarray::{Array2, ArrayD, ArrayView2, Axis, IxDyn};

use super::{Derived, Network, stack};
use crate::{
    attack::{Norm, PixelRange},
    cancel::Cancel,
    error::{Error, Result},
    gradient::compose::{self, Loss},
    runtime::{Carry, Iteration, RuntimeError},
};

/// What an empirical attack ascends, for some rows.
#[derive(Clone, Debug)]
pub struct LossTarget {
    pub loss: Loss,
    /// Rows x flattened outputs: class probabilities, or the outputs to move away from.
    pub target: Array2<f32>,
}

/// Steps of steepest ascent on a loss, with the projection onto a ball and the clip to the pixel range after each.
#[derive(Clone, Copy, Debug)]
pub struct Ascent {
    pub norm: Norm,
    pub epsilon: f32,
    pub step: f32,
    pub steps: u32,
    pub range: PixelRange,
}

/// Why an iteration in ONNX Runtime ended early.
enum Stopped {
    ByRuntime(RuntimeError),
    ByWatch(Error),
}

impl From<RuntimeError> for Stopped {
    fn from(cause: RuntimeError) -> Self {
        Stopped::ByRuntime(cause)
    }
}

impl Network {
    /// Gradient of a loss with respect to `samples` (rows x n): rows x n.
    ///
    /// # Errors
    /// [`Reason::ModelNotDifferentiable`], [`Reason::ModelExecutionFailed`].
    pub fn loss_gradient(&self, samples: ArrayView2<'_, f32>, target: &LossTarget) -> Result<Array2<f32>> {
        let executable = &*self.derived(Derived::LossGradient(target.loss))?;
        let gradient = format!("gradient/{}", self.interface.input);
        let target_name = format!("target/{}", self.interface.output);
        let mut gradients = Vec::new();
        for (rows, target) in
            samples.axis_chunks_iter(Axis(0), self.tile).zip(target.target.axis_chunks_iter(Axis(0), self.tile))
        {
            let ones = Array2::<f32>::ones((rows.nrows(), 1));
            let given = self.run(executable, rows, &[(&target_name, target), ("cotangent/loss", ones.view())])?;
            gradients.push(self.tensor(&given, &gradient, rows.nrows())?);
        }
        stack(&gradients)
    }

    /// Ascends a loss from `starts` around `samples` (both rows x n), each step one run of one graph: rows x n.
    ///
    /// # Errors
    /// [`Reason::ModelNotDifferentiable`], [`Reason::ModelExecutionFailed`], and [`Reason::Cancelled`] between steps.
    pub fn ascend(
        &self,
        starts: ArrayView2<'_, f32>,
        samples: ArrayView2<'_, f32>,
        target: &LossTarget,
        ascent: &Ascent,
        cancel: &Cancel,
    ) -> Result<Array2<f32>> {
        let norm = match ascent.norm {
            Norm::L2 => compose::Norm::L2,
            Norm::Linf => compose::Norm::Linf,
        };
        let executable = self.derived(Derived::AttackStep(target.loss, norm))?;
        let (input, output) = (&self.interface.input, &self.interface.output);
        let carried = ["next/", "clean/", "momentum/", "next_momentum/"].map(|prefix| format!("{prefix}{input}"));
        let [next, clean, momentum, next_momentum] = carried.each_ref().map(String::as_str);
        let carries = [Carry { output: next, input: input.as_str() }, Carry { output: next_momentum, input: momentum }];
        let target_name = format!("target/{output}");
        let [low, high] = ascent.range.bounds();
        let settings =
            [("epsilon", ascent.epsilon), ("step", ascent.step), ("decay", 0.0), ("low", low), ("high", high)]
                .map(|(name, value)| (format!("attack/{name}"), ArrayD::from_elem(IxDyn(&[1]), value)));
        let mut adversarial = Vec::new();
        for ((start, rows), target) in starts
            .axis_chunks_iter(Axis(0), self.tile)
            .zip(samples.axis_chunks_iter(Axis(0), self.tile))
            .zip(target.target.axis_chunks_iter(Axis(0), self.tile))
        {
            let n_rows = rows.nrows();
            let (start, rows) = (self.padded(start, &self.sample_shape)?, self.padded(rows, &self.sample_shape)?);
            let target = self.padded(target, &self.output_shape)?;
            let still = ArrayD::zeros(start.raw_dim());
            let mut feeds = vec![
                (input.as_str(), start.view()),
                (clean, rows.view()),
                (momentum, still.view()),
                (target_name.as_str(), target.view()),
            ];
            feeds.extend(settings.iter().map(|(name, value)| (name.as_str(), value.view())));
            let iteration =
                Iteration { feeds: &feeds, carries: &carries, watched: &["gradient_norm"], runs: ascent.steps };
            let last = executable.iterate(&iteration, |watched| {
                cancel.check().map_err(Stopped::ByWatch)?;
                let finite = watched.iter().all(|norms| norms.iter().all(|norm| norm.is_finite()));
                if finite { Ok(()) } else { Err(Stopped::ByWatch(self.not_finite(&format!("gradient/{input}")))) }
            });
            let last = last.map_err(|stopped| match stopped {
                Stopped::ByRuntime(cause) => self.execution_failed(&cause),
                Stopped::ByWatch(error) => error,
            })?;
            let last = last.first().ok_or_else(|| self.lacks(next))?;
            adversarial.push(self.flat(last.view(), next, n_rows)?);
        }
        stack(&adversarial)
    }
}
