//! One forward for many backward passes: a vector-Jacobian product in two graphs.
//!
//! The one-graph derivation is cut where cotangents enter. What does not depend on them is the forward graph; the rest
//! is the backward graph, which takes the values that cross the cut instead of computing them again. Which values cross
//! is a minimum cut: as few bytes as possible, where an operator that costs no more than reading its operands is
//! repeated rather than its result kept. So a Relu leaves its output, not its mask as well.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    differentiate,
    error::{GradientError, Result},
    flow::{Flow, UNCUTTABLE},
    graph::{Graph, Node, Port},
    layout, prune,
};

/// Operators that the backward graph may repeat.
const REPEATED: [&str; 31] = [
    "Abs",
    "Add",
    "And",
    "Cast",
    "Clip",
    "ConstantOfShape",
    "Equal",
    "Expand",
    "Flatten",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "Identity",
    "IsNaN",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Relu",
    "Reshape",
    "Shape",
    "Sign",
    "Size",
    "Squeeze",
    "Sub",
    "Unsqueeze",
    "Where",
];

/// What a size that only the run tells counts as.
const FREE_SIZE: u64 = 64;
/// What a value of unknown shape counts as, in elements.
const FREE_SHAPE: u64 = 1 << 20;
/// Bytes that any value costs at least: passing it has a price too.
const LEAST_BYTES: u64 = 64;

/// A vector-Jacobian product whose forward runs once for any number of cotangents.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Takes the model's inputs; gives the model's outputs and after them [`Parts::saved`].
    pub forward: Graph,
    /// Takes [`Parts::saved`], those of the model's inputs and outputs that it needs, and `cotangent/<output>`; gives
    /// `gradient/<input>`. All under the same names as in the forward graph.
    pub backward: Graph,
    /// The values that the forward graph gives for the backward graph alone.
    pub saved: Vec<Port>,
}

/// The graphs of [`super::vjp`] as a pair: the same outputs and gradients, from one derivation.
///
/// The backward graph is linear in its cotangents, and the weights that both need are in both files.
///
/// # Errors
/// As [`super::vjp`]; [`GradientError::UnknownType`] where the element type of a value that must pass is not known.
pub fn vjp_parts(graph: &Graph, inputs: &[&str], outputs: &[&str]) -> Result<Parts> {
    let whole = differentiate::vjp_in_any_layout(graph, inputs, outputs)?;
    let (model_outputs, gradients) = whole.outputs.split_at(graph.outputs.len().min(whole.outputs.len()));
    let (model_inputs, cotangents) = whole.inputs.split_at(graph.inputs.len().min(whole.inputs.len()));
    let mut late = dependent(&whole, cotangents);
    late.extend(gradients.iter().cloned());
    // What depends on no input is a constant, which both graphs may hold: ONNX Runtime folds it when it loads them.
    let mut early = dependent(&whole, model_inputs);
    early.retain(|name| !late.contains(name));
    let users = whole.nodes.iter().filter(|node| is_late(node, &late)).flat_map(|node| &node.inputs);
    let crossing: BTreeSet<&str> = users.map(String::as_str).filter(|name| early.contains(*name)).collect();
    let kept = typed(&whole, &early, kept(&whole, &early, &crossing).unwrap_or(crossing));
    let kept: BTreeSet<String> = kept.into_iter().map(str::to_owned).collect();
    if let Some(value) = kept.iter().find(|name| whole.element(name).is_none()) {
        return Err(GradientError::UnknownType { what: "element type", value: value.clone() });
    }
    let is_new = |name: &&String| !model_inputs.contains(name) && !model_outputs.contains(name);
    let saved: Vec<String> = kept.iter().filter(is_new).cloned().collect();
    let forward = Graph {
        inputs: model_inputs.to_vec(),
        outputs: model_outputs.iter().chain(&saved).cloned().collect(),
        nodes: whole.nodes.iter().filter(|node| !is_late(node, &late)).cloned().collect(),
        ..whole.clone()
    };
    let nodes = backward_nodes(&whole, &kept, gradients);
    let backward = Graph {
        inputs: kept.iter().chain(cotangents).cloned().collect(),
        outputs: gradients.to_vec(),
        nodes,
        ..whole.clone()
    };
    let forward = layout::arranged(prune::pruned(forward))?;
    let backward = layout::arranged(prune::pruned(backward))?;
    let saved = saved.iter().map(|name| forward.port(name)).collect();
    Ok(Parts { forward, backward, saved })
}

/// The values that depend on any of `inputs`.
fn dependent(graph: &Graph, inputs: &[String]) -> BTreeSet<String> {
    let mut reached: BTreeSet<String> = inputs.iter().cloned().collect();
    for node in &graph.nodes {
        if node.inputs.iter().any(|input| reached.contains(input)) {
            reached.extend(node.outputs.iter().filter(|name| !name.is_empty()).cloned());
        }
    }
    reached
}

fn is_late(node: &Node, late: &BTreeSet<String>) -> bool {
    node.outputs.iter().any(|output| late.contains(output))
}

/// The cheapest values to keep from which the operators of [`REPEATED`] make all that crosses. `None` where finding them
/// takes too long.
fn kept<'a>(graph: &'a Graph, early: &BTreeSet<String>, crossing: &BTreeSet<&'a str>) -> Option<BTreeSet<&'a str>> {
    let outputs = |node: &'a Node| node.outputs.iter().map(move |output| (output.as_str(), node));
    let producers: BTreeMap<&str, &Node> = graph.nodes.iter().flat_map(outputs).collect();
    let repeatable = |name: &str| {
        let node = producers.get(name).copied()?;
        (REPEATED.contains(&node.op.as_str()) && node.outputs.len() == 1).then_some(node)
    };
    let operands = |node: &'a Node| node.inputs.iter().map(String::as_str).filter(|name| early.contains(*name));
    let outputs_of_model: BTreeSet<&str> = graph.outputs.iter().map(String::as_str).collect();
    // The model's outputs are there in any case.
    let cost = |name: &str| if outputs_of_model.contains(name) { 1 } else { bytes(graph, name) };
    let mut flow = Flow::new();
    // Each value is an edge, which costs its bytes to cut, between a vertex before it and one behind it.
    let mut vertices: BTreeMap<&str, [usize; 2]> = BTreeMap::new();
    let mut pending: Vec<&str> = crossing.iter().copied().collect();
    while let Some(name) = pending.pop() {
        if vertices.contains_key(name) {
            continue;
        }
        let [before, behind] = [flow.add_vertex(), flow.add_vertex()];
        vertices.insert(name, [before, behind]);
        flow.add_edge(before, behind, cost(name));
        if let Some(node) = repeatable(name) {
            pending.extend(operands(node));
        }
    }
    for (&name, &[before, behind]) in &vertices {
        match repeatable(name) {
            Some(node) => {
                for operand in operands(node) {
                    let [_, made] = vertices.get(operand).copied()?;
                    flow.add_edge(made, before, UNCUTTABLE);
                }
            }
            None => flow.add_edge(Flow::SOURCE, before, UNCUTTABLE),
        }
        if crossing.contains(name) {
            flow.add_edge(behind, Flow::SINK, UNCUTTABLE);
        }
    }
    let side = flow.sink_side()?;
    let on_sink_side = |vertex: usize| side.get(vertex).copied().unwrap_or(false);
    let cut = vertices.iter().filter(|(_, [before, behind])| !on_sink_side(*before) && on_sink_side(*behind));
    Some(cut.map(|(&name, _)| name).collect())
}

/// The values of known types that the kept ones are made of, where these are of none: such cannot pass.
fn typed<'a>(graph: &'a Graph, early: &BTreeSet<String>, kept: BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    let outputs = |node: &'a Node| node.outputs.iter().map(move |output| (output.as_str(), node));
    let producers: BTreeMap<&str, &Node> = graph.nodes.iter().flat_map(outputs).collect();
    let (mut typed, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut pending: Vec<&str> = kept.into_iter().collect();
    while let Some(name) = pending.pop() {
        match producers.get(name) {
            Some(node) if graph.element(name).is_none() => {
                let operands = node.inputs.iter().map(String::as_str).filter(|name| early.contains(*name));
                pending.extend(operands.filter(|name| seen.insert(*name)));
            }
            _ => {
                typed.insert(name);
            }
        }
    }
    typed
}

/// Bytes that keeping a value takes, as far as they are known.
fn bytes(graph: &Graph, name: &str) -> u64 {
    let elements = match graph.shape(name) {
        Some(shape) => {
            shape.iter().fold(1u64, |count, dim| count.saturating_mul(dim.known().unwrap_or(FREE_SIZE).max(1)))
        }
        None => FREE_SHAPE,
    };
    let bytes = elements.saturating_mul(graph.element(name).map_or(4, super::ElementType::size) as u64);
    bytes.clamp(LEAST_BYTES, UNCUTTABLE / (1 << 20))
}

/// The nodes that make the gradients from what is kept.
fn backward_nodes(graph: &Graph, kept: &BTreeSet<String>, gradients: &[String]) -> Vec<Node> {
    let mut needed: BTreeSet<&str> = gradients.iter().map(String::as_str).collect();
    let mut nodes = Vec::new();
    for node in graph.nodes.iter().rev() {
        let wanted = |output: &String| needed.contains(output.as_str()) && !kept.contains(output);
        if node.outputs.iter().any(wanted) {
            needed.extend(node.inputs.iter().map(String::as_str));
            nodes.push(node.clone());
        }
    }
    nodes.reverse();
    nodes
}
