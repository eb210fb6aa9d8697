//! Removes what no output needs. ONNX Runtime would compute some of it.

use std::collections::BTreeSet;

use super::graph::Graph;

/// The graph without nodes, initialisers and knowledge that no output needs. Inputs stay: they are the interface.
pub(crate) fn pruned(mut graph: Graph) -> Graph {
    let mut needed: BTreeSet<String> = graph.outputs.iter().cloned().collect();
    let mut keep = vec![false; graph.nodes.len()];
    for (node, keep) in graph.nodes.iter_mut().zip(&mut keep).rev() {
        *keep = node.outputs.iter().any(|output| needed.contains(output));
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
    graph
}
