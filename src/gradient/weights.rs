//! Random weights for models whose own are placeholders: a network whose weights are all equal computes next to nothing,
//! and its derivatives say as little.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    error::{GradientError, Result},
    graph::{ElementType, Graph},
    tensor::Tensor,
};
use crate::limits;

/// Weights that are filled: float32 tensors of several elements.
fn filled(graph: &Graph) -> Vec<(String, Vec<u64>)> {
    let mut found = Vec::new();
    for (name, tensor) in &graph.initializers {
        let values = if tensor.element() == ElementType::Float32 { tensor.floats() } else { None };
        let is_filled = values.is_some_and(|values| {
            values.len() > 1 && values.first().is_some_and(|first| values.iter().all(|value| value == first))
        });
        if is_filled {
            found.push((name.clone(), tensor.dims().to_vec()));
        }
    }
    // Large ones are still nodes.
    for node in graph.nodes.iter().filter(|node| node.op == "ConstantOfShape") {
        let Some(output) = node.output(0).filter(|name| graph.element(name) == Some(ElementType::Float32)) else {
            continue;
        };
        let shape = node.input(0).and_then(|name| graph.initializers.get(name)).and_then(Tensor::integers);
        let dims =
            shape.map(|shape| shape.into_iter().map(|size| u64::try_from(size).ok()).collect::<Option<Vec<_>>>());
        found.extend(dims.flatten().map(|dims| (output.to_owned(), dims)));
    }
    found
}

/// Middle and half the width of a weight's values, by what it is for.
fn range(graph: &Graph, name: &str, dims: &[u64]) -> (f64, f64) {
    if dims.len() > 1 {
        let n: u64 = dims.iter().skip(1).product();
        return (0.0, (3.0 / n.max(1) as f64).sqrt());
    }
    let uses =
        graph.nodes.iter().flat_map(|node| node.inputs.iter().enumerate().map(move |(at, input)| (node, at, input)));
    for (node, at, _) in uses.filter(|(_, _, input)| *input == name) {
        match (node.op.as_str(), at) {
            ("Conv" | "ConvTranspose" | "Gemm", 2) | ("BatchNormalization", 2 | 3) => return (0.0, 0.1),
            _ => {}
        }
    }
    (1.0, 0.5)
}

/// The model with random weights in the place of those that have one value for all elements, of a size that keeps
/// signals about as large as they are: ±√(3/n) for matrices and kernels of n inputs, about 1 for factors and variances,
/// small for biases and means. The same seed gives the same weights.
///
/// # Errors
/// Where such weights are larger than a model may be, or there are none.
pub fn with_random_weights(graph: &Graph, seed: u64) -> Result<Graph> {
    let filled = filled(graph);
    if filled.is_empty() {
        return Err(GradientError::Request("no weight has one value for all elements".to_owned()));
    }
    let mut random = Graph { pullback: None, ..graph.clone() };
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let mut room = limits::MODEL_BYTES / 4;
    for (name, dims) in filled {
        let count = dims.iter().try_fold(1u64, |count, &size| count.checked_mul(size));
        let left = count.and_then(|count| Some((count, room.checked_sub(count)?)));
        let Some((count, left)) = left else {
            return Err(GradientError::Request(format!("the weights that `{name}` asks for are too large")));
        };
        room = left;
        let (middle, spread) = range(graph, &name, &dims);
        let mut value = || middle + spread * f64::from(generator.random::<f32>() * 2.0 - 1.0);
        let values: Vec<f64> = (0..count).map(|_| value()).collect();
        random.nodes.retain(|node| node.output(0) != Some(name.as_str()));
        random.initializers.insert(name, Tensor::from_floats(ElementType::Float32, dims, &values)?);
    }
    Ok(random)
}
