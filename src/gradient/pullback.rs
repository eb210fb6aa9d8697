//! A model's own gradient graph, made elsewhere, in the place of the derivation.
//!
//! While a graph is differentiated, the model inside it is one node, [`OPERATOR`], that has the model's own gradient graph
//! for its derivative: what was put in front of the model and behind it is derived as ever. Where a derivative within the
//! model is asked for, as for its features or its weights, the model's nodes are differentiated themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    builder::Builder,
    differentiate::{self, Path, named},
    error::{GradientError, Result},
    fold,
    graph::{Graph, Node, ValueType},
};

/// Stands for a model while it is differentiated; in no graph that anybody gets.
pub(super) const OPERATOR: &str = "transferscore::Model";

/// A vector-Jacobian product of the model that a graph is or contains.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pullback {
    graph: Arc<Graph>,
    /// The model's inputs, by what the values are called in the graph around it.
    inputs: BTreeMap<String, String>,
    /// The model's outputs that it has cotangents of.
    outputs: Vec<String>,
}

/// A graph with a node in the model's place.
pub(super) struct Folded {
    pub(super) graph: Graph,
    pullback: Pullback,
    /// The model's nodes.
    nodes: Vec<Node>,
    /// What the node took when it was made, in order.
    inputs: Vec<String>,
}

impl Graph {
    /// The model with a gradient graph of its own, which takes the model's inputs and `cotangent/<output>` for some of its
    /// outputs, and gives these outputs and `gradient/<input>` for some of its inputs. [`super::vjp`] and what is made of it
    /// use it in place of the derivatives of the model's operators; [`super::jvp`] differentiates it by its cotangents.
    /// Whether its numbers are right is not looked at.
    ///
    /// # Errors
    /// Where it lacks these inputs and outputs, has others, or their types differ from the model's.
    pub fn with_pullback(mut self, graph: Graph) -> Result<Graph> {
        let float = |names: &[String], name: &str| {
            names.iter().any(|other| other == name) && self.element(name).is_none_or(|element| element.is_float())
        };
        let (mut inputs, mut outputs) = (BTreeMap::new(), Vec::new());
        for input in &graph.inputs {
            let like = match input.strip_prefix("cotangent/") {
                Some(output) if float(&self.outputs, output) => {
                    outputs.push(output.to_owned());
                    output
                }
                _ if self.inputs.contains(input) => {
                    inputs.insert(input.clone(), input.clone());
                    input
                }
                _ => return Err(wrong(&format!("takes `{input}`, which is no input and no cotangent of an output"))),
            };
            agrees(&graph, input, &self, like)?;
        }
        let (mut is_given, mut n_gradients) = (BTreeSet::new(), 0);
        for output in &graph.outputs {
            let like = match output.strip_prefix("gradient/") {
                Some(input) if float(&self.inputs, input) => {
                    n_gradients += 1;
                    input
                }
                _ if self.outputs.contains(output) => {
                    is_given.insert(output.as_str());
                    output
                }
                _ => return Err(wrong(&format!("gives `{output}`, which is no output and no gradient of an input"))),
            };
            agrees(&graph, output, &self, like)?;
        }
        if n_gradients == 0 || outputs.is_empty() {
            return Err(wrong(
                "has no `cotangent/<output>` among its inputs, or no `gradient/<input>` among its outputs",
            ));
        }
        if let Some(output) = outputs.iter().find(|output| !is_given.contains(output.as_str())) {
            return Err(wrong(&format!("does not give the model's output `{output}`")));
        }
        self.pullback = Some(Pullback { graph: Arc::new(Graph { pullback: None, ..graph }), inputs, outputs });
        Ok(self)
    }

    /// Whether the model has a gradient graph of its own.
    pub fn has_pullback(&self) -> bool {
        self.pullback.is_some()
    }
}

fn wrong(what: &str) -> GradientError {
    GradientError::Request(format!("the model's own gradient graph {what}"))
}

/// Refuses a value of the gradient graph whose type cannot be that of the model's.
fn agrees(graph: &Graph, name: &str, model: &Graph, like: &str) -> Result<()> {
    let (Some(own), Some(other)) = (graph.types.get(name), model.types.get(like)) else { return Ok(()) };
    let sizes = |value_type: &ValueType| value_type.shape.clone().unwrap_or_default();
    let is_open = own.shape.is_none() || other.shape.is_none();
    let mut pairs = sizes(own).into_iter().zip(sizes(other));
    let fit = own.rank() == other.rank()
        && pairs.all(|(own, other)| own.known().zip(other.known()).is_none_or(|(own, other)| own == other));
    if own.element == other.element && (is_open || fit) {
        return Ok(());
    }
    Err(wrong(&format!("has `{name}` of {own}, and the model `{like}` of {other}")))
}

impl Pullback {
    /// The same of a model whose input goes by another name in the graph around it.
    pub(super) fn fed(&mut self, input: &str, value: &str) {
        for name in self.inputs.values_mut().filter(|name| *name == input) {
            value.clone_into(name);
        }
    }

    /// The same with another gradient graph.
    pub(super) fn mapped(&self, change: impl FnOnce(&Graph) -> Result<Graph>) -> Result<Pullback> {
        Ok(Pullback { graph: Arc::new(change(&self.graph)?), ..self.clone() })
    }

    fn gives_gradient(&self, input: &str) -> bool {
        self.graph.outputs.iter().any(|output| output.strip_prefix("gradient/") == Some(input))
    }
}

/// [`fold::simplified`], with all values that the model's own gradient graph is to be joined to.
pub(super) fn simplified(graph: &Graph) -> Result<Graph> {
    let Some(pullback) = &graph.pullback else { return fold::simplified(graph) };
    let mut open = graph.clone();
    let borders = pullback.inputs.values().chain(&pullback.outputs);
    open.outputs.extend(borders.filter(|name| graph.defines(name) && !graph.outputs.contains(name)).cloned());
    let mut simplified = fold::simplified(&open)?;
    simplified.outputs.clone_from(&graph.outputs);
    Ok(simplified)
}

/// Puts one node in the place of a model that has a gradient graph of its own, where that says all that the derivatives of
/// these outputs by these inputs need to know of the model.
pub(super) fn folded(graph: &Graph, inputs: &[String], outputs: &[String]) -> Option<Folded> {
    let pullback = graph.pullback.clone().filter(|_| graph.nodes.iter().all(|node| node.op != OPERATOR))?;
    let starts: BTreeSet<&str> = pullback.inputs.values().map(String::as_str).collect();
    let ends: BTreeSet<&str> = pullback.outputs.iter().map(String::as_str).collect();
    let reached = reached(graph.nodes.iter(), starts.clone());
    let mut needed = ends.clone();
    for node in graph.nodes.iter().rev() {
        if named(&node.outputs).any(|(_, name)| needed.contains(name)) {
            needed.extend(named(&node.inputs).map(|(_, name)| name));
        }
    }
    let is_inside = |node: &Node| {
        named(&node.outputs).any(|(_, name)| needed.contains(name))
            && named(&node.inputs).any(|(_, name)| reached.contains(name))
    };
    let (inside, outside): (Vec<&Node>, Vec<&Node>) = graph.nodes.iter().partition(|node| is_inside(node));
    let made: BTreeSet<&str> = inside.iter().flat_map(|node| named(&node.outputs)).map(|(_, name)| name).collect();
    let is_end = |name: &str| ends.contains(name) && made.contains(name);
    if !ends.iter().any(|name| made.contains(name)) {
        return None;
    }
    // What else goes in and out.
    let taps: Vec<&str> = made.iter().copied().filter(|name| !is_end(name)).collect();
    let used = inside.iter().flat_map(|node| named(&node.inputs)).map(|(_, name)| name);
    let others: BTreeSet<&str> = used.filter(|name| !made.contains(name) && !starts.contains(name)).collect();
    // Derivatives must go in and out where it says what they are.
    let around = Graph { nodes: outside.iter().map(|&node| node.clone()).collect(), ..graph.clone() };
    let owned = |names: &[&str]| -> Vec<String> { names.iter().map(|&name| name.to_owned()).collect() };
    let is_silent = |(input, _): &(&String, &String)| !pullback.gives_gradient(input);
    let silent = pullback.inputs.iter().filter(is_silent).map(|(_, name)| name.as_str());
    let closed: Vec<&str> = silent.chain(others.iter().copied()).collect();
    let (before, behind) =
        (Path::between(&around, inputs, &owned(&closed)), Path::between(&around, &owned(&taps), outputs));
    if closed.iter().any(|name| before.is_active(name)) || taps.iter().any(|name| behind.is_active(name)) {
        return None;
    }
    let taken: Vec<&str> = starts.into_iter().filter(|name| graph.defines(name)).chain(others).collect();
    let given: Vec<&str> = ends.iter().copied().filter(|name| is_end(name)).chain(taps).collect();
    let behind = self::reached(outside.iter().copied(), given.iter().copied().collect());
    let is_behind = |node: &&Node| named(&node.outputs).any(|(_, name)| behind.contains(name));
    let (behind, before): (Vec<&Node>, Vec<&Node>) = outside.into_iter().partition(is_behind);
    let mut nodes: Vec<Node> = before.into_iter().cloned().collect();
    nodes.push(Node::new(OPERATOR, &taken, &given));
    nodes.extend(behind.into_iter().cloned());
    Some(Folded {
        inputs: taken.iter().map(|&name| name.to_owned()).collect(),
        nodes: inside.into_iter().cloned().collect(),
        pullback,
        graph: Graph { nodes, ..graph.clone() },
    })
}

/// What depends on any of some values, and these themselves.
fn reached<'a>(nodes: impl Iterator<Item = &'a Node>, mut values: BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    for node in nodes {
        if named(&node.inputs).any(|(_, name)| values.contains(name)) {
            values.extend(named(&node.outputs).map(|(_, name)| name));
        }
    }
    values
}

impl Folded {
    /// Puts the model's nodes back.
    pub(super) fn unfolded(&self, mut graph: Graph) -> Graph {
        let Some(place) = graph.nodes.iter().position(|node| node.op == OPERATOR) else { return graph };
        let now = graph.nodes.get(place).map(|node| node.inputs.clone()).unwrap_or_default();
        let renamed: BTreeMap<String, String> = self.inputs.iter().cloned().zip(now).collect();
        let mut nodes = self.nodes.clone();
        nodes.iter_mut().for_each(|node| node.rename_inputs(&renamed));
        graph.nodes.splice(place..=place, nodes);
        graph
    }

    /// What the values that the model takes are called now.
    fn feeds(&self, node: &Node) -> BTreeMap<String, String> {
        let renamed: BTreeMap<&String, &String> = self.inputs.iter().zip(&node.inputs).collect();
        let now = |name: &String| renamed.get(name).map_or_else(|| name.clone(), |now| (*now).clone());
        self.pullback.inputs.iter().map(|(input, name)| (input.clone(), now(name))).collect()
    }

    /// Pulls cotangents of the model's outputs back: gives the values that the model takes, and their cotangents.
    pub(super) fn pulled(
        &self,
        builder: &mut Builder,
        node: &Node,
        mut cotangent: impl FnMut(&mut Builder, &str) -> Result<Option<String>>,
    ) -> Result<Vec<(String, String)>> {
        let values = self.feeds(node);
        let mut feeds = values.clone();
        let mut is_any = false;
        for output in &self.pullback.outputs {
            let given = match node.outputs.contains(output) {
                true => cotangent(builder, output)?,
                false => None,
            };
            is_any |= given.is_some();
            feeds.extend(given.map(|given| (format!("cotangent/{output}"), given)));
        }
        if !is_any {
            return Ok(Vec::new());
        }
        let gradients = |name: &str| name.starts_with("gradient/");
        let made = joined(builder, &self.pullback.graph, feeds, gradients)?;
        let pairs = made.into_iter().filter_map(|(name, made)| {
            let value = values.get(name.strip_prefix("gradient/")?)?;
            Some((value.clone(), made))
        });
        Ok(pairs.collect())
    }

    /// Pushes tangents of what the model takes forward: gives its outputs and their tangents. The gradient graph is linear in
    /// its cotangents, so the adjoint of that map is the Jacobian itself.
    pub(super) fn pushed(
        &self,
        builder: &mut Builder,
        node: &Node,
        mut tangent: impl FnMut(&mut Builder, &str) -> Result<Option<String>>,
    ) -> Result<Vec<(String, String)>> {
        let mut feeds = self.feeds(node);
        let mut tangents = BTreeMap::new();
        for (input, value) in &feeds {
            if self.pullback.gives_gradient(input) {
                tangents.extend(tangent(builder, value)?.map(|tangent| (format!("gradient/{input}"), tangent)));
            }
        }
        if tangents.is_empty() {
            return Ok(Vec::new());
        }
        let graph = &self.pullback.graph;
        let cotangents: Vec<String> =
            self.pullback.outputs.iter().map(|output| format!("cotangent/{output}")).collect();
        let by: Vec<&str> = cotangents.iter().map(String::as_str).collect();
        let of: Vec<&str> = tangents.keys().map(String::as_str).collect();
        let graph = Graph::clone(graph).for_target(builder.target());
        let adjoint = differentiate::vjp_in_any_layout(&graph, &by, &of).map_err(|error| match error {
            GradientError::NotDifferentiable { node, operator, reason } => {
                let reason = format!("{reason} (in the model's own gradient graph, whose adjoint is its Jacobian)");
                GradientError::NotDifferentiable { node, operator, reason }
            }
            other => other,
        })?;
        feeds.extend(tangents.into_iter().map(|(name, tangent)| (format!("cotangent/{name}"), tangent)));
        let made = joined(builder, &adjoint, feeds, |name| name.starts_with("gradient/cotangent/"))?;
        let pairs = made.into_iter().filter_map(|(name, made)| {
            let output = name.strip_prefix("gradient/cotangent/")?;
            node.outputs.iter().any(|other| other == output).then(|| (output.to_owned(), made))
        });
        Ok(pairs.collect())
    }
}

/// Writes a gradient graph's nodes into another graph, fed with values there, and tells what its outputs are called. A
/// cotangent that is not fed is zero.
fn joined(
    builder: &mut Builder,
    graph: &Graph,
    mut feeds: BTreeMap<String, String>,
    is_wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(String, String)>> {
    let lacking: Vec<&str> = graph
        .inputs
        .iter()
        .filter(|input| !feeds.contains_key(*input))
        .filter_map(|input| input.strip_prefix("cotangent/"))
        .collect();
    if !lacking.is_empty() {
        // The outputs, whose shapes the zeros have, do not depend on cotangents.
        let forward = super::compose::with_outputs(graph, &lacking)?;
        let given = builder.spliced(&forward, &feeds)?;
        for output in lacking {
            let like = given.get(output).ok_or_else(|| wrong("lacks an output"))?;
            feeds.insert(format!("cotangent/{output}"), builder.zeros_like(like)?);
        }
    }
    let names: Vec<&str> = graph.outputs.iter().map(String::as_str).filter(|name| is_wanted(name)).collect();
    let needed = super::compose::with_outputs(graph, &names)?;
    let given = builder.spliced(&needed, &feeds)?;
    Ok(names.into_iter().filter_map(|name| Some((name.to_owned(), given.get(name)?.clone()))).collect())
}
