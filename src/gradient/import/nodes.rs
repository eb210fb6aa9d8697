//! Reads a graph's nodes in order: checks names, inlines calls, converts old forms, folds constants, infers types.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        convert::Conversion,
        error::{GradientError, Result},
        evaluate,
        graph::{Attribute, Graph, Integer, Node, Subgraph, ValueType},
        onnx, shape,
        tensor::Tensor,
    },
    Functions, Tensors, at_value, attributes,
    inline::{self, Expansion},
    is_standard, read_inputs, read_type,
};
use crate::limits;

/// What is known while a file is read.
pub(super) struct Reader<'a> {
    opset: i64,
    functions: Functions,
    tensors: Tensors<'a>,
    conversion: Conversion,
    /// Nodes that inlining has made.
    inlined: usize,
    /// What folding may still read and write.
    folding_bytes: u64,
    /// Constants that took part in folding, and may be of no use any more.
    folded: BTreeSet<String>,
}

/// A node that is still to be read.
struct Pending {
    proto: onnx::NodeProto,
    opset: i64,
    /// How many calls it lies in.
    depth: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(opset: i64, functions: Functions, tensors: Tensors<'a>, reserved: BTreeSet<String>) -> Self {
        let conversion = Conversion::new(reserved);
        Reader {
            opset,
            functions,
            tensors,
            conversion,
            inlined: 0,
            folding_bytes: limits::FOLDING_BYTES,
            folded: BTreeSet::new(),
        }
    }

    /// Reads the whole graph of a model.
    pub(super) fn graph(&mut self, graph: &mut Graph, proto: onnx::GraphProto) -> Result<()> {
        if let Some(input) = proto.input.iter().find(|input| input.r#type.is_none()) {
            return Err(GradientError::Invalid(format!("the input `{}` has no type", input.name)));
        }
        self.body(graph, proto, BTreeSet::new(), self.opset)?;
        let mut used: BTreeSet<&String> = graph.nodes.iter().flat_map(|node| &node.inputs).collect();
        used.extend(&graph.outputs);
        let unused: Vec<String> = self.folded.iter().filter(|name| !used.contains(name)).cloned().collect();
        for name in unused {
            graph.initializers.remove(&name);
        }
        Ok(())
    }

    /// Reads a graph or subgraph; `defined` are the names that it takes from around it.
    fn body(
        &mut self,
        graph: &mut Graph,
        proto: onnx::GraphProto,
        mut defined: BTreeSet<String>,
        opset: i64,
    ) -> Result<()> {
        let mut opaque = Vec::new();
        for tensor in proto.initializer {
            let name = tensor.name.clone();
            opaque.extend(self.constant(graph, &name, tensor)?);
        }
        for sparse in proto.sparse_initializer {
            let (name, tensor) = self.tensors.densified(sparse)?;
            add_constant(graph, &name, tensor)?;
        }
        read_inputs(graph, proto.input)?;
        let mut declared = BTreeMap::new();
        for value in proto.value_info.iter().chain(&proto.output) {
            match read_type(value)? {
                Some(value_type) => {
                    declared.insert(value.name.clone(), value_type);
                }
                None => graph.foreign.extend(value.r#type.clone().map(|kind| (value.name.clone(), kind))),
            }
        }
        defined.extend(graph.inputs.iter().chain(graph.initializers.keys()).cloned());
        let nodes = opaque.into_iter().chain(proto.node);
        self.nodes(graph, nodes.collect(), &declared, &mut defined, opset)?;
        let mut seen = BTreeSet::new();
        for output in proto.output {
            if !defined.contains(&output.name) {
                return Err(GradientError::Invalid(format!("no node makes the output `{}`", output.name)));
            }
            if !seen.insert(output.name.clone()) {
                return Err(GradientError::Invalid(format!("the output `{}` is listed twice", output.name)));
            }
            graph.outputs.push(output.name);
        }
        Ok(())
    }

    /// Adds an initialiser. One that is not of numbers becomes a node that makes it.
    fn constant(
        &mut self,
        graph: &mut Graph,
        name: &str,
        mut proto: onnx::TensorProto,
    ) -> Result<Option<onnx::NodeProto>> {
        if let Some(tensor) = self.tensors.read(&mut proto, name)? {
            add_constant(graph, name, tensor)?;
            return Ok(None);
        }
        let mut value = onnx::AttributeProto { name: "value".to_owned(), t: Some(proto), ..Default::default() };
        value.set_type(onnx::attribute_proto::AttributeType::Tensor);
        Ok(Some(onnx::NodeProto {
            op_type: "Constant".to_owned(),
            output: vec![name.to_owned()],
            attribute: vec![value],
            ..Default::default()
        }))
    }

    fn nodes(
        &mut self,
        graph: &mut Graph,
        protos: Vec<onnx::NodeProto>,
        declared: &BTreeMap<String, ValueType>,
        defined: &mut BTreeSet<String>,
        opset: i64,
    ) -> Result<()> {
        let mut pending: Vec<Pending> =
            protos.into_iter().rev().map(|proto| Pending { proto, opset, depth: 0 }).collect();
        while let Some(mut next) = pending.pop() {
            let depth = next.depth + 1;
            let Some((expansion, opset)) = self.expansion(graph, &mut next)? else {
                self.node(graph, next, declared, defined)?;
                continue;
            };
            self.inlined += expansion.nodes.len();
            if self.inlined > limits::MODEL_NODES || depth > limits::MODEL_NESTING {
                return Err(GradientError::Limit(format!(
                    "inlining functions and branches gives more than {} nodes or {} levels",
                    limits::MODEL_NODES,
                    limits::MODEL_NESTING
                )));
            }
            let mut nodes = expansion.nodes;
            for (name, tensor) in expansion.constants {
                match self.constant(graph, &name, tensor)? {
                    Some(node) => nodes.insert(0, node),
                    None => {
                        defined.insert(name);
                    }
                }
            }
            for sparse in expansion.sparse {
                let (name, tensor) = self.tensors.densified(sparse)?;
                add_constant(graph, &name, tensor)?;
                defined.insert(name);
            }
            pending.extend(nodes.into_iter().rev().map(|proto| Pending { proto, opset, depth }));
        }
        Ok(())
    }

    /// What stands for a call of a function or for an `If` whose condition is known, and the opset of its nodes.
    fn expansion(&mut self, graph: &Graph, next: &mut Pending) -> Result<Option<(Expansion, i64)>> {
        let proto = &mut next.proto;
        let label = if proto.name.is_empty() { proto.output.first().cloned() } else { Some(proto.name.clone()) };
        let label = label.unwrap_or_default();
        if let Some(function) = self.functions.find(proto) {
            self.tensors.expand(function.bytes)?;
            let conversion = &mut self.conversion;
            let unique = |inner: &str| conversion.claim(graph, &format!("{label}/{inner}"));
            return Ok(Some((function.call(proto, unique)?, function.opset)));
        }
        if proto.op_type != "If" || !is_standard(&proto.domain) {
            return Ok(None);
        }
        let condition = proto.input.first().and_then(|name| known_condition(graph, name));
        let Some(condition) = condition else { return Ok(None) };
        let taken = if condition { "then_branch" } else { "else_branch" };
        let branch = proto.attribute.iter_mut().find(|attribute| attribute.name == taken);
        let Some(branch) = branch.and_then(|attribute| attribute.g.take()) else {
            return Err(GradientError::Invalid(format!("node `{label}` (If) has no {taken}")));
        };
        let conversion = &mut self.conversion;
        let unique = |inner: &str| conversion.claim(graph, &format!("{label}/{inner}"));
        Ok(Some((inline::branch(proto, branch, unique), next.opset)))
    }

    /// Reads one node that is no call.
    fn node(
        &mut self,
        graph: &mut Graph,
        next: Pending,
        declared: &BTreeMap<String, ValueType>,
        defined: &mut BTreeSet<String>,
    ) -> Result<()> {
        let opset = next.opset;
        let node = self.read(graph, next)?;
        for input in node.inputs.iter().filter(|name| !name.is_empty()) {
            if !defined.contains(input) {
                let label = node.label();
                return Err(GradientError::Invalid(format!(
                    "node `{label}` ({}) uses `{input}`, which no earlier node makes",
                    node.op
                )));
            }
        }
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            if !defined.insert(output.clone()) {
                return Err(GradientError::Invalid(format!("the name `{output}` is made twice")));
            }
        }
        // A conversion may drop outputs that mean nothing at inference, such as the mask of a dropout.
        let promised = node.outputs.clone();
        let converted = self.conversion.convert(graph, node, opset)?;
        for name in promised {
            let made = converted.iter().any(|node| node.outputs.contains(&name));
            if !made && !graph.initializers.contains_key(&name) {
                defined.remove(&name);
            }
        }
        for node in converted {
            if self.fold(graph, &node) {
                continue;
            }
            shape::infer_node(graph, &node, Some(declared))?;
            graph.nodes.push(node);
        }
        Ok(())
    }

    /// Makes constants of the outputs of a node whose inputs are constants. `false` where that cannot be done.
    fn fold(&mut self, graph: &mut Graph, node: &Node) -> bool {
        let operands = node.inputs.iter().filter_map(|name| graph.initializers.get(name));
        let read: u64 = operands.map(|tensor| tensor.data().len() as u64).sum();
        // Renaming and reshaping neither read nor copy.
        let is_alias = matches!(node.op.as_str(), "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten");
        if self.folding_bytes == 0 || (!is_alias && read > self.folding_bytes) {
            return false;
        }
        let Some(tensors) = evaluate::constants(graph, node) else { return false };
        let written: u64 = tensors.iter().map(|tensor| tensor.data().len() as u64).sum();
        if !is_alias {
            self.folding_bytes = self.folding_bytes.saturating_sub(read.saturating_add(written));
            if self.tensors.expand(written).is_err() {
                self.folding_bytes = 0;
                return false;
            }
        }
        for (name, tensor) in node.outputs.iter().zip(tensors).filter(|(name, _)| !name.is_empty()) {
            graph.set_initializer(name, tensor);
            self.folded.insert(name.clone());
        }
        self.folded.extend(node.inputs.iter().cloned());
        true
    }

    fn read(&mut self, outer: &Graph, next: Pending) -> Result<Node> {
        let Pending { proto, opset, .. } = next;
        if proto.op_type.contains("::") || proto.domain.contains("::") {
            return Err(GradientError::Invalid(format!("an operator has the name `{}`", proto.op_type)));
        }
        if !is_standard(&proto.domain) && !is_runnable(&proto.domain) {
            let label = if proto.name.is_empty() { proto.output.first().unwrap_or(&proto.name) } else { &proto.name };
            return Err(GradientError::Unsupported(format!(
                "node `{label}` ({}) is of the domain `{}`; export the model with standard operators",
                proto.op_type, proto.domain
            )));
        }
        let op =
            if is_standard(&proto.domain) { proto.op_type } else { format!("{}::{}", proto.domain, proto.op_type) };
        let mut node =
            Node { op, name: proto.name, inputs: proto.input, outputs: proto.output, attributes: BTreeMap::new() };
        if node.outputs.iter().all(String::is_empty) {
            return Err(GradientError::Invalid(format!("node `{}` ({}) has no output", node.label(), node.op)));
        }
        let graphs = proto.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
        let captures: BTreeSet<String> = graphs.flat_map(inline::captured).collect();
        let at = |error: GradientError, attribute: &str| match error {
            GradientError::Unsupported(reason) => {
                GradientError::Unsupported(format!("attribute `{attribute}`: {reason}"))
            }
            other => other,
        };
        for attribute in proto.attribute {
            let name = attribute.name.clone();
            let value = match attribute.g {
                Some(inner) => self.subgraph(outer, inner, &captures, opset),
                None => attributes::read(attribute, &mut self.tensors),
            };
            let value =
                value.map_err(|error| at_value(at(error, &name), &format!("{} ({})", node.label(), node.op)))?;
            node.attributes.insert(name, value);
        }
        node.inputs.extend(captures);
        Ok(node)
    }

    /// Reads a subgraph with what it takes from around it.
    fn subgraph(
        &mut self,
        outer: &Graph,
        proto: onnx::GraphProto,
        captures: &BTreeSet<String>,
        opset: i64,
    ) -> Result<Attribute> {
        let mut graph = Graph::empty(proto.name.clone(), outer.declared_opset);
        for name in captures {
            graph.types.extend(outer.types.get(name).map(|value_type| (name.clone(), value_type.clone())));
            graph.initializers.extend(outer.initializers.get(name).map(|tensor| (name.clone(), tensor.clone())));
            graph.integers.extend(outer.integers.get(name).map(|values| (name.clone(), values.clone())));
            graph.foreign.extend(outer.foreign.get(name).map(|kind| (name.clone(), kind.clone())));
        }
        self.body(&mut graph, proto, captures.clone(), opset)?;
        graph.initializers.retain(|name, _| !captures.contains(name));
        Ok(Attribute::Graph(Box::new(Subgraph { graph, captures: captures.iter().cloned().collect() })))
    }
}

/// Whether ONNX Runtime brings operators of a domain; others nothing here could run.
fn is_runnable(domain: &str) -> bool {
    ["com.microsoft", "com.ms.", "ai.onnx.ml", "ai.onnx.preview"].iter().any(|known| domain.starts_with(known))
}

fn add_constant(graph: &mut Graph, name: &str, tensor: Tensor) -> Result<()> {
    if name.is_empty() || graph.initializers.contains_key(name) {
        return Err(GradientError::Invalid(format!("the initialiser name `{name}` is empty or used twice")));
    }
    graph.set_initializer(name, tensor);
    Ok(())
}

/// The value of a condition that is a constant or follows from known shapes.
fn known_condition(graph: &Graph, name: &str) -> Option<bool> {
    let values = match graph.initializers.get(name) {
        Some(tensor) => tensor.integers()?,
        None => graph.integers.get(name)?.iter().map(Integer::known).collect::<Option<Vec<i64>>>()?,
    };
    match values.as_slice() {
        [value] => Some(*value != 0),
        _ => None,
    }
}
