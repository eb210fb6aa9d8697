//! Runs of one graph in a row, where outputs of a run are inputs of the next and never leave ONNX Runtime's memory.

use ndarray::{ArrayD, ArrayViewD};
use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{IoBinding, Session},
    value::Tensor,
};

use super::{RuntimeError, one_line};

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

/// A carried value: two buffers that change places, so that a run never writes what it reads.
struct State<'a> {
    carry: Carry<'a>,
    current: Tensor<f32>,
    next: Tensor<f32>,
}

impl<'a> State<'a> {
    fn new(carry: Carry<'a>, first: &ArrayViewD<'_, f32>) -> Result<Self, ort::Error> {
        let allocator = Allocator::default();
        let mut current = Tensor::<f32>::new(&allocator, first.shape().to_vec())?;
        current.try_extract_array_mut::<f32>()?.assign(first);
        Ok(State { carry, current, next: Tensor::<f32>::new(&allocator, first.shape().to_vec())? })
    }
}

/// A session in the middle of runs in a row.
pub struct Steps<'a> {
    session: &'a mut Session,
    binding: IoBinding,
    states: Vec<State<'a>>,
    watched: &'a [&'a str],
}

impl<'a> Steps<'a> {
    pub(super) fn new(
        session: &'a mut Session,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        carries: &[Carry<'a>],
        watched: &'a [&'a str],
    ) -> Result<Self, RuntimeError> {
        let mut binding = session.create_binding().map_err(failed)?;
        let mut states = Vec::with_capacity(carries.len());
        for (name, array) in feeds {
            match carries.iter().find(|carry| carry.input == *name) {
                Some(carry) => states.push(State::new(*carry, array).map_err(failed)?),
                None => bind(&mut binding, name, array)?,
            }
        }
        // In the order of the carries, which is that of the results.
        states.sort_by_key(|state: &State<'_>| carries.iter().position(|carry| carry.input == state.carry.input));
        if let Some(carry) = carries.get(states.len()).filter(|_| states.len() < carries.len()) {
            return Err(RuntimeError::Run(format!("a carried input is not fed, such as `{}`", carry.input)));
        }
        for name in watched {
            let host = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
            binding.bind_output_to_device(*name, &host.map_err(failed)?).map_err(failed)?;
        }
        Ok(Steps { session, binding, states, watched })
    }

    /// Runs the graph once more, with some of its inputs fed anew, and shows the watched outputs.
    ///
    /// # Errors
    /// [`RuntimeError::Run`] when shapes do not fit or a kernel fails, [`RuntimeError::OutputType`] for a watched output
    /// that is not float32, and those of `watch`.
    pub fn run<E: From<RuntimeError>>(
        &mut self,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        watch: impl FnOnce(&[ArrayViewD<'_, f32>]) -> Result<(), E>,
    ) -> Result<(), E> {
        for (name, array) in feeds {
            bind(&mut self.binding, name, array)?;
        }
        for State { carry, current, next } in &mut self.states {
            self.binding.bind_input(carry.input, current).map_err(failed)?;
            self.binding.bind_output(carry.output, &mut *next).map_err(failed)?;
        }
        let outputs = self.session.run_binding(&self.binding).map_err(failed)?;
        let mut seen = Vec::with_capacity(self.watched.len());
        for name in self.watched {
            let value = outputs.get(name).and_then(|value| value.try_extract_array::<f32>().ok());
            seen.push(value.ok_or_else(|| RuntimeError::OutputType((*name).to_owned()))?);
        }
        watch(&seen)?;
        drop(seen);
        drop(outputs);
        self.states.iter_mut().for_each(|state| std::mem::swap(&mut state.current, &mut state.next));
        Ok(())
    }

    /// What the last run carried over, in the order of the carries; the first feeds before any run. Each is
    /// [`RuntimeError::OutputType`] where it is not float32.
    pub fn carried(&self) -> impl Iterator<Item = Result<ArrayD<f32>, RuntimeError>> {
        self.states.iter().map(|state| {
            let value = state.current.try_extract_array::<f32>();
            Ok(value.map_err(|_| RuntimeError::OutputType(state.carry.output.to_owned()))?.to_owned())
        })
    }
}

fn bind(binding: &mut IoBinding, name: &str, array: &ArrayViewD<'_, f32>) -> Result<(), RuntimeError> {
    let tensor = Tensor::from_array(array.to_owned()).map_err(failed)?;
    binding.bind_input(name, &tensor).map_err(failed)
}

fn failed(cause: ort::Error) -> RuntimeError {
    RuntimeError::Run(one_line(&cause))
}

/// Runs a session as often as asked and gives the carried outputs of the last run, in the order of the carries.
///
/// `watch` is shown the watched outputs after each run; its error ends the iteration.
pub(super) fn run<E: From<RuntimeError>>(
    session: &mut Session,
    iteration: &Iteration<'_>,
    mut watch: impl FnMut(&[ArrayViewD<'_, f32>]) -> Result<(), E>,
) -> Result<Vec<ArrayD<f32>>, E> {
    let mut steps = Steps::new(session, iteration.feeds, iteration.carries, iteration.watched)?;
    for _ in 0..iteration.runs {
        steps.run(&[], &mut watch)?;
    }
    Ok(steps.carried().collect::<Result<_, _>>()?)
}
