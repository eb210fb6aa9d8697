//! Brings operator forms of older opsets to the working opset, so that every rule knows one form only.
//!
//! [`CONVERSIONS`] says which operator changed until which opset. `Constant` nodes become initialisers here too, and
//! `Dropout` becomes what it is at inference: `Identity`.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    error::{GradientError, Result},
    graph::{Attribute, Graph, Node},
    tensor::Tensor,
};

type Convert = fn(&mut Conversion, &mut Graph, Node) -> Result<Vec<Node>>;

/// Operator, the last opset with the old form, and what makes the new form of it.
const CONVERSIONS: &[(&str, i64, Convert)] = &[
    ("Constant", i64::MAX, constant),
    ("Dropout", i64::MAX, dropout),
    ("BatchNormalization", i64::MAX, batch_normalization),
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
    ("TopK", 9, |c, g, n| c.attributes_to_inputs(g, n, &["k"])),
    ("Split", 12, |c, g, n| c.attributes_to_inputs(g, n, &["split"])),
    ("Split", 17, even_split),
    ("Scatter", 10, |_, _, n| Ok(vec![Node { op: "ScatterElements".to_owned(), ..n }])),
];

/// The state of an import: which names are taken, and from which opset it comes.
pub(super) struct Conversion {
    opset: i64,
    reserved: BTreeSet<String>,
    fresh: usize,
}

impl Conversion {
    /// `reserved` are the names that nodes of the file make.
    pub(super) fn new(opset: i64, reserved: BTreeSet<String>) -> Self {
        Conversion { opset, reserved, fresh: 0 }
    }

    /// The node in the working opset's form: none, one or several nodes, in order.
    pub(super) fn convert(&mut self, graph: &mut Graph, node: Node) -> Result<Vec<Node>> {
        let opset = self.opset;
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

    fn fresh_name(&mut self, graph: &Graph) -> String {
        loop {
            let name = format!("import/{}", self.fresh);
            self.fresh += 1;
            if !graph.types.contains_key(&name) && !self.reserved.contains(&name) {
                return name;
            }
        }
    }

    fn add_constant(&mut self, graph: &mut Graph, tensor: Tensor) -> String {
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

fn invalid(node: &Node, reason: &str) -> GradientError {
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
        _ => {
            return Err(GradientError::Unsupported(format!(
                "the constant `{output}` is not a dense tensor of numbers"
            )));
        }
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
    let names: Vec<String> = (0..3)
        .map(|_| {
            let name = conversion.fresh_name(graph);
            conversion.reserved.insert(name.clone());
            name
        })
        .collect();
    let [flat, normalised, shape] = names.as_slice() else { return Ok(vec![]) };
    let make = |op: &str, inputs: &[&String], output: &String, attributes: BTreeMap<String, Attribute>| Node {
        op: op.to_owned(),
        name: String::new(),
        inputs: inputs.iter().map(|&name| name.clone()).collect(),
        outputs: vec![output.clone()],
        attributes,
    };
    let axis = BTreeMap::from([("axis".to_owned(), Attribute::Int(axis))]);
    node.inputs = vec![flat.clone()];
    node.outputs = vec![normalised.clone()];
    Ok(vec![
        make("Flatten", &[&input], flat, axis),
        node,
        make("Shape", &[&input], shape, BTreeMap::new()),
        make("Reshape", &[normalised, shape], &output, BTreeMap::new()),
    ])
}

/// From opset 18 on a `Split` without sizes says into how many parts.
fn even_split(_: &mut Conversion, _: &mut Graph, mut node: Node) -> Result<Vec<Node>> {
    if node.input(1).is_none() {
        let parts = i64::try_from(node.outputs.len()).unwrap_or(i64::MAX);
        node.attributes.insert("num_outputs".to_owned(), Attribute::Int(parts));
    }
    Ok(vec![node])
}
