//! A new linear layer in the place of a model's last one.

use super::super::{
    builder::Builder,
    error::{GradientError, Result},
    graph::{Attribute, Dim, ElementType, Graph, Node, ValueType},
    prune, shape,
    tensor::Tensor,
};

/// The weights of a linear layer: `y = W x + b`.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// W, `[outputs, features]` of float32.
    pub weight: Tensor,
    /// b, `[outputs]` of float32.
    pub bias: Tensor,
}

/// What a new head's weights are called, unless the model has such a name.
const NAMES: [&str; 2] = ["head/weight", "head/bias"];

/// The graph whose `output` is a new head on some tensor of it, flattened, and the names of the head's weight and bias.
/// What only the former output needed goes.
///
/// # Errors
/// Where the model has no such output or tensor, or the tensor's rank is not known.
pub fn with_head(graph: &Graph, features: &str, output: &str, head: &Head) -> Result<(Graph, [String; 2])> {
    if !graph.outputs.iter().any(|name| name == output) {
        return Err(GradientError::Request(format!("the model has no output `{output}`")));
    }
    if !graph.defines(features) {
        return Err(GradientError::Request(format!("the model has no tensor `{features}`")));
    }
    let mut graph = Graph { pullback: None, ..graph.clone() };
    let former = unused(&graph, &format!("{output}/former"));
    if let Some(value_type) = graph.types.remove(output) {
        graph.types.insert(former.clone(), value_type);
    }
    let names = graph.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs));
    names.filter(|name| name.as_str() == output).for_each(|name| name.clone_from(&former));
    let features = if features == output { former } else { features.to_owned() };
    let weights = NAMES.map(|name| unused(&graph, name));
    let [weight, bias] = &weights;
    graph.set_initializer(weight, head.weight.clone());
    graph.set_initializer(bias, head.bias.clone());
    let mut builder = Builder::new(graph, "head");
    let flat = match builder.rank(&features)? {
        2 => features,
        _ => builder.emit("Flatten", &[&features], &[("axis", Attribute::Int(1))])?,
    };
    builder.push(linear(&flat, weights.each_ref().map(String::as_str), output))?;
    Ok((prune::pruned(builder.into_graph()), weights))
}

/// A head on its own: from rows of features to its output, and the names of its weight and bias.
///
/// # Errors
/// Where the weight is not a matrix.
pub fn only_head(features: &str, output: &str, head: &Head) -> Result<(Graph, [String; 2])> {
    let mut graph = Graph::empty("head".to_owned(), super::super::graph::WORKING_OPSET);
    let width = head.weight.dims().get(1).map_or_else(|| Dim::symbol("features"), |&width| Dim::Known(width));
    let rows = ValueType::new(ElementType::Float32, vec![Dim::symbol("batch"), width]);
    graph.inputs.push(features.to_owned());
    graph.types.insert(features.to_owned(), rows);
    graph.outputs.push(output.to_owned());
    let weights = NAMES.map(|name| unused(&graph, name));
    let [weight, bias] = &weights;
    graph.set_initializer(weight, head.weight.clone());
    graph.set_initializer(bias, head.bias.clone());
    let node = linear(features, [weight, bias], output);
    shape::infer_node(&mut graph, &node, None)?;
    graph.nodes.push(node);
    Ok((graph, weights))
}

fn linear(features: &str, [weight, bias]: [&str; 2], output: &str) -> Node {
    let mut node = Node::new("Gemm", &[features, weight, bias], &[output]);
    node.attributes.insert("transB".to_owned(), Attribute::Int(1));
    node
}

/// `wanted`, or the first of `wanted_1`, `wanted_2`, … that no tensor has.
fn unused(graph: &Graph, wanted: &str) -> String {
    let is_free = |name: &String| !graph.defines(name) && !graph.types.contains_key(name);
    std::iter::once(wanted.to_owned())
        .chain((1u32..).map(|number| format!("{wanted}_{number}")))
        .find(is_free)
        .unwrap_or_else(|| wanted.to_owned())
}
