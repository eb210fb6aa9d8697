//! A network's derivatives at some samples: products with cotangents and tangents, and whole Jacobians from them.

use std::{cell::RefCell, ops::Range};

use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, s};

use super::{Derived, Network, Outputs, Stopped, padded, stack, stacked};
use crate::{
    attack::JacobianProducts,
    error::{Error, Result},
    runtime::{Executable, Feed, Value},
    scoring::interface::Interface,
};

/// A vector-Jacobian product in two graphs: the second takes what the first saved.
pub(super) struct Backward {
    pub forward: Executable,
    pub backward: Executable,
}

/// A network linearised at the samples of a tile: what its forward pass left serves any number of backward passes.
pub struct Linearised<'a> {
    network: &'a Network,
    /// Rows x n.
    samples: Array2<f32>,
    /// One for all rows, or several where the device has not the memory for that.
    parts: RefCell<Vec<Part>>,
}

/// What the forward pass of some rows left.
struct Part {
    rows: Range<usize>,
    /// Rows that these are padded to.
    height: usize,
    samples: ArrayD<f32>,
    saved: Vec<Value>,
}

impl Network {
    /// Runs the model forward on at most a tile of samples, rows x n, and keeps what derivatives need.
    ///
    /// # Errors
    /// [`Reason::ModelExecutionFailed`](crate::error::Reason::ModelExecutionFailed).
    pub fn linearised(&self, samples: ArrayView2<'_, f32>) -> Result<Linearised<'_>> {
        let linearised = Linearised { network: self, samples: samples.to_owned(), parts: RefCell::default() };
        linearised.of_parts(|_| Ok(()))?;
        Ok(linearised)
    }

    /// J t for tangents t at samples, both rows x n: rows x d.
    ///
    /// # Errors
    /// [`Reason::ModelNotDifferentiable`](crate::error::Reason::ModelNotDifferentiable),
    /// [`Reason::ModelExecutionFailed`](crate::error::Reason::ModelExecutionFailed).
    pub fn jvp(&self, samples: ArrayView2<'_, f32>, tangents: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        let executable = self.derived(Derived::Tangent)?;
        let (input, output) = (&self.interface.input, &self.interface.output);
        let (from, to) = (format!("tangent/{input}"), format!("tangent/{output}"));
        let moved = self.in_batches(samples.nrows(), |batch, height| {
            let some =
                |rows: ArrayView2<'_, f32>| padded(rows.slice(s![batch.clone(), ..]), &self.sample_shape, height);
            let (samples, tangents) = (some(samples)?, some(tangents)?);
            let feeds = [(input.as_str(), samples.view().into()), (from.as_str(), tangents.view().into())];
            Ok(self.tensor(&executable.run(&feeds)?, &to, batch.len(), height)?)
        })?;
        stack(&moved)
    }

    /// Runs the model forward on some of a tile's samples; what only the backward pass reads stays on the device.
    fn part(&self, samples: ArrayView2<'_, f32>, rows: Range<usize>, height: usize) -> Result<Part, Stopped> {
        let samples = padded(samples.slice(s![rows.clone(), ..]), &self.sample_shape, height)?;
        let Interface { input, output, features, .. } = &self.interface;
        let is_read = |name: &str| name == output.as_str() || features.as_deref() == Some(name);
        let feeds = [(input.as_str(), samples.view().into())];
        let saved = self.jacobian.forward.run_keeping(&feeds, |name| !is_read(name))?;
        Ok(Part { rows, height, samples, saved })
    }
}

impl Linearised<'_> {
    /// Outputs and features at the samples.
    ///
    /// # Errors
    /// [`Reason::ModelExecutionFailed`](crate::error::Reason::ModelExecutionFailed) when the model gives NaN or infinity.
    pub fn outputs(&self) -> Result<Outputs> {
        stacked(&self.of_parts(|part| Ok(self.network.outputs_of(&part.saved, part.rows.len(), part.height)?))?)
    }

    /// Does some work on every part, in the order of the rows. Parts are made where there are none, and made again where the
    /// device lost them or has not the memory for their height.
    fn of_parts<T>(&self, work: impl Fn(&Part) -> Result<T, Stopped>) -> Result<Vec<T>> {
        self.network.despite_faults(|height| {
            let mut kept = self.parts.borrow_mut();
            // They are kept again where all goes well.
            let mut parts = std::mem::take(&mut *kept);
            if parts.first().is_none_or(|part| part.height != height) {
                parts.clear();
                let n_rows = self.samples.nrows();
                for first in (0..n_rows).step_by(height.max(1)) {
                    parts.push(self.network.part(self.samples.view(), first..n_rows.min(first + height), height)?);
                }
            }
            let given = parts.iter().map(&work).collect::<Result<Vec<T>, Stopped>>()?;
            *kept = parts;
            Ok(given)
        })
    }

    /// W J for the rows of W, `cotangents` (r, d): rows x r x n. The model runs backward r times.
    ///
    /// # Errors
    /// [`Reason::ModelExecutionFailed`](crate::error::Reason::ModelExecutionFailed).
    pub fn jacobian_rows(&self, cotangents: ArrayView2<'_, f32>) -> Result<Array3<f32>> {
        let mut rows = Array3::zeros((self.samples.nrows(), cotangents.nrows(), self.network.n_inputs()));
        for (mut to, cotangent) in rows.axis_iter_mut(Axis(1)).zip(cotangents.rows()) {
            let everywhere =
                cotangent.broadcast((self.samples.nrows(), cotangent.len())).ok_or_else(|| self.network.ragged())?;
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
        let pulled = self.of_parts(|part| {
            let cotangents = padded(cotangents.slice(s![part.rows.clone(), ..]), output_shape, part.height)?;
            let mut feeds: Vec<(&str, Feed<'_>)> = vec![
                (cotangent.as_str(), cotangents.view().into()),
                (interface.input.as_str(), part.samples.view().into()),
            ];
            feeds.extend(part.saved.iter().map(|value| (value.name(), value.into())));
            feeds.retain(|(name, _)| backward.inputs().iter().any(|input| input.name == *name));
            Ok(self.network.tensor(&backward.run(&feeds)?, &gradient, part.rows.len(), part.height)?)
        })?;
        stack(&pulled)
    }

    fn jvp(&self, tangents: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
        self.network.jvp(self.samples.view(), tangents)
    }
}
