//! Runs of one graph in a row, where outputs of a run are inputs of the next and never leave the device's memory.

use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD};
use ort::{
    memory::AllocationDevice,
    session::{IoBinding, NoSelectedOutputs, RunOptions, Session},
    value::Tensor,
};

use super::{RuntimeError, capture::Capture, device::Device, executable::OpenSession};

/// An output that the next run takes as an input of the same shape.
#[derive(Clone, Copy, Debug)]
pub struct Carry<'a> {
    pub output: &'a str,
    pub input: &'a str,
}

/// Runs in a row.
pub struct Iteration<'a> {
    /// All inputs of the first run; those that are carried change from run to run, the others stay.
    pub feeds: &'a [(&'a str, ArrayViewD<'a, f32>)],
    pub carries: &'a [Carry<'a>],
    /// Outputs to look at after each run.
    pub watched: &'a [&'a str],
    pub runs: u32,
}

/// A session in the middle of runs in a row.
pub struct Steps<'a> {
    session: &'a mut OpenSession,
    carries: Vec<Carry<'a>>,
    watched: &'a [&'a str],
    way: Way,
    /// Whether it has a pass only while it is at a run.
    enters: bool,
}

enum Way {
    /// ONNX Runtime runs the graph each time.
    Bound(Box<Bound>),
    /// The session's [`Capture`] does.
    Captured,
}

struct Bound {
    binding: IoBinding,
    states: Vec<State>,
}

/// A carried value: two buffers that change places, so that a run never writes what it reads.
struct State {
    current: Tensor<f32>,
    next: Tensor<f32>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(
        session: &'a mut OpenSession,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        carries: &[Carry<'a>],
        watched: &'a [&'a str],
    ) -> Result<Self, RuntimeError> {
        // In the order of the carries, which is that of the results.
        let mut firsts = Vec::with_capacity(carries.len());
        for carry in carries {
            let first = feeds.iter().find(|(name, _)| *name == carry.input).map(|(_, array)| array.view());
            let unfed = || RuntimeError::Run(format!("a carried input is not fed, such as `{}`", carry.input));
            firsts.push(first.ok_or_else(unfed)?);
        }
        let rows = feeds.iter().filter_map(|(_, array)| array.shape().first().copied()).max().unwrap_or(1);
        session.meet_troubles(rows)?;
        let way = match Capture::begin(session, feeds, carries, watched) {
            Ok(true) => Way::Captured,
            Ok(false) => {
                Way::bound(session, feeds, carries, &firsts, watched).map_err(|cause| session.failed(&cause))?
            }
            Err(cause) => return Err(session.failed(&cause)),
        };
        Ok(Steps { session, carries: carries.to_vec(), watched, way, enters: false })
    }

    /// From now on each run waits until a session may work on the device.
    pub(super) fn enter_each_time(&mut self) {
        self.enters = true;
    }

    /// Runs the graph once more, with some of its inputs fed anew, and shows the watched outputs.
    ///
    /// # Errors
    /// [`RuntimeError::Run`] when shapes do not fit or a kernel fails, [`RuntimeError::OutOfMemory`],
    /// [`RuntimeError::Lost`], [`RuntimeError::OutputType`] for a watched output that is not float32, and those of `watch`.
    pub fn run<E: From<RuntimeError>>(
        &mut self,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        watch: impl FnOnce(&[ArrayViewD<'_, f32>]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.run_once(feeds, false, watch)
    }

    /// As [`Steps::run`]; after the last run the session gives back what it does not need.
    fn run_once<E: From<RuntimeError>>(
        &mut self,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        is_last: bool,
        watch: impl FnOnce(&[ArrayViewD<'_, f32>]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Steps { session, carries, watched, way, enters } = self;
        let runtime = Arc::clone(&session.runtime);
        let pass = enters.then(|| runtime.cards.enter(Some(session.card))).transpose()?;
        let (binding, states) = match way {
            Way::Captured => {
                let seen = Capture::run(session, feeds).map_err(|cause| session.failed(&cause))?;
                return watch(&seen.iter().map(|seen| seen.view()).collect::<Vec<_>>());
            }
            Way::Bound(bound) => (&mut bound.binding, &mut bound.states),
        };
        let prepared = bind(session, binding, feeds).and_then(|()| {
            for (carry, State { current, next }) in carries.iter().zip(states.iter_mut()) {
                binding.bind_input(carry.input, current)?;
                binding.bind_output(carry.output, &mut *next)?;
            }
            session.options(is_last)
        });
        let options = prepared.map_err(|cause| session.failed(&cause))?;
        let given = once(&mut session.session, binding, options.as_ref(), watched);
        let given = given.map_err(|cause| session.failed(&cause))?;
        let mut seen = Vec::with_capacity(watched.len());
        for (name, array) in watched.iter().zip(&given) {
            seen.push(array.as_ref().ok_or_else(|| RuntimeError::OutputType((*name).to_owned()))?.view());
        }
        for State { current, next } in states {
            std::mem::swap(current, next);
            // What was fed lies with the processor: it makes room for a buffer on the device.
            if session.device.is_card()
                && next.memory_info().allocation_device() != current.memory_info().allocation_device()
            {
                let shape = shape(current);
                *next = session.device.tensor(&session.session, &shape).map_err(|cause| session.failed(&cause))?;
            }
        }
        drop(pass);
        watch(&seen)
    }

    /// What the last run carried over, in the order of the carries; the first feeds before any run.
    ///
    /// # Errors
    /// [`RuntimeError::Run`] for one that is not float32, [`RuntimeError::OutOfMemory`], [`RuntimeError::Lost`].
    pub fn carried(&mut self) -> Result<Vec<ArrayD<f32>>, RuntimeError> {
        let runtime = Arc::clone(&self.session.runtime);
        let _pass = self.enters.then(|| runtime.cards.enter(Some(self.session.card))).transpose()?;
        let tensors: Vec<&Tensor<f32>> = match &self.way {
            Way::Bound(bound) => bound.states.iter().map(|state| &state.current).collect(),
            Way::Captured => Capture::carried(self.session),
        };
        let read: ort::Result<Vec<ArrayD<f32>>> = tensors.into_iter().map(on_host).collect();
        read.map_err(|cause| self.session.failed(&cause))
    }
}

impl Way {
    fn bound(
        session: &mut OpenSession,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        carries: &[Carry<'_>],
        firsts: &[ArrayViewD<'_, f32>],
        watched: &[&str],
    ) -> ort::Result<Way> {
        let mut binding = session.session.create_binding()?;
        let is_carried = |name: &str| carries.iter().any(|carry| carry.input == name);
        let kept: Vec<(&str, ArrayViewD<'_, f32>)> =
            feeds.iter().filter(|(name, _)| !is_carried(name)).map(|(name, array)| (*name, array.view())).collect();
        bind(session, &mut binding, &kept)?;
        let mut states = Vec::with_capacity(firsts.len());
        for first in firsts {
            let mut current = session.device.staged(&session.session, first.shape())?;
            current.try_extract_array_mut::<f32>()?.assign(first);
            states.push(State { current, next: session.device.tensor(&session.session, first.shape())? });
        }
        let host = Device::Cpu.memory()?;
        for name in watched {
            binding.bind_output_to_device(*name, &host)?;
        }
        Ok(Way::Bound(Box::new(Bound { binding, states })))
    }
}

/// Runs a session once and gives the watched outputs; `None` for one that is not float32.
fn once(
    session: &mut Session,
    binding: &IoBinding,
    options: Option<&RunOptions<NoSelectedOutputs>>,
    watched: &[&str],
) -> ort::Result<Vec<Option<ArrayD<f32>>>> {
    let outputs = match options {
        Some(options) => session.run_binding_with_options(binding, options)?,
        None => session.run_binding(binding)?,
    };
    let seen = |name: &&str| Some(outputs.get(name)?.try_extract_array::<f32>().ok()?.to_owned());
    Ok(watched.iter().map(seen).collect())
}

/// Feeds inputs, which the device copies where they are not in its own memory.
fn bind(session: &mut OpenSession, binding: &mut IoBinding, feeds: &[(&str, ArrayViewD<'_, f32>)]) -> ort::Result<()> {
    for (name, array) in feeds {
        if session.device.is_card() {
            binding.bind_input(*name, session.stage(name, array)?)?;
        } else {
            binding.bind_input(*name, &Tensor::from_array(array.to_owned())?)?;
        }
    }
    Ok(())
}

/// Of a tensor, which has sizes.
pub(super) fn shape(tensor: &Tensor<f32>) -> Vec<usize> {
    tensor.shape().iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect()
}

/// The elements of a tensor, wherever it lies.
pub(super) fn on_host(tensor: &Tensor<f32>) -> ort::Result<ArrayD<f32>> {
    if tensor.memory_info().is_cpu_accessible() {
        return Ok(tensor.try_extract_array::<f32>()?.to_owned());
    }
    Ok(tensor.to(AllocationDevice::CPU, 0)?.try_extract_array::<f32>()?.to_owned())
}

/// Runs a session as often as asked and gives the carried outputs of the last run, in the order of the carries.
///
/// `watch` is shown the watched outputs after each run; its error ends the iteration.
pub(super) fn run<E: From<RuntimeError>>(
    session: &mut OpenSession,
    iteration: &Iteration<'_>,
    mut watch: impl FnMut(&[ArrayViewD<'_, f32>]) -> Result<(), E>,
) -> Result<Vec<ArrayD<f32>>, E> {
    let mut steps = Steps::new(session, iteration.feeds, iteration.carries, iteration.watched)?;
    for run in 0..iteration.runs {
        steps.run_once(&[], run + 1 == iteration.runs, &mut watch)?;
    }
    Ok(steps.carried()?)
}
