//! Preprocessing in front of a model, so that it takes samples in the probe's own pixel space.

use super::super::{
    builder::Builder,
    error::{GradientError, Result},
    graph::{Dim, ElementType, Graph, ValueType},
    shape,
    tensor::Tensor,
};

/// The prefix of what is put in front of a model.
const PREFIX: &str = "preprocessing";

/// Whether a tensor has the name of one that [`with_preprocessing`] adds.
pub fn is_preprocessing(name: &str) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('/'))
}

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

/// How an image is resized: with half-pixel centres and clamped edges, without antialiasing, as ONNX `Resize` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interpolation {
    /// Linear along each axis.
    Bilinear,
    /// The nearest pixel, the earlier of two that are equally near.
    Nearest,
}

/// What turns samples into what a model wants, in this order: resize, normalise, reorder.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessing {
    /// `[channels, height, width]` of an image with pixels in 0..1, or `[features]` of a vector.
    pub sample_shape: Vec<usize>,
    /// Height and width that the model wants, where they differ.
    pub size: Option<[usize; 2]>,
    /// How to get there.
    pub interpolation: Interpolation,
    /// Subtracted from each channel: one value, or one for each channel; none is 0.
    pub mean: Vec<f32>,
    /// Divides each channel, as `mean`; none is 1.
    pub std: Vec<f32>,
    /// The model's layout.
    pub layout: Layout,
}

/// The graph whose input of the same name takes float32 samples of `[batch, sample_shape…]`.
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
    let mut builder = Builder::new(graph.clone(), PREFIX);
    let nodes = builder.take_nodes();
    builder.set_type(input, ValueType::new(ElementType::Float32, dims));
    let mut value = input.to_owned();
    match preprocessing.sample_shape.as_slice() {
        [channels, height, width] => {
            value = resized(&mut builder, &value, [*height, *width], preprocessing)?;
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
    if let Some(pullback) = &mut graph.pullback {
        pullback.fed(input, &value);
    }
    for mut node in nodes {
        for name in node.inputs.iter_mut().filter(|name| *name == input) {
            name.clone_from(&value);
        }
        graph.nodes.push(node);
    }
    shape::inferred_again(graph)
}

fn resized(builder: &mut Builder, value: &str, from: [usize; 2], settings: &Preprocessing) -> Result<String> {
    let ([height, width], Some([new_height, new_width])) = (from, settings.size) else { return Ok(value.to_owned()) };
    let mut value = value.to_owned();
    if height != new_height {
        let rows = builder.constant(interpolation(new_height, height, settings.interpolation)?);
        value = builder.emit("MatMul", &[&rows, &value], &[])?;
    }
    if width != new_width {
        let columns = interpolation(new_width, width, settings.interpolation)?;
        let columns = columns.permuted(&[1, 0]).unwrap_or(columns);
        let columns = builder.constant(columns);
        value = builder.emit("MatMul", &[&value, &columns], &[])?;
    }
    Ok(value)
}

/// The matrix `[to, from]` that interpolates `from` samples at `to` places.
fn interpolation(to: usize, from: usize, kind: Interpolation) -> Result<Tensor> {
    if to == 0 || from == 0 || (to as u64).saturating_mul(from as u64) > LARGEST_MATRIX {
        return Err(GradientError::Limit(format!("resizing from {from} to {to} pixels")));
    }
    let mut matrix = vec![0.0; to * from];
    for (place, row) in matrix.chunks_exact_mut(from).enumerate() {
        let centre = (place as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let clamped = centre.clamp(0.0, (from - 1) as f64);
        let (left, fraction) = match kind {
            Interpolation::Bilinear => (clamped.floor() as usize, clamped.fract()),
            Interpolation::Nearest => ((clamped - 0.5).ceil() as usize, 0.0),
        };
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
