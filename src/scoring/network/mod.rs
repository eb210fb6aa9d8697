//! A model seen from the probe's pixel space: outputs, features, derivatives and attack steps of flattened samples.
//!
//! Invariant: rows run in tiles whose height depends on the model, the sample's shape and the kind of device alone, the last
//! one padded. So a sample's numbers do not depend on how many samples travel together. Only where a graphics card has not
//! the memory for a tile do fewer rows run at once, which the log tells.

mod ascent;
mod jacobian;
mod training;

use std::{
    collections::HashMap,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, Axis, IxDyn, concatenate, s};

pub use ascent::Ascent;
use jacobian::Backward;
pub use jacobian::Linearised;
pub use training::{Course, Examples, Trained, Trainee, Training};

use crate::{
    config::Precision,
    error::{Error, Reason, Result},
    gradient::{
        self, ElementType, Graph, Port, Target,
        compose::{self, Loss},
    },
    limits,
    registry::{OutputKind, Snapshot},
    runtime::{Executable, Runtime, RuntimeError, Value},
    scoring::{interface::Interface, types::ModelReference},
    verify,
};

/// What a forward pass gives for some rows.
pub struct Outputs {
    /// Rows x flattened outputs.
    pub outputs: Array2<f32>,
    /// Rows x flattened penultimate features; the outputs themselves where the graph has none before them.
    pub features: Array2<f32>,
}

/// A model ready to be run and differentiated on samples of one shape.
pub struct Network {
    reference: ModelReference,
    /// The manifest, written out.
    manifest: String,
    output_kind: OutputKind,
    classes: Vec<String>,
    n_parameters: u64,
    clean_accuracy: Option<f64>,
    interface: Interface,
    /// Shape of one sample, without the batch dimension.
    sample_shape: Vec<usize>,
    /// Shape of one sample's output.
    output_shape: Vec<usize>,
    tile: usize,
    /// Rows that run at once: a tile's, or as many as the device has memory for.
    height: AtomicUsize,
    runtime: Arc<Runtime>,
    /// Preprocessing and model, before differentiation.
    graph: Graph,
    /// The same in float32, to be trained.
    single: Graph,
    forward: Executable,
    jacobian: Backward,
    /// Graphs that only some attacks need, from their first use on.
    derived: Mutex<HashMap<Derived, Arc<Executable>>>,
}

/// A graph derived from a model and a loss.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Derived {
    Tangent,
    AttackStep(Loss, compose::Norm, compose::Accumulated),
}

impl Network {
    /// Composes preprocessing in front of the model, derives its gradient graph and tries it once. `feature_tensor` is read as
    /// its features in place of what the manifest says.
    ///
    /// # Errors
    /// [`Reason::ProbeMismatch`] when samples of this shape cannot be fed to the model, [`Reason::ModelInvalid`] also where
    /// the gradient graph that it brings is wrong, [`Reason::ModelNotDifferentiable`] and [`Reason::ModelExecutionFailed`] when the model itself is at fault,
    /// [`Reason::OptionUnsupported`] when it has no such tensor, or none with a row for each sample.
    pub fn build(
        runtime: &Arc<Runtime>,
        snapshot: &Snapshot,
        sample_shape: &[usize],
        feature_tensor: Option<&str>,
    ) -> Result<Self> {
        let graph = super::describe::parse(snapshot)?;
        let n_parameters = graph.n_parameters();
        let graph = in_float32(&graph).map_err(|cause| invalid(snapshot.name(), &cause))?;
        let interface = Interface::of(snapshot, &graph, sample_shape, feature_tensor)?;
        let target = if runtime.uses_cards() { Target::Cuda } else { Target::Cpu };
        let single = interface.compose(snapshot.name(), graph)?.for_target(target);
        let graph = match runtime.precision() {
            Precision::Float16 if runtime.uses_cards() => gradient::narrowed(&single),
            _ => Ok(single.clone()),
        };
        let graph = graph.map_err(|cause| invalid(snapshot.name(), &cause))?;
        let forward = compile(runtime, snapshot.name(), &graph)?;
        let parts = gradient::vjp_parts(&graph, &[&interface.input], &[&interface.output])
            .map_err(|cause| not_differentiable(snapshot.name(), &cause))?;
        let jacobian = Backward {
            forward: compile(runtime, snapshot.name(), &parts.forward)?,
            backward: compile(runtime, snapshot.name(), &parts.backward)?,
        };
        let tile =
            interface.fixed_batch.unwrap_or_else(|| tile_height(sample_shape.iter().product(), runtime.uses_cards()));
        let mut network = Network {
            reference: ModelReference { name: snapshot.name().to_owned(), digest: snapshot.digest().to_string() },
            manifest: format!("{:?}", snapshot.manifest()),
            output_kind: interface.output_kind,
            classes: snapshot.manifest().output.classes.clone(),
            n_parameters,
            clean_accuracy: snapshot.manifest().output.accuracy,
            sample_shape: sample_shape.to_vec(),
            output_shape: Vec::new(),
            tile,
            height: AtomicUsize::new(tile),
            interface,
            runtime: Arc::clone(runtime),
            graph,
            single,
            forward,
            jacobian,
            derived: Mutex::default(),
        };
        if [&network.forward, &network.jacobian.forward, &network.jacobian.backward]
            .iter()
            .any(|graph| graph.falls_back())
        {
            tracing::warn!(
                model = network.name(),
                "the processor runs some nodes for the graphics card; `transferscore check` with --device lists them"
            );
        }
        network.output_shape = network.try_out()?;
        network.verify_pullback()?;
        Ok(network)
    }

    pub fn name(&self) -> &str {
        &self.reference.name
    }

    pub fn reference(&self) -> &ModelReference {
        &self.reference
    }

    /// Everything that the network's results depend on, beside the samples.
    pub fn identity(&self) -> (&ModelReference, &str) {
        (&self.reference, &self.manifest)
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

    /// On the model's own task, 0..1, where its manifest tells.
    pub fn clean_accuracy(&self) -> Option<f64> {
        self.clean_accuracy
    }

    /// What its graphs take, in bytes: each as a file, and its weights in a session for each thread. One derived graph is
    /// counted, whether it is there or not.
    pub fn size_bytes(&self) -> u64 {
        let Backward { forward, backward } = &self.jacobian;
        let files: usize =
            [&self.forward, &self.forward, forward, backward].iter().map(|graph| graph.size_bytes()).sum();
        files as u64 * (1 + self.runtime.workers().n_threads() as u64)
    }

    /// d: flattened outputs of one sample.
    pub fn n_outputs(&self) -> usize {
        self.output_shape.iter().product()
    }

    /// Of one sample's output.
    pub fn output_shape(&self) -> &[usize] {
        &self.output_shape
    }

    /// n: values of one sample.
    pub fn n_inputs(&self) -> usize {
        self.sample_shape.iter().product()
    }

    /// Whether whole Jacobians are computed: they have few rows and fit in memory.
    pub fn has_small_jacobian(&self) -> bool {
        let bytes = self.n_outputs().saturating_mul(self.n_inputs()).saturating_mul(size_of::<f32>());
        self.n_outputs() <= limits::JACOBIAN_ROWS && bytes <= limits::JACOBIAN_BYTES
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
        let tiles = self.in_batches(samples.nrows(), |batch, height| {
            let rows = samples.slice(s![batch, ..]);
            let given = self.run(&self.forward, rows, height)?;
            Ok(self.outputs_of(&given, rows.nrows(), height)?)
        })?;
        stacked(&tiles)
    }

    /// Outputs and features from what a run gave for a tile.
    fn outputs_of(&self, given: &[Value], n_rows: usize, height: usize) -> Result<Outputs> {
        let outputs = self.tensor(given, &self.interface.output, n_rows, height)?;
        let features = match &self.interface.features {
            Some(name) => self.tensor(given, name, n_rows, height)?,
            None => outputs.clone(),
        };
        Ok(Outputs { outputs, features })
    }

    /// A graph that is derived and compiled on first use. Two threads may both derive it; one result is kept.
    fn derived(&self, kind: Derived) -> Result<Arc<Executable>> {
        let kept = || self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(executable) = kept().get(&kind) {
            return Ok(Arc::clone(executable));
        }
        let (input, output) = (self.interface.input.as_str(), self.interface.output.as_str());
        let graph = match kind {
            Derived::Tangent => gradient::jvp(&self.graph, &[input], &[output]),
            Derived::AttackStep(loss, norm, accumulated) => {
                compose::attack_step(&self.graph, input, output, loss, norm, accumulated)
            }
        };
        let graph = graph.map_err(|cause| not_differentiable(self.name(), &cause))?;
        let executable = match kind {
            Derived::Tangent => self.runtime.compile(graph.to_onnx()),
            Derived::AttackStep(..) => self.runtime.compile_for_steps(graph.to_onnx()),
        };
        let executable = Arc::new(executable.map_err(|cause| self.execution_failed(&cause))?);
        Ok(Arc::clone(kept().entry(kind).or_insert(executable)))
    }

    /// Does some work on rows 0..`n_rows`, batch by batch, and gives what it gave. It is told a batch's rows and the height
    /// that they are padded to. Where the device has not enough memory, idle sessions are closed, then batches are halved;
    /// where it was lost, the work is done once more on sessions opened anew.
    fn in_batches<T>(&self, n_rows: usize, work: impl Fn(Range<usize>, usize) -> Result<T, Stopped>) -> Result<Vec<T>> {
        let (mut done, mut given) = (0, Vec::new());
        while done < n_rows {
            let (batch, result) = self.despite_faults(|height| {
                let batch = done..n_rows.min(done.saturating_add(height));
                Ok((batch.clone(), work(batch, height)?))
            })?;
            done = batch.end;
            given.push(result);
        }
        Ok(given)
    }

    /// Does some work that is told how many rows may run at once, again where the device's trouble may be over then.
    fn despite_faults<T>(&self, work: impl Fn(usize) -> Result<T, Stopped>) -> Result<T> {
        let (mut made_room, mut was_lost) = (false, false);
        loop {
            let height = self.height.load(Ordering::SeqCst);
            let stopped = match work(height) {
                Ok(result) => return Ok(result),
                Err(stopped) => stopped,
            };
            match &stopped {
                Stopped::ByRuntime(RuntimeError::OutOfMemory(..)) if self.runtime.uses_cards() => {
                    if !made_room && self.runtime.make_room() {
                        made_room = true;
                        continue;
                    }
                    if height > 1 && self.interface.fixed_batch.is_none() {
                        let half = height / 2;
                        self.height.fetch_min(half, Ordering::SeqCst);
                        tracing::warn!(
                            model = self.name(),
                            rows = half,
                            "not enough memory on the device; smaller batches"
                        );
                        continue;
                    }
                }
                Stopped::ByRuntime(RuntimeError::Lost(..)) if !was_lost => {
                    was_lost = true;
                    continue;
                }
                _ => {}
            }
            return Err(stopped.about(self));
        }
    }

    /// Does some work, and once more where the device's trouble may be over then: memory was made room for, or the device
    /// was lost.
    fn once_more<T>(&self, mut work: impl FnMut() -> Result<T, Stopped>) -> Result<T> {
        let result = match work() {
            Err(Stopped::ByRuntime(RuntimeError::OutOfMemory(..))) if self.runtime.make_room() => work(),
            Err(Stopped::ByRuntime(RuntimeError::Lost(..))) => work(),
            result => result,
        };
        result.map_err(|stopped| stopped.about(self))
    }

    /// Tiles that may be worked on at once, of samples that fill some.
    pub fn tiles_at_once(&self, samples: usize) -> usize {
        let tiles = samples.div_ceil(self.tile);
        if self.runtime.uses_cards() {
            // What is kept of each lies on a card.
            tiles.min(self.runtime.devices().len() * (limits::SESSIONS_AT_WORK + 1))
        } else {
            tiles
        }
    }

    /// Runs a graph on at most as many rows as are padded to.
    fn run(&self, executable: &Executable, rows: ArrayView2<'_, f32>, height: usize) -> Result<Vec<Value>, Stopped> {
        let rows = padded(rows, &self.sample_shape, height)?;
        Ok(executable.run(&[(self.interface.input.as_str(), rows.view().into())])?)
    }

    /// The named output of a run, flattened, without the padding.
    fn tensor(&self, given: &[Value], name: &str, n_rows: usize, height: usize) -> Result<Array2<f32>> {
        self.flat(self.view(given, name)?, name, n_rows, height)
    }

    /// The named output of a run.
    fn view<'a>(&self, given: &'a [Value], name: &str) -> Result<ArrayViewD<'a, f32>> {
        let value = given.iter().find(|value| value.name() == name).ok_or_else(|| self.lacks(name))?;
        value.view().map_err(|cause| self.execution_failed(&cause))
    }

    fn ragged(&self) -> Error {
        Error::new(Reason::Internal, format!("rows for `{}` do not fit its outputs", self.name()))
    }

    fn lacks(&self, name: &str) -> Error {
        Error::new(Reason::Internal, format!("the graph of `{}` lacks `{name}`", self.name()))
    }

    /// An output, flattened, without the padding.
    fn flat(&self, array: ArrayViewD<'_, f32>, name: &str, n_rows: usize, height: usize) -> Result<Array2<f32>> {
        if array.shape().first() != Some(&height) {
            return Err(Error::new(
                Reason::ModelExecutionFailed,
                format!(
                    "model `{}`: `{name}` has shape {:?} for a batch of {height}; its first dimension must be the batch",
                    self.name(),
                    array.shape()
                ),
            ));
        }
        let width = array.len() / height.max(1);
        let flat = array.to_shape((height, width)).map_err(internal)?;
        let rows = flat.slice(s![..n_rows, ..]).to_owned();
        if rows.iter().any(|value| !value.is_finite()) {
            return Err(self.not_finite(name));
        }
        Ok(rows)
    }

    fn not_finite(&self, name: &str) -> Error {
        let model = self.name();
        let message = format!(
            "model `{model}` gives NaN or infinity in `{name}`; check its weights and the range of the samples"
        );
        Error::new(Reason::ModelExecutionFailed, message)
    }

    /// Runs one mid-range sample and gives the output's shape.
    fn try_out(&self) -> Result<Vec<usize>> {
        let samples = Array2::from_elem((1, self.n_inputs()), 0.5);
        self.despite_faults(|height| {
            let given = self.run(&self.forward, samples.view(), height)?;
            let output = self.view(&given, &self.interface.output)?;
            let shape = output.shape().iter().skip(1).copied().collect();
            self.flat(output, &self.interface.output, 1, height)?;
            if let Some(features) = self.interface.features.as_ref().filter(|_| self.interface.are_features_named) {
                self.tensor(&given, features, 1, height).map_err(|error| {
                    Error::new(Reason::OptionUnsupported, error.message).at("knowledge.feature_tensor")
                })?;
            }
            Ok(shape)
        })
    }

    /// Holds the gradient graph that the model's folder brings against finite differences of the model.
    fn verify_pullback(&self) -> Result<()> {
        if !self.single.has_pullback() {
            return Ok(());
        }
        let refused = |problem: String| {
            let message = format!("model `{}`: gradient.onnx {problem}", self.name());
            Error::new(Reason::ModelInvalid, message)
        };
        // Without the features, which it says nothing of.
        let graph = compose::with_outputs(&self.single, &[self.interface.output.as_str()])
            .map_err(|cause| invalid(self.name(), &cause))?;
        let measured = verify::verify(&self.runtime, &graph, &self.pixels(), 0)
            .map_err(|cause| refused(format!("cannot be verified: {cause}")))?;
        // What rounding does to it in float32 is no mistake in it, so the wider tolerance, whatever the precision.
        if measured.worst() <= verify::SINGLE_TOLERANCE {
            return Ok(());
        }
        Err(refused(format!(
            "disagrees with finite differences of model.onnx by {:.1e} of their size, more than the {:.0e} allowed; \
             make it anew from that file, or remove it",
            measured.worst(),
            verify::SINGLE_TOLERANCE
        )))
    }

    /// Some samples from 0.1 to 0.9.
    fn pixels(&self) -> verify::Given {
        let shape = [&[self.interface.fixed_batch.unwrap_or(2)], self.sample_shape.as_slice()].concat();
        // The golden ratio's multiples, modulo 1, lie evenly and in no order.
        let values =
            (0..shape.iter().product()).map(|index: usize| 0.1 + 0.8 * (index as f64 * 0.618_033_988_75).fract());
        let array = ArrayD::from_shape_vec(shape, values.collect());
        array.into_iter().map(|array| (self.interface.input.clone(), array)).collect()
    }

    fn execution_failed(&self, cause: &RuntimeError) -> Error {
        execution_failed(self.name(), cause)
    }
}

/// Why runs in a row ended early.
enum Stopped {
    ByRuntime(RuntimeError),
    ByWatch(Error),
}

impl From<RuntimeError> for Stopped {
    fn from(cause: RuntimeError) -> Self {
        Stopped::ByRuntime(cause)
    }
}

impl From<Error> for Stopped {
    fn from(error: Error) -> Self {
        Stopped::ByWatch(error)
    }
}

impl Stopped {
    fn about(self, network: &Network) -> Error {
        match self {
            Stopped::ByRuntime(cause) => network.execution_failed(&cause),
            Stopped::ByWatch(error) => error,
        }
    }
}

/// The model computed in float32 where it is in half precision, and throughout where samples or outputs are not float32:
/// for these types ONNX Runtime's CPU lacks kernels, and samples are float32.
pub fn in_float32(graph: &Graph) -> gradient::Result<Graph> {
    let is_other = |port: &Port| port.element().is_some_and(|kind| kind.is_float() && kind != ElementType::Float32);
    let ports = graph.inputs().into_iter().chain(graph.outputs());
    if ports.into_iter().any(|port| is_other(&port)) { gradient::in_single(graph) } else { gradient::widened(graph) }
}

fn invalid(name: &str, cause: &gradient::GradientError) -> Error {
    Error::new(Reason::ModelInvalid, format!("model `{name}`: {cause}"))
}

fn not_differentiable(name: &str, cause: &gradient::GradientError) -> Error {
    Error::new(Reason::ModelNotDifferentiable, format!("model `{name}`: {cause}"))
}

fn compile(runtime: &Arc<Runtime>, name: &str, graph: &Graph) -> Result<Executable> {
    runtime.compile(graph.to_onnx()).map_err(|cause| execution_failed(name, &cause))
}

/// What a client is told of a model that ONNX Runtime does not run.
fn execution_failed(name: &str, cause: &RuntimeError) -> Error {
    let (reason, mend) = match cause {
        RuntimeError::OutOfMemory(..) => (Reason::DeviceMemoryExhausted, "; try again later, or with a smaller model"),
        RuntimeError::Lost(..) => (Reason::DeviceLost, "; try again once the server was started again"),
        _ => (Reason::ModelExecutionFailed, ""),
    };
    Error::new(reason, format!("model `{name}`: {cause}{mend}"))
}

/// Rows that run together for samples of `n_inputs` values. On the processor enough to keep kernels busy, few enough that
/// what elementwise operators go through stays near it; graphics cards are busy with more.
fn tile_height(n_inputs: usize, on_card: bool) -> usize {
    match (n_inputs, on_card) {
        (0..=1_024, false) => 64,
        (1_025..=65_536, false) => 16,
        (_, false) => 4,
        (0..=1_024, true) => 1_024,
        (1_025..=65_536, true) => 256,
        (_, true) => 64,
    }
}

/// At least one row, the last repeated up to some height, in the tensor's own shape.
fn padded(rows: ArrayView2<'_, f32>, shape: &[usize], height: usize) -> Result<ArrayD<f32>> {
    let missing = height.saturating_sub(rows.nrows());
    let last = rows.slice(s![rows.nrows().saturating_sub(1).., ..]);
    let mut parts = vec![rows.view()];
    parts.extend(std::iter::repeat_n(last.view(), missing));
    let batch = concatenate(Axis(0), &parts).map_err(internal)?;
    let full = [&[height], shape].concat();
    batch.into_shape_with_order(IxDyn(&full)).map_err(internal)
}

fn stacked(batches: &[Outputs]) -> Result<Outputs> {
    let stacked = |part: fn(&Outputs) -> &Array2<f32>| stack(batches.iter().map(part));
    Ok(Outputs { outputs: stacked(|batch| &batch.outputs)?, features: stacked(|batch| &batch.features)? })
}

fn stack<'a>(tiles: impl IntoIterator<Item = &'a Array2<f32>>) -> Result<Array2<f32>> {
    let views: Vec<_> = tiles.into_iter().map(|tile| tile.view()).collect();
    concatenate(Axis(0), &views).map_err(internal)
}

fn internal(cause: ndarray::ShapeError) -> Error {
    Error::new(Reason::Internal, format!("shapes of a tile disagree: {cause}"))
}
