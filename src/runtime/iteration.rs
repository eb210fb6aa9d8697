//! Runs of one graph in a row, where outputs of a run are inputs of the next and never leave ONNX Runtime's memory.

use ndarray::{ArrayD, ArrayViewD};
use ort::{
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::Session,
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

/// Runs a session as often as asked and gives the carried outputs of the last run, in the order of the carries.
///
/// `watch` is shown the watched outputs after each run; its error ends the iteration.
pub(super) fn run<E: From<RuntimeError>>(
    session: &mut Session,
    iteration: &Iteration<'_>,
    mut watch: impl FnMut(&[ArrayViewD<'_, f32>]) -> Result<(), E>,
) -> Result<Vec<ArrayD<f32>>, E> {
    let failed = |cause: ort::Error| RuntimeError::Run(one_line(&cause));
    let mut binding = session.create_binding().map_err(failed)?;
    let mut states = Vec::with_capacity(iteration.carries.len());
    for (name, array) in iteration.feeds {
        match iteration.carries.iter().find(|carry| carry.input == *name) {
            Some(carry) => states.push(State::new(*carry, array).map_err(failed)?),
            None => {
                let tensor = Tensor::from_array(array.to_owned()).map_err(failed)?;
                binding.bind_input(*name, &tensor).map_err(failed)?;
            }
        }
    }
    for name in iteration.watched {
        let host = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default);
        binding.bind_output_to_device(*name, &host.map_err(failed)?).map_err(failed)?;
    }
    for _ in 0..iteration.runs {
        for State { carry, current, next } in &mut states {
            binding.bind_input(carry.input, current).map_err(failed)?;
            binding.bind_output(carry.output, &mut *next).map_err(failed)?;
        }
        let outputs = session.run_binding(&binding).map_err(failed)?;
        let mut seen = Vec::with_capacity(iteration.watched.len());
        for name in iteration.watched {
            let value = outputs.get(name).and_then(|value| value.try_extract_array::<f32>().ok());
            seen.push(value.ok_or_else(|| RuntimeError::OutputType((*name).to_owned()))?);
        }
        watch(&seen)?;
        drop(seen);
        drop(outputs);
        states.iter_mut().for_each(|state| std::mem::swap(&mut state.current, &mut state.next));
    }
    let last = iteration.carries.iter().map(|carry| {
        let state = states.iter().find(|state| state.carry.input == carry.input);
        let state =
            state.ok_or_else(|| RuntimeError::Run(format!("the carried input `{}` is not fed", carry.input)))?;
        let value = state.current.try_extract_array::<f32>();
        Ok(value.map_err(|_| RuntimeError::OutputType(carry.output.to_owned()))?.to_owned())
    });
    last.collect()
}
