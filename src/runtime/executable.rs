//! One ONNX graph, ready to run from several threads at once.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use ndarray::{ArrayD, ArrayViewD};
use ort::session::{Session, builder::GraphOptimizationLevel};

use super::{
    Runtime, RuntimeError,
    iteration::{self, Carry, Iteration, Steps},
    one_line,
    value::{self, Feed, Value},
};
use crate::telemetry::metrics;

/// An input or output of a graph, as ONNX Runtime sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    pub name: String,
    /// -1 for a dimension that varies.
    pub shape: Vec<i64>,
}

/// A compiled graph with a session for each thread that has needed one.
pub struct Executable {
    runtime: Arc<Runtime>,
    model: Bytes,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    idle: Mutex<Vec<OpenSession>>,
}

impl Executable {
    pub(super) fn new(runtime: Arc<Runtime>, model: Bytes) -> Result<Self, RuntimeError> {
        let first = open(&runtime, &model)?;
        let spec = |outlet: &ort::value::Outlet| TensorSpec {
            name: outlet.name().to_owned(),
            shape: outlet.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default(),
        };
        let inputs = first.session.inputs().iter().map(spec).collect();
        let outputs = first.session.outputs().iter().map(spec).collect();
        Ok(Executable { runtime, model, inputs, outputs, idle: Mutex::new(vec![first]) })
    }

    /// Of its file.
    pub fn size_bytes(&self) -> usize {
        self.model.len()
    }

    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Runs the graph on named tensors and gives all outputs, in the graph's order.
    ///
    /// # Errors
    /// [`RuntimeError::Run`] when types or shapes do not fit or a kernel fails.
    pub fn run(&self, feeds: &[(&str, Feed<'_>)]) -> Result<Vec<Value>, RuntimeError> {
        self.with_session(|session| value::run(session, feeds))
    }

    /// Runs the graph several times in a row, its carried outputs being inputs of the next run, and gives the carried
    /// outputs of the last run. With no runs these are what the inputs were fed.
    ///
    /// `watch` is shown the watched outputs after each run; its error ends the iteration, so it is the place to look
    /// whether anybody still wants the result.
    ///
    /// # Errors
    /// Those of `watch`; [`RuntimeError::Run`] as [`Executable::run`]; [`RuntimeError::OutputType`] for a carried or
    /// watched output that is not float32.
    pub fn iterate<E: From<RuntimeError>>(
        &self,
        iteration: &Iteration<'_>,
        watch: impl FnMut(&[ArrayViewD<'_, f32>]) -> Result<(), E>,
    ) -> Result<Vec<ArrayD<f32>>, E> {
        self.with_session(|session| iteration::run(session, iteration, watch))
    }

    /// Runs the graph several times in a row as [`Executable::iterate`], where `work` says when, and with which inputs fed
    /// anew. `feeds` has all inputs of the first run that it does not feed itself.
    ///
    /// # Errors
    /// Those of `work`; [`RuntimeError::Run`] where a carried input is not fed.
    pub fn in_steps<T, E: From<RuntimeError>>(
        &self,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        carries: &[Carry<'_>],
        watched: &[&str],
        work: impl FnOnce(&mut Steps<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with_session(|session| work(&mut Steps::new(session, feeds, carries, watched)?))
    }

    /// Does some work on a session that no other thread uses meanwhile.
    pub(super) fn with_session<T, E: From<RuntimeError>>(
        &self,
        work: impl FnOnce(&mut Session) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut session = self.take()?;
        let result = work(&mut session.session);
        self.lock().push(session);
        result
    }

    fn take(&self) -> Result<OpenSession, RuntimeError> {
        let idle = self.lock().pop();
        match idle {
            Some(session) => Ok(session),
            None => open(&self.runtime, &self.model),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<OpenSession>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session, counted as long as it is open.
struct OpenSession {
    session: Session,
    provider: &'static str,
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        metrics::SESSIONS.shift(&[self.provider], -1.0);
    }
}

fn open(runtime: &Runtime, model: &[u8]) -> Result<OpenSession, RuntimeError> {
    let refused = |cause: &dyn std::fmt::Display| RuntimeError::Model(one_line(cause));
    let session = Session::builder(&runtime.environment)
        .map_err(|cause| refused(&cause))?
        .with_intra_threads(1)
        .map_err(|cause| refused(&cause))?
        .with_inter_threads(1)
        .map_err(|cause| refused(&cause))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|cause| refused(&cause))?
        .commit_from_memory(model)
        .map_err(|cause| refused(&cause))?;
    let provider = runtime.provider();
    metrics::SESSIONS.shift(&[provider], 1.0);
    metrics::SESSIONS_OPENED.add(&[provider], 1);
    Ok(OpenSession { session, provider })
}
