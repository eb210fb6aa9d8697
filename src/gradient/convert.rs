//! Brings operator forms of older opsets to the working opset, so that every rule knows one form only.
//!
//! [`CONVERSIONS`] says which operator changed until which opset. `Constant` nodes become initialisers here too, and
//! `Dropout` becomes what it is at inference: `Identity`.

mod resize;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    contrib,
    error::{GradientError, Result},
    graph::{Attribute, Graph, Node},
    pads,
    rules::einsum,
    tensor::Tensor,
};

type Convert = fn(&mut Conversion, &mut Graph, Node) -> Result<Vec<Node>>;

/// Operator, the last opset with the old form, and what makes the new form of it.
const CONVERSIONS: &[(&str, i64, Convert)] = &[
    ("Constant", i64::MAX, constant),
    ("com.microsoft::FusedConv", i64::MAX, contrib::convolution),
    ("com.microsoft::FusedGemm", i64::MAX, contrib::gemm),
    ("com.microsoft::FusedMatMul", i64::MAX, contrib::matmul),
    ("com.microsoft::TransposeMatMul", i64::MAX, contrib::matmul),
    ("com.microsoft::Gelu", i64::MAX, contrib::gelu),
    ("com.microsoft::BiasGelu", i64::MAX, contrib::gelu),
    ("com.microsoft::FastGelu", i64::MAX, contrib::gelu),
    ("com.microsoft::QuickGelu", i64::MAX, contrib::quick_gelu),
    ("com.microsoft::SkipLayerNormalization", i64::MAX, contrib::skip_layer_normalization),
    ("com.microsoft::SkipSimplifiedLayerNormalization", i64::MAX, contrib::skip_layer_normalization),
    ("SimplifiedLayerNormalization", i64::MAX, contrib::simplified_layer_normalization),
    ("Dropout", i64::MAX, dropout),
    ("BatchNormalization", i64::MAX, batch_normalization),
    ("CastLike", i64::MAX, cast_like),
    ("Einsum", i64::MAX, without_ellipses),
    ("GroupNormalization", 20, scale_by_group),
    ("Softmax", 12, flattened_axis),
    ("LogSoftmax", 12, flattened_axis),
    ("Hardmax", 12, flattened_axis),
    ("Squeeze", 12, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("Unsqueeze", 12, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceSum", 12, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceMean", 17, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceMax", 17, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceMin", 17, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceProd", 17, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceL1", 17, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceL2", 17, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceLogSum", 17, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceLogSumExp", 17, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("ReduceSumSquare", 17, |c, g, n| c.attributes_to_inputs(g, n, &["axes"])),
    ("Slice", 9, |c, g, n| c.attributes_to_inputs(g, n, &["starts", "ends", "axes"])),
    ("Clip", 10, |c, g, n| c.attributes_to_inputs(g, n, &["min", "max"])),
    ("Pad", 10, |c, g, n| c.attributes_to_inputs(g, n, &["pads", "value"])),
    ("Pad", i64::MAX, every_axis),
    ("TopK", 9, |c, g, n| c.attributes_to_inputs(g, n, &["k"])),
    ("Split", 12, |c, g, n| c.attributes_to_inputs(g, n, &["split"])),
    ("Split", 17, even_split),
    // `Upsample` becomes today's `Resize`, so it comes after the old one.
    ("Resize", 10, resize::uncentred),
    ("Upsample", i64::MAX, resize::uncentred),
    ("Split", i64::MAX, all_named),
    ("If", i64::MAX, all_named),
    ("Loop", i64::MAX, all_named),
    ("Scan", i64::MAX, all_named),
    ("Scatter", 10, |_, _, n| Ok(vec![Node { op: "ScatterElements".to_owned(), ..n }])),
];

/// The operators that change on reading.
pub(super) fn operators() -> impl Iterator<Item = &'static str> {
    CONVERSIONS.iter().map(|(operator, ..)| *operator)
}

/// The state of an import: which names are taken.
pub(super) struct Conversion {
    reserved: BTreeSet<String>,
    fresh: usize,
}

impl Conversion {
    /// `reserved` are the names that nodes of the file make.
    pub(super) fn new(reserved: BTreeSet<String>) -> Self {
        Conversion { reserved, fresh: 0 }
    }

    /// A node of an opset in the working opset's form: none, one or several nodes, in order.
    pub(super) fn convert(&mut self, graph: &mut Graph, node: Node, opset: i64) -> Result<Vec<Node>> {
        let mut nodes = vec![node];
        for (operator, last, convert) in CONVERSIONS {
            let [node] = nodes.as_slice() else { break };
            if node.op == *operator && opset <= *last {
                let node = node.clone();
                nodes = convert(self, graph, node)?;
            }
        }
        Ok(nodes)
    }

    /// A name for a value that the file does not have.
    pub(super) fn fresh_name(&mut self, graph: &Graph) -> String {
        self.fresh += 1;
        self.claim(graph, &format!("import/{}", self.fresh - 1))
    }

    /// `wanted`, or that with a number behind it where something has this name already.
    pub(super) fn claim(&mut self, graph: &Graph, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while graph.types.contains_key(&name) || !self.reserved.insert(name.clone()) {
            self.fresh += 1;
            name = format!("{wanted}.{}", self.fresh);
        }
        name
    }

    pub(super) fn add_constant(&mut self, graph: &mut Graph, tensor: Tensor) -> String {
        let name = self.fresh_name(graph);
        graph.set_initializer(&name, tensor);
        name
    }

    /// Moves attributes, in this order, to the inputs after the first.
    fn attributes_to_inputs(&mut self, graph: &mut Graph, mut node: Node, names: &[&str]) -> Result<Vec<Node>> {
        node.inputs.truncate(1);
        for name in names {
            let tensor = match node.attributes.remove(*name) {
                Some(Attribute::Ints(values)) => Tensor::from_integers(vec![values.len() as u64], &values)?,
                Some(Attribute::Int(value)) => Tensor::from_integers(vec![1], &[value])?,
                Some(Attribute::Float(value)) => {
                    let element = node.input(0).and_then(|input| graph.element(input)).ok_or_else(|| {
                        invalid(&node, "the type of its input is not declared, so its old form cannot be converted")
                    })?;
                    Tensor::from_floats(element, vec![], &[value.into()])?
                }
                Some(_) => return Err(invalid(&node, &format!("the attribute `{name}` is of the wrong kind"))),
                None => {
                    node.inputs.push(String::new());
                    continue;
                }
            };
            let constant = self.add_constant(graph, tensor);
            node.inputs.push(constant);
        }
        while node.inputs.last().is_some_and(String::is_empty) {
            node.inputs.pop();
        }
        Ok(vec![node])
    }
}

pub(super) fn invalid(node: &Node, reason: &str) -> GradientError {
    GradientError::Node { node: node.label().to_owned(), operator: node.op.clone(), reason: reason.to_owned() }
}

fn constant(_: &mut Conversion, graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
    let (Some(output), Some((name, attribute))) = (node.output(0), node.attributes.iter().next()) else {
        return Err(invalid(&node, "it has no value"));
    };
    let tensor = match (name.as_str(), attribute) {
        ("value", Attribute::Tensor(tensor)) => tensor.clone(),
        ("value_float", Attribute::Float(value)) => {
            Tensor::from_floats(super::graph::ElementType::Float32, vec![], &[(*value).into()])?
        }
        ("value_floats", Attribute::Floats(values)) => {
            let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
            Tensor::from_floats(super::graph::ElementType::Float32, vec![values.len() as u64], &values)?
        }
        ("value_int", Attribute::Int(value)) => Tensor::from_integers(vec![], &[*value])?,
        ("value_ints", Attribute::Ints(values)) => Tensor::from_integers(vec![values.len() as u64], values)?,
        ("sparse_value", Attribute::Tensor(tensor)) => tensor.clone(),
        // Strings stay a node: nothing computes with them here.
        ("value" | "value_string" | "value_strings", _) => return Ok(vec![node]),
        _ => return Err(invalid(&node, &format!("its attribute `{name}` is of the wrong kind"))),
    };
    graph.set_initializer(output, tensor);
    Ok(vec![])
}

fn dropout(_: &mut Conversion, graph: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    let training = node.input(2).map(|name| graph.initializers.get(name).and_then(Tensor::integers));
    if training.is_some_and(|mode| mode != Some(vec![0])) {
        return Err(invalid(&node, "it is in training mode; export the model for inference"));
    }
    node.op = "Identity".to_owned();
    node.attributes.clear();
    node.inputs.truncate(1);
    node.outputs.truncate(1);
    Ok(vec![node])
}

fn batch_normalization(_: &mut Conversion, _: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    if node.int("training_mode").unwrap_or(0) != 0 {
        return Err(invalid(&node, "it is in training mode; export the model for inference"));
    }
    if node.int("spatial").unwrap_or(1) == 0 {
        return Err(invalid(&node, "statistics per element (spatial = 0) are not supported"));
    }
    node.attributes.retain(|name, _| name == "epsilon");
    node.outputs.truncate(1);
    Ok(vec![node])
}

/// Until opset 12, `Softmax` and its kin normalised over all axes from `axis` on, as if the tensor were a matrix.
fn flattened_axis(conversion: &mut Conversion, graph: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    let axis = node.int("axis").unwrap_or(1);
    node.attributes.insert("axis".to_owned(), Attribute::Int(-1));
    let (Some(input), Some(output)) = (node.input(0), node.output(0)) else {
        return Err(invalid(&node, "it needs an input and an output"));
    };
    let (input, output) = (input.to_owned(), output.to_owned());
    let rank = graph.shape(&input).map(|shape| shape.len() as i64);
    if axis == -1 || rank.is_some_and(|rank| axis == rank - 1) {
        return Ok(vec![node]);
    }
    let names: Vec<String> = (0..3).map(|_| conversion.fresh_name(graph)).collect();
    let [flat, normalised, shape] = names.as_slice() else { return Ok(vec![]) };
    let attributes = BTreeMap::from([("axis".to_owned(), Attribute::Int(axis))]);
    node.inputs = vec![flat.clone()];
    node.outputs = vec![normalised.clone()];
    Ok(vec![
        Node { attributes, ..Node::new("Flatten", &[&input], &[flat]) },
        node,
        Node::new("Shape", &[&input], &[shape]),
        Node::new("Reshape", &[normalised, shape], &[&output]),
    ])
}

/// A cast to the type that another value has.
fn cast_like(_: &mut Conversion, graph: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    if let Some(element) = node.input(1).and_then(|like| graph.element(like)) {
        node.op = "Cast".to_owned();
        node.attributes.insert("to".to_owned(), Attribute::Int(element.code().into()));
        node.inputs.truncate(1);
    }
    Ok(vec![node])
}

/// Writes a letter for each axis in the place of ellipses. ONNX Runtime crashes on ellipses of different lengths.
fn without_ellipses(_: &mut Conversion, graph: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    let Some(equation) = node.text("equation").filter(|equation| equation.contains('.')) else {
        return Ok(vec![node]);
    };
    let ranks: Option<Vec<usize>> = node.inputs.iter().map(|name| Some(graph.shape(name)?.len())).collect();
    let spelled = match ranks {
        Some(ranks) => einsum::without_ellipses(equation, &ranks),
        None if node.inputs.len() > 1 => {
            return Err(invalid(
                &node,
                "the ranks of its operands are not known, so its ellipses cannot be spelled out",
            ));
        }
        None => None,
    };
    if let Some(spelled) = spelled {
        node.attributes.insert("equation".to_owned(), Attribute::Text(spelled));
    }
    Ok(vec![node])
}

/// The pads of all axes, where all is known.
fn every_axis(conversion: &mut Conversion, graph: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    let rank = node.input(0).and_then(|value| graph.shape(value)).map(<[_]>::len);
    let integers = |input: usize| node.input(input).and_then(|name| graph.initializers.get(name)?.integers());
    let places = rank.zip(integers(3)).and_then(|(rank, axes)| pads::places(&axes, rank));
    let Some(full) = places.zip(integers(1)).and_then(|(places, known)| pads::in_full(&places, &known)) else {
        return Ok(vec![node]);
    };
    let full = conversion.add_constant(graph, Tensor::from_integers(vec![full.len() as u64], &full)?);
    node.inputs.truncate(3);
    if let Some(pads) = node.inputs.get_mut(1) {
        *pads = full;
    }
    Ok(vec![node])
}

/// Until opset 20 a `GroupNormalization` had a scale and a shift for each group; now it has them for each channel.
fn scale_by_group(conversion: &mut Conversion, graph: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    let channels = node.input(0).and_then(|x| graph.shape(x)).and_then(|shape| shape.get(1)?.known());
    let (Some(channels), Some(groups)) = (channels, node.int("num_groups").filter(|groups| *groups > 0)) else {
        return Err(invalid(&node, "its channels are not declared, so its old form cannot be converted"));
    };
    let repeats = (channels / groups.unsigned_abs()) as i64;
    let column = conversion.add_constant(graph, Tensor::from_integers(vec![2], &[-1, 1])?);
    let repeated = conversion.add_constant(graph, Tensor::from_integers(vec![2], &[1, repeats])?);
    let flat = conversion.add_constant(graph, Tensor::from_integers(vec![1], &[-1])?);
    let mut nodes = Vec::new();
    for input in node.inputs.iter_mut().skip(1) {
        let mut value = input.clone();
        for (op, shape) in [("Reshape", &column), ("Expand", &repeated), ("Reshape", &flat)] {
            let output = conversion.fresh_name(graph);
            conversion.reserved.insert(output.clone());
            nodes.push(Node::new(op, &[&value, shape], &[&output]));
            value = output;
        }
        *input = value;
    }
    nodes.push(node);
    Ok(nodes)
}

/// From opset 18 on a `Split` without sizes says into how many parts.
fn even_split(_: &mut Conversion, _: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    if node.input(1).is_none() {
        let parts = i64::try_from(node.outputs.len()).unwrap_or(i64::MAX);
        node.attributes.insert("num_outputs".to_owned(), Attribute::Int(parts));
    }
    Ok(vec![node])
}

/// Of a varying number of outputs some may be left out, but ONNX Runtime then fails to run the node, or even crashes.
fn all_named(conversion: &mut Conversion, graph: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    for output in node.outputs.iter_mut().filter(|output| output.is_empty()) {
        *output = conversion.fresh_name(graph);
        conversion.reserved.insert(output.clone());
    }
    Ok(vec![node])
}
