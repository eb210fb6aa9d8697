//! Runs in a row at fixed addresses, which a graphics card records once, as a CUDA graph, and then repeats without ONNX
//! Runtime's going through the nodes.
//!
//! Two recordings are made, as a run must not write what it reads: one from the first buffers of the carried values to the
//! second, one back. Before they are trusted, the first is compared with the same run unrecorded.

use std::{collections::BTreeMap, sync::Arc, thread::ThreadId};

use ndarray::{ArrayD, ArrayViewD};
use ort::{
    session::{IoBinding, NoSelectedOutputs, RunOptions},
    value::Tensor,
};

use super::{
    device::{Device, Fault},
    executable::OpenSession,
    iteration::{Carry, on_host, shape},
    one_line,
};

/// What a session has recorded.
#[derive(Default)]
pub(super) struct Capture {
    recorded: Option<Recorded>,
    /// Recordings have numbers; those of shapes that changed are not used again.
    n_recordings: usize,
    has_failed: bool,
}

struct Recorded {
    shapes: BTreeMap<String, Vec<usize>>,
    /// ONNX Runtime keeps recordings by thread.
    thread: ThreadId,
    places: Places,
    /// From the first buffers of the carried values to the second, and back.
    ways: [Way; 2],
    /// Which buffers have the values now.
    now: usize,
}

/// One recording: what its run reads and writes, and its number.
type Way = (IoBinding, RunOptions<NoSelectedOutputs>);

/// Tensors that stay where they are.
struct Places {
    /// Inputs that are not carried.
    inputs: BTreeMap<String, Tensor<f32>>,
    states: Vec<State>,
    watched: Vec<Tensor<f32>>,
}

/// A carried value.
struct State {
    input: String,
    output: String,
    buffers: [Tensor<f32>; 2],
}

/// Largest difference between a recorded run and one that is not, relative to the largest element.
const TOLERANCE: f32 = 1e-3;
/// The option of a run that names the recording, and the value for none.
pub(super) const RECORDING: &str = "gpu_graph_id";
pub(super) const UNRECORDED: &str = "-1";

impl Capture {
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed
    }

    /// Feeds all inputs of runs to come, and records them where that was not done for these shapes. False where the session
    /// records nothing.
    pub(super) fn begin(
        session: &mut OpenSession,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        carries: &[Carry<'_>],
        watched: &[&str],
    ) -> ort::Result<bool> {
        let Some(mut capture) = session.capture.take() else { return Ok(false) };
        let begun = capture.begin_on(session, feeds, carries, watched);
        session.capture = Some(capture);
        begun
    }

    fn begin_on(
        &mut self,
        session: &mut OpenSession,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        carries: &[Carry<'_>],
        watched: &[&str],
    ) -> ort::Result<bool> {
        if self.has_failed {
            return Ok(false);
        }
        let shapes: BTreeMap<String, Vec<usize>> =
            feeds.iter().map(|(name, array)| ((*name).to_owned(), array.shape().to_vec())).collect();
        let fits = |recorded: &Recorded| recorded.shapes == shapes && recorded.thread == session.thread;
        if !self.recorded.as_ref().is_some_and(fits) {
            self.recorded = None;
            match self.record(session, shapes, feeds, carries, watched) {
                Ok(recorded) => self.recorded = recorded,
                Err(cause) if Fault::of(&one_line(&cause)).is_some() => return Err(cause),
                Err(cause) => tracing::warn!(
                    device = %session.device,
                    cause = one_line(&cause),
                    "steps of an attack are not captured"
                ),
            }
            self.has_failed = self.recorded.is_none();
        }
        let Some(recorded) = &mut self.recorded else { return Ok(false) };
        recorded.now = 0;
        recorded.places.feed(session, feeds, 0)?;
        Ok(true)
    }

    /// What is needed for runs on some shapes; `None` where a recorded run gives something else than one that is not.
    fn record(
        &mut self,
        session: &mut OpenSession,
        shapes: BTreeMap<String, Vec<usize>>,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        carries: &[Carry<'_>],
        watched: &[&str],
    ) -> ort::Result<Option<Recorded>> {
        let device = session.device;
        let mut places = Places::new(session, feeds, carries)?;
        places.feed(session, feeds, 0)?;
        let (expected, seen) = unrecorded(session, &places, watched)?;
        for shape in seen {
            places.watched.push(device.tensor(&session.session, &shape)?);
        }
        let ways = [self.way(session, &mut places, watched, 0)?, self.way(session, &mut places, watched, 1)?];
        let mut recorded = Recorded { shapes, thread: session.thread, places, ways, now: 0 };
        let runtime = Arc::clone(&session.runtime);
        let _only = runtime.cards.recording();
        // Recorded, then repeated.
        recorded.run(session)?;
        recorded.run(session)?;
        for (State { buffers: [_, second], .. }, expected) in recorded.places.states.iter().zip(&expected) {
            if !agree(&on_host(second)?, expected) {
                tracing::warn!(%device, "steps of an attack are not captured: a recorded one gives other values");
                return Ok(None);
            }
        }
        recorded.now = 1;
        recorded.run(session)?;
        Ok(Some(recorded))
    }

    /// A run from some buffers to the others, under a number of its own.
    fn way(&mut self, session: &OpenSession, places: &mut Places, watched: &[&str], from: usize) -> ort::Result<Way> {
        self.n_recordings += 1;
        let mut binding = session.session.create_binding()?;
        places.bind_inputs(&mut binding, from)?;
        for State { output, buffers, .. } in &mut places.states {
            let [first, second] = buffers;
            binding.bind_output(output.as_str(), if from == 0 { second } else { first })?;
        }
        for (name, tensor) in watched.iter().zip(&mut places.watched) {
            binding.bind_output(*name, tensor)?;
        }
        Ok((binding, recording(&self.n_recordings.to_string())?))
    }

    /// Repeats the run from where the last one ended, with some inputs fed anew, and gives the watched outputs.
    pub(super) fn run(
        session: &mut OpenSession,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
    ) -> ort::Result<Vec<ArrayD<f32>>> {
        let mut capture = session.capture.take();
        let recorded = capture.as_mut().and_then(|capture| capture.recorded.as_mut());
        let recorded = recorded.ok_or_else(|| ort::Error::new("no run is recorded"));
        let seen = recorded.and_then(|recorded| {
            recorded.places.feed(session, feeds, recorded.now)?;
            recorded.run(session)?;
            recorded.now = 1 - recorded.now;
            recorded.places.watched.iter().map(on_host).collect()
        });
        session.capture = capture;
        seen
    }

    /// What the last run carried over.
    pub(super) fn carried(session: &OpenSession) -> Vec<&Tensor<f32>> {
        let recorded = session.capture.as_ref().and_then(|capture| capture.recorded.as_ref());
        let current = recorded.into_iter().flat_map(|recorded| {
            recorded.places.states.iter().map(
                |State { buffers: [first, second], .. }| {
                    if recorded.now == 0 { first } else { second }
                },
            )
        });
        current.collect()
    }
}

impl Recorded {
    fn run(&self, session: &mut OpenSession) -> ort::Result<()> {
        let [forth, back] = &self.ways;
        let (binding, options) = if self.now == 0 { forth } else { back };
        session.session.run_binding_with_options(binding, options).map(drop)
    }
}

impl Places {
    fn new(session: &OpenSession, feeds: &[(&str, ArrayViewD<'_, f32>)], carries: &[Carry<'_>]) -> ort::Result<Places> {
        let place = |shape: &[usize]| session.device.tensor(&session.session, shape);
        let (mut inputs, mut states) = (BTreeMap::new(), Vec::with_capacity(carries.len()));
        for (name, array) in feeds {
            inputs.insert((*name).to_owned(), place(array.shape())?);
        }
        for Carry { input, output } in carries {
            let Some(first) = inputs.remove(*input) else { continue };
            let second = place(&shape(&first))?;
            states.push(State { input: (*input).to_owned(), output: (*output).to_owned(), buffers: [first, second] });
        }
        Ok(Places { inputs, states, watched: Vec::new() })
    }

    /// Copies arrays to where runs from some buffers read them.
    fn feed(
        &mut self,
        session: &mut OpenSession,
        feeds: &[(&str, ArrayViewD<'_, f32>)],
        from: usize,
    ) -> ort::Result<()> {
        for (name, array) in feeds {
            let state = self.states.iter_mut().find(|state| state.input == *name);
            let place = match state {
                Some(State { buffers: [first, second], .. }) => Some(if from == 0 { first } else { second }),
                None => self.inputs.get_mut(*name),
            };
            let Some(place) = place else { return Err(ort::Error::new(format!("`{name}` was not recorded"))) };
            session.stage(name, array)?.copy_into(place)?;
        }
        Ok(())
    }

    fn bind_inputs(&self, binding: &mut IoBinding, from: usize) -> ort::Result<()> {
        for (name, tensor) in &self.inputs {
            binding.bind_input(name, tensor)?;
        }
        for State { input, buffers: [first, second], .. } in &self.states {
            binding.bind_input(input, if from == 0 { first } else { second })?;
        }
        Ok(())
    }
}

/// What a run that is not recorded carries over, and the shapes of the watched outputs.
type Unrecorded = (Vec<ArrayD<f32>>, Vec<Vec<usize>>);

fn unrecorded(session: &mut OpenSession, places: &Places, watched: &[&str]) -> ort::Result<Unrecorded> {
    let mut binding = session.session.create_binding()?;
    places.bind_inputs(&mut binding, 0)?;
    let host = Device::Cpu.memory()?;
    let carried: Vec<&str> = places.states.iter().map(|state| state.output.as_str()).collect();
    for name in carried.iter().chain(watched) {
        binding.bind_output_to_device(*name, &host)?;
    }
    let outputs = session.session.run_binding_with_options(&binding, &recording(UNRECORDED)?)?;
    let array = |name: &&str| {
        let value = outputs.get(name).ok_or_else(|| ort::Error::new(format!("`{name}` was not computed")))?;
        Ok(value.try_extract_array::<f32>()?.to_owned())
    };
    let expected = carried.iter().map(array).collect::<ort::Result<_>>()?;
    let seen =
        watched.iter().map(|name| array(name).map(|array| array.shape().to_vec())).collect::<ort::Result<_>>()?;
    Ok((expected, seen))
}

/// The options of a run that is recorded under a number, or repeats that recording.
fn recording(number: &str) -> ort::Result<RunOptions<NoSelectedOutputs>> {
    let mut options = RunOptions::new()?;
    options.set(RECORDING, number)?;
    Ok(options)
}

fn agree(given: &ArrayD<f32>, expected: &ArrayD<f32>) -> bool {
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    given.shape() == expected.shape()
        && given.iter().zip(expected).all(|(given, expected)| (given - expected).abs() <= TOLERANCE * largest)
}
