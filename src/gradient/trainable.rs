//! Which constants of a model are weights that training may change.
//!
//! A file does not tell weights from other constants, so their place does: what an operator takes as its weight, scale,
//! bias or table is one; what is added to a value that depends on a weight already, or multiplied with it, is one too.
//! Running statistics of a batch normalisation are none, nor are numbers without axes, the normalisation of pixels in
//! front of the first weight, or attention masks.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{ElementType, Graph, Node};

/// Operators with weights, and the inputs that these are.
const PLACES: &[(&str, &[usize])] = &[
    ("Conv", &[1, 2]),
    ("ConvTranspose", &[1, 2]),
    ("Gemm", &[0, 1, 2]),
    ("MatMul", &[0, 1]),
    ("Einsum", &[0, 1, 2, 3]),
    ("BatchNormalization", &[1, 2]),
    ("LayerNormalization", &[1, 2]),
    ("InstanceNormalization", &[1, 2]),
    ("GroupNormalization", &[1, 2]),
    ("RMSNormalization", &[1]),
    ("PRelu", &[1]),
    ("Gather", &[0]),
    ("LSTM", &[1, 2, 3]),
    ("GRU", &[1, 2, 3]),
    ("RNN", &[1, 2, 3]),
];

/// Operators that only move the elements of a weight that is their first input.
const MOVES: [&str; 6] = ["Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten"];

/// What is added with an element below this is a mask, not a bias.
const LEAST_BIAS: f64 = -50.0;

/// The weights of a float32 model by name, in the order in which the model uses them.
pub(super) fn trainable(graph: &Graph) -> Vec<String> {
    let producers: BTreeMap<&str, &Node> = graph
        .nodes
        .iter()
        .flat_map(|node| node.outputs.iter().map(move |output| (output.as_str(), node)))
        .filter(|(output, _)| !output.is_empty())
        .collect();
    let mut weights: Vec<String> = Vec::new();
    // Values of the model's input that a weight has had a part in.
    let mut learned: BTreeSet<&str> = BTreeSet::new();
    for node in &graph.nodes {
        let by_place = PLACES.iter().find(|(op, _)| *op == node.op);
        let found: Vec<&str> = match (by_place, node.op.as_str()) {
            (Some((_, places)), _) => {
                places.iter().filter_map(|&place| weight(graph, &producers, node, place)).collect()
            }
            (None, "Add" | "Mul") if node.inputs.iter().any(|input| learned.contains(input.as_str())) => (0..2)
                .filter_map(|place| weight(graph, &producers, node, place))
                .filter(|name| node.op == "Mul" || !is_mask(graph, name))
                .collect(),
            _ => Vec::new(),
        };
        if !found.is_empty() || node.inputs.iter().any(|input| learned.contains(input.as_str())) {
            learned.extend(node.outputs.iter().map(String::as_str).filter(|output| !output.is_empty()));
        }
        for name in found {
            if !weights.iter().any(|known| known == name) {
                weights.push(name.to_owned());
            }
        }
    }
    weights
}

/// The float32 constant with axes behind an input, through operators that only move its elements.
fn weight<'a>(
    graph: &'a Graph,
    producers: &BTreeMap<&'a str, &'a Node>,
    node: &'a Node,
    place: usize,
) -> Option<&'a str> {
    let mut name = node.input(place)?;
    while let Some(producer) = producers.get(name).filter(|producer| MOVES.contains(&producer.op.as_str())) {
        name = producer.input(0)?;
    }
    let tensor = graph.initializers.get(name)?;
    let is_weight = tensor.element() == ElementType::Float32 && !tensor.dims().is_empty() && !tensor.is_empty();
    is_weight.then_some(name)
}

fn is_mask(graph: &Graph, name: &str) -> bool {
    let values = graph.initializers.get(name).and_then(super::tensor::Tensor::floats);
    values.is_none_or(|values| values.iter().any(|&value| value.is_nan() || value < LEAST_BIAS))
}
