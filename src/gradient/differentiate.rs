//! Forward and reverse mode over a graph: walks the nodes on a path from the chosen inputs to the chosen outputs and
//! writes each rule's linear map, applied or transposed.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    builder::Builder,
    check::{self, Obstacle},
    error::{GradientError, Result},
    expand, fuse,
    graph::{Graph, Node},
    layout,
    linear::{Elementwise, Map, Site},
    prune,
    pullback::{self, Folded},
    rules::{self, Derivative},
    scale,
};

/// The prefix of the names that derived nodes get.
const PREFIX: &str = "gradient";

/// The graph that pulls cotangents of `outputs` back to `inputs`.
///
/// It takes the model's inputs and `cotangent/<output>` for each output named, and gives the model's outputs and
/// `gradient/<input>` for each input named. No name means every float input or output. An output that does not depend
/// on an input contributes zeros.
///
/// # Errors
/// Where a name is not an input or output of floats, or an operator on the way has no derivative.
pub fn vjp(graph: &Graph, inputs: &[&str], outputs: &[&str]) -> Result<Graph> {
    layout::arranged(vjp_in_any_layout(graph, inputs, outputs)?)
}

/// [`vjp`] before it is arranged for the machine, for what is cut out of it to be arranged on its own.
pub(super) fn vjp_in_any_layout(graph: &Graph, inputs: &[&str], outputs: &[&str]) -> Result<Graph> {
    derived(graph, inputs, outputs, pulled_back)
}

/// A walk over a graph, in which one node may stand for a model, from some inputs to some outputs.
type Walk = fn(&Graph, Option<&Folded>, &[String], &[String]) -> Result<Graph>;

/// Derives a graph with one walk over the simplified and expanded model, or over what is around it.
fn derived(graph: &Graph, inputs: &[&str], outputs: &[&str], walk: Walk) -> Result<Graph> {
    let mut graph = pullback::simplified(graph)?;
    let (inputs, outputs) = (chosen(&graph, inputs, true)?, chosen(&graph, outputs, false)?);
    let folded = pullback::folded(&graph, &inputs, &outputs);
    if let Some(folded) = &folded {
        graph.clone_from(&folded.graph);
    }
    graph.pullback = None;
    let walked = expand::expanded(graph.clone(), &inputs, &outputs)
        .and_then(|graph| walk(&graph, folded.as_ref(), &inputs, &outputs))
        .map_err(|error| root_cause(error, &graph, &inputs, &outputs))?;
    finished(match &folded {
        Some(folded) => folded.unfolded(walked),
        None => walked,
    })
}

fn pulled_back(graph: &Graph, model: Option<&Folded>, inputs: &[String], outputs: &[String]) -> Result<Graph> {
    let path = Path::between(graph, inputs, outputs);
    let mut builder = Builder::new(graph.clone(), PREFIX);
    let mut cotangents = Sums::default();
    for output in outputs {
        let seed = builder.add_input_like(&format!("cotangent/{output}"), output)?;
        cotangents.add(&mut builder, output, seed);
    }
    for node in graph.nodes.iter().rev() {
        if let Some(model) = model.filter(|_| node.op == pullback::OPERATOR) {
            for (input, part) in model.pulled(&mut builder, node, |builder, name| cotangents.total(builder, name))? {
                cotangents.add(&mut builder, &input, part);
            }
            continue;
        }
        let input = node.input(0).filter(|input| path.is_active(input));
        if let Some(input) = input.filter(|_| node.op == "Split") {
            let all = cotangents.totals(&mut builder, &node.outputs)?;
            if let Some(part) =
                rules::joined(&mut builder, node, &node.outputs, &all).map_err(|error| at(error, node))?
            {
                cotangents.add(&mut builder, input, part);
                continue;
            }
        }
        for (index, output) in named(&node.outputs) {
            let Some(cotangent) = cotangents.total(&mut builder, output)? else { continue };
            for (input, name) in named(&node.inputs).filter(|(_, name)| path.is_active(name)) {
                let site = Site { node, input, output: index };
                if let Some(part) = pull(&mut builder, &site, &cotangent).map_err(|error| at(error, node))? {
                    cotangents.add(&mut builder, name, part);
                }
            }
        }
    }
    for input in inputs {
        let gradient = match cotangents.total(&mut builder, input)? {
            Some(gradient) => gradient,
            None => builder.zeros_like(input)?,
        };
        builder.add_output(&format!("gradient/{input}"), &gradient)?;
    }
    Ok(builder.into_graph())
}

/// The graph that pushes tangents of `inputs` forward to `outputs`.
///
/// It takes the model's inputs and `tangent/<input>` for each input named, and gives the model's outputs and
/// `tangent/<output>` for each output named. No name means every float input or output.
///
/// # Errors
/// As [`vjp`].
pub fn jvp(graph: &Graph, inputs: &[&str], outputs: &[&str]) -> Result<Graph> {
    layout::arranged(derived(graph, inputs, outputs, pushed_forward)?)
}

fn pushed_forward(graph: &Graph, model: Option<&Folded>, inputs: &[String], outputs: &[String]) -> Result<Graph> {
    let path = Path::between(graph, inputs, outputs);
    let mut builder = Builder::new(graph.clone(), PREFIX);
    let mut tangents = Sums::default();
    for input in inputs {
        let seed = builder.add_input_like(&format!("tangent/{input}"), input)?;
        tangents.add(&mut builder, input, seed);
    }
    for node in &graph.nodes {
        if let Some(model) = model.filter(|_| node.op == pullback::OPERATOR) {
            for (output, part) in model.pushed(&mut builder, node, |builder, name| tangents.total(builder, name))? {
                tangents.add(&mut builder, &output, part);
            }
            continue;
        }
        let output = node.output(0).filter(|output| path.is_active(output));
        if let Some(output) = output.filter(|_| node.op == "Concat") {
            let all = tangents.totals(&mut builder, &node.inputs)?;
            if let Some(part) =
                rules::joined(&mut builder, node, &node.inputs, &all).map_err(|error| at(error, node))?
            {
                tangents.add(&mut builder, output, part);
                continue;
            }
        }
        for (index, output) in named(&node.outputs).filter(|(_, name)| path.is_active(name)) {
            for (input, name) in named(&node.inputs).filter(|(_, name)| path.is_active(name)) {
                let Some(tangent) = tangents.total(&mut builder, name)? else { continue };
                let site = Site { node, input, output: index };
                if let Some(part) = push(&mut builder, &site, &tangent).map_err(|error| at(error, node))? {
                    tangents.add(&mut builder, output, part);
                }
            }
        }
    }
    for output in outputs {
        let tangent = match tangents.total(&mut builder, output)? {
            Some(tangent) => tangent,
            None => builder.zeros_like(output)?,
        };
        builder.add_output(&format!("tangent/{output}"), &tangent)?;
    }
    Ok(builder.into_graph())
}

/// What is written of a derived graph: no node too many, and what can be is part of a convolution.
fn finished(graph: Graph) -> Result<Graph> {
    scale::absorbed(fuse::written_out(prune::pruned(graph))?)
}

fn pull(builder: &mut Builder, site: &Site, cotangent: &str) -> Result<Option<String>> {
    linearize(builder, site)?.map(|map| map.transpose(builder, cotangent)).transpose()
}

fn push(builder: &mut Builder, site: &Site, tangent: &str) -> Result<Option<String>> {
    linearize(builder, site)?.map(|map| map.apply(builder, tangent)).transpose()
}

/// The linear map of one block of a node's Jacobian; `None` where it is zero.
///
/// # Errors
/// Where the operator has no derivative, or not this one.
pub(crate) fn linearize(builder: &mut Builder, site: &Site) -> Result<Option<Map>> {
    let Some(rule) = rules::find(&site.node.op) else {
        return Err(site.refuse(&rules::missing(site.node)));
    };
    let map = match rule.derivative {
        Derivative::Zero => return Ok(None),
        Derivative::Refused(reason) => return Err(site.refuse(reason)),
        Derivative::Factor(factor) => factor(builder, site).map(|factor| Elementwise::at(site, factor)),
        Derivative::Linear(map) => map(builder, site),
        Derivative::Composed(_) => return Err(site.refuse("it was not expanded")),
    };
    map.map(Some)
}

/// What stopped a derivation may follow from an earlier node: this names the first obstacle, and what reaches it.
fn root_cause(error: GradientError, graph: &Graph, inputs: &[String], outputs: &[String]) -> GradientError {
    if !matches!(error, GradientError::NotDifferentiable { .. }) {
        return error;
    }
    let mut obstacles = check::between(graph, inputs, outputs).into_iter();
    match obstacles.find(|obstacle| obstacle.operator != pullback::OPERATOR) {
        Some(Obstacle { node, operator, reason, inputs }) => GradientError::NotDifferentiable {
            node,
            operator,
            reason: format!("{reason}; it depends on {}", inputs.join(", ")),
        },
        None => error,
    }
}

/// Names the node in errors that do not yet.
pub(crate) fn at(error: GradientError, node: &Node) -> GradientError {
    match error {
        GradientError::Node { .. } | GradientError::NotDifferentiable { .. } => error,
        other => GradientError::NotDifferentiable {
            node: node.label().to_owned(),
            operator: node.op.clone(),
            reason: other.to_string(),
        },
    }
}

/// Positions and names of the inputs or outputs that are there.
pub(crate) fn named(names: &[String]) -> impl Iterator<Item = (usize, &str)> {
    names.iter().map(String::as_str).enumerate().filter(|(_, name)| !name.is_empty())
}

/// The inputs or outputs to differentiate: those named, or all that are floats.
pub(crate) fn chosen(graph: &Graph, names: &[&str], inputs: bool) -> Result<Vec<String>> {
    let (all, kind) = if inputs { (&graph.inputs, "input") } else { (&graph.outputs, "output") };
    let is_float = |name: &str| graph.element(name).is_some_and(|element| element.is_float());
    if names.is_empty() {
        let floats: Vec<String> = all.iter().filter(|name| is_float(name)).cloned().collect();
        return if floats.is_empty() {
            Err(GradientError::Request(format!("the model has no {kind} of floats")))
        } else {
            Ok(floats)
        };
    }
    let mut chosen: Vec<String> = Vec::new();
    for &name in names {
        if !all.iter().any(|other| other == name) {
            return Err(GradientError::Request(format!("the model has no {kind} `{name}`; it has {}", all.join(", "))));
        }
        if !is_float(name) {
            return Err(GradientError::Request(format!("the {kind} `{name}` is not of floats")));
        }
        if !chosen.iter().any(|other| other == name) {
            chosen.push(name.to_owned());
        }
    }
    Ok(chosen)
}

/// The values that depend on a chosen input and that a chosen output depends on, smoothly.
pub(crate) struct Path {
    active: BTreeSet<String>,
}

impl Path {
    pub(crate) fn between(graph: &Graph, inputs: &[String], outputs: &[String]) -> Self {
        let mut reached: BTreeSet<&str> = inputs.iter().map(String::as_str).collect();
        // Integers carry no derivative, but those that a refused operator makes must not hide its refusal.
        let refused = graph.nodes.iter().filter(|node| is_refused(node)).flat_map(|node| named(&node.outputs));
        let refused: BTreeSet<&str> = refused.map(|(_, name)| name).collect();
        let carries =
            |name: &str| graph.element(name).is_none_or(|element| element.is_float()) || refused.contains(name);
        for node in graph.nodes.iter().filter(|node| !has_zero_derivative(node)) {
            if named(&node.inputs).any(|(_, name)| reached.contains(name)) {
                reached.extend(named(&node.outputs).map(|(_, name)| name).filter(|name| carries(name)));
            }
        }
        let mut wanted: BTreeSet<&str> = outputs.iter().map(String::as_str).collect();
        for node in graph.nodes.iter().rev().filter(|node| !has_zero_derivative(node)) {
            if named(&node.outputs).any(|(_, name)| wanted.contains(name)) {
                wanted.extend(named(&node.inputs).map(|(_, name)| name).filter(|name| carries(name)));
            }
        }
        Path { active: reached.intersection(&wanted).map(|&name| name.to_owned()).collect() }
    }

    pub(crate) fn is_active(&self, name: &str) -> bool {
        self.active.contains(name)
    }
}

fn has_zero_derivative(node: &Node) -> bool {
    rules::find(&node.op).is_some_and(|rule| matches!(rule.derivative, Derivative::Zero))
}

fn is_refused(node: &Node) -> bool {
    rules::find(&node.op).is_some_and(|rule| matches!(rule.derivative, Derivative::Refused(_)))
}

/// Tangents or cotangents by value, as the terms of sums that are emitted once, when they are complete.
#[derive(Default)]
struct Sums {
    terms: BTreeMap<String, Vec<String>>,
}

impl Sums {
    /// Adds a term, which has the shape of the value itself even where inference sees less.
    fn add(&mut self, builder: &mut Builder, name: &str, term: String) {
        builder.shaped_like(&term, name);
        self.terms.entry(name.to_owned()).or_default().push(term);
    }

    /// The totals of several values, where there are any.
    fn totals(&mut self, builder: &mut Builder, names: &[String]) -> Result<Vec<Option<String>>> {
        names.iter().map(|name| self.total(builder, name)).collect()
    }

    fn total(&mut self, builder: &mut Builder, name: &str) -> Result<Option<String>> {
        let Some(terms) = self.terms.get_mut(name) else { return Ok(None) };
        let mut sum: Option<String> = None;
        for term in terms.drain(..) {
            sum = Some(match sum {
                Some(sum) => builder.add(&sum, &term)?,
                None => term,
            });
        }
        if let Some(sum) = &sum {
            builder.shaped_like(sum, name);
        }
        terms.extend(sum.clone());
        Ok(sum)
    }
}
