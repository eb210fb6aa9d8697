//! One ONNX graph, ready to run from several threads at once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, ThreadId},
};

use bytes::Bytes;
use ndarray::{ArrayD, ArrayViewD};
use ort::{
    session::{RunOptions, Session},
    value::Tensor,
};

use super::{
    Runtime, RuntimeError,
    capture::{self, Capture},
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
        let first = executable.take(&pass)?;
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
    /// anew. `feeds` has all inputs of the first run that it does not feed itself. It takes long, so it counts among the
    /// sessions that work on a graphics card at once only while it is at a run.
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
        self.worked(session, |session| {
            let mut steps = Steps::new(session, feeds, carries, watched)?;
            drop(pass);
            steps.enter_each_time();
            work(&mut steps)
        })
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
        let (cards, fault) = (&self.runtime.cards, session.fault.take());
        if session.device.is_card() && (fault.is_some() || result.is_ok()) {
            cards.note(session.card, session.generation, fault);
        }
        let has_recorded = !session.capture.as_ref().is_some_and(Capture::has_failed);
        if !has_recorded {
            self.is_captured.store(false, Ordering::SeqCst);
        }
        if has_recorded && cards.is_usable(session.card, session.generation) {
            self.idle.put(session, cards.now());
        } else {
            session.close();
        }
        result
    }

    fn take(&self, pass: &Pass<'_>) -> Result<OpenSession, RuntimeError> {
        if let Some(session) = self.idle.take(pass.card) {
            return Ok(session);
        }
        let cards = &self.runtime.cards;
        let opened = match self.open(pass) {
            Err(RuntimeError::OutOfMemory(..)) if pass.device.is_card() && cards.close_idle(pass.card) > 0 => {
                self.open(pass)
            }
            opened => opened,
        };
        if let Err(RuntimeError::Lost(..)) = &opened {
            cards.note(pass.card, pass.generation, Some(Fault::Lost));
        }
        opened
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
                Err(cause) if Fault::of(&one_line(&cause)).is_some() => return Err(refused(device, &cause)),
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
            generation: pass.generation,
            thread: thread::current().id(),
            shrinks: cards.are_limited(),
            runtime: Arc::clone(&self.runtime),
            staging: HashMap::new(),
            capture: is_captured.then(Capture::default),
            fault: None,
            held: Some(held),
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

    /// A session on a device, of this thread if there is one: ONNX Runtime keeps some of what it needs by thread.
    fn take(&self, card: usize) -> Option<OpenSession> {
        let (mut sessions, here) = (self.lock(), thread::current().id());
        let own = sessions.iter().rposition(|session| session.card == card && session.thread == here);
        let place = own.or_else(|| sessions.iter().rposition(|session| session.card == card))?;
        let mut session = sessions.swap_remove(place);
        session.thread = here;
        Some(session)
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
        let n = closed.len();
        closed.into_iter().for_each(OpenSession::close);
        n
    }

    /// Closes none of the sessions on a device, and keeps none.
    pub(super) fn leave(&self, card: usize) {
        let left: Vec<OpenSession> = self.lock().extract_if(.., |session| session.card == card).collect();
        left.into_iter().for_each(OpenSession::leave);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OpenSession>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        let left = std::mem::take(self.sessions.get_mut().unwrap_or_else(PoisonError::into_inner));
        left.into_iter().for_each(OpenSession::close);
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
    /// Of the device, as it was opened.
    generation: u64,
    /// That used it last.
    pub thread: ThreadId,
    /// Whether it gives back what it does not need between runs.
    pub shrinks: bool,
    pub runtime: Arc<Runtime>,
    /// What went wrong beyond a run.
    pub fault: Option<Fault>,
    held: Option<Held>,
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

    /// Closes it, where its device still answers.
    pub(super) fn close(self) {
        let runtime = Arc::clone(&self.runtime);
        if runtime.cards.is_usable(self.card, self.generation) {
            let _quiet = runtime.cards.quiet();
            drop(self);
        } else {
            self.leave();
        }
    }

    /// Leaves it as it is. What is left of it holds memory of the processor until the end of the process.
    fn leave(mut self) {
        if matches!(self.device, Device::Cuda(_)) {
            metrics::SESSIONS.shift(&[self.device.provider()], -1.0);
            drop(self.held.take());
            std::mem::forget(self);
        }
    }

    /// What there is to say of a run outside of recordings: that nothing is to be recorded, and after the last of several
    /// that it gives back memory, where it is to. `None` where there is nothing to say.
    pub(super) fn options(&self, is_last: bool) -> ort::Result<Option<RunOptions>> {
        let shrinks = self.shrinks && is_last;
        if !shrinks && self.capture.is_none() {
            return Ok(None);
        }
        let mut options = RunOptions::new()?;
        if shrinks {
            options.set("memory.enable_memory_arena_shrinkage", self.device.arena())?;
        }
        if self.capture.is_some() {
            options.set(capture::RECORDING, capture::UNRECORDED)?;
        }
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
