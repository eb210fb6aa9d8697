//! Reads a model file into a [`Graph`]. The only place that meets foreign bytes.
//!
//! Everything that later code relies on is checked here: order, names, tensor sizes, ranks. Nothing is allocated beyond
//! what the file's own size justifies.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{
    convert,
    error::{GradientError, Result},
    graph::{Attribute, Dim, ElementType, Graph, NEWEST_OPSET, Node, OLDEST_OPSET, ValueType},
    onnx, shape,
    tensor::{Tensor, count_elements},
    wire,
};
use crate::limits;

/// Reads a model.
///
/// # Errors
/// Where the bytes are no model, break ONNX's rules, pass a bound, or use a part of ONNX that is not read.
pub(super) fn import(bytes: Bytes) -> Result<Graph> {
    let model = wire::decode(bytes)?;
    let declared_opset = opset(&model)?;
    let proto = model.graph.ok_or_else(|| GradientError::Malformed("there is no graph in it".to_owned()))?;
    if !model.functions.is_empty() {
        return Err(GradientError::Unsupported("model-local functions; inline them".to_owned()));
    }
    if !proto.sparse_initializer.is_empty() {
        return Err(GradientError::Unsupported("sparse initialisers; make them dense".to_owned()));
    }
    let mut graph = Graph {
        name: proto.name,
        inputs: Vec::new(),
        outputs: Vec::new(),
        nodes: Vec::new(),
        initializers: BTreeMap::new(),
        types: BTreeMap::new(),
        integers: BTreeMap::new(),
        declared_opset,
    };
    for tensor in proto.initializer {
        let name = tensor.name.clone();
        if name.is_empty() || graph.initializers.contains_key(&name) {
            return Err(GradientError::Invalid(format!("the initialiser name `{name}` is empty or used twice")));
        }
        let tensor = read_tensor(tensor, &name)?;
        graph.set_initializer(&name, tensor);
    }
    read_inputs(&mut graph, proto.input)?;
    let mut declared = BTreeMap::new();
    for value in proto.value_info.iter().chain(&proto.output) {
        if let Some(value_type) = read_type(value)? {
            declared.insert(value.name.clone(), value_type);
        }
    }
    read_nodes(&mut graph, proto.node, &declared)?;
    let mut seen = BTreeSet::new();
    for output in proto.output {
        if !graph.types.contains_key(&output.name) && !graph.defines(&output.name) {
            return Err(GradientError::Invalid(format!("no node makes the output `{}`", output.name)));
        }
        if !seen.insert(output.name.clone()) {
            return Err(GradientError::Invalid(format!("the output `{}` is listed twice", output.name)));
        }
        graph.outputs.push(output.name);
    }
    Ok(graph)
}

fn opset(model: &onnx::ModelProto) -> Result<i64> {
    let mut versions = model.opset_import.iter().filter(|import| is_standard(&import.domain));
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
        let value_type = read_type(&input)?.ok_or_else(|| {
            GradientError::Unsupported(format!("the input `{}` is not a tensor of numbers", input.name))
        })?;
        graph.types.insert(input.name.clone(), value_type);
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

fn read_nodes(graph: &mut Graph, protos: Vec<onnx::NodeProto>, declared: &BTreeMap<String, ValueType>) -> Result<()> {
    let mut defined: BTreeSet<String> = graph.inputs.iter().chain(graph.initializers.keys()).cloned().collect();
    // Names that conversions must not take although their nodes come later.
    let reserved: BTreeSet<String> = protos.iter().flat_map(|node| node.output.iter().cloned()).collect();
    let mut conversion = convert::Conversion::new(graph.declared_opset, reserved);
    for proto in protos {
        let node = read_node(proto)?;
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
        let converted = conversion.convert(graph, node)?;
        for name in promised {
            let made = converted.iter().any(|node| node.outputs.contains(&name));
            if !made && !graph.initializers.contains_key(&name) {
                defined.remove(&name);
            }
        }
        for node in converted {
            shape::infer_node(graph, &node, Some(declared))?;
            graph.nodes.push(node);
        }
    }
    Ok(())
}

fn read_node(proto: onnx::NodeProto) -> Result<Node> {
    let mut node = Node {
        op: proto.op_type,
        name: proto.name,
        inputs: proto.input,
        outputs: proto.output,
        attributes: BTreeMap::new(),
    };
    if !is_standard(&proto.domain) {
        return Err(GradientError::Unsupported(format!(
            "node `{}` ({}) is of the domain `{}`; export the model with standard operators",
            node.label(),
            node.op,
            proto.domain
        )));
    }
    if node.outputs.iter().all(String::is_empty) {
        return Err(GradientError::Invalid(format!("node `{}` ({}) has no output", node.label(), node.op)));
    }
    for attribute in proto.attribute {
        let name = attribute.name.clone();
        let value = read_attribute(attribute).map_err(|error| match error {
            GradientError::Unsupported(reason) => GradientError::Unsupported(format!(
                "node `{}` ({}), attribute `{name}`: {reason}",
                node.label(),
                node.op
            )),
            other => at_value(other, node.label()),
        })?;
        node.attributes.insert(name, value);
    }
    Ok(node)
}

fn read_attribute(proto: onnx::AttributeProto) -> Result<Attribute> {
    use onnx::attribute_proto::AttributeType as T;
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|_| GradientError::Invalid("a string that is not UTF-8".to_owned()))
    };
    let name = proto.name.clone();
    Ok(match proto.r#type() {
        T::Float => Attribute::Float(proto.f),
        T::Int => Attribute::Int(proto.i),
        T::String => Attribute::Text(text(proto.s)?),
        T::Floats => Attribute::Floats(proto.floats),
        T::Ints => Attribute::Ints(proto.ints),
        T::Strings => Attribute::Texts(proto.strings.into_iter().map(text).collect::<Result<_>>()?),
        T::Tensor => {
            let tensor = proto.t.ok_or_else(|| GradientError::Invalid("an attribute without its tensor".to_owned()))?;
            Attribute::Tensor(read_tensor(tensor, &name)?)
        }
        T::Graph | T::Graphs => return Err(GradientError::Unsupported("subgraphs are not read".to_owned())),
        T::SparseTensor | T::SparseTensors => {
            return Err(GradientError::Unsupported("sparse tensors are not read".to_owned()));
        }
        _ => return Err(GradientError::Unsupported("a kind of attribute that is not read".to_owned())),
    })
}

/// Brings a tensor of whatever encoding to raw bytes.
fn read_tensor(proto: onnx::TensorProto, name: &str) -> Result<Tensor> {
    if proto.data_location() == onnx::tensor_proto::DataLocation::External {
        return Err(GradientError::Unsupported(format!(
            "the tensor `{name}` lies in another file; save the model as a single file"
        )));
    }
    let element = ElementType::from_code(proto.data_type).ok_or_else(|| {
        GradientError::Unsupported(format!("the tensor `{name}` has element type {}", proto.data_type))
    })?;
    let dims: Option<Vec<u64>> = proto.dims.iter().map(|&dim| u64::try_from(dim).ok()).collect();
    let dims = dims.ok_or_else(|| GradientError::Invalid(format!("`{name}` has a negative dimension")))?;
    let data = if proto.raw_data.is_empty() { typed_data(&proto, element) } else { proto.raw_data };
    Tensor::new(element, dims, data).map_err(|error| at_value(error, name))
}

/// The bytes of a tensor whose values are in one of the typed fields. Narrow integers share `int32_data`.
fn typed_data(proto: &onnx::TensorProto, element: ElementType) -> Bytes {
    use ElementType as E;
    let narrow = |size: usize| -> Vec<u8> {
        proto.int32_data.iter().flat_map(|value| value.to_le_bytes().into_iter().take(size)).collect()
    };
    match element {
        E::Float32 => proto.float_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Float64 => proto.double_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Int64 => proto.int64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Uint64 => proto.uint64_data.iter().flat_map(|value| value.to_le_bytes()).collect(),
        E::Uint32 => proto.uint64_data.iter().flat_map(|value| value.to_le_bytes().into_iter().take(4)).collect(),
        other => narrow(other.size()).into(),
    }
}
