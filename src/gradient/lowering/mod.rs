//! The model in double precision, for measuring: ONNX Runtime's CPU has no double kernels for a good part of the
//! operators, so these are written with operators that have one. Slow and large; meant for one or two samples.
//!
//! Invariant: a lowered operator computes what the original does, to rounding. What is not lowered stays, and the
//! runtime says whether it can run it.

mod activation;
mod spatial;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    builder::Builder,
    error::{GradientError, Result},
    graph::{Attribute, Dim, ElementType, Graph, Node, ValueType},
    precision::retyped,
    shape,
};

/// Writes a node with other operators; `None` where this form of it stays as it is.
type Lower = fn(&mut Builder, &Node) -> Result<Option<String>>;

const LOWERINGS: &[(&str, Lower)] = &[
    ("Conv", spatial::convolution),
    ("ConvTranspose", spatial::transposed_convolution),
    ("AveragePool", spatial::average_pool),
    ("GlobalAveragePool", spatial::global_average_pool),
    ("GlobalMaxPool", spatial::global_max_pool),
    ("LRN", spatial::local_response_normalization),
    ("Resize", spatial::resize),
    ("InstanceNormalization", spatial::instance_normalization),
    ("LeakyRelu", activation::leaky_relu),
    ("PRelu", activation::prelu),
    ("Elu", activation::elu),
    ("Selu", activation::selu),
    ("Celu", activation::celu),
    ("HardSigmoid", activation::hard_sigmoid),
    ("HardSwish", activation::hard_swish),
    ("Softplus", activation::softplus),
    ("Softsign", activation::softsign),
    ("Mish", activation::mish),
    ("Gelu", activation::gelu),
    ("Erf", activation::erf),
    ("Cos", activation::cosine),
    ("ReduceL2", activation::reduce_l2),
    ("ReduceL1", activation::reduce_l1),
];

/// The model with all floats in float64 and inputs of these sizes, in operators that ONNX Runtime's CPU has in double.
///
/// # Errors
/// Where the sizes do not fit the model.
pub fn in_double(graph: &Graph, sizes: &[(&str, &[usize])]) -> Result<Graph> {
    let mut graph = retyped(graph, &|element| element != ElementType::Float64, ElementType::Float64)?;
    for (input, sizes) in sizes {
        let shape = sizes.iter().map(|&size| Dim::Known(size as u64)).collect();
        if let Some(value_type) = graph.types.get_mut(*input) {
            *value_type = ValueType::new(value_type.element, shape);
        }
    }
    let graph = shape::inferred_again(graph)?;
    lowered(graph)
}

fn lowered(graph: Graph) -> Result<Graph> {
    let mut builder = Builder::new(graph, "double");
    let nodes = builder.take_nodes();
    let outputs: BTreeSet<String> = builder.graph().outputs.iter().cloned().collect();
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for mut node in nodes {
        node.rename_inputs(&renamed);
        let lowering = LOWERINGS.iter().find(|(op, _)| *op == node.op);
        let value = match lowering {
            Some((_, lower)) => lower(&mut builder, &node).map_err(|error| at(error, &node))?,
            None => None,
        };
        match (value, node.output(0)) {
            (Some(value), Some(output)) => {
                if outputs.contains(output) {
                    builder.alias(output, &value)?;
                }
                renamed.insert(output.to_owned(), value);
            }
            _ => builder.push(node)?,
        }
    }
    Ok(builder.into_graph())
}

fn at(error: GradientError, node: &Node) -> GradientError {
    match error {
        GradientError::Node { .. } => error,
        other => {
            GradientError::Node { node: node.label().to_owned(), operator: node.op.clone(), reason: other.to_string() }
        }
    }
}

/// A node's input that must be there.
fn operand(node: &Node, index: usize) -> Result<&str> {
    node.input(index).ok_or_else(|| GradientError::Request(format!("input {index} is missing")))
}

/// The sizes of a value.
///
/// # Errors
/// Where one is not known.
fn sizes(builder: &Builder, value: &str) -> Result<Vec<usize>> {
    let unknown = || GradientError::UnknownType { what: "shape", value: value.to_owned() };
    let dims = builder.shape(value)?;
    dims.iter().map(|dim| dim.known().and_then(|size| usize::try_from(size).ok()).ok_or_else(unknown)).collect()
}

fn float(node: &Node, name: &str, default: f64) -> f64 {
    node.float(name).map_or(default, f64::from)
}

fn ints(values: impl IntoIterator<Item = usize>) -> Vec<i64> {
    values.into_iter().map(|value| value as i64).collect()
}

fn attribute_int(value: i64) -> Attribute {
    Attribute::Int(value)
}
