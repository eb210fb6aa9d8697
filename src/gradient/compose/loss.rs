//! A loss behind a model: what an attack ascends.

use super::super::{
    builder::Builder,
    differentiate,
    error::{GradientError, Result},
    graph::{Attribute, Dim, ElementType, Graph, ValueType},
    tensor::Tensor,
};

/// What an attack ascends: one value for each sample. Classes lie on axis 1; for maps the values of all places are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// `−Σ target · log softmax(output)`; the target holds probabilities, one-hot rows for labels.
    SoftCrossEntropy,
    /// `Σ target · (log target − log softmax(output))`: the cross-entropy without the target's entropy, so the same
    /// gradient.
    KullbackLeibler,
    /// `Σ (output − target)²`.
    SquaredDeviation,
    /// The largest other logit less the target's; the target is one-hot (Carlini and Wagner 2017, f₆).
    Margin,
    /// The margin over the difference of the largest and the third largest logit, so that scaling logits changes nothing
    /// (Croce and Hein 2020, equation 6); at least three classes.
    LogitsRatio,
}

/// Keeps the logits ratio finite where the three largest logits are equal, as its authors have it.
const RATIO_SHIFT: f64 = 1e-12;

/// The graph with another input `target/<output>`, shaped as the output, and another output `loss` of shape `[batch]`.
///
/// # Errors
/// Where the model has no such output of floats, or its rank is not known or too low, or it has too few classes.
pub fn with_loss(graph: &Graph, output: &str, loss: Loss) -> Result<Graph> {
    differentiate::chosen(graph, &[output], false)?;
    let mut builder = Builder::new(graph.clone(), "loss");
    let rank = builder.rank(output)?;
    if rank < 1 || (rank < 2 && loss != Loss::SquaredDeviation) {
        return Err(GradientError::Request(format!("the output `{output}` of rank {rank} has no batch or no classes")));
    }
    let target = builder.add_input_like(&format!("target/{output}"), output)?;
    let places = match loss {
        Loss::SoftCrossEntropy => {
            let logs = builder.emit("LogSoftmax", &[output], &[("axis", Attribute::Int(1))])?;
            builder.mul(&logs, &target)?
        }
        Loss::KullbackLeibler => divergence(&mut builder, output, &target)?,
        Loss::SquaredDeviation => {
            let deviation = builder.sub(output, &target)?;
            builder.mul(&deviation, &deviation)?
        }
        Loss::Margin => margin(&mut builder, output, &target)?,
        Loss::LogitsRatio => logits_ratio(&mut builder, output, &target)?,
    };
    let axes: Vec<i64> = (1..rank as i64).collect();
    let mut value = builder.reduce_sum(&places, &axes, false)?;
    if loss == Loss::SoftCrossEntropy {
        value = builder.unary("Neg", &value)?;
    }
    builder.add_output("loss", &value)?;
    Ok(builder.into_graph())
}

/// `target · (log target − log softmax(output))`, 0 where the target is 0.
fn divergence(builder: &mut Builder, output: &str, target: &str) -> Result<String> {
    let logs = builder.emit("LogSoftmax", &[output], &[("axis", Attribute::Int(1))])?;
    // The smallest number whose logarithm every float type of that width has; its product with 0 is 0.
    let least = if builder.element(output)? == ElementType::Float16 { 1e-7 } else { 1e-37 };
    let least = builder.scalar(least, output)?;
    let positive = builder.emit("Max", &[target, &least], &[])?;
    let target_logs = builder.unary("Log", &positive)?;
    let difference = builder.sub(&target_logs, &logs)?;
    builder.mul(target, &difference)
}

/// The largest logit of the other classes less the target's, with the classes kept as an axis of one.
fn margin(builder: &mut Builder, output: &str, target: &str) -> Result<String> {
    let own = builder.mul(output, target)?;
    let own = builder.reduce_sum(&own, &[1], true)?;
    let (half, lowest) = (builder.scalar(0.5, target)?, builder.scalar(f64::from(f32::MIN), output)?);
    let is_own = builder.emit("Greater", &[target, &half], &[])?;
    let others = builder.emit("Where", &[&is_own, &lowest, output], &[])?;
    let axes = builder.integers(&[1])?;
    let strongest = builder.emit("ReduceMax", &[&others, &axes], &[("keepdims", Attribute::Int(1))])?;
    builder.sub(&strongest, &own)
}

fn logits_ratio(builder: &mut Builder, output: &str, target: &str) -> Result<String> {
    let mut shape = builder.shape(output)?;
    if shape.get(1).and_then(Dim::known).is_some_and(|classes| classes < 3) {
        return Err(GradientError::Request(format!("the output `{output}` has fewer than three classes")));
    }
    let margin = margin(builder, output, target)?;
    let count = builder.integers(&[3])?;
    let found = builder.emit_all("TopK", &[output, &count], &[("axis", Attribute::Int(1))], 2)?;
    let Some(places) = found.get(1) else { return Err(GradientError::Request("TopK has two outputs".to_owned())) };
    // The cast changes nothing, but says that no gradient goes through the places.
    let places = builder.cast(places, ElementType::Int64)?;
    if let Some(classes) = shape.get_mut(1) {
        *classes = Dim::Known(3);
    }
    builder.set_type(&places, ValueType::new(ElementType::Int64, shape.clone()));
    let largest = builder.emit("GatherElements", &[output, &places], &[("axis", Attribute::Int(1))])?;
    let mut dims = vec![1; shape.len().saturating_sub(1)];
    if let Some(classes) = dims.first_mut() {
        *classes = 3;
    }
    let signs = Tensor::from_floats(builder.element(output)?, dims, &[1.0, 0.0, -1.0])?;
    let signs = builder.constant(signs);
    let differences = builder.mul(&largest, &signs)?;
    let span = builder.reduce_sum(&differences, &[1], true)?;
    let span = builder.shifted(&span, RATIO_SHIFT)?;
    builder.div(&margin, &span)
}
