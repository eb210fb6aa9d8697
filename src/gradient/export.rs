//! Writes a [`Graph`] as an ONNX file.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use bytes::Bytes;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

use super::{
    graph::{Attribute, Dim, Graph, Node, Port, Subgraph},
    onnx,
    tensor::Tensor,
};

/// The oldest IR version that allows [`super::graph::WORKING_OPSET`].
const IR_VERSION: i64 = 10;

/// The bytes of a model file. The same graph gives the same bytes.
pub(super) fn export(graph: &Graph) -> Vec<u8> {
    let weights: usize = graph.initializers.values().map(|tensor| tensor.data().len()).sum();
    let mut bytes = Vec::with_capacity(weights + (weights >> 8) + (64 << 10));
    // Memory takes all that is written.
    let _infallible = write(graph, &mut bytes);
    bytes
}

/// Writes a model file without holding the weights a second time.
pub(super) fn write(graph: &Graph, out: &mut dyn Write) -> io::Result<()> {
    let mut used = BTreeSet::new();
    domains(graph, &mut used);
    let standard = onnx::OperatorSetIdProto { domain: String::new(), version: graph.working_opset() };
    let others = used
        .into_iter()
        .map(|domain| onnx::OperatorSetIdProto { version: graph.domains.get(&domain).copied().unwrap_or(1), domain });
    let model = onnx::ModelProto {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        opset_import: std::iter::once(standard).chain(others).collect(),
        ..Default::default()
    };
    out.write_all(&model.encode_to_vec())?;
    let mut body = write_graph(graph);
    let weights: Vec<Weight> = std::mem::take(&mut body.initializer).into_iter().map(Weight::of).collect();
    let body = body.encode_to_vec();
    let length = weights.iter().map(|weight| weight.start.len() + weight.data.len()).sum::<usize>() + body.len();
    let mut start = Vec::new();
    encode_key(GRAPH, WireType::LengthDelimited, &mut start);
    encode_varint(length as u64, &mut start);
    out.write_all(&start)?;
    out.write_all(&body)?;
    for weight in &weights {
        out.write_all(&weight.start)?;
        out.write_all(&weight.data)?;
    }
    Ok(())
}

/// Fields of the wire format: a model's graph, a graph's initialiser, a tensor's raw bytes.
const GRAPH: u32 = 7;
const INITIALIZER: u32 = 5;
const RAW_DATA: u32 = 9;

/// An initialiser as a field of its graph: all that comes before its bytes, and these.
struct Weight {
    start: Vec<u8>,
    data: Bytes,
}

impl Weight {
    fn of(mut tensor: onnx::TensorProto) -> Self {
        let data = std::mem::take(&mut tensor.raw_data);
        let mut content = tensor.encode_to_vec();
        encode_key(RAW_DATA, WireType::LengthDelimited, &mut content);
        encode_varint(data.len() as u64, &mut content);
        let mut start = Vec::new();
        encode_key(INITIALIZER, WireType::LengthDelimited, &mut start);
        encode_varint((content.len() + data.len()) as u64, &mut start);
        start.append(&mut content);
        Weight { start, data }
    }
}

/// The domains of the operators in a graph and its subgraphs, other than the standard one.
fn domains(graph: &Graph, used: &mut BTreeSet<String>) {
    for node in &graph.nodes {
        let (domain, _) = node.qualified();
        if !domain.is_empty() {
            used.insert(domain.to_owned());
        }
        for attribute in node.attributes.values() {
            if let Attribute::Graph(subgraph) = attribute {
                domains(&subgraph.graph, used);
            }
        }
    }
}

fn write_graph(graph: &Graph) -> onnx::GraphProto {
    let ports = |names: &[String]| names.iter().map(|name| write_port(graph, &graph.port(name))).collect();
    onnx::GraphProto {
        name: if graph.name.is_empty() { "graph".to_owned() } else { graph.name.clone() },
        input: ports(&graph.inputs),
        output: ports(&graph.outputs),
        node: graph.nodes.iter().map(write_node).collect(),
        value_info: inner_types(graph),
        initializer: graph.initializers.iter().map(|(name, tensor)| write_tensor(name, tensor)).collect(),
        ..Default::default()
    }
}

/// Types of inner values: with equal symbols for equal sizes ONNX Runtime sees more than it would infer.
fn inner_types(graph: &Graph) -> Vec<onnx::ValueInfoProto> {
    let names = graph.nodes.iter().flat_map(|node| &node.outputs);
    let outputs: BTreeSet<&String> = graph.outputs.iter().collect();
    let inner = names.filter(|name| !name.is_empty() && !outputs.contains(name));
    inner.filter(|name| graph.shape(name).is_some()).map(|name| write_port(graph, &graph.port(name))).collect()
}

fn write_port(graph: &Graph, port: &Port) -> onnx::ValueInfoProto {
    use onnx::tensor_shape_proto::{Dimension, dimension::Value};
    let dimension = |dim: &Dim| Dimension {
        value: Some(match dim {
            Dim::Known(size) => Value::DimValue(i64::try_from(*size).unwrap_or(i64::MAX)),
            Dim::Symbol(name) => Value::DimParam(name.to_string()),
        }),
        ..Default::default()
    };
    let tensor_type = port.value_type.as_ref().map(|value_type| onnx::TypeProto {
        value: Some(onnx::type_proto::Value::TensorType(onnx::type_proto::Tensor {
            elem_type: value_type.element.code(),
            shape: value_type
                .shape
                .as_ref()
                .map(|shape| onnx::TensorShapeProto { dim: shape.iter().map(dimension).collect() }),
        })),
        ..Default::default()
    });
    let r#type = tensor_type.or_else(|| graph.foreign.get(&port.name).cloned());
    onnx::ValueInfoProto { name: port.name.clone(), r#type, ..Default::default() }
}

fn write_node(node: &Node) -> onnx::NodeProto {
    let (domain, operator) = node.qualified();
    let (inputs, captured) = node.inputs.split_at(node.inputs.len().saturating_sub(node.n_captures()));
    let attribute = node.attributes.iter().map(|(name, attribute)| write_attribute(name, attribute, captured));
    onnx::NodeProto {
        domain: domain.to_owned(),
        op_type: operator.to_owned(),
        name: node.name.clone(),
        input: inputs.to_vec(),
        output: node.outputs.clone(),
        attribute: attribute.collect(),
        ..Default::default()
    }
}

/// A subgraph with the names that its captures have now.
fn write_subgraph(subgraph: &Subgraph, captured: &[String]) -> onnx::GraphProto {
    let names = subgraph.captures.iter().zip(captured).filter(|(old, new)| old != new);
    let names: BTreeMap<&str, &str> = names.map(|(old, new)| (old.as_str(), new.as_str())).collect();
    if names.is_empty() {
        return write_graph(&subgraph.graph);
    }
    let mut graph = subgraph.graph.clone();
    let uses = graph.nodes.iter_mut().flat_map(|node| &mut node.inputs);
    for name in uses {
        if let Some(new) = names.get(name.as_str()) {
            *name = (*new).to_owned();
        }
    }
    // An output keeps its type under the new name.
    for name in &mut graph.outputs {
        if let Some(new) = names.get(name.as_str()) {
            if let Some(value_type) = graph.types.get(name).cloned() {
                graph.types.insert((*new).to_owned(), value_type);
            }
            *name = (*new).to_owned();
        }
    }
    write_graph(&graph)
}

fn write_attribute(name: &str, attribute: &Attribute, captured: &[String]) -> onnx::AttributeProto {
    use onnx::attribute_proto::AttributeType as T;
    let mut proto = onnx::AttributeProto { name: name.to_owned(), ..Default::default() };
    let kind = match attribute {
        Attribute::Int(value) => {
            proto.i = *value;
            T::Int
        }
        Attribute::Float(value) => {
            proto.f = *value;
            T::Float
        }
        Attribute::Text(value) => {
            proto.s = value.clone().into_bytes();
            T::String
        }
        Attribute::Tensor(value) => {
            proto.t = Some(write_tensor("", value));
            T::Tensor
        }
        Attribute::Ints(values) => {
            proto.ints = values.clone();
            T::Ints
        }
        Attribute::Floats(values) => {
            proto.floats = values.clone();
            T::Floats
        }
        Attribute::Graph(subgraph) => {
            proto.g = Some(write_subgraph(subgraph, captured));
            T::Graph
        }
        Attribute::Opaque(value) => return onnx::AttributeProto { name: proto.name, ..value.as_ref().clone() },
        Attribute::Texts(values) => {
            proto.strings = values.iter().map(|value| value.clone().into_bytes()).collect();
            T::Strings
        }
    };
    proto.set_type(kind);
    proto
}

fn write_tensor(name: &str, tensor: &Tensor) -> onnx::TensorProto {
    onnx::TensorProto {
        name: name.to_owned(),
        dims: tensor.dims().iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
        data_type: tensor.element().code(),
        raw_data: tensor.data().clone(),
        ..Default::default()
    }
}
