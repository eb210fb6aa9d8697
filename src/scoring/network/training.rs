//! A network in training: the graphs of a step and of a forward pass with the weights as inputs, and epochs of them.
//!
//! Invariant: a run's numbers depend on the model, the samples, their order and the settings alone. Each run computes on
//! one thread, and batches have one height, the last one padded with samples that count nothing.

use std::{cell::Cell, collections::BTreeMap};

use ndarray::{Array1, Array2, ArrayD, ArrayView2, Axis, IxDyn, concatenate, s};

use super::{Network, Stopped, compile, internal, not_differentiable, padded};
use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result},
    gradient::{
        self, ElementType, Graph, Tensor,
        compose::{self, Head, Loss, Optimizer, Tuning},
    },
    runtime::{Carry, Executable, Feed, Steps},
    training::{Schedule, Units, initial_head},
};

/// What is to be trained, and how.
#[derive(Clone, Debug)]
pub struct Training {
    /// Outputs of the task.
    pub n_outputs: usize,
    /// The model's own last layer stays, instead of a new one.
    pub keep_head: bool,
    /// Every weight is trained, not the head alone.
    pub whole: bool,
    /// The samples are the same in every epoch, so that the head's features are too.
    pub fixed_samples: bool,
    pub loss: Loss,
    pub optimizer: Optimizer,
    pub momentum: f64,
    pub weight_decay: f64,
    pub batch: usize,
    pub seed: u64,
}

/// A network ready to be trained; runs of several threads may share it.
pub struct Trainee<'a> {
    network: &'a Network,
    training: Training,
    /// Whether rows of features are trained on, instead of samples.
    takes_features: bool,
    input: String,
    output: String,
    /// Shape of one row.
    row_shape: Vec<usize>,
    /// The weights that are trained, as they are at the start.
    weights: Vec<(String, ArrayD<f32>)>,
    /// The names of a new head's weight and bias.
    head: Option<[String; 2]>,
    step: Executable,
    forward: Executable,
}

/// Weights after training, by the names of [`Trainee`].
pub type Trained = Vec<ArrayD<f32>>;

/// A graph in training.
struct Student {
    graph: Graph,
    input: String,
    row_shape: Vec<usize>,
    weights: Vec<String>,
    head: Option<[String; 2]>,
    takes_features: bool,
}

impl Network {
    /// Derives the graphs of a training.
    ///
    /// # Errors
    /// [`Reason::OptionUnsupported`] where the model's head cannot be kept or there is nothing to train,
    /// [`Reason::ModelNotDifferentiable`], [`Reason::ModelExecutionFailed`].
    pub fn trainee(&self, mut training: Training) -> Result<Trainee<'_>> {
        let output = self.interface.output.clone();
        let student = match training.keep_head {
            true => self.with_own_head(&training)?,
            false => self.with_new_head(&training)?,
        };
        let Student { graph, input, row_shape, weights, head, takes_features } = student;
        if weights.is_empty() {
            let message = format!("model `{}` has no weights to train there; train it as a whole", self.name());
            return Err(Error::new(Reason::OptionUnsupported, message).at("mode"));
        }
        if let Some(fixed) = self.interface.fixed_batch.filter(|_| !takes_features) {
            training.batch = fixed;
        }
        let about = |cause| not_differentiable(self.name(), &cause);
        let graph = compose::with_outputs(&graph, &[&output]).map_err(about)?;
        let names: Vec<&str> = weights.iter().map(String::as_str).collect();
        let step = compose::training_step(&graph, &output, &names, training.loss, training.optimizer).map_err(about)?;
        let forward = gradient::cut_at(&graph, &names).map_err(about)?;
        let first = weights.iter().map(|name| {
            let array = graph.constant(name).and_then(array);
            array.map(|array| (name.clone(), array)).ok_or_else(|| self.lacks(name))
        });
        Ok(Trainee {
            network: self,
            takes_features,
            input,
            output,
            row_shape,
            weights: first.collect::<Result<_>>()?,
            head,
            step: compile(&self.runtime, self.name(), &step)?,
            forward: compile(&self.runtime, self.name(), &forward)?,
            training,
        })
    }

    fn with_new_head(&self, training: &Training) -> Result<Student> {
        let middle = Array2::from_elem((1, self.n_inputs()), 0.5);
        let width = self.outputs(middle.view())?.features.ncols();
        let (weight, bias) = initial_head(training.n_outputs, width, training.seed);
        let about = |cause| not_differentiable(self.name(), &cause);
        let tensor = |dims: Vec<usize>, values: &[f64]| {
            let dims = dims.into_iter().map(|size| size as u64).collect();
            Tensor::from_floats(ElementType::Float32, dims, values).map_err(about)
        };
        let head = Head {
            weight: tensor(vec![training.n_outputs, width], &weight)?,
            bias: tensor(vec![training.n_outputs], &bias)?,
        };
        let features = self.interface.features.as_ref().unwrap_or(&self.interface.output);
        if !training.whole && training.fixed_samples {
            let (graph, names) = compose::only_head("features", &self.interface.output, &head).map_err(about)?;
            let graph = graph.for_target(self.single.target());
            return Ok(Student {
                graph,
                input: "features".to_owned(),
                row_shape: vec![width],
                weights: names.to_vec(),
                head: Some(names),
                takes_features: true,
            });
        }
        let (graph, names) =
            compose::with_head(&self.single, features, &self.interface.output, &head).map_err(about)?;
        let weights = if training.whole { self.trainable(&graph) } else { names.to_vec() };
        Ok(self.student_of_samples(graph, weights, Some(names)))
    }

    fn with_own_head(&self, training: &Training) -> Result<Student> {
        if self.output_shape != [training.n_outputs] {
            let message = format!(
                "model `{}` gives {:?} for a sample and the task asks for {}; leave keep_head off to train a new head",
                self.name(),
                self.output_shape,
                training.n_outputs
            );
            return Err(Error::new(Reason::OptionUnsupported, message).at("keep_head"));
        }
        let graph = self.single.clone();
        if training.whole {
            let weights = self.trainable(&graph);
            return Ok(self.student_of_samples(graph, weights, None));
        }
        // Behind the features; a model whose features are its output has no head.
        let Some(features) = &self.interface.features else {
            return Ok(self.student_of_samples(graph, Vec::new(), None));
        };
        let behind = gradient::cut_at(&graph, &[features]).map_err(|cause| not_differentiable(self.name(), &cause))?;
        let weights = behind.trainable();
        Ok(self.student_of_samples(graph, weights, None))
    }

    fn student_of_samples(&self, graph: Graph, weights: Vec<String>, head: Option<[String; 2]>) -> Student {
        Student {
            graph,
            input: self.interface.input.clone(),
            row_shape: self.sample_shape.clone(),
            weights,
            head,
            takes_features: false,
        }
    }

    /// The model's weights; those that preprocessing put in front of it are none.
    fn trainable(&self, graph: &Graph) -> Vec<String> {
        let own = graph.trainable().into_iter();
        own.filter(|name| !compose::is_preprocessing(name)).collect()
    }

    /// What a training takes in memory, in bytes, roughly: weights with their gradients and states, each state twice; and
    /// three times the values between input and output, for their gradients and what convolutions unfold.
    pub fn training_bytes(&self, whole: bool, optimizer: Optimizer, batch: usize) -> u64 {
        let batch = self.interface.fixed_batch.unwrap_or(batch) as u64;
        let kept = 3 + 2 * optimizer.states().len() as u64;
        let weights = if whole { self.n_parameters } else { 0 };
        (4 * weights * kept).saturating_add(self.single.value_bytes(batch).saturating_mul(3))
    }
}

/// Samples of a batch, row by row.
pub struct Examples {
    pub rows: Array2<f32>,
    pub targets: Array2<f32>,
}

/// What a run is told and asked from epoch to epoch.
pub struct Course<'a> {
    pub schedule: Schedule,
    pub epochs: usize,
    /// The batches of an epoch.
    pub batches: &'a dyn Fn(usize) -> Vec<Vec<usize>>,
    /// Some samples in an epoch.
    pub examples: &'a dyn Fn(usize, &[usize]) -> Examples,
    pub cancel: &'a Cancel,
    /// Told how many samples were passed.
    pub advance: &'a (dyn Fn(usize) + Sync),
}

impl Trainee<'_> {
    /// Whether rows of features are trained on, instead of samples.
    pub fn takes_features(&self) -> bool {
        self.takes_features
    }

    /// Rows of a batch.
    pub fn batch(&self) -> usize {
        self.training.batch
    }

    /// The learning rate of batches of [`Self::batch`] samples, given that of batches of `batch_size`: a model whose file fixes
    /// another batch takes as much larger or smaller steps as it takes fewer or more of them (SGD: Goyal et al. 2017,
    /// arXiv 1706.02677), by the root with AdamW (Malladi et al. 2022, arXiv 2205.10287).
    pub fn rate(&self, rate: f64, batch_size: usize) -> f64 {
        let share = self.training.batch as f64 / batch_size.max(1) as f64;
        match self.training.optimizer {
            Optimizer::Sgd { .. } => rate * share,
            Optimizer::AdamW => rate * share.sqrt(),
        }
    }

    /// Weights whose new head predicts targets, where it was trained to predict them in some units. Those of a model that kept
    /// its head stay as they are.
    pub fn in_units(&self, mut weights: Trained, units: &Units) -> Trained {
        let place = |name: &str| self.weights.iter().position(|(own, _)| own == name);
        let places = self.head.as_ref().and_then(|[weight, bias]| place(weight).zip(place(bias)));
        if let Some([weight, bias]) = places.and_then(|(weight, bias)| weights.get_disjoint_mut([weight, bias]).ok()) {
            units.fold_into(weight, bias);
        }
        weights
    }

    /// Numbers that are trained.
    pub fn n_trained(&self) -> u64 {
        self.weights.iter().map(|(_, array)| array.len() as u64).sum()
    }

    /// Trains from the start. `judge` is shown the number of each epoch that is done, its mean loss and the weights, and
    /// says whether to go on.
    ///
    /// # Errors
    /// [`Reason::OptionOutOfRange`] where the loss is no longer finite, [`Reason::ModelExecutionFailed`],
    /// [`Reason::Cancelled`] between steps, and those of `judge`.
    pub fn train(&self, course: &Course<'_>, mut judge: impl FnMut(usize, f64, Trained) -> Result<bool>) -> Result<()> {
        let states = self.training.optimizer.states();
        let carried: Vec<[String; 2]> = self
            .weights
            .iter()
            .map(|(name, _)| [format!("next/{name}"), name.clone()])
            .chain(states.iter().flat_map(|state| {
                self.weights.iter().map(move |(name, _)| [format!("next_{state}/{name}"), format!("{state}/{name}")])
            }))
            .collect();
        let carries: Vec<Carry<'_>> = carried.iter().map(|[output, input]| Carry { output, input }).collect();
        let still: Vec<ArrayD<f32>> = self.weights.iter().map(|(_, first)| ArrayD::zeros(first.raw_dim())).collect();
        let firsts = self.weights.iter().map(|(_, first)| first).chain(states.iter().flat_map(|_| &still));
        let feeds: Vec<_> = carries.iter().zip(firsts).map(|(carry, first)| (carry.input, first.view())).collect();
        let number = Cell::new(0);
        let mut run = |steps: &mut Steps<'_>| {
            for epoch in 0..course.epochs {
                let (mut sum, mut count) = (0.0, 0);
                for batch in (course.batches)(epoch) {
                    course.cancel.check().map_err(Stopped::ByWatch)?;
                    let Examples { rows, targets } = (course.examples)(epoch, &batch);
                    let inputs =
                        self.inputs(rows.view(), targets.view(), course.schedule.rate(number.get()), number.get() + 1);
                    let inputs = inputs.map_err(Stopped::ByWatch)?;
                    let feeds: Vec<_> = inputs.iter().map(|(name, array)| (name.as_str(), array.view())).collect();
                    steps.run(&feeds, |seen| {
                        let losses = seen.iter().flat_map(|losses| losses.iter()).take(batch.len());
                        sum += losses.map(|&loss| f64::from(loss)).sum::<f64>();
                        let failed = || Stopped::ByWatch(self.diverged(epoch + 1, course.schedule.peak));
                        if sum.is_finite() { Ok(()) } else { Err(failed()) }
                    })?;
                    count += batch.len();
                    number.set(number.get() + 1);
                    (course.advance)(batch.len());
                }
                let weights: Trained = steps.carried()?.into_iter().take(self.weights.len()).collect();
                if weights.iter().any(|weight| weight.iter().any(|value| !value.is_finite())) {
                    return Err(Stopped::ByWatch(self.diverged(epoch + 1, course.schedule.peak)));
                }
                let mean = sum / self.width() / count.max(1) as f64;
                if !judge(epoch + 1, mean, weights).map_err(Stopped::ByWatch)? {
                    break;
                }
            }
            Ok(())
        };
        self.network.once_more(|| {
            let outcome = self.step.in_steps(&feeds, &carries, &["loss"], &mut run);
            // What was told of steps cannot be taken back.
            outcome.map_err(|stopped| match number.get() {
                0 => stopped,
                _ => Stopped::ByWatch(stopped.about(self.network)),
            })
        })
    }

    /// Target values that a sample's loss is a mean over.
    fn width(&self) -> f64 {
        match self.training.loss {
            Loss::SquaredDeviation => self.training.n_outputs.max(1) as f64,
            _ => 1.0,
        }
    }

    /// What a step is fed beside what it carries: `step` counts from 1.
    fn inputs(
        &self,
        rows: ArrayView2<'_, f32>,
        targets: ArrayView2<'_, f32>,
        rate: f64,
        step: usize,
    ) -> Result<Vec<(String, ArrayD<f32>)>> {
        let Training { optimizer, momentum, weight_decay, batch, .. } = self.training;
        let share = (1.0 / (rows.nrows().max(1) as f64 * self.width())) as f32;
        let counted = (0..batch).map(|row| if row < rows.nrows() { share } else { 0.0 });
        let counted = Array1::from_iter(counted).into_dyn();
        let settings = optimizer.settings(&Tuning { rate, momentum, weight_decay }, step);
        let setting = |(name, number): (&str, f64)| (name.to_owned(), ArrayD::from_elem(IxDyn(&[1]), number as f32));
        let mut inputs = vec![
            (self.input.clone(), padded(rows, &self.row_shape, batch)?),
            (format!("target/{}", self.output), padded(targets, &[self.training.n_outputs], batch)?),
            ("cotangent/loss".to_owned(), counted),
        ];
        inputs.extend(settings.map(setting));
        Ok(inputs)
    }

    /// The outputs of rows, as many as there are, under some weights.
    ///
    /// # Errors
    /// [`Reason::ModelExecutionFailed`].
    pub fn outputs(&self, rows: ArrayView2<'_, f32>, weights: &Trained) -> Result<Array2<f32>> {
        let mut outputs = Vec::new();
        for rows in rows.axis_chunks_iter(Axis(0), self.training.batch) {
            let tile = padded(rows, &self.row_shape, self.training.batch)?;
            let mut feeds = vec![(self.input.as_str(), Feed::from(tile.view()))];
            feeds.extend(
                self.weights.iter().zip(weights).map(|((name, _), array)| (name.as_str(), array.view().into())),
            );
            let given = self.network.once_more(|| Ok(self.forward.run(&feeds)?))?;
            let given = self.network.view(&given, &self.output)?;
            let given = given.to_shape((self.training.batch, self.training.n_outputs)).map_err(internal)?;
            outputs.push(given.slice(s![..rows.nrows(), ..]).to_owned());
        }
        let views: Vec<_> = outputs.iter().map(|rows| rows.view()).collect();
        concatenate(Axis(0), &views).map_err(internal)
    }

    /// The error of a training whose loss or weights are no longer finite.
    pub fn diverged(&self, epoch: usize, rate: f64) -> Error {
        let name = self.network.name();
        let message = format!(
            "fine-tuning `{name}` diverged in epoch {epoch}: its loss is no longer finite at a learning rate of {rate}; \
             lower learning_rate"
        );
        Error::new(Reason::OptionOutOfRange, message).at("learning_rate")
    }

    /// The model's file with these weights: `graph` is the model without preprocessing, in float32.
    ///
    /// # Errors
    /// [`Reason::Internal`] where it is not the model that was trained.
    pub fn file(&self, graph: &Graph, weights: &Trained) -> Result<Vec<u8>> {
        let about = |cause: gradient::GradientError| Error::new(Reason::Internal, cause.to_string());
        let mut tensors = BTreeMap::new();
        for ((name, _), array) in self.weights.iter().zip(weights) {
            tensors.insert(name.clone(), tensor(array).map_err(about)?);
        }
        let mut graph = graph.clone();
        if let Some([weight, bias]) = &self.head {
            let (Some(weight), Some(bias)) = (tensors.remove(weight), tensors.remove(bias)) else {
                return Err(self.network.lacks(weight));
            };
            let features = self.network.interface.features.as_ref().unwrap_or(&self.output);
            (graph, _) = compose::with_head(&graph, features, &self.output, &Head { weight, bias }).map_err(about)?;
        }
        Ok(graph.with_constants(tensors).map_err(about)?.to_onnx())
    }
}

fn array(tensor: &Tensor) -> Option<ArrayD<f32>> {
    let shape: Vec<usize> = tensor.dims().iter().map(|&size| size as usize).collect();
    let values = tensor.floats()?.into_iter().map(|value| value as f32).collect();
    ArrayD::from_shape_vec(IxDyn(&shape), values).ok()
}

fn tensor(array: &ArrayD<f32>) -> gradient::Result<Tensor> {
    let dims = array.shape().iter().map(|&size| size as u64).collect();
    let values: Vec<f64> = array.iter().map(|&value| f64::from(value)).collect();
    Tensor::from_floats(ElementType::Float32, dims, &values)
}
