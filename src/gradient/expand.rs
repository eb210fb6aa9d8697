//! Writes operators that are functions of other operators as these, where a derivative is wanted.
//!
//! Invariant: what is expanded lies on the path from the chosen inputs to the chosen outputs; all other nodes stay as
//! they are, and so do the names of inputs and outputs. A graph without such operators is not touched.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    builder::Builder,
    differentiate::{Path, at, named},
    error::{GradientError, Result},
    graph::{Graph, Node},
    prune,
    rules::{self, Derivative},
};

/// How often an operator's composition may contain another composed operator, inside one another.
const DEEPEST: usize = 8;

/// The prefix of the names that nodes of a composition get.
const PREFIX: &str = "expanded";

/// A node of the model that was replaced: what messages about its parts call it.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) node: String,
    pub(super) operator: String,
}

/// A graph without composed operators on the path, but for those whose composition refuses.
pub(super) struct Expansion {
    pub(super) graph: Graph,
    /// Which node a node of a composition stands for, by the name of its first output.
    pub(super) origins: BTreeMap<String, Origin>,
    /// Why a node could not be expanded, by the name of its first output.
    pub(super) refused: BTreeMap<String, GradientError>,
}

/// The graph that is differentiated in place of `graph`.
///
/// # Errors
/// Where a composition refuses.
pub(super) fn expanded(graph: Graph, inputs: &[String], outputs: &[String]) -> Result<Graph> {
    let expansion = expand(graph, inputs, outputs);
    let refusal = |node: &Node| expansion.refused.get(&key(node)).map(|error| at(error.clone(), node));
    match expansion.graph.nodes.iter().find_map(refusal) {
        Some(error) => Err(error),
        None => Ok(expansion.graph),
    }
}

/// Expands what can be, and says what cannot.
pub(super) fn expand(graph: Graph, inputs: &[String], outputs: &[String]) -> Expansion {
    let mut expansion = Expansion { graph, origins: BTreeMap::new(), refused: BTreeMap::new() };
    for _ in 0..DEEPEST {
        let path = Path::between(&expansion.graph, inputs, outputs);
        if !expansion.graph.nodes.iter().any(|node| is_open(node, &path, &expansion.refused)) {
            return expansion;
        }
        expansion = pass(expansion, &path);
    }
    let path = Path::between(&expansion.graph, inputs, outputs);
    for node in expansion.graph.nodes.iter().filter(|node| is_open(node, &path, &BTreeMap::new())) {
        let reason = GradientError::Unsupported("its composition is nested too deeply".to_owned());
        expansion.refused.entry(key(node)).or_insert(reason);
    }
    expansion
}

type Compose = fn(&mut Builder, &Node) -> Result<Vec<String>>;

fn composition(node: &Node) -> Option<Compose> {
    match rules::find(&node.op)?.derivative {
        Derivative::Composed(compose) => Some(compose),
        _ => None,
    }
}

/// The name that a node is found by.
pub(super) fn key(node: &Node) -> String {
    named(&node.outputs).next().map(|(_, name)| name.to_owned()).unwrap_or_default()
}

/// Whether a node is to be expanded and has not refused yet.
fn is_open(node: &Node, path: &Path, refused: &BTreeMap<String, GradientError>) -> bool {
    composition(node).is_some()
        && !refused.contains_key(&key(node))
        && named(&node.inputs).any(|(_, name)| path.is_active(name))
        && named(&node.outputs).any(|(_, name)| path.is_active(name))
}

/// Expands each open node once.
fn pass(expansion: Expansion, path: &Path) -> Expansion {
    let Expansion { graph, mut origins, mut refused } = expansion;
    let outputs: BTreeSet<String> = graph.outputs.iter().cloned().collect();
    let mut builder = Builder::new(graph, PREFIX);
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for mut node in builder.take_nodes() {
        // The path knows the old names.
        let compose = composition(&node).filter(|_| is_open(&node, path, &refused));
        node.rename_inputs(&renamed);
        let Some(compose) = compose else {
            builder.put_back(node);
            continue;
        };
        let before = builder.graph().nodes.len();
        match compose(&mut builder, &node).and_then(|made| replace(&mut builder, &node, &made, &outputs, &mut renamed))
        {
            Ok(()) => {
                let origin = origins.get(&key(&node)).cloned();
                let origin =
                    origin.unwrap_or_else(|| Origin { node: node.label().to_owned(), operator: node.op.clone() });
                for part in builder.graph().nodes.iter().skip(before) {
                    origins.insert(key(part), origin.clone());
                }
            }
            Err(error) => {
                refused.insert(key(&node), error);
                builder.put_back(node);
            }
        }
    }
    Expansion { graph: prune::pruned(builder.into_graph()), origins, refused }
}

/// Lets what is to come use the composition's values instead of the node's outputs.
fn replace(
    builder: &mut Builder,
    node: &Node,
    made: &[String],
    outputs: &BTreeSet<String>,
    renamed: &mut BTreeMap<String, String>,
) -> Result<()> {
    for (index, output) in named(&node.outputs) {
        let Some(value) = made.get(index).filter(|name| !name.is_empty()) else {
            return Err(GradientError::Unsupported(format!("its output {index} is not composed")));
        };
        builder.refine(value, output);
        if outputs.contains(output) {
            builder.alias(output, value)?;
        }
        renamed.insert(output.to_owned(), value.clone());
    }
    Ok(())
}
