//! A model seen from the probe's pixel space: outputs, features, Jacobians and loss gradients of flattened samples.
//!
//! Invariant: rows run in tiles whose height depends on the model and the sample's shape alone, the last one padded. So
//! a sample's numbers do not depend on how many samples travel together.

use std::sync::{Arc, OnceLock};

use ndarray::{Array2, Array3, ArrayD, ArrayView2, Axis, IxDyn, concatenate, s};

use crate::{
    error::{Error, Reason, Result},
    gradient::{
        self, Graph,
        compose::{self, Loss},
    },
    limits,
    registry::{OutputKind, Snapshot},
    runtime::{Executable, Runtime, RuntimeError},
    scoring::{interface::Interface, types::ModelReference},
};

/// What a forward pass gives for some rows.
pub struct Outputs {
    /// Rows x flattened outputs.
    pub outputs: Array2<f32>,
    /// Rows x flattened penultimate features; the outputs themselves where the graph has none before them.
    pub features: Array2<f32>,
}

/// What an empirical attack ascends, for some rows.
#[derive(Clone, Debug)]
pub struct LossTarget {
    pub loss: Loss,
    /// Rows x flattened outputs: class probabilities, or the outputs to move away from.
    pub target: Array2<f32>,
}

/// A model ready to be run and differentiated on samples of one shape.
pub struct Network {
    reference: ModelReference,
    output_kind: OutputKind,
    classes: Vec<String>,
    n_parameters: u64,
    interface: Interface,
    /// Shape of one sample, without the batch dimension.
    sample_shape: Vec<usize>,
    /// Shape of one sample's output.
    output_shape: Vec<usize>,
    tile: usize,
    runtime: Arc<Runtime>,
    /// Preprocessing and model, before differentiation.
    graph: Graph,
    forward: Executable,
    vjp: Executable,
    cross_entropy: OnceLock<Executable>,
    squared_deviation: OnceLock<Executable>,
}

impl Network {
    /// Composes preprocessing in front of the model, derives its gradient graph and tries it once.
    ///
    /// # Errors
    /// [`Reason::ProbeMismatch`] when samples of this shape cannot be fed to the model, [`Reason::ModelInvalid`],
    /// [`Reason::ModelNotDifferentiable`] and [`Reason::ModelExecutionFailed`] when the model itself is at fault,
    /// [`Reason::LimitExceeded`] when it has more outputs than Jacobians are computed for.
    pub fn build(runtime: &Arc<Runtime>, snapshot: &Snapshot, sample_shape: &[usize]) -> Result<Self> {
        let graph = super::describe::parse(snapshot)?;
        let n_parameters = graph.n_parameters();
        let interface = Interface::of(snapshot, &graph, sample_shape)?;
        let graph = interface.compose(snapshot.name(), graph)?;
        let forward = compile(runtime, snapshot.name(), &graph)?;
        let vjp = gradient::vjp(&graph, &[&interface.input], &[&interface.output])
            .map_err(|cause| not_differentiable(snapshot.name(), &cause))?;
        let vjp = compile(runtime, snapshot.name(), &vjp)?;
        let mut network = Network {
            reference: ModelReference { name: snapshot.name().to_owned(), digest: snapshot.digest().to_string() },
            output_kind: interface.output_kind,
            classes: snapshot.manifest().output.classes.clone(),
            n_parameters,
            sample_shape: sample_shape.to_vec(),
            output_shape: Vec::new(),
            tile: interface.fixed_batch.unwrap_or_else(|| tile_height(sample_shape.iter().product())),
            interface,
            runtime: Arc::clone(runtime),
            graph,
            forward,
            vjp,
            cross_entropy: OnceLock::new(),
            squared_deviation: OnceLock::new(),
        };
        network.output_shape = network.try_out()?;
        if network.n_outputs() > limits::JACOBIAN_ROWS {
            let message = format!(
                "model `{}` has {} outputs; Jacobians of at most {} are computed",
                network.name(),
                network.n_outputs(),
                limits::JACOBIAN_ROWS
            );
            return Err(Error::new(Reason::LimitExceeded, message));
        }
        Ok(network)
    }

    pub fn name(&self) -> &str {
        &self.reference.name
    }

    pub fn reference(&self) -> &ModelReference {
        &self.reference
    }

    pub fn output_kind(&self) -> OutputKind {
        self.output_kind
    }

    /// Names of the classes, in output order; may be empty.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    pub fn n_parameters(&self) -> u64 {
        self.n_parameters
    }

    /// d: flattened outputs of one sample.
    pub fn n_outputs(&self) -> usize {
        self.output_shape.iter().product()
    }

    /// n: values of one sample.
    pub fn n_inputs(&self) -> usize {
        self.sample_shape.iter().product()
    }

    /// Rows that run together.
    pub fn tile(&self) -> usize {
        self.tile
    }

    /// Outputs and features of `samples`, rows x n.
    ///
    /// # Errors
    /// [`Reason::ModelExecutionFailed`] when the model fails or gives NaN or infinity.
    pub fn outputs(&self, samples: ArrayView2<'_, f32>) -> Result<Outputs> {
        let mut outputs = Vec::new();
        let mut features = Vec::new();
        for rows in samples.axis_chunks_iter(Axis(0), self.tile) {
            let given = self.run(&self.forward, rows, &[])?;
            outputs.push(self.tensor(&self.forward, &given, &self.interface.output, rows.nrows())?);
            if let Some(name) = &self.interface.features {
                features.push(self.tensor(&self.forward, &given, name, rows.nrows())?);
            }
        }
        let outputs = stack(&outputs)?;
        let features = if features.is_empty() { outputs.clone() } else { stack(&features)? };
        Ok(Outputs { outputs, features })
    }

    /// Jacobians of `samples` (rows x n): rows x d x n, one vector-Jacobian product an output.
    ///
    /// # Errors
    /// [`Reason::ModelNotDifferentiable`], [`Reason::ModelExecutionFailed`].
    pub fn jacobians(&self, samples: ArrayView2<'_, f32>) -> Result<Array3<f32>> {
        let vjp = &self.vjp;
        let cotangent = format!("cotangent/{}", self.interface.output);
        let gradient = format!("gradient/{}", self.interface.input);
        let mut jacobians = Array3::zeros((samples.nrows(), self.n_outputs(), self.n_inputs()));
        for (rows, mut tile) in
            samples.axis_chunks_iter(Axis(0), self.tile).zip(jacobians.axis_chunks_iter_mut(Axis(0), self.tile))
        {
            for output in 0..self.n_outputs() {
                let mut one_hot = Array2::<f32>::zeros((rows.nrows(), self.n_outputs()));
                one_hot.column_mut(output).fill(1.0);
                let given = self.run(vjp, rows, &[(&cotangent, one_hot.view())])?;
                tile.slice_mut(s![.., output, ..]).assign(&self.tensor(vjp, &given, &gradient, rows.nrows())?);
            }
        }
        Ok(jacobians)
    }

    /// Gradient of a loss with respect to `samples` (rows x n): rows x n.
    ///
    /// # Errors
    /// [`Reason::ModelNotDifferentiable`], [`Reason::ModelExecutionFailed`].
    pub fn loss_gradient(&self, samples: ArrayView2<'_, f32>, target: &LossTarget) -> Result<Array2<f32>> {
        let executable = match target.loss {
            Loss::SoftCrossEntropy => self.once(&self.cross_entropy, || self.loss_graph(Loss::SoftCrossEntropy))?,
            Loss::SquaredDeviation => self.once(&self.squared_deviation, || self.loss_graph(Loss::SquaredDeviation))?,
        };
        let gradient = format!("gradient/{}", self.interface.input);
        let target_name = format!("target/{}", self.interface.output);
        let mut gradients = Vec::new();
        for (rows, target) in
            samples.axis_chunks_iter(Axis(0), self.tile).zip(target.target.axis_chunks_iter(Axis(0), self.tile))
        {
            let ones = Array2::<f32>::ones((rows.nrows(), 1));
            let given = self.run(executable, rows, &[(&target_name, target), ("cotangent/loss", ones.view())])?;
            gradients.push(self.tensor(executable, &given, &gradient, rows.nrows())?);
        }
        stack(&gradients)
    }

    fn loss_graph(&self, loss: Loss) -> crate::gradient::Result<Graph> {
        let graph = compose::with_loss(&self.graph, &self.interface.output, loss)?;
        gradient::vjp(&graph, &[&self.interface.input], &["loss"])
    }

    /// Derives and compiles a graph on first use. Two threads may both derive it; one result is kept.
    fn once<'a>(
        &self,
        cell: &'a OnceLock<Executable>,
        derive: impl FnOnce() -> crate::gradient::Result<Graph>,
    ) -> Result<&'a Executable> {
        if let Some(executable) = cell.get() {
            return Ok(executable);
        }
        let graph = derive()
            .map_err(|cause| Error::new(Reason::ModelNotDifferentiable, format!("model `{}`: {cause}", self.name())))?;
        let executable = compile(&self.runtime, self.name(), &graph)?;
        Ok(cell.get_or_init(|| executable))
    }

    /// Runs a graph on at most one tile of rows; `extra` feeds have a row for each sample.
    fn run(
        &self,
        executable: &Executable,
        rows: ArrayView2<'_, f32>,
        extra: &[(&str, ArrayView2<'_, f32>)],
    ) -> Result<Vec<ArrayD<f32>>> {
        let mut feeds = vec![(self.interface.input.as_str(), self.padded(rows, &self.sample_shape)?)];
        for (name, array) in extra {
            let shape: &[usize] = if *name == "cotangent/loss" { &[] } else { &self.output_shape };
            feeds.push((*name, self.padded(array.view(), shape)?));
        }
        let views: Vec<_> = feeds.iter().map(|(name, array)| (*name, array.view())).collect();
        executable.run(&views).map_err(|cause| self.execution_failed(&cause))
    }

    /// A tile of `rows`, the last row repeated up to the tile's height, in the tensor's own shape.
    fn padded(&self, rows: ArrayView2<'_, f32>, shape: &[usize]) -> Result<ArrayD<f32>> {
        let missing = self.tile.saturating_sub(rows.nrows());
        let last = rows.slice(s![rows.nrows().saturating_sub(1).., ..]);
        let mut parts = vec![rows.view()];
        parts.extend(std::iter::repeat_n(last.view(), missing));
        let tile = concatenate(Axis(0), &parts).map_err(internal)?;
        let mut full = vec![self.tile];
        full.extend_from_slice(shape);
        tile.into_shape_with_order(IxDyn(&full)).map_err(internal)
    }

    /// The named output of a run, flattened, without the padding.
    fn tensor(&self, executable: &Executable, given: &[ArrayD<f32>], name: &str, n_rows: usize) -> Result<Array2<f32>> {
        let index = executable.outputs().iter().position(|output| output.name == name);
        let array = index
            .and_then(|index| given.get(index))
            .ok_or_else(|| Error::new(Reason::Internal, format!("the graph of `{}` lacks `{name}`", self.name())))?;
        if array.shape().first() != Some(&self.tile) {
            return Err(Error::new(
                Reason::ModelExecutionFailed,
                format!(
                    "model `{}`: `{name}` has shape {:?} for a batch of {}; its first dimension must be the batch",
                    self.name(),
                    array.shape(),
                    self.tile
                ),
            ));
        }
        let width = array.len() / self.tile.max(1);
        let flat = array.to_shape((self.tile, width)).map_err(internal)?;
        let rows = flat.slice(s![..n_rows, ..]).to_owned();
        if rows.iter().any(|value| !value.is_finite()) {
            return Err(Error::new(
                Reason::ModelExecutionFailed,
                format!(
                    "model `{}` gives NaN or infinity in `{name}`; check its weights and the range of the samples",
                    self.name()
                ),
            ));
        }
        Ok(rows)
    }

    /// Runs one mid-range sample and gives the output's shape.
    fn try_out(&self) -> Result<Vec<usize>> {
        let samples = Array2::from_elem((1, self.n_inputs()), 0.5);
        let given = self.run(&self.forward, samples.view(), &[])?;
        self.tensor(&self.forward, &given, &self.interface.output, 1)?;
        let index = self.forward.outputs().iter().position(|output| output.name == self.interface.output);
        let shape = index.and_then(|index| given.get(index)).map(ArrayD::shape).unwrap_or_default();
        Ok(shape.iter().skip(1).copied().collect())
    }

    fn execution_failed(&self, cause: &RuntimeError) -> Error {
        Error::new(Reason::ModelExecutionFailed, format!("model `{}`: {cause}", self.name()))
    }
}

fn not_differentiable(name: &str, cause: &gradient::GradientError) -> Error {
    Error::new(Reason::ModelNotDifferentiable, format!("model `{name}`: {cause}"))
}

fn compile(runtime: &Arc<Runtime>, name: &str, graph: &Graph) -> Result<Executable> {
    runtime
        .compile(graph.to_onnx())
        .map_err(|cause| Error::new(Reason::ModelExecutionFailed, format!("model `{name}`: {cause}")))
}

/// Rows that run together for samples of `n_inputs` values: enough to keep kernels busy, few enough that activations of
/// an ordinary network stay within some hundred megabytes.
fn tile_height(n_inputs: usize) -> usize {
    match n_inputs {
        0..=4_096 => 64,
        4_097..=65_536 => 16,
        _ => 4,
    }
}

fn stack(tiles: &[Array2<f32>]) -> Result<Array2<f32>> {
    let views: Vec<_> = tiles.iter().map(|tile| tile.view()).collect();
    concatenate(Axis(0), &views).map_err(internal)
}

fn internal(cause: ndarray::ShapeError) -> Error {
    Error::new(Reason::Internal, format!("shapes of a tile disagree: {cause}"))
}
