//! A network under attack: as attacks see models, and its own steps of steepest ascent, each one run of one graph.

use ndarray::{Array2, ArrayD, ArrayView2, Axis, IxDyn, s};

use super::{Derived, Network, Stopped, padded, stack};
use crate::{
    attack::{Accumulated, Choose, JacobianProducts, LossTarget, Model, Momentum, Norm, PixelRange, Pullback},
    cancel::Cancel,
    error::{Error, Result},
    gradient::compose,
    runtime::{Carry, Iteration},
};

/// Steps of steepest ascent on a loss, with the projection onto a ball and the clip to the pixel range after each.
#[derive(Clone, Copy, Debug)]
pub struct Ascent {
    pub norm: Norm,
    pub epsilon: f32,
    /// Length of a step in the norm; negative descends.
    pub step: f32,
    pub steps: u32,
    pub momentum: Option<Momentum>,
    pub range: PixelRange,
}

impl Model for Network {
    type Error = Error;

    fn outputs(&self, samples: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        Ok(Network::outputs(self, samples)?.outputs)
    }

    fn pullback(&self, samples: ArrayView2<'_, f32>, choose: &mut Choose<'_, Error>) -> Result<Pullback> {
        let (mut outputs, mut gradients) = (Vec::new(), Vec::<Vec<Array2<f32>>>::new());
        let mut first = 0;
        for rows in samples.axis_chunks_iter(Axis(0), self.tile) {
            let linearised = self.linearised(rows)?;
            let given = linearised.outputs()?.outputs;
            let cotangents = choose(first..first + rows.nrows(), given.view())?;
            first += rows.nrows();
            gradients.resize_with(cotangents.len(), Vec::new);
            for (all, cotangents) in gradients.iter_mut().zip(&cotangents) {
                all.push(linearised.vjp(cotangents.view())?);
            }
            outputs.push(given);
        }
        Ok(Pullback { outputs: stack(&outputs)?, gradients: gradients.iter().map(stack).collect::<Result<_>>()? })
    }
}

impl Network {
    /// Ascends a loss from `starts` around `samples` (both rows x n), each step one run of one graph: rows x n.
    ///
    /// # Errors
    /// [`Reason::ModelNotDifferentiable`](crate::error::Reason::ModelNotDifferentiable),
    /// [`Reason::ModelExecutionFailed`](crate::error::Reason::ModelExecutionFailed), and
    /// [`Reason::Cancelled`](crate::error::Reason::Cancelled) between steps.
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
        let accumulated = ascent.momentum.map_or(Accumulated::Gradients, |momentum| momentum.of);
        let executable = self.derived(Derived::AttackStep(target.loss, norm, accumulated))?;
        let (input, output) = (&self.interface.input, &self.interface.output);
        let carried = ["next/", "clean/", "momentum/", "next_momentum/"].map(|prefix| format!("{prefix}{input}"));
        let [next, clean, momentum, next_momentum] = carried.each_ref().map(String::as_str);
        let carries = [Carry { output: next, input: input.as_str() }, Carry { output: next_momentum, input: momentum }];
        let target_name = format!("target/{output}");
        let settings = settings(ascent);
        let adversarial = self.in_batches(samples.nrows(), |batch, height| {
            let some =
                |rows: ArrayView2<'_, f32>, shape: &[usize]| padded(rows.slice(s![batch.clone(), ..]), shape, height);
            let (start, rows) = (some(starts, &self.sample_shape)?, some(samples, &self.sample_shape)?);
            let target = some(target.target.view(), &self.output_shape)?;
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
                cancel.check()?;
                let finite = watched.iter().all(|norms| norms.iter().all(|norm| norm.is_finite()));
                if finite { Ok(()) } else { Err(Stopped::ByWatch(self.not_finite(&format!("gradient/{input}")))) }
            })?;
            let last = last.first().ok_or_else(|| self.lacks(next))?;
            Ok(self.flat(last.view(), next, batch.len(), height)?)
        })?;
        stack(&adversarial)
    }
}

/// What the step's graph is tuned with, one number for all samples.
fn settings(ascent: &Ascent) -> [(String, ArrayD<f32>); 5] {
    let [low, high] = ascent.range.bounds();
    let decay = ascent.momentum.map_or(0.0, |momentum| momentum.decay as f32);
    [("epsilon", ascent.epsilon), ("step", ascent.step), ("decay", decay), ("low", low), ("high", high)]
        .map(|(name, value)| (format!("attack/{name}"), ArrayD::from_elem(IxDyn(&[1]), value)))
}
