//! An attack's step around a model: one run is one iteration, and every number that an attack is tuned with is an input.
//!
//! With decay 0 it is projected gradient ascent (Madry et al. 2018), and with one step of length epsilon from the sample
//! itself the fast gradient method (Goodfellow et al. 2015); with a decay above 0 the momentum iterative method (Dong et
//! al. 2018). A negative step descends, which makes a targeted attack. Every sample of a batch is treated by itself, and
//! a zero gradient leaves it where its momentum takes it: nothing is ever divided by zero.

use serde::{Deserialize, Serialize};

use super::{
    super::{
        builder::Builder,
        differentiate,
        error::{GradientError, Result},
        graph::{Attribute, Dim, Graph, Node, ValueType},
        prune,
        tensor::Tensor,
    },
    Loss, with_loss,
};

/// The norm that bounds perturbations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Norm {
    /// Euclidean.
    L2,
    /// Largest absolute change of a value.
    Linf,
}

/// What momentum adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Accumulated {
    /// Gradients over their L1 norm (Dong et al. 2018, equation 6). torchattacks divides by the mean, which changes nothing.
    Gradients,
    /// Steps of length one in the norm, so signs for L∞: Foolbox's form.
    Directions,
}

/// The graph of one attack iteration on `input`, which ascends a loss of `output`. What is accumulated matters for
/// decays above 0 alone.
///
/// | inputs beside the model's | shape | |
/// |---|---|---|
/// | `target/<output>` | as the output | see [`Loss`] |
/// | `clean/<input>` | as the input | the samples that the ball lies around |
/// | `momentum/<input>` | as the input | zeros before the first step |
/// | `attack/epsilon` | `[1]` or `[batch]` | the ball's radius |
/// | `attack/step` | `[1]` or `[batch]` | length of a step in the norm; negative descends |
/// | `attack/decay` | `[1]` or `[batch]` | what is kept of the momentum; 0 is none |
/// | `attack/low`, `attack/high` | `[1]` or `[batch]` | the values that are allowed; ∓infinity for any |
///
/// | outputs beside the model's | shape | |
/// |---|---|---|
/// | `loss` | `[batch]` | at the input, before the step |
/// | `gradient_norm` | `[batch]` | L1 norm of the loss's gradient there; not finite if any entry is not |
/// | `next/<input>` | as the input | after step, projection onto the ball, and clip |
/// | `next_momentum/<input>` | as the input | decayed momentum plus the gradient of L1 norm 1, or the step of length 1 |
///
/// # Errors
/// As [`with_loss`] and [`super::super::vjp`]; where the input's rank is not known or it has no batch.
pub fn attack_step(
    graph: &Graph,
    input: &str,
    output: &str,
    loss: Loss,
    norm: Norm,
    accumulated: Accumulated,
) -> Result<Graph> {
    let ascended = with_loss(graph, output, loss)?;
    let derived = differentiate::vjp(&ascended, &[input], &["loss"])?;
    let gradient = format!("gradient/{input}");
    let mut builder = Builder::new(seeded(derived, &gradient)?, "attack");
    let rank = builder.rank(input)?;
    if rank < 1 {
        return Err(GradientError::Request(format!("the input `{input}` has no batch")));
    }
    let step = Step { axes: (1..rank as i64).collect(), norm };
    let clean = builder.add_input_like(&format!("clean/{input}"), input)?;
    let momentum = builder.add_input_like(&format!("momentum/{input}"), input)?;
    let mut settings = Vec::with_capacity(5);
    for name in ["epsilon", "step", "decay", "low", "high"] {
        settings.push(step.setting(&mut builder, &format!("attack/{name}"), input)?);
    }
    let [epsilon, length, decay, low, high] = settings.as_slice() else {
        return Err(GradientError::Request("an attack has five settings".to_owned()));
    };
    let sizes = builder.unary("Abs", &gradient)?;
    let gradient_norm = builder.reduce_sum(&sizes, &step.axes, false)?;
    let unit = match accumulated {
        Accumulated::Gradients => step.of_length_one(&mut builder, &gradient, Length::Sum)?,
        Accumulated::Directions => step.direction(&mut builder, &gradient)?,
    };
    let decayed = builder.mul(&momentum, decay)?;
    let momentum = builder.add(&decayed, &unit)?;
    let direction = step.direction(&mut builder, &momentum)?;
    let change = builder.mul(&direction, length)?;
    let moved = builder.add(input, &change)?;
    let perturbation = builder.sub(&moved, &clean)?;
    let perturbation = step.projected(&mut builder, &perturbation, epsilon)?;
    let moved = builder.add(&clean, &perturbation)?;
    let moved = builder.emit("Max", &[&moved, low], &[])?;
    let moved = builder.emit("Min", &[&moved, high], &[])?;
    builder.add_output("gradient_norm", &gradient_norm)?;
    for (name, value) in [("next", &moved), ("next_momentum", &momentum)] {
        // Settings of their own length broadcast; the result has the samples' shape all the same.
        if let Some(value_type) = builder.graph().types.get(input).cloned() {
            builder.set_type(value, value_type);
        }
        builder.add_output(&format!("{name}/{input}"), value)?;
    }
    Ok(prune::pruned(builder.into_graph()))
}

/// A vector-Jacobian product of `loss` with its cotangent set to 1 for each sample, and without its gradient output.
fn seeded(mut graph: Graph, gradient: &str) -> Result<Graph> {
    let seed = "cotangent/loss";
    graph.inputs.retain(|name| name != seed);
    graph.outputs.retain(|name| name != gradient);
    let made = graph.nodes.iter().position(|node| node.outputs.iter().any(|output| output == "loss"));
    let element = graph.element("loss");
    let (Some(made), Some(element)) = (made, element) else {
        return Err(GradientError::Request("the loss is not computed".to_owned()));
    };
    let shape = "cotangent/shape";
    if graph.defines(shape) {
        return Err(GradientError::Request(format!("the model has a tensor `{shape}` already; rename it")));
    }
    let node = |op: &str, input: &str, output: &str| Node::new(op, &[input], &[output]);
    let mut ones = node("ConstantOfShape", shape, seed);
    ones.attributes.insert("value".to_owned(), Attribute::Tensor(Tensor::from_floats(element, vec![1], &[1.0])?));
    graph.nodes.splice(made + 1..made + 1, [node("Shape", "loss", shape), ones]);
    Ok(graph)
}

/// What makes a length of a sample's values.
#[derive(Clone, Copy, PartialEq)]
enum Length {
    /// Sum of absolute values.
    Sum,
    Euclidean,
}

struct Step {
    /// The axes of one sample.
    axes: Vec<i64>,
    norm: Norm,
}

impl Step {
    /// A new input with one number for all samples or one for each, shaped to broadcast with the samples.
    fn setting(&self, builder: &mut Builder, name: &str, input: &str) -> Result<String> {
        let element = builder.element(input)?;
        builder.add_input(name, ValueType::new(element, vec![Dim::symbol(format!("{name}s"))]))?;
        if self.axes.is_empty() {
            return Ok(name.to_owned());
        }
        builder.unsqueezed(name, &self.axes)
    }

    /// The step of length one in the norm that ascends fastest.
    fn direction(&self, builder: &mut Builder, gradient: &str) -> Result<String> {
        match self.norm {
            Norm::Linf => builder.unary("Sign", gradient),
            Norm::L2 => self.of_length_one(builder, gradient, Length::Euclidean),
        }
    }

    /// Each sample's values over their length, zeros where all are zero. The largest is made 1 first, so that squares of
    /// tiny values are not lost.
    fn of_length_one(&self, builder: &mut Builder, values: &str, length: Length) -> Result<String> {
        let sizes = builder.unary("Abs", values)?;
        let largest = match self.axes.as_slice() {
            [] => sizes,
            axes => {
                let axes = builder.integers(axes)?;
                builder.emit("ReduceMax", &[&sizes, &axes], &[("keepdims", Attribute::Int(1))])?
            }
        };
        let largest = positive_or_one(builder, &largest)?;
        let values = builder.div(values, &largest)?;
        let length = match length {
            Length::Sum => {
                let sizes = builder.unary("Abs", &values)?;
                builder.reduce_sum(&sizes, &self.axes, true)?
            }
            Length::Euclidean => self.euclidean(builder, &values)?,
        };
        let length = positive_or_one(builder, &length)?;
        builder.div(&values, &length)
    }

    fn euclidean(&self, builder: &mut Builder, values: &str) -> Result<String> {
        let squares = builder.mul(values, values)?;
        let sum = builder.reduce_sum(&squares, &self.axes, true)?;
        builder.unary("Sqrt", &sum)
    }

    /// Scales perturbations down to the ball (L2), or clips them (L∞); inside it they stay.
    fn projected(&self, builder: &mut Builder, perturbation: &str, epsilon: &str) -> Result<String> {
        match self.norm {
            Norm::Linf => {
                let lowest = builder.unary("Neg", epsilon)?;
                let raised = builder.emit("Max", &[perturbation, &lowest], &[])?;
                builder.emit("Min", &[&raised, epsilon], &[])
            }
            Norm::L2 => {
                let length = self.euclidean(builder, perturbation)?;
                let outside = builder.emit("Greater", &[&length, epsilon], &[])?;
                let (factor, one) = (builder.div(epsilon, &length)?, builder.scalar(1.0, perturbation)?);
                let factor = builder.emit("Where", &[&outside, &factor, &one], &[])?;
                builder.mul(perturbation, &factor)
            }
        }
    }
}

/// A length that may be divided by: itself where it is above 0, else 1.
fn positive_or_one(builder: &mut Builder, length: &str) -> Result<String> {
    let (zero, one) = (builder.scalar(0.0, length)?, builder.scalar(1.0, length)?);
    let positive = builder.emit("Greater", &[length, &zero], &[])?;
    builder.emit("Where", &[&positive, length, &one], &[])
}
