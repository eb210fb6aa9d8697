//! Puts preprocessing in front of a model and a loss behind it, and chooses its outputs.
//!
//! Each function gives a new graph. Invariant: a composed graph is an ordinary model, so compositions compose.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    builder::Builder,
    error::{GradientError, Result},
    graph::{Attribute, Dim, ElementType, Graph, ValueType},
    prune, shape,
    tensor::Tensor,
};

/// Most elements of an interpolation matrix.
const LARGEST_MATRIX: u64 = 1 << 24;

/// The order of an image's axes after the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Channels, height, width.
    Nchw,
    /// Height, width, channels.
    Nhwc,
}

/// What turns samples into what a model wants, in this order: resize, normalise, reorder.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// `[channels, height, width]` of an image with pixels in 0..1, or `[features]` of a vector.
    pub sample_shape: Vec<usize>,
    /// Height and width that the model wants, where they differ.
    pub size: Option<[usize; 2]>,
    /// Subtracted from each channel: one value, or one for each channel; none is 0.
    pub mean: Vec<f32>,
    /// Divides each channel, as `mean`; none is 1.
    pub std: Vec<f32>,
    /// The model's layout.
    pub layout: Layout,
}

/// What an attack ascends. Both have one value for each sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// `−Σ target · log softmax(output)`; the target holds probabilities, the classes lie on axis 1.
    SoftCrossEntropy,
    /// `Σ (output − target)²`.
    SquaredDeviation,
}

/// The graph whose input of the same name takes float32 samples of `[batch, sample_shape…]`.
///
/// Resizing is bilinear with half-pixel centres and clamped edges, without antialiasing, as ONNX `Resize` has it.
///
/// # Errors
/// Where the model lacks the input, or the settings contradict each other or the model.
pub fn with_preprocessing(graph: &Graph, input: &str, preprocessing: &Preprocessing) -> Result<Graph> {
    if !graph.inputs.iter().any(|name| name == input) {
        return Err(GradientError::Request(format!("the model has no input `{input}`")));
    }
    let wanted = graph.types.get(input).cloned();
    let batch = graph.shape(input).and_then(<[Dim]>::first).cloned().unwrap_or_else(|| Dim::symbol("batch"));
    let mut dims = vec![batch];
    dims.extend(preprocessing.sample_shape.iter().map(|&size| Dim::Known(size as u64)));
    let mut builder = Builder::new(graph.clone(), "preprocessing");
    let nodes = builder.take_nodes();
    builder.set_type(input, ValueType::new(ElementType::Float32, dims));
    let mut value = input.to_owned();
    match preprocessing.sample_shape.as_slice() {
        [channels, height, width] => {
            value = resized(&mut builder, &value, [*height, *width], preprocessing.size)?;
            value = normalised(&mut builder, &value, *channels, preprocessing)?;
            if preprocessing.layout == Layout::Nhwc {
                value = builder.permuted(&value, &[0, 2, 3, 1])?;
            }
        }
        _ if preprocessing.size.is_some() || !preprocessing.mean.is_empty() || !preprocessing.std.is_empty() => {
            return Err(GradientError::Request("only images are resized or normalised".to_owned()));
        }
        _ => {}
    }
    if let Some(element) = wanted.map(|wanted| wanted.element).filter(|element| *element != ElementType::Float32) {
        value = builder.cast(&value, element)?;
    }
    let mut graph = builder.into_graph();
    for mut node in nodes {
        for name in node.inputs.iter_mut().filter(|name| *name == input) {
            name.clone_from(&value);
        }
        graph.nodes.push(node);
    }
    inferred_again(graph)
}

/// Infers all types anew, after an input has changed its type.
fn inferred_again(mut graph: Graph) -> Result<Graph> {
    let old = graph.types.clone();
    let made: BTreeSet<&String> = graph.nodes.iter().flat_map(|node| &node.outputs).collect();
    graph.types.retain(|name, _| !made.contains(name));
    graph.integers.retain(|name, _| !made.contains(name));
    let nodes = std::mem::take(&mut graph.nodes);
    for node in &nodes {
        // Old types help with operators that inference does not know; sizes may have changed since.
        let declared: BTreeMap<String, ValueType> = match super::rules::find(&node.op) {
            Some(_) => BTreeMap::new(),
            None => node.outputs.iter().filter_map(|name| Some((name.clone(), old.get(name)?.clone()))).collect(),
        };
        shape::infer_node(&mut graph, node, Some(&declared))?;
    }
    graph.nodes = nodes;
    Ok(graph)
}

fn resized(builder: &mut Builder, value: &str, from: [usize; 2], to: Option<[usize; 2]>) -> Result<String> {
    let ([height, width], Some([new_height, new_width])) = (from, to) else { return Ok(value.to_owned()) };
    let mut value = value.to_owned();
    if height != new_height {
        let rows = builder.constant(interpolation(new_height, height)?);
        value = builder.emit("MatMul", &[&rows, &value], &[])?;
    }
    if width != new_width {
        let columns = interpolation(new_width, width)?;
        let columns = columns.permuted(&[1, 0]).unwrap_or(columns);
        let columns = builder.constant(columns);
        value = builder.emit("MatMul", &[&value, &columns], &[])?;
    }
    Ok(value)
}

/// The matrix `[to, from]` that interpolates `from` samples linearly at `to` places.
fn interpolation(to: usize, from: usize) -> Result<Tensor> {
    if to == 0 || from == 0 || (to as u64).saturating_mul(from as u64) > LARGEST_MATRIX {
        return Err(GradientError::Limit(format!("resizing from {from} to {to} pixels")));
    }
    let mut matrix = vec![0.0; to * from];
    for (place, row) in matrix.chunks_exact_mut(from).enumerate() {
        let centre = (place as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let clamped = centre.clamp(0.0, (from - 1) as f64);
        let (left, fraction) = (clamped.floor() as usize, clamped.fract());
        for (tap, weight) in [(left, 1.0 - fraction), ((left + 1).min(from - 1), fraction)] {
            if let Some(entry) = row.get_mut(tap) {
                *entry += weight;
            }
        }
    }
    Tensor::from_floats(ElementType::Float32, vec![to as u64, from as u64], &matrix)
}

fn normalised(builder: &mut Builder, value: &str, channels: usize, settings: &Preprocessing) -> Result<String> {
    let mut value = value.to_owned();
    for (op, given, neutral) in [("Sub", &settings.mean, 0.0), ("Div", &settings.std, 1.0)] {
        if given.iter().all(|&entry| entry == neutral) {
            continue;
        }
        let fits = given.len() == 1 || given.len() == channels;
        if !fits || given.iter().any(|entry| !entry.is_finite() || (op == "Div" && *entry <= 0.0)) {
            return Err(GradientError::Request(format!(
                "the mean and std of {channels} channels cannot be {:?} and {:?}",
                settings.mean, settings.std
            )));
        }
        let entries: Vec<f64> = given.iter().map(|&entry| entry.into()).collect();
        let constant = Tensor::from_floats(ElementType::Float32, vec![given.len() as u64, 1, 1], &entries)?;
        let constant = builder.constant(constant);
        value = builder.emit(op, &[&value, &constant], &[])?;
    }
    Ok(value)
}

/// The graph with another input `target/<output>`, shaped as the output, and another output `loss` of shape `[batch]`.
///
/// # Errors
/// Where the model has no such output of floats, or its rank is not known or too low.
pub fn with_loss(graph: &Graph, output: &str, loss: Loss) -> Result<Graph> {
    super::differentiate::chosen(graph, &[output], false)?;
    let mut builder = Builder::new(graph.clone(), "loss");
    let rank = builder.rank(output)?;
    if rank < 1 || (rank < 2 && loss == Loss::SoftCrossEntropy) {
        return Err(GradientError::Request(format!("the output `{output}` of rank {rank} has no batch or no classes")));
    }
    let target = builder.add_input_like(&format!("target/{output}"), output)?;
    let axes: Vec<i64> = (1..rank as i64).collect();
    let value = match loss {
        Loss::SoftCrossEntropy => {
            let logs = builder.emit("LogSoftmax", &[output], &[("axis", Attribute::Int(1))])?;
            let products = builder.mul(&logs, &target)?;
            let sum = builder.reduce_sum(&products, &axes, false)?;
            builder.unary("Neg", &sum)?
        }
        Loss::SquaredDeviation => {
            let deviation = builder.sub(output, &target)?;
            let squares = builder.mul(&deviation, &deviation)?;
            builder.reduce_sum(&squares, &axes, false)?
        }
    };
    builder.add_output("loss", &value)?;
    Ok(builder.into_graph())
}

/// The graph with these tensors, inner ones included, as its only outputs, without what they do not need.
///
/// # Errors
/// Where the model has no tensor of one of the names.
pub fn with_outputs(graph: &Graph, names: &[&str]) -> Result<Graph> {
    let mut outputs: Vec<String> = Vec::with_capacity(names.len());
    for &name in names {
        if !graph.defines(name) {
            return Err(GradientError::Request(format!("the model has no tensor `{name}`")));
        }
        if !outputs.iter().any(|output| output == name) {
            outputs.push(name.to_owned());
        }
    }
    Ok(prune::pruned(Graph { outputs, ..graph.clone() }))
}

/// The graph with one more output: a tensor inside it.
///
/// # Errors
/// Where the model has no tensor of the name.
pub fn expose(graph: &Graph, tensor: &str) -> Result<Graph> {
    let mut names: Vec<&str> = graph.outputs.iter().map(String::as_str).collect();
    names.push(tensor);
    with_outputs(graph, &names)
}

/// The penultimate features: what the last `Gemm` or `MatMul` before the first output multiplies with its weight.
/// `None` where there is no such operator.
pub fn features(graph: &Graph) -> Option<String> {
    let mut depends: BTreeSet<&str> = graph.inputs.iter().map(String::as_str).collect();
    for node in &graph.nodes {
        if node.inputs.iter().any(|input| depends.contains(input.as_str())) {
            depends.extend(node.outputs.iter().map(String::as_str));
        }
    }
    let mut needed: BTreeSet<&str> = graph.outputs.first().map(String::as_str).into_iter().collect();
    for node in graph.nodes.iter().rev() {
        if !node.outputs.iter().any(|output| needed.contains(output.as_str())) {
            continue;
        }
        if matches!(node.op.as_str(), "Gemm" | "MatMul") {
            let mut factors = node.inputs.iter().take(2).filter(|input| depends.contains(input.as_str()));
            // Where both factors depend on the input neither is a weight, as in attention.
            if let (Some(features), None) = (factors.next(), factors.next()) {
                return Some(features.clone());
            }
        }
        needed.extend(node.inputs.iter().map(String::as_str));
    }
    None
}
