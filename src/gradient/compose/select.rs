//! Which tensors of a model are its outputs.

use std::collections::BTreeSet;

use super::super::{
    error::{GradientError, Result},
    graph::Graph,
    prune,
};

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

/// The tensors that depend on the inputs, in the order of their nodes.
pub fn tensors(graph: &Graph) -> Vec<String> {
    let mut depends: BTreeSet<&str> = graph.inputs.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    for node in &graph.nodes {
        if node.inputs.iter().any(|input| depends.contains(input.as_str())) {
            let outputs = || node.outputs.iter().filter(|output| !output.is_empty());
            depends.extend(outputs().map(String::as_str));
            found.extend(outputs().cloned());
        }
    }
    found
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
