//! Reads a model file into a [`Graph`]. The only place that meets foreign bytes.
//!
//! Everything that later code relies on is checked here: order, names, tensor sizes, ranks. Nothing is allocated beyond
//! what the file's own size justifies, but for the bounded growth of sparse and computed constants. `tensors` and
//! `attributes` decode, `nodes` brings nodes to the working form, `inline` puts functions and decided branches in place
//! of their calls.

mod attributes;
mod inline;
mod nodes;
mod tensors;

use std::collections::BTreeSet;

use bytes::Bytes;

pub use self::tensors::External;
use self::{inline::Functions, nodes::Reader, tensors::Tensors};
use super::{
    error::{GradientError, Result},
    graph::{Dim, ElementType, Graph, NEWEST_OPSET, OLDEST_OPSET, ValueType},
    onnx,
    tensor::count_elements,
    wire,
};
use crate::limits;

/// Reads a model; `external` gives the files beside it.
///
/// # Errors
/// Where the bytes are no model, break ONNX's rules, pass a bound, or use a part of ONNX that is not read.
pub(super) fn import(bytes: Bytes, external: External) -> Result<Graph> {
    let model = wire::decode(bytes)?;
    let declared_opset = opset(&model.opset_import)?;
    let proto = model.graph.ok_or_else(|| GradientError::Malformed("there is no graph in it".to_owned()))?;
    let (functions, newest) = Functions::read(model.functions, declared_opset)?;
    let mut graph = Graph::empty(proto.name.clone(), declared_opset.max(newest));
    let others = model.opset_import.iter().filter(|import| !is_standard(&import.domain));
    graph.domains = others.map(|import| (import.domain.clone(), import.version)).collect();
    let tensors = Tensors::new(external);
    // Names that conversions and inlining must not take although their nodes come later.
    let mut reserved: BTreeSet<String> = proto.node.iter().flat_map(|node| node.output.iter().cloned()).collect();
    reserved.extend(proto.input.iter().map(|input| input.name.clone()));
    let mut reader = Reader::new(declared_opset, functions, tensors, reserved);
    reader.graph(&mut graph, proto)?;
    graph.declared_opset = declared_opset;
    Ok(graph)
}

/// The files beside a model that its tensors lie in; none for what is no model.
pub(super) fn external_files(bytes: Bytes) -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    if let Ok(model) = wire::decode(bytes) {
        model.graph.iter().for_each(|graph| files_of(graph, &mut files));
        let nodes = model.functions.iter().flat_map(|function| &function.node);
        nodes.for_each(|node| files_of_attributes(node, &mut files));
    }
    files
}

fn files_of(graph: &onnx::GraphProto, files: &mut BTreeSet<String>) {
    let sparse = graph.sparse_initializer.iter().flat_map(|sparse| sparse.values.iter().chain(&sparse.indices));
    graph.initializer.iter().chain(sparse).for_each(|tensor| file_of(tensor, files));
    graph.node.iter().for_each(|node| files_of_attributes(node, files));
}

fn files_of_attributes(node: &onnx::NodeProto, files: &mut BTreeSet<String>) {
    for attribute in &node.attribute {
        attribute.t.iter().chain(&attribute.tensors).for_each(|tensor| file_of(tensor, files));
        attribute.g.iter().chain(&attribute.graphs).for_each(|graph| files_of(graph, files));
    }
}

fn file_of(tensor: &onnx::TensorProto, files: &mut BTreeSet<String>) {
    if tensor.data_location() == onnx::tensor_proto::DataLocation::External {
        let location = tensor.external_data.iter().find(|entry| entry.key == "location");
        files.extend(location.map(|entry| entry.value.clone()).filter(|location| tensors::is_inside(location)));
    }
}

/// The version of the standard domain among imports.
fn opset(imports: &[onnx::OperatorSetIdProto]) -> Result<i64> {
    let mut versions = imports.iter().filter(|import| is_standard(&import.domain));
    let version = versions
        .next()
        .map(|import| import.version)
        .ok_or_else(|| GradientError::Malformed("it imports no opset of the standard domain".to_owned()))?;
    if !(OLDEST_OPSET..=NEWEST_OPSET).contains(&version) {
        return Err(GradientError::Unsupported(format!(
            "opset {version}; opsets {OLDEST_OPSET} to {NEWEST_OPSET} are read, convert the model to one of them"
        )));
    }
    Ok(version)
}

fn is_standard(domain: &str) -> bool {
    domain.is_empty() || domain == "ai.onnx"
}

fn read_inputs(graph: &mut Graph, inputs: Vec<onnx::ValueInfoProto>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for input in inputs {
        if input.name.is_empty() || !seen.insert(input.name.clone()) {
            return Err(GradientError::Invalid(format!("the input name `{}` is empty or used twice", input.name)));
        }
        // Up to IR version 3 initialisers were listed as inputs too; they are defaults that nobody overrides here.
        if graph.initializers.contains_key(&input.name) {
            continue;
        }
        match read_type(&input)? {
            Some(value_type) => {
                graph.types.insert(input.name.clone(), value_type);
            }
            None => {
                graph.foreign.extend(input.r#type.map(|kind| (input.name.clone(), kind)));
            }
        }
        graph.inputs.push(input.name);
    }
    Ok(())
}

/// A declared tensor type; `None` for other kinds of values.
fn read_type(value: &onnx::ValueInfoProto) -> Result<Option<ValueType>> {
    let Some(onnx::type_proto::Value::TensorType(tensor)) = value.r#type.as_ref().and_then(|t| t.value.as_ref()) else {
        return Ok(None);
    };
    let Some(element) = ElementType::from_code(tensor.elem_type) else { return Ok(None) };
    let Some(shape) = &tensor.shape else { return Ok(Some(ValueType { element, shape: None })) };
    let mut dims = Vec::with_capacity(shape.dim.len().min(limits::TENSOR_RANK));
    for (axis, dim) in shape.dim.iter().enumerate() {
        use onnx::tensor_shape_proto::dimension::Value;
        dims.push(match &dim.value {
            Some(Value::DimParam(name)) if !name.is_empty() => Dim::symbol(name),
            Some(Value::DimValue(size)) if *size >= 0 => Dim::Known(size.unsigned_abs()),
            // Some exporters write -1 for a size that varies.
            Some(Value::DimParam(_) | Value::DimValue(-1)) | None => Dim::symbol(format!("{}.{axis}", value.name)),
            Some(Value::DimValue(size)) => {
                return Err(GradientError::Invalid(format!("`{}` has dimension {size}", value.name)));
            }
        });
    }
    let known: Vec<u64> = dims.iter().map(|dim| dim.known().unwrap_or(1)).collect();
    count_elements(&known).map_err(|error| at_value(error, &value.name))?;
    Ok(Some(ValueType::new(element, dims)))
}

fn at_value(error: GradientError, name: &str) -> GradientError {
    match error {
        GradientError::Limit(message) => GradientError::Limit(format!("`{name}`: {message}")),
        GradientError::Invalid(message) => GradientError::Invalid(format!("`{name}`: {message}")),
        other => other,
    }
}
