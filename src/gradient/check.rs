//! Finds everything that stands in the way of differentiating a model, in one pass.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    builder::Builder,
    differentiate::{Path, chosen, linearize, named},
    error::GradientError,
    expand::{self, Expansion, Origin},
    graph::{Graph, Node},
    linear::Site,
    pullback,
};

/// A node that cannot be differentiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// Its name, or that of its first output.
    pub node: String,
    pub operator: String,
    pub reason: String,
    /// The model's inputs that reach it.
    pub inputs: Vec<String>,
}

/// All obstacles between the model's float inputs and float outputs; none means that [`super::vjp`] and
/// [`super::jvp`] work.
pub fn check(graph: &Graph) -> Vec<Obstacle> {
    find(graph).unwrap_or_else(|error| vec![whole_model(graph, &error)])
}

/// A reason that no single node is to blame for.
fn whole_model(graph: &Graph, error: &GradientError) -> Obstacle {
    let (node, operator, reason) = match error {
        GradientError::Node { node, operator, reason }
        | GradientError::NotDifferentiable { node, operator, reason } => {
            (node.clone(), operator.clone(), reason.clone())
        }
        other => (String::new(), String::new(), other.to_string()),
    };
    Obstacle { node, operator, reason, inputs: graph.inputs.clone() }
}

fn find(graph: &Graph) -> Result<Vec<Obstacle>, GradientError> {
    let graph = pullback::simplified(graph)?;
    let (inputs, outputs) = (chosen(&graph, &[], true)?, chosen(&graph, &[], false)?);
    let folded = pullback::folded(&graph, &inputs, &outputs);
    let Some(folded) = folded else { return Ok(between(&graph, &inputs, &outputs)) };
    let mut obstacles = between(&folded.graph, &inputs, &outputs);
    obstacles.retain(|obstacle| obstacle.operator != pullback::OPERATOR);
    Ok(obstacles)
}

/// All obstacles on the way from some inputs to some outputs, in the order of the nodes.
pub(super) fn between(graph: &Graph, inputs: &[String], outputs: &[String]) -> Vec<Obstacle> {
    let expansion = expand::expand(graph.clone(), inputs, outputs);
    let graph = &expansion.graph;
    let path = Path::between(graph, inputs, outputs);
    let mut builder = Builder::new(graph.clone(), "check");
    let mut obstacles: Vec<Obstacle> = Vec::new();
    // Values whose types are not known because of an obstacle: what fails for want of them is no obstacle of its own.
    let mut unclear: BTreeSet<&str> = BTreeSet::new();
    for node in &graph.nodes {
        let follows = named(&node.inputs).any(|(_, name)| unclear.contains(name));
        let result = match expansion.refused.get(&expand::key(node)) {
            Some(refusal) => Err(refusal.clone()),
            None => try_node(&mut builder, node, &path),
        };
        if result.is_err() || follows {
            let untyped = |name: &str| graph.shape(name).is_none();
            unclear.extend(named(&node.outputs).map(|(_, name)| name).filter(|name| untyped(name)));
        }
        if let Err(error) = result {
            if follows && matches!(error, GradientError::UnknownType { .. }) {
                continue;
            }
            let obstacle = obstacle(node, &error, &expansion, reaching(graph, node, inputs));
            if !obstacles.contains(&obstacle) {
                obstacles.push(obstacle);
            }
        }
    }
    obstacles
}

/// What is said of a node; a part of a composition is said to be one of the node that the model has.
fn obstacle(node: &Node, error: &GradientError, expansion: &Expansion, inputs: Vec<String>) -> Obstacle {
    let reason = match error {
        GradientError::NotDifferentiable { reason, .. } | GradientError::Node { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    match expansion.origins.get(&expand::key(node)) {
        Some(Origin { node: whole, operator }) => Obstacle {
            node: whole.clone(),
            operator: operator.clone(),
            reason: format!("its {}: {reason}", node.op),
            inputs,
        },
        None => Obstacle { node: node.label().to_owned(), operator: node.op.clone(), reason, inputs },
    }
}

/// Emits a node's derivative in both modes; the values themselves stand in for their tangents and cotangents.
fn try_node(builder: &mut Builder, node: &Node, path: &Path) -> Result<(), GradientError> {
    for (output, y) in named(&node.outputs).filter(|(_, name)| path.is_active(name)) {
        for (input, x) in named(&node.inputs).filter(|(_, name)| path.is_active(name)) {
            if let Some(map) = linearize(builder, &Site { node, input, output })? {
                map.apply(builder, x)?;
                map.transpose(builder, y)?;
            }
        }
    }
    Ok(())
}

/// The chosen inputs that a node depends on.
fn reaching(graph: &Graph, node: &Node, inputs: &[String]) -> Vec<String> {
    let producers: BTreeMap<&str, &Node> =
        graph.nodes.iter().flat_map(|node| named(&node.outputs).map(move |(_, name)| (name, node))).collect();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut open: Vec<&str> = named(&node.inputs).map(|(_, name)| name).collect();
    while let Some(name) = open.pop() {
        if seen.insert(name)
            && let Some(producer) = producers.get(name)
        {
            open.extend(named(&producer.inputs).map(|(_, name)| name));
        }
    }
    inputs.iter().filter(|input| seen.contains(input.as_str())).cloned().collect()
}
