//! Writes small ONNX models.

use bytes::Bytes;
use prost::Message;
use transferscore::gradient::onnx::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto,
    attribute_proto::AttributeType,
    tensor_shape_proto::{Dimension, dimension},
    type_proto,
};

/// A model under construction.
#[derive(Clone)]
pub struct Model {
    pub proto: ModelProto,
}

/// An attribute's value.
#[derive(Clone)]
pub enum Value {
    Int(i64),
    Float(f32),
    Ints(Vec<i64>),
    Text(&'static str),
    Tensor(TensorProto),
    Floats(Vec<f32>),
    Texts(Vec<&'static str>),
    Graph(GraphProto),
}

use Value::{Float, Int, Ints, Text};

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Int(value)
    }
}

impl From<f32> for Value {
    fn from(value: f32) -> Self {
        Float(value)
    }
}

impl<const N: usize> From<[i64; N]> for Value {
    fn from(values: [i64; N]) -> Self {
        Ints(values.to_vec())
    }
}

impl From<&'static str> for Value {
    fn from(value: &'static str) -> Self {
        Text(value)
    }
}

impl Model {
    pub fn new(opset: i64) -> Self {
        let graph = GraphProto { name: "test".into(), ..Default::default() };
        let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
        Model { proto: ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() } }
    }

    pub fn graph(&mut self) -> &mut GraphProto {
        self.proto.graph.as_mut().unwrap()
    }

    /// Declares a float32 input; `shape` is like `n,3,8,8`, empty for a scalar.
    pub fn input(mut self, name: &str, shape: &str) -> Self {
        let value = float_value(name, Some(shape));
        self.graph().input.push(value);
        self
    }

    /// Declares an output whose type inference must find out.
    pub fn output(mut self, name: &str) -> Self {
        let value = float_value(name, None);
        self.graph().output.push(value);
        self
    }

    /// Gives a declared input or output another element type, by its ONNX code.
    pub fn typed(mut self, name: &str, code: i32) -> Self {
        let GraphProto { input, output, .. } = self.graph();
        let value = input.iter_mut().chain(output).find(|value| value.name == name).unwrap();
        let Some(type_proto::Value::TensorType(tensor)) = &mut value.r#type.as_mut().unwrap().value else { panic!() };
        tensor.elem_type = code;
        self
    }

    pub fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        let tensor = float_tensor(name, dims, values);
        self.graph().initializer.push(tensor);
        self
    }

    /// A float initialiser with varied values in ±0.8.
    pub fn weight(self, name: &str, dims: &[i64]) -> Self {
        let count: i64 = dims.iter().product();
        let seed = name.bytes().map(u64::from).sum::<u64>();
        let mut random = super::calculus::Random::new(seed);
        let values: Vec<f32> = (0..count).map(|_| random.between(-0.8, 0.8)).collect();
        self.floats(name, dims, &values)
    }

    pub fn integers(mut self, name: &str, values: &[i64]) -> Self {
        self.graph().initializer.push(integer_tensor(name, &[values.len() as i64], values));
        self
    }

    pub fn node(mut self, op: &str, inputs: &[&str], outputs: &[&str], attributes: &[(&str, Value)]) -> Self {
        let node = NodeProto {
            op_type: op.into(),
            name: format!("{op}_{}", self.graph().node.len()),
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: outputs.iter().map(|&name| name.into()).collect(),
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            ..Default::default()
        };
        self.graph().node.push(node);
        self
    }

    pub fn bytes(&self) -> Bytes {
        self.proto.encode_to_vec().into()
    }
}

/// x → op → y.
pub fn unary(op: &str, shape: &str, attributes: &[(&str, Value)]) -> Model {
    Model::new(20).input("x", shape).node(op, &["x"], &["y"], attributes).output("y")
}

/// x, z → op → y.
pub fn binary(op: &str, left: &str, right: &str, attributes: &[(&str, Value)]) -> Model {
    Model::new(20).input("x", left).input("z", right).node(op, &["x", "z"], &["y"], attributes).output("y")
}

pub fn float_tensor(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    assert_eq!(dims.iter().product::<i64>() as usize, values.len());
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..Default::default()
    }
}

pub fn integer_tensor(name: &str, dims: &[i64], values: &[i64]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: 7,
        int64_data: values.to_vec(),
        ..Default::default()
    }
}

pub fn float_value(name: &str, shape: Option<&str>) -> ValueInfoProto {
    let dimension = |text: &str| Dimension {
        value: Some(match text.parse() {
            Ok(size) => dimension::Value::DimValue(size),
            Err(_) => dimension::Value::DimParam(text.into()),
        }),
        ..Default::default()
    };
    let shape = shape.map(|shape| TensorShapeProto {
        dim: shape.split(',').filter(|text| !text.is_empty()).map(dimension).collect(),
    });
    let tensor = type_proto::Tensor { elem_type: 1, shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { value, ..Default::default() }), ..Default::default() }
}

/// Gives the float inputs, outputs and initialisers of a model another element type, by its ONNX code.
pub fn retype(model: &mut ModelProto, code: i32) {
    let graph = model.graph.as_mut().unwrap();
    for value in graph.input.iter_mut().chain(&mut graph.output).chain(&mut graph.value_info) {
        if let Some(type_proto::Value::TensorType(tensor)) = value.r#type.as_mut().and_then(|kind| kind.value.as_mut())
            && tensor.elem_type == 1
        {
            tensor.elem_type = code;
        }
    }
    for tensor in graph.initializer.iter_mut().filter(|tensor| tensor.data_type == 1) {
        let values = tensor.raw_data.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        let raw: Vec<u8> = match code {
            10 => values.flat_map(|value| half::f16::from_f32(value).to_le_bytes()).collect(),
            16 => values.flat_map(|value| half::bf16::from_f32(value).to_le_bytes()).collect(),
            11 => values.flat_map(|value| f64::from(value).to_le_bytes()).collect(),
            _ => panic!("no float type has the code {code}"),
        };
        (tensor.data_type, tensor.raw_data) = (code, raw.into());
    }
}

fn attribute(name: &str, value: &Value) -> AttributeProto {
    let mut proto = AttributeProto { name: name.into(), ..Default::default() };
    let kind = match value {
        Int(value) => {
            proto.i = *value;
            AttributeType::Int
        }
        Float(value) => {
            proto.f = *value;
            AttributeType::Float
        }
        Ints(values) => {
            proto.ints = values.clone();
            AttributeType::Ints
        }
        Text(value) => {
            proto.s = value.as_bytes().to_vec();
            AttributeType::String
        }
        Value::Tensor(tensor) => {
            proto.t = Some(tensor.clone());
            AttributeType::Tensor
        }
        Value::Floats(values) => {
            proto.floats = values.clone();
            AttributeType::Floats
        }
        Value::Texts(values) => {
            proto.strings = values.iter().map(|value| value.as_bytes().to_vec()).collect();
            AttributeType::Strings
        }
        Value::Graph(graph) => {
            proto.g = Some(graph.clone());
            AttributeType::Graph
        }
    };
    proto.set_type(kind);
    proto
}
