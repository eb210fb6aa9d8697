//! A network's derivatives, as products with cotangents.

use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, IxDyn, s};

use super::{Network, internal};
use crate::{
    error::Result,
    runtime::{Executable, Feed},
};

/// A vector-Jacobian product in two graphs: the second takes what the first saved.
pub(super) struct Backward {
    pub forward: Executable,
    pub backward: Executable,
}

impl Network {
    /// Jacobians of `samples` (rows x n): rows x d x n. The model runs forward once a tile, and backward once an output
    /// on what the forward run left.
    ///
    /// # Errors
    /// [`Reason::ModelNotDifferentiable`], [`Reason::ModelExecutionFailed`].
    pub fn jacobians(&self, samples: ArrayView2<'_, f32>) -> Result<Array3<f32>> {
        let Backward { forward, backward } = &self.jacobian;
        let cotangent = format!("cotangent/{}", self.interface.output);
        let gradient = format!("gradient/{}", self.interface.input);
        let mut jacobians = Array3::zeros((samples.nrows(), self.n_outputs(), self.n_inputs()));
        for (rows, mut tile) in
            samples.axis_chunks_iter(Axis(0), self.tile).zip(jacobians.axis_chunks_iter_mut(Axis(0), self.tile))
        {
            let input = self.padded(rows, &self.sample_shape)?;
            let name = self.interface.input.as_str();
            let saved = forward.run(&[(name, input.view().into())]);
            let saved = saved.map_err(|cause| self.execution_failed(&cause))?;
            for output in 0..self.n_outputs() {
                let one_hot = self.one_hot(output)?;
                let mut feeds: Vec<(&str, Feed<'_>)> =
                    vec![(cotangent.as_str(), one_hot.view().into()), (name, input.view().into())];
                feeds.extend(saved.iter().map(|value| (value.name(), value.into())));
                feeds.retain(|(name, _)| backward.inputs().iter().any(|input| input.name == *name));
                let given = backward.run(&feeds).map_err(|cause| self.execution_failed(&cause))?;
                tile.slice_mut(s![.., output, ..]).assign(&self.tensor(&given, &gradient, rows.nrows())?);
            }
        }
        Ok(jacobians)
    }

    /// A tile of cotangents that select one output.
    fn one_hot(&self, output: usize) -> Result<ArrayD<f32>> {
        let mut seeds = Array2::zeros((self.tile, self.n_outputs()));
        seeds.column_mut(output).fill(1.0);
        let mut shape = vec![self.tile];
        shape.extend_from_slice(&self.output_shape);
        seeds.into_shape_with_order(IxDyn(&shape)).map_err(internal)
    }
}
