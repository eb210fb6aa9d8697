//! One ONNX graph, ready to run from several threads at once.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use ndarray::{ArrayD, ArrayViewD};
use ort::{
    session::{Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::TensorRef,
};

use super::{Runtime, RuntimeError};

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
    idle: Mutex<Vec<Session>>,
}

impl Executable {
    pub(super) fn new(runtime: Arc<Runtime>, model: Bytes) -> Result<Self, RuntimeError> {
        let first = open(&runtime, &model)?;
        let spec = |outlet: &ort::value::Outlet| TensorSpec {
            name: outlet.name().to_owned(),
            shape: outlet.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default(),
        };
        let inputs = first.inputs().iter().map(spec).collect();
        let outputs = first.outputs().iter().map(spec).collect();
        Ok(Executable { runtime, model, inputs, outputs, idle: Mutex::new(vec![first]) })
    }

    pub fn inputs(&self) -> &[TensorSpec] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[TensorSpec] {
        &self.outputs
    }

    /// Runs the graph on named float32 tensors and gives all outputs, in the graph's order.
    ///
    /// # Errors
    /// [`RuntimeError::Run`] when shapes do not fit or a kernel fails, [`RuntimeError::OutputType`] for an output that
    /// is not float32.
    pub fn run(&self, feeds: &[(&str, ArrayViewD<'_, f32>)]) -> Result<Vec<ArrayD<f32>>, RuntimeError> {
        let mut session = self.take()?;
        let result = run(&mut session, feeds);
        self.lock().push(session);
        result
    }

    fn take(&self) -> Result<Session, RuntimeError> {
        let idle = self.lock().pop();
        match idle {
            Some(session) => Ok(session),
            None => open(&self.runtime, &self.model),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(runtime: &Runtime, model: &[u8]) -> Result<Session, RuntimeError> {
    let refused = |cause: &dyn std::fmt::Display| RuntimeError::Model(one_line(cause));
    Session::builder(&runtime.environment)
        .map_err(|cause| refused(&cause))?
        .with_intra_threads(1)
        .map_err(|cause| refused(&cause))?
        .with_inter_threads(1)
        .map_err(|cause| refused(&cause))?
        .with_optimization_level(GraphOptimizationLevel::All)
        .map_err(|cause| refused(&cause))?
        .commit_from_memory(model)
        .map_err(|cause| refused(&cause))
}

fn run(session: &mut Session, feeds: &[(&str, ArrayViewD<'_, f32>)]) -> Result<Vec<ArrayD<f32>>, RuntimeError> {
    let failed = |cause: ort::Error| RuntimeError::Run(one_line(&cause));
    let contiguous: Vec<_> = feeds.iter().map(|(name, array)| (*name, array.as_standard_layout())).collect();
    let mut inputs: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = Vec::with_capacity(contiguous.len());
    for (name, array) in &contiguous {
        let tensor = TensorRef::from_array_view(array.view()).map_err(failed)?;
        inputs.push((Cow::Borrowed(*name), tensor.into()));
    }
    let outputs = session.run(inputs).map_err(failed)?;
    outputs
        .iter()
        .map(|(name, value)| {
            let array = value.try_extract_array::<f32>().map_err(|_| RuntimeError::OutputType(name.to_owned()))?;
            Ok(array.to_owned())
        })
        .collect()
}

fn one_line(cause: &dyn std::fmt::Display) -> String {
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
