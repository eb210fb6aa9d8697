//! Removes what no output needs, which ONNX Runtime would compute in part, and what is computed twice.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::{Attribute, Graph, Node};

/// The graph without nodes, initialisers and knowledge that no output needs. Inputs stay: they are the interface.
pub(crate) fn pruned(mut graph: Graph) -> Graph {
    let mut needed: BTreeSet<String> = graph.outputs.iter().cloned().collect();
    let mut keep = vec![false; graph.nodes.len()];
    for (node, keep) in graph.nodes.iter_mut().zip(&mut keep).rev() {
        *keep = node.outputs.iter().any(|output| !output.is_empty() && needed.contains(output));
        if *keep {
            needed.extend(node.inputs.iter().cloned());
        }
    }
    let mut kept = keep.into_iter();
    graph.nodes.retain(|_| kept.next().unwrap_or(true));
    graph.initializers.retain(|name, _| needed.contains(name));
    let mut named: BTreeSet<&String> = graph.inputs.iter().chain(graph.initializers.keys()).collect();
    named.extend(graph.nodes.iter().flat_map(|node| &node.outputs));
    graph.types.retain(|name, _| named.contains(name));
    graph.integers.retain(|name, _| named.contains(name));
    graph.foreign.retain(|name, _| named.contains(name));
    graph
}

/// The graph in which equal nodes on equal inputs are one, except those that give the graph's outputs.
pub(crate) fn shared(mut graph: Graph) -> Graph {
    let outputs: BTreeSet<String> = graph.outputs.iter().cloned().collect();
    let names = canonical_constants(&graph);
    let mut renamed: BTreeMap<String, String> = names;
    let mut first: BTreeMap<(String, Vec<String>, String), Vec<String>> = BTreeMap::new();
    graph.nodes.retain_mut(|node| {
        node.rename_inputs(&renamed);
        if !is_repeatable(node) {
            return true;
        }
        let key = (node.op.clone(), node.inputs.clone(), format!("{:?}", node.attributes));
        match first.get(&key) {
            Some(others) if gives_the_same(node, others) && !node.outputs.iter().any(|name| outputs.contains(name)) => {
                let pairs = node.outputs.iter().cloned().zip(others.iter().cloned());
                renamed.extend(pairs.filter(|(own, _)| !own.is_empty()));
                false
            }
            _ => {
                first.insert(key, node.outputs.clone());
                true
            }
        }
    });
    pruned(graph)
}

/// Whether a node gives the same each time, and its attributes are small enough to be compared.
fn is_repeatable(node: &Node) -> bool {
    let draws = node.op.starts_with("Random") || matches!(node.op.as_str(), "Bernoulli" | "Multinomial" | "Dropout");
    !draws && !node.attributes.values().any(|attribute| matches!(attribute, Attribute::Graph(_)))
}

/// Whether an equal node with the outputs `others` gives all that a node gives.
fn gives_the_same(node: &Node, others: &[String]) -> bool {
    others.len() == node.outputs.len()
        && node.outputs.iter().zip(others).all(|(own, other)| own.is_empty() || !other.is_empty())
}

/// Small constants that are equal to an earlier one, with its name.
fn canonical_constants(graph: &Graph) -> BTreeMap<String, String> {
    let mut first: BTreeMap<String, &String> = BTreeMap::new();
    let mut renamed = BTreeMap::new();
    for (name, tensor) in graph.initializers.iter().filter(|(_, tensor)| tensor.len() <= 64) {
        match first.get(&format!("{tensor:?}")) {
            Some(other) => _ = renamed.insert(name.clone(), (*other).clone()),
            None => _ = first.insert(format!("{tensor:?}"), name),
        }
    }
    renamed
}
