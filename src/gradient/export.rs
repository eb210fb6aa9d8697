//! Writes a [`Graph`] as an ONNX file.

use prost::Message;

use super::{
    graph::{Attribute, Dim, Graph, Node, Port},
    onnx,
    tensor::Tensor,
};

/// The oldest IR version that allows [`super::graph::WORKING_OPSET`].
const IR_VERSION: i64 = 10;

/// The bytes of a model file. The same graph gives the same bytes.
pub(super) fn export(graph: &Graph) -> Vec<u8> {
    let ports = |names: &[String]| names.iter().map(|name| write_port(&graph.port(name))).collect();
    let proto = onnx::GraphProto {
        name: if graph.name.is_empty() { "graph".to_owned() } else { graph.name.clone() },
        input: ports(&graph.inputs),
        output: ports(&graph.outputs),
        node: graph.nodes.iter().map(write_node).collect(),
        initializer: graph.initializers.iter().map(|(name, tensor)| write_tensor(name, tensor)).collect(),
        ..Default::default()
    };
    let model = onnx::ModelProto {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        opset_import: vec![onnx::OperatorSetIdProto { domain: String::new(), version: graph.working_opset() }],
        graph: Some(proto),
        ..Default::default()
    };
    model.encode_to_vec()
}

fn write_port(port: &Port) -> onnx::ValueInfoProto {
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
    onnx::ValueInfoProto { name: port.name.clone(), r#type: tensor_type, ..Default::default() }
}

fn write_node(node: &Node) -> onnx::NodeProto {
    onnx::NodeProto {
        op_type: node.op.clone(),
        name: node.name.clone(),
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        attribute: node.attributes.iter().map(|(name, attribute)| write_attribute(name, attribute)).collect(),
        ..Default::default()
    }
}

fn write_attribute(name: &str, attribute: &Attribute) -> onnx::AttributeProto {
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
