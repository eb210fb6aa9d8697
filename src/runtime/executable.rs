//! One ONNX graph, ready to run from several threads at once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use ndarray::{ArrayD, ArrayViewD};
use ort::{
    session::{RunOptions, Session},
    value::Tensor,
};

use super::{
    Runtime, RuntimeError,
    capture::Capture,
    cards::{Held, Pass},
    device::{Device, Fault},
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

/// A compiled graph, with a session for each thread that has needed one, or a few for each graphics card.
pub struct Executable {
    runtime: Arc<Runtime>,
    model: Bytes,
    inputs: Vec<TensorSpec>,
    outputs: Vec<TensorSpec>,
    idle: Arc<Idle>,
    /// Whether its runs are to be recorded as CUDA graphs; off from when that failed on.
    is_captured: AtomicBool,
    /// Whether the processor runs some nodes for the graphics card; known from when a session was opened on.
    falls_back: AtomicBool,
}

impl Executable {
    pub(super) fn new(runtime: Arc<Runtime>, model: Bytes, is_captured: bool) -> Result<Self, RuntimeError> {
        let idle = Arc::new(Idle::default());
        runtime.cards.register(&idle);
        let mut executable = Executable {
            runtime,
            model,
            inputs: Vec::new(),
            outputs: Vec::new(),
            idle,
            is_captured: AtomicBool::new(is_captured),
            falls_back: AtomicBool::new(false),
        };
        let pass = executable.runtime.cards.enter(None)?;
        let first = executable.open(&pass)?;
        drop(pass);
        let spec = |outlet: &ort::value::Outlet| TensorSpec {
            name: outlet.name().to_owned(),
            shape: outlet.dtype().tensor_shape().map(|shape| shape.to_vec()).unwrap_or_default(),
        };
        executable.inputs = first.session.inputs().iter().map(spec).collect();
        executable.outputs = first.session.outputs().iter().map(spec).collect();
        executable.idle.put(first, executable.runtime.cards.now());
        Ok(executable)
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

    /// Whether the processor runs some nodes because the graphics card has no kernel for them, or ONNX Runtime holds them for
    /// cheaper there.
    pub fn falls_back(&self) -> bool {
        self.falls_back.load(Ordering::SeqCst)
    }

    /// Runs the graph on named tensors and gives all outputs, in the graph's order.
    ///
    /// # Errors
    /// [`RuntimeError::Run`] when types or shapes do not fit or a kernel fails; [`RuntimeError::OutOfMemory`] and
    /// [`RuntimeError::Lost`].
    pub fn run<'a>(&self, feeds: &[(&'a str, Feed<'a>)]) -> Result<Vec<Value>, RuntimeError> {
        self.run_keeping(feeds, |_| false)
    }

    /// As [`Executable::run`]; the outputs that `stays` names stay on the device, where only another run reads them.
    ///
    /// # Errors
    /// As [`Executable::run`].
    pub fn run_keeping<'a>(
        &self,
        feeds: &[(&'a str, Feed<'a>)],
        stays: impl Fn(&str) -> bool,
    ) -> Result<Vec<Value>, RuntimeError> {
        let wanted = feeds.iter().find_map(|(_, feed)| match feed {
            Feed::Value(value) => Some(value.card),
            Feed::View(_) | Feed::Array(_) => None,
        });
        self.with_session(wanted, |session| value::run(session, feeds, &stays))
    }

    /// Runs the graph several times in a row, its carried outputs being inputs of the next run, and gives the carried
    /// outputs of the last run. With no runs these are what the inputs were fed.
    ///
    /// `watch` is shown the watched outputs after each run; its error ends the iteration, so it is the place to look
    /// whether anybody still wants the result.
    ///
    /// # Errors
    /// Those of `watch`; those of [`Executable::run`]; [`RuntimeError::OutputType`] for a carried or watched output that is
    /// not float32.
    pub fn iterate<E: From<RuntimeError>>(
        &self,
        iteration: &Iteration<'_>,
        watch: impl FnMut(&[ArrayViewD<'_, f32>]) -> Result<(), E>,
    ) -> Result<Vec<ArrayD<f32>>, E> {
        self.with_session(None, |session| iteration::run(session, iteration, watch))
    }

    /// Runs the graph several times in a row as [`Executable::iterate`], where `work` says when, and with which inputs fed
    /// anew. `feeds` has all inputs of the first run that it does not feed itself. It takes long, so it does not count among
    /// the sessions that work on a graphics card at once.
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
        let pass = self.runtime.cards.enter(None)?;
        let session = self.take(&pass)?;
        drop(pass);
        self.worked(session, |session| work(&mut Steps::new(session, feeds, carries, watched)?))
    }

    /// Does some work on a session that no other thread uses meanwhile, on the device of that number or any.
    fn with_session<T, E: From<RuntimeError>>(
        &self,
        wanted: Option<usize>,
        work: impl FnOnce(&mut OpenSession) -> Result<T, E>,
    ) -> Result<T, E> {
        let pass = self.runtime.cards.enter(wanted)?;
        let session = self.take(&pass)?;
        self.worked(session, work)
    }

    /// Does some work on a session, and keeps it where it can be used again.
    fn worked<T, E>(
        &self,
        mut session: OpenSession,
        work: impl FnOnce(&mut OpenSession) -> Result<T, E>,
    ) -> Result<T, E> {
        let result = work(&mut session);
        let fault = session.fault.take();
        if session.device.is_card() && (fault.is_some() || result.is_ok()) {
            self.runtime.cards.note(session.card, fault);
        }
        if session.capture.as_ref().is_some_and(Capture::has_failed) {
            self.is_captured.store(false, Ordering::SeqCst);
        } else if fault != Some(Fault::Lost) {
            self.idle.put(session, self.runtime.cards.now());
        }
        result
    }

    fn take(&self, pass: &Pass<'_>) -> Result<OpenSession, RuntimeError> {
        match self.idle.take(pass.card) {
            Some(session) => Ok(session),
            None => self.open(pass),
        }
    }

    fn open(&self, pass: &Pass<'_>) -> Result<OpenSession, RuntimeError> {
        let Runtime { environment, cards, config, .. } = &*self.runtime;
        let (device, bytes) = (pass.device, self.model.len() as u64);
        let held = cards.hold(pass.card, bytes);
        let builder = |captured| device.builder(environment, config, cards.arena_bytes(bytes), captured);
        let opened = |captured| builder(captured)?.commit_from_memory(&self.model);
        // A session without a place to fall back to opens where it needs none.
        let strictly = || builder(false)?.with_disable_cpu_fallback()?.commit_from_memory(&self.model);
        let mut is_captured = device.is_card() && self.is_captured.load(Ordering::SeqCst);
        let mut session = None;
        if is_captured {
            match opened(true) {
                Ok(opened) => session = Some(Ok(opened)),
                Err(cause) => {
                    tracing::warn!(%device, cause = one_line(&cause), "steps of an attack are not captured");
                    self.is_captured.store(false, Ordering::SeqCst);
                    is_captured = false;
                }
            }
        } else if matches!(device, Device::Cuda(_)) && !self.falls_back() {
            match strictly() {
                Err(cause) if cause.to_string().contains("fallback") => self.falls_back.store(true, Ordering::SeqCst),
                opened => session = Some(opened),
            }
        }
        let session = session.unwrap_or_else(|| opened(false));
        let session = session.map_err(|cause| refused(device, &cause))?;
        let provider = device.provider();
        metrics::SESSIONS.shift(&[provider], 1.0);
        metrics::SESSIONS_OPENED.add(&[provider], 1);
        Ok(OpenSession {
            session,
            device,
            card: pass.card,
            shrinks: cards.are_limited(),
            runtime: Arc::clone(&self.runtime),
            staging: HashMap::new(),
            capture: is_captured.then(Capture::default),
            fault: None,
            _held: held,
        })
    }
}

fn refused(device: Device, cause: &ort::Error) -> RuntimeError {
    let cause = one_line(cause);
    match Fault::of(&cause) {
        Some(Fault::OutOfMemory) => RuntimeError::OutOfMemory(device, cause),
        Some(Fault::Lost) => RuntimeError::Lost(device, cause),
        None => RuntimeError::Model(cause),
    }
}

/// Open sessions of an executable that nobody uses.
#[derive(Default)]
pub(super) struct Idle {
    sessions: Mutex<Vec<OpenSession>>,
    used: AtomicU64,
}

impl Idle {
    fn put(&self, session: OpenSession, now: u64) {
        self.used.store(now, Ordering::SeqCst);
        self.lock().push(session);
    }

    fn take(&self, card: usize) -> Option<OpenSession> {
        let mut sessions = self.lock();
        let place = sessions.iter().rposition(|session| session.card == card)?;
        Some(sessions.swap_remove(place))
    }

    pub(super) fn last_used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }

    pub(super) fn has(&self, card: usize) -> bool {
        self.lock().iter().any(|session| session.card == card)
    }

    /// Closes the sessions on a device.
    pub(super) fn close(&self, card: usize) -> usize {
        let closed: Vec<OpenSession> = self.lock().extract_if(.., |session| session.card == card).collect();
        closed.len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OpenSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session with what belongs to it on its device, counted as long as it is open.
pub(super) struct OpenSession {
    // Tensors go before the session that made them.
    pub staging: HashMap<String, Tensor<f32>>,
    pub capture: Option<Capture>,
    pub session: Session,
    pub device: Device,
    /// The device's number among those of the runtime.
    pub card: usize,
    /// Whether it gives back what it does not need between runs.
    pub shrinks: bool,
    pub runtime: Arc<Runtime>,
    /// What went wrong beyond a run.
    pub fault: Option<Fault>,
    _held: Held,
}

impl OpenSession {
    /// What a run's error means.
    pub(super) fn failed(&mut self, cause: &ort::Error) -> RuntimeError {
        let cause = one_line(cause);
        self.fault = Fault::of(&cause);
        match self.fault {
            Some(Fault::OutOfMemory) => RuntimeError::OutOfMemory(self.device, cause),
            Some(Fault::Lost) => RuntimeError::Lost(self.device, cause),
            None => RuntimeError::Run(cause),
        }
    }

    /// How a run gives back memory that it needed, where it is to; `None` where there is nothing to say.
    pub(super) fn shrinking(&self) -> ort::Result<Option<RunOptions>> {
        if !self.shrinks {
            return Ok(None);
        }
        let mut options = RunOptions::new()?;
        options.set("memory.enable_memory_arena_shrinkage", self.device.arena())?;
        Ok(Some(options))
    }

    /// The troubles that are ordered for runs on so many rows.
    pub(super) fn meet_troubles(&mut self, rows: usize) -> Result<(), RuntimeError> {
        if self.device != Device::Rehearsal {
            return Ok(());
        }
        let met = self.runtime.troubles.met(rows);
        self.fault = match &met {
            Err(RuntimeError::OutOfMemory(..)) => Some(Fault::OutOfMemory),
            Err(RuntimeError::Lost(..)) => Some(Fault::Lost),
            _ => None,
        };
        met
    }

    /// An array in memory from which the device takes it at full speed. It is the same memory for every array of a name and
    /// shape, so what was made of the last one must have been read.
    pub(super) fn stage(&mut self, name: &str, array: &ArrayViewD<'_, f32>) -> ort::Result<&Tensor<f32>> {
        let fits = self.staging.get(name).is_some_and(|tensor| {
            let shape = tensor.shape().iter().map(|&size| usize::try_from(size).ok());
            shape.eq(array.shape().iter().map(|&size| Some(size)))
        });
        if !fits {
            self.staging.insert(name.to_owned(), self.device.staged(&self.session, array.shape())?);
        }
        let Some(tensor) = self.staging.get_mut(name) else { return Err(ort::Error::new("a tensor was not staged")) };
        tensor.try_extract_array_mut::<f32>()?.assign(array);
        Ok(tensor)
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        metrics::SESSIONS.shift(&[self.device.provider()], -1.0);
    }
}
