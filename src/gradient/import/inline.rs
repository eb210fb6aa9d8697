//! Puts the nodes of model-local functions and of decided branches in place of the nodes that call them.
//!
//! Names inside get a prefix that the calling node has for itself. Nothing is looked at beyond names and references to
//! attributes.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    super::{
        error::{GradientError, Result},
        graph::{NEWEST_OPSET, OLDEST_OPSET},
        onnx,
    },
    is_standard,
};

/// A function that the file brings.
pub(super) struct Function {
    proto: onnx::FunctionProto,
    /// The opset of its nodes.
    pub(super) opset: i64,
    /// Its size, which every call takes anew.
    pub(super) bytes: u64,
}

/// Functions by domain, name and overload.
pub(super) struct Functions(BTreeMap<(String, String, String), Function>);

impl Functions {
    /// The functions of a file, and the newest opset among them.
    pub(super) fn read(protos: Vec<onnx::FunctionProto>, model_opset: i64) -> Result<(Self, i64)> {
        let mut functions = BTreeMap::new();
        let mut newest = OLDEST_OPSET;
        for proto in protos {
            let import = proto.opset_import.iter().find(|import| is_standard(&import.domain));
            let opset = import.map_or(model_opset, |import| import.version);
            if !(OLDEST_OPSET..=NEWEST_OPSET).contains(&opset) {
                return Err(GradientError::Unsupported(format!("the function `{}` of opset {opset}", proto.name)));
            }
            newest = newest.max(opset);
            let key = (proto.domain.clone(), proto.name.clone(), proto.overload.clone());
            let bytes = prost::Message::encoded_len(&proto) as u64;
            functions.insert(key, Function { proto, opset, bytes });
        }
        Ok((Functions(functions), newest))
    }

    pub(super) fn find(&self, node: &onnx::NodeProto) -> Option<&Function> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(node.domain.clone(), node.op_type.clone(), node.overload.clone()))
    }
}

/// Nodes and constants to put in place of a node.
#[derive(Default)]
pub(super) struct Expansion {
    pub(super) nodes: Vec<onnx::NodeProto>,
    pub(super) constants: Vec<(String, onnx::TensorProto)>,
    pub(super) sparse: Vec<onnx::SparseTensorProto>,
}

impl Function {
    /// The nodes of a call. `unique` makes a name that nothing else has of one inside.
    pub(super) fn call(&self, node: &onnx::NodeProto, unique: impl FnMut(&str) -> String) -> Result<Expansion> {
        if node.input.len() > self.proto.input.len() || node.output.len() > self.proto.output.len() {
            return Err(GradientError::Invalid(format!(
                "node `{}` calls the function `{}` with too many inputs or outputs",
                node.name, self.proto.name
            )));
        }
        let given = node.input.iter().cloned().chain(std::iter::repeat(String::new()));
        let mut names: BTreeMap<String, String> = self.proto.input.iter().cloned().zip(given).collect();
        let mut body = self.proto.node.clone();
        bind_attributes(&mut body, &node.attribute, &self.proto.attribute_proto, 0);
        name_locals(&body, &mut names, unique);
        rename(&mut body, &names);
        let results = self.proto.output.iter().zip(&node.output);
        body.extend(
            results.filter(|(_, actual)| !actual.is_empty()).map(|(formal, actual)| identity(&names, formal, actual)),
        );
        Ok(Expansion { nodes: body, ..Default::default() })
    }
}

/// The nodes of the branch that an `If` takes.
pub(super) fn branch(
    node: &onnx::NodeProto,
    mut branch: onnx::GraphProto,
    mut unique: impl FnMut(&str) -> String,
) -> Expansion {
    let mut names = BTreeMap::new();
    let mut constants = Vec::new();
    for tensor in branch.initializer.drain(..) {
        let name = unique(&tensor.name);
        names.insert(tensor.name.clone(), name.clone());
        constants.push((name, tensor));
    }
    let mut sparse = std::mem::take(&mut branch.sparse_initializer);
    for tensor in sparse.iter_mut().filter_map(|sparse| sparse.values.as_mut()) {
        let name = unique(&tensor.name);
        names.insert(std::mem::replace(&mut tensor.name, name.clone()), name);
    }
    name_locals(&branch.node, &mut names, unique);
    rename(&mut branch.node, &names);
    let results = branch.output.iter().zip(&node.output).filter(|(_, actual)| !actual.is_empty());
    branch.node.extend(results.map(|(inner, actual)| identity(&names, &inner.name, actual)));
    Expansion { nodes: branch.node, constants, sparse }
}

/// Gives every value that nodes make a name of its own.
fn name_locals(
    nodes: &[onnx::NodeProto],
    names: &mut BTreeMap<String, String>,
    mut unique: impl FnMut(&str) -> String,
) {
    for output in nodes.iter().flat_map(|node| &node.output).filter(|name| !name.is_empty()) {
        if !names.contains_key(output) {
            names.insert(output.clone(), unique(output));
        }
    }
}

fn identity(names: &BTreeMap<String, String>, inner: &str, outer: &str) -> onnx::NodeProto {
    onnx::NodeProto {
        op_type: "Identity".to_owned(),
        input: vec![names.get(inner).map_or(inner, String::as_str).to_owned()],
        output: vec![outer.to_owned()],
        ..Default::default()
    }
}

/// Replaces names everywhere in nodes and their subgraphs.
fn rename(nodes: &mut [onnx::NodeProto], names: &BTreeMap<String, String>) {
    let replace = |name: &mut String| {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    };
    for node in nodes {
        node.input.iter_mut().chain(&mut node.output).for_each(replace);
        let singles =
            node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
        for graph in singles {
            rename(&mut graph.node, names);
            let values = graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info);
            values.for_each(|value| replace(&mut value.name));
            graph.initializer.iter_mut().for_each(|tensor| replace(&mut tensor.name));
        }
    }
}

/// Replaces references to a function's attributes by what the call gives, or the function's defaults.
fn bind_attributes(
    nodes: &mut [onnx::NodeProto],
    given: &[onnx::AttributeProto],
    defaults: &[onnx::AttributeProto],
    depth: usize,
) {
    for node in nodes {
        node.attribute.retain_mut(|attribute| {
            if attribute.ref_attr_name.is_empty() {
                return true;
            }
            let mut values = given.iter().chain(defaults);
            let Some(value) = values.find(|value| value.name == attribute.ref_attr_name) else { return false };
            let name = std::mem::take(&mut attribute.name);
            *attribute = onnx::AttributeProto { name, ..value.clone() };
            // A reference given as a value would be one of the caller's, which the caller has resolved already.
            attribute.ref_attr_name.clear();
            true
        });
        if depth < crate::limits::MODEL_NESTING {
            let graphs =
                node.attribute.iter_mut().flat_map(|attribute| attribute.g.iter_mut().chain(&mut attribute.graphs));
            graphs.for_each(|graph| bind_attributes(&mut graph.node, given, defaults, depth + 1));
        }
    }
}

/// The names that a graph takes from around it, in order of name.
pub(super) fn captured(graph: &onnx::GraphProto) -> BTreeSet<String> {
    let sparse = graph.sparse_initializer.iter().filter_map(|sparse| sparse.values.as_ref());
    let mut local: BTreeSet<&str> = graph.initializer.iter().chain(sparse).map(|tensor| tensor.name.as_str()).collect();
    local.extend(graph.input.iter().map(|input| input.name.as_str()));
    local.extend(graph.node.iter().flat_map(|node| &node.output).map(String::as_str));
    let mut free: BTreeSet<String> = BTreeSet::new();
    for node in &graph.node {
        free.extend(node.input.iter().cloned());
        for inner in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
            free.extend(captured(inner));
        }
    }
    free.extend(graph.output.iter().map(|output| output.name.clone()));
    free.retain(|name| !name.is_empty() && !local.contains(name.as_str()));
    free
}
