//! ONNX Runtime: the shared library, sessions, and the threads they run on. The only module that names `ort`.
//!
//! Invariant: what an [`Executable`] gives for a batch depends on the model and the batch alone. Every session computes
//! on the one thread that calls it; work spreads over threads by running several batches at once, so the number of
//! threads can never reach a sum's order.

mod executable;
mod iteration;
mod value;
mod workers;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel};

use crate::config::ONNXRUNTIME_VERSION;

pub use executable::{Executable, TensorSpec};
pub use iteration::{Carry, Iteration, Steps};
pub use value::{Feed, TypedArray, Value};
pub use workers::Workers;

/// What can go wrong below a session.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("ONNX Runtime {ONNXRUNTIME_VERSION} cannot be loaded: {0}; run \"make setup\" or pass --onnxruntime PATH")]
    Library(String),
    #[error("ONNX Runtime refuses the model: {0}")]
    Model(String),
    #[error("ONNX Runtime could not run the model: {0}")]
    Run(String),
    #[error("output `{0}` has an element type that cannot be read here; floats are read as float32")]
    OutputType(String),
}

/// A loaded ONNX Runtime and its worker threads.
pub struct Runtime {
    environment: Environment,
    workers: Workers,
}

impl Runtime {
    /// Loads the shared library at `library` and starts `threads` workers.
    ///
    /// # Errors
    /// [`RuntimeError::Library`] when it is not ONNX Runtime or too old.
    pub fn load(library: &Path, threads: usize) -> Result<Arc<Self>, RuntimeError> {
        let failed = |cause: &dyn std::fmt::Display| RuntimeError::Library(cause.to_string());
        let environment = environment(library)?;
        let workers = Workers::start(threads).map_err(|cause| failed(&cause))?;
        Ok(Arc::new(Runtime { environment, workers }))
    }

    /// Prepares ONNX bytes for running: those that [`Graph::to_onnx`](crate::gradient::Graph::to_onnx) writes, as
    /// ONNX Runtime crashes on some files that the compiler refuses or writes in another form.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] with ONNX Runtime's own words.
    pub fn compile(self: &Arc<Self>, model: impl Into<bytes::Bytes>) -> Result<Executable, RuntimeError> {
        Executable::new(Arc::clone(self), model.into())
    }

    /// The threads that batches run on.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// The execution provider that sessions run on.
    pub fn provider(&self) -> &'static str {
        "CPUExecutionProvider"
    }
}

/// The environment of this process. ONNX Runtime allows one, whose library stays loaded, so later paths are not looked at.
fn environment(library: &Path) -> Result<Environment, RuntimeError> {
    static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);
    let mut shared = ENVIRONMENT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(environment) = shared.as_ref() {
        return Ok(environment.clone());
    }
    let failed = |cause: &dyn std::fmt::Display| RuntimeError::Library(cause.to_string());
    let environment = ort::init_from(library)
        .map_err(|cause| failed(&cause))?
        .with_name("transferscore")
        .with_telemetry(false)
        .build()
        .map_err(|cause| failed(&cause))?;
    environment.set_log_level(LogLevel::Error);
    *shared = Some(environment.clone());
    Ok(environment)
}

/// ONNX Runtime's messages may span lines.
fn one_line(cause: &dyn std::fmt::Display) -> String {
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
