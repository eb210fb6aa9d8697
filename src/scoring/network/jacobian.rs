//! A network's derivatives at some samples: products with cotangents and tangents, and whole Jacobians from them.

use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis};

use super::{Derived, Network, Outputs, stack};
use crate::{
    attack::JacobianProducts,
    error::{Error, Result},
    runtime::{Executable, Feed, Value},
};

/// A vector-Jacobian product in two graphs: the second takes what the first saved.
pub(super) struct Backward {
    pub forward: Executable,
    pub backward: Executable,
}

/// A network linearised at the samples of a tile: what its forward pass left serves any number of backward passes.
pub struct Linearised<'a> {
    network: &'a Network,
    n_rows: usize,
    /// The tile, padded.
    samples: ArrayD<f32>,
    saved: Vec<Value>,
}

impl Network {
    /// Runs the model forward on at most a tile of samples, rows x n, and keeps what derivatives need.
    ///
    /// # Errors
    /// [`Reason::ModelExecutionFailed`](crate::error::Reason::ModelExecutionFailed).
    pub fn linearised(&self, samples: ArrayView2<'_, f32>) -> Result<Linearised<'_>> {
        let n_rows = samples.nrows();
        let samples = self.padded(samples, &self.sample_shape)?;
        let saved = self.jacobian.forward.run(&[(self.interface.input.as_str(), samples.view().into())]);
        Ok(Linearised { network: self, n_rows, saved: saved.map_err(|cause| self.execution_failed(&cause))?, samples })
    }
}

impl Network {
    /// J t for tangents t at samples, both rows x n: rows x d.
    ///
    /// # Errors
    /// [`Reason::ModelNotDifferentiable`](crate::error::Reason::ModelNotDifferentiable),
    /// [`Reason::ModelExecutionFailed`](crate::error::Reason::ModelExecutionFailed).
    pub fn jvp(&self, samples: ArrayView2<'_, f32>, tangents: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let tiles = samples.axis_chunks_iter(Axis(0), self.tile).zip(tangents.axis_chunks_iter(Axis(0), self.tile));
        let moved =
            tiles.map(|(samples, tangents)| self.jvp_of_tile(&self.padded(samples, &self.sample_shape)?, tangents));
        stack(&moved.collect::<Result<Vec<_>>>()?)
    }

    fn jvp_of_tile(&self, samples: &ArrayD<f32>, tangents: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let executable = self.derived(Derived::Tangent)?;
        let (input, output) = (&self.interface.input, &self.interface.output);
        let (from, to) = (format!("tangent/{input}"), format!("tangent/{output}"));
        let padded = self.padded(tangents, &self.sample_shape)?;
        let feeds = [(input.as_str(), samples.view().into()), (from.as_str(), padded.view().into())];
        let given = executable.run(&feeds).map_err(|cause| self.execution_failed(&cause))?;
        self.tensor(&given, &to, tangents.nrows())
    }
}

impl Linearised<'_> {
    /// Outputs and features at the samples.
    ///
    /// # Errors
    /// [`Reason::ModelExecutionFailed`](crate::error::Reason::ModelExecutionFailed) when the model gives NaN or infinity.
    pub fn outputs(&self) -> Result<Outputs> {
        self.network.outputs_of(&self.saved, self.n_rows)
    }

    /// W J for the rows of W, `cotangents` (r, d): rows x r x n. The model runs backward r times.
    ///
    /// # Errors
    /// [`Reason::ModelExecutionFailed`](crate::error::Reason::ModelExecutionFailed).
    pub fn jacobian_rows(&self, cotangents: ArrayView2<'_, f32>) -> Result<Array3<f32>> {
        let mut rows = Array3::zeros((self.n_rows, cotangents.nrows(), self.network.n_inputs()));
        for (mut to, cotangent) in rows.axis_iter_mut(Axis(1)).zip(cotangents.rows()) {
            let everywhere =
                cotangent.broadcast((self.n_rows, cotangent.len())).ok_or_else(|| self.network.ragged())?;
            to.assign(&self.vjp(everywhere)?);
        }
        Ok(rows)
    }
}

impl JacobianProducts for Linearised<'_> {
    type Error = Error;

    fn vjp(&self, cotangents: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let Network { interface, jacobian: Backward { backward, .. }, output_shape, .. } = self.network;
        let (cotangent, gradient) =
            (format!("cotangent/{}", interface.output), format!("gradient/{}", interface.input));
        let cotangents = self.network.padded(cotangents, output_shape)?;
        let mut feeds: Vec<(&str, Feed<'_>)> = vec![
            (cotangent.as_str(), cotangents.view().into()),
            (interface.input.as_str(), self.samples.view().into()),
        ];
        feeds.extend(self.saved.iter().map(|value| (value.name(), value.into())));
        feeds.retain(|(name, _)| backward.inputs().iter().any(|input| input.name == *name));
        let given = backward.run(&feeds).map_err(|cause| self.network.execution_failed(&cause))?;
        self.network.tensor(&given, &gradient, self.n_rows)
    }

    fn jvp(&self, tangents: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.network.jvp_of_tile(&self.samples, tangents)
    }
}
