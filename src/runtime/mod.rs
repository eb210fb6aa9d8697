//! ONNX Runtime: the shared library, sessions, and the threads they run on. The only module that names `ort`.
//!
//! Invariant: what an [`Executable`] gives for a batch depends on the model, the batch and the kind of device alone. On the
//! processor every session computes on the one thread that calls it; work spreads over threads by running several batches
//! at once, so the number of threads can never reach a sum's order. On graphics cards, of which there may be several, the
//! libraries choose the order of sums.

mod capture;
mod cards;
mod device;
mod executable;
mod iteration;
mod placement;
mod trial;
mod value;
mod workers;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel};

use self::cards::Cards;
use crate::config::{DeviceChoice, DeviceConfig, ONNXRUNTIME_VERSION, Precision};

pub use device::{Device, Troubles};
pub use executable::{Executable, TensorSpec};
pub use iteration::{Carry, Iteration, Steps};
pub use placement::{Placed, placements};
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
    #[error("device {0} cannot be used: {1}")]
    Device(Device, String),
    #[error("device {0} has not enough memory: {1}")]
    OutOfMemory(Device, String),
    #[error("device {0} was lost: {1}")]
    Lost(Device, String),
    #[error("output `{0}` has an element type that cannot be read here; floats are read as float32")]
    OutputType(String),
}

/// A loaded ONNX Runtime, the devices that it runs models on, and its worker threads.
pub struct Runtime {
    environment: Environment,
    workers: Workers,
    cards: Cards,
    config: DeviceConfig,
    provider: String,
    troubles: Troubles,
}

impl Runtime {
    /// Loads the shared library at `library` and starts `threads` workers. Models run on the processor.
    ///
    /// # Errors
    /// [`RuntimeError::Library`] when it is not ONNX Runtime or too old.
    pub fn load(library: &Path, threads: usize) -> Result<Arc<Self>, RuntimeError> {
        Runtime::load_on(library, threads, DeviceConfig { choice: DeviceChoice::Cpu, ..DeviceConfig::default() })
    }

    /// As [`Runtime::load`], for models to run on the devices that were asked for. Where the choice was left to it and no
    /// graphics card works, it says why in the log and takes the processor.
    ///
    /// # Errors
    /// As [`Runtime::load`]; [`RuntimeError::Device`] where a device that was asked for does not work.
    pub fn load_on(library: &Path, threads: usize, config: DeviceConfig) -> Result<Arc<Self>, RuntimeError> {
        let failed = |cause: &dyn std::fmt::Display| RuntimeError::Library(cause.to_string());
        let environment = environment(library)?;
        let devices = devices(&environment, &config)?;
        let workers = Workers::start(threads).map_err(|cause| failed(&cause))?;
        Ok(Arc::new(Runtime {
            environment,
            workers,
            provider: provider(&devices, &config),
            cards: Cards::new(devices, config.memory_bytes, config.cuda_graphs),
            config,
            troubles: Troubles::default(),
        }))
    }

    /// Prepares ONNX bytes for running: those that [`Graph::to_onnx`](crate::gradient::Graph::to_onnx) writes, as
    /// ONNX Runtime crashes on some files that the compiler refuses or writes in another form.
    ///
    /// # Errors
    /// [`RuntimeError::Model`] with ONNX Runtime's own words; [`RuntimeError::OutOfMemory`], [`RuntimeError::Lost`].
    pub fn compile(self: &Arc<Self>, model: impl Into<bytes::Bytes>) -> Result<Executable, RuntimeError> {
        Executable::new(Arc::clone(self), model.into(), false)
    }

    /// As [`Runtime::compile`], for a graph that runs many times in a row on inputs of few shapes: where CUDA graphs were
    /// asked for, its runs are recorded as such.
    ///
    /// # Errors
    /// As [`Runtime::compile`].
    pub fn compile_for_steps(self: &Arc<Self>, model: impl Into<bytes::Bytes>) -> Result<Executable, RuntimeError> {
        Executable::new(Arc::clone(self), model.into(), self.config.cuda_graphs)
    }

    /// The threads that batches run on.
    pub fn workers(&self) -> &Workers {
        &self.workers
    }

    /// What models run on, at least one.
    pub fn devices(&self) -> &[Device] {
        self.cards.devices()
    }

    /// Whether models run on graphics cards, or as if.
    pub fn uses_cards(&self) -> bool {
        self.cards.first().is_card()
    }

    /// What models compute in.
    pub fn precision(&self) -> Precision {
        self.config.precision
    }

    /// The execution provider that sessions run on, and how: results of one are not those of another to the last bit.
    pub fn provider(&self) -> &str {
        &self.provider
    }

    /// Closes sessions that are not at work, for others to have their memory; whether there were any.
    pub fn make_room(&self) -> bool {
        self.cards.close_all_idle() > 0
    }

    /// Whether no device works any more.
    pub fn is_lost(&self) -> bool {
        self.cards.are_lost()
    }

    /// Troubles that [`Device::Rehearsal`] is to have.
    pub fn troubles(&self) -> &Troubles {
        &self.troubles
    }
}

/// The devices that were asked for, tried out.
fn devices(environment: &Environment, config: &DeviceConfig) -> Result<Vec<Device>, RuntimeError> {
    match &config.choice {
        DeviceChoice::Cpu => Ok(vec![Device::Cpu]),
        DeviceChoice::Rehearsal => Ok(vec![Device::Rehearsal]),
        DeviceChoice::Cuda(cards) => {
            let cards: Vec<Device> = cards.iter().map(|&card| Device::Cuda(card)).collect();
            cards.iter().try_for_each(|card| card.try_out(environment, config))?;
            Ok(cards)
        }
        DeviceChoice::Auto => {
            let card = Device::Cuda(0);
            match card.try_out(environment, config) {
                Ok(()) => Ok(vec![card]),
                Err(cause) => {
                    tracing::info!(%cause, "models run on the processor");
                    Ok(vec![Device::Cpu])
                }
            }
        }
    }
}

/// What results depend on beside models and samples.
fn provider(devices: &[Device], config: &DeviceConfig) -> String {
    let first = devices.first().copied().unwrap_or(Device::Cpu);
    let mut name = first.provider().to_owned();
    if first.is_card() {
        let ways = [
            (first == Device::Rehearsal).then_some("rehearsal".to_owned()),
            (config.precision != Precision::Float32).then(|| config.precision.to_string()),
            config.channels_last.then_some("channels last".to_owned()),
        ];
        let ways: Vec<String> = ways.into_iter().flatten().collect();
        if !ways.is_empty() {
            name = format!("{name} ({})", ways.join(", "));
        }
    }
    name
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
