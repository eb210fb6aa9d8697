//! Recognises chains of operators that have a cheaper derivative together than one by one, and writes them out again.
//!
//! [`fused`] runs before differentiation, [`written_out`] after it, as `Swish` is newer than the opset that
//! is written and a derivative may share parts with its function.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    builder::Builder,
    error::Result,
    graph::{Attribute, ElementType, Graph, Node},
    prune,
};

/// Makes one node of `x·sigmoid(x)`, `x·hard_sigmoid(x)` and the mean over all pixels of an image.
pub(super) fn fused(graph: Graph) -> Result<Graph> {
    let mut graph = taken_apart(graph)?;
    let gates: BTreeMap<String, Node> = graph
        .nodes
        .iter()
        .filter(|node| matches!(node.op.as_str(), "Sigmoid" | "HardSigmoid"))
        .filter_map(|node| Some((node.output(0)?.to_owned(), node.clone())))
        .collect();
    let mut nodes = std::mem::take(&mut graph.nodes);
    for node in &mut nodes {
        if let Some(fused) = gated(node, &gates).or_else(|| global_mean(&graph, node)) {
            *node = fused;
        }
    }
    nest_concatenations(&mut nodes);
    graph.nodes = nodes;
    Ok(prune::pruned(graph))
}

/// Most parts that single elements along an axis are taken as.
const MOST_PARTS: u64 = 64;

/// A `Gather` of one element along an axis.
struct Taken {
    value: String,
    axis: i64,
    at: i64,
    size: u64,
    squeezed: bool,
}

/// What a node takes, if it is a `Gather` with one constant index.
fn taken(graph: &Graph, node: &Node) -> Option<Taken> {
    let (value, indices) = (node.input(0)?, graph.initializers.get(node.input(1)?)?);
    let shape =
        graph.shape(value).filter(|_| node.op == "Gather" && graph.element(value).is_some_and(|e| e.is_float()))?;
    let axis = node.int("axis").unwrap_or(0).rem_euclid(i64::try_from(shape.len()).ok().filter(|&rank| rank > 0)?);
    let size = shape.get(usize::try_from(axis).ok()?)?.known()?;
    let squeezed = indices.dims().is_empty();
    let indices = indices.integers().filter(|_| indices.dims().len() <= 1)?;
    let &[index] = indices.as_slice() else { return None };
    let at = if index < 0 { index + size as i64 } else { index };
    (0..size as i64).contains(&at).then(|| Taken { value: value.to_owned(), axis, at, size, squeezed })
}

/// Writes `Gather` with single constant indices, as attention takes queries, keys and values, as one `Split` where all
/// elements are taken and as a `Slice` elsewhere: their derivatives move blocks where that of `Gather` adds elements.
fn taken_apart(graph: Graph) -> Result<Graph> {
    let mut together: BTreeMap<(String, i64), BTreeSet<i64>> = BTreeMap::new();
    for taken in graph.nodes.iter().filter_map(|node| taken(&graph, node)) {
        together.entry((taken.value, taken.axis)).or_default().insert(taken.at);
    }
    if together.is_empty() {
        return Ok(graph);
    }
    let mut builder = Builder::new(graph, "part");
    for node in builder.take_nodes() {
        let Some(taken) = taken(builder.graph(), &node) else {
            builder.keep(node)?;
            continue;
        };
        let Taken { value, axis, at, size, squeezed } = taken;
        let all = together.get(&(value.clone(), axis)).is_some_and(|found| found.len() as u64 == size);
        let part = if all && (2..=MOST_PARTS).contains(&size) {
            let attributes = [("axis", Attribute::Int(axis))];
            let sizes = builder.integers(&vec![1; size as usize])?;
            builder.emit_all("Split", &[&value, &sizes], &attributes, size as usize)?.swap_remove(at as usize)
        } else {
            let (start, end, axes) =
                (builder.integers(&[at])?, builder.integers(&[at + 1])?, builder.integers(&[axis])?);
            builder.emit("Slice", &[&value, &start, &end, &axes], &[])?
        };
        let (op, inputs) = match squeezed {
            true => ("Squeeze", vec![part, builder.integers(&[axis])?]),
            false => ("Identity", vec![part]),
        };
        builder.keep(Node { op: op.to_owned(), inputs, attributes: BTreeMap::new(), ..node })?;
    }
    Ok(builder.into_graph())
}

/// Concatenations by their inputs, as a tree in which those that begin alike share a path.
#[derive(Default)]
struct Beginnings {
    /// Where an input leads to.
    steps: BTreeMap<(usize, String), usize>,
    /// The result of the concatenation that ends in a place.
    results: BTreeMap<usize, String>,
}

impl Beginnings {
    /// The longest concatenation that some inputs begin with and that is neither all of them nor one alone: its length
    /// and result.
    fn longest(&self, inputs: &[String]) -> Option<(usize, &String)> {
        let (mut at, mut longest) = (0, None);
        for (index, input) in inputs.iter().enumerate() {
            at = *self.steps.get(&(at, input.clone())).unwrap_or(&usize::MAX);
            if let Some(result) = self.results.get(&at).filter(|_| index > 0 && index + 1 < inputs.len()) {
                longest = Some((index + 1, result));
            }
        }
        longest
    }

    fn insert(&mut self, inputs: &[String], result: &str) {
        let mut at = 0;
        for input in inputs {
            let next = self.steps.len() + 1;
            at = *self.steps.entry((at, input.clone())).or_insert(next);
        }
        self.results.entry(at).or_insert_with(|| result.to_owned());
    }
}

/// Lets a concatenation that begins like an earlier one begin with its result, as in densely connected networks: the
/// cotangents of what they share are then added once a layer, not once for each part.
fn nest_concatenations(nodes: &mut [Node]) {
    let mut earlier: BTreeMap<Option<i64>, Beginnings> = BTreeMap::new();
    for node in nodes.iter_mut().filter(|node| node.op == "Concat") {
        let (inputs, earlier) = (node.inputs.clone(), earlier.entry(node.int("axis")).or_default());
        if let Some((length, result)) = earlier.longest(&inputs) {
            node.inputs.splice(..length, [result.clone()]);
        }
        if let Some(output) = node.output(0) {
            earlier.insert(&inputs, output);
        }
    }
}

/// `x·gate(x)` as `Swish` or `HardSwish`.
fn gated(node: &Node, gates: &BTreeMap<String, Node>) -> Option<Node> {
    let ("Mul", [a, b]) = (node.op.as_str(), node.inputs.as_slice()) else { return None };
    let (x, gate) = [(a, b), (b, a)].into_iter().find_map(|(x, other)| Some((x, gates.get(other)?)))?;
    if gate.input(0) != Some(x) {
        return None;
    }
    let near = |name: &str, wanted: f32| gate.float(name).is_some_and(|value| (value - wanted).abs() < 1e-6);
    let op = match gate.op.as_str() {
        "Sigmoid" => "Swish",
        "HardSigmoid" if near("alpha", 1.0 / 6.0) && (near("beta", 0.5) || gate.float("beta").is_none()) => "HardSwish",
        _ => return None,
    };
    Some(Node { op: op.to_owned(), inputs: vec![x.clone()], attributes: BTreeMap::new(), ..node.clone() })
}

/// `ReduceMean` over the two spatial axes of images as `GlobalAveragePool`, which ONNX Runtime runs on its blocked layout.
fn global_mean(graph: &Graph, node: &Node) -> Option<Node> {
    let keeps = node.int("keepdims").unwrap_or(1) != 0;
    // ONNX Runtime's CPU has no such pooling of other types.
    let image = graph.types.get(node.input(0)?).filter(|image| image.element == ElementType::Float32)?;
    if !graph.target.has_blocked_layout() || node.op != "ReduceMean" || !keeps || image.shape.as_ref()?.len() != 4 {
        return None;
    }
    let mut axes = graph.initializers.get(node.input(1)?)?.integers()?;
    axes.iter_mut().for_each(|axis| *axis = axis.rem_euclid(4));
    axes.sort_unstable();
    (axes == [2, 3]).then(|| Node {
        op: "GlobalAveragePool".to_owned(),
        inputs: node.inputs.iter().take(1).cloned().collect(),
        attributes: BTreeMap::new(),
        ..node.clone()
    })
}

/// Writes `Swish` with operators of the opset that is written, and `Gelu` with the gate that its derivative computes.
pub(super) fn written_out(graph: Graph) -> Result<Graph> {
    let erfs = graph.nodes.iter().filter(|node| node.op == "Erf").filter_map(|node| node.input(0));
    let erfs: BTreeSet<&str> = erfs.collect();
    let scaled = graph.nodes.iter().filter(|node| node.output(0).is_some_and(|output| erfs.contains(output)));
    let gated: BTreeSet<String> = scaled.flat_map(|node| node.inputs.clone()).collect();
    let opens = |node: &Node| match node.op.as_str() {
        "Swish" => true,
        "Gelu" => node.text("approximate") != Some("tanh") && node.input(0).is_some_and(|x| gated.contains(x)),
        _ => false,
    };
    if !graph.nodes.iter().any(opens) {
        return Ok(graph);
    }
    let mut builder = Builder::new(graph, "gate");
    for node in builder.take_nodes() {
        let (Some(x), true) = (node.input(0), opens(&node)) else {
            builder.keep(node)?;
            continue;
        };
        let gate = if node.op == "Swish" { swish_gate(&mut builder, x, &node)? } else { gelu_gate(&mut builder, x)? };
        let inputs = vec![x.to_owned(), gate];
        builder.keep(Node { op: "Mul".to_owned(), inputs, attributes: BTreeMap::new(), ..node.clone() })?;
    }
    Ok(prune::shared(builder.into_graph()))
}

/// `Φ(x) = (1 + erf(x/√2))/2`.
pub(super) fn gelu_gate(builder: &mut Builder, x: &str) -> Result<String> {
    let scaled = builder.scaled(x, std::f64::consts::FRAC_1_SQRT_2)?;
    let erf = builder.unary("Erf", &scaled)?;
    builder.ramp(&erf, 0.5, 0.5)
}

/// `sigmoid(α·x)`.
pub(super) fn swish_gate(builder: &mut Builder, x: &str, node: &Node) -> Result<String> {
    match node.attributes.get("alpha") {
        Some(Attribute::Float(alpha)) if *alpha != 1.0 => {
            let scaled = builder.scaled(x, f64::from(*alpha))?;
            builder.unary("Sigmoid", &scaled)
        }
        _ => builder.unary("Sigmoid", x),
    }
}
