//! Attributes: values that rules compute with, subgraphs, and what is carried along as it was read.

use super::{
    super::{
        error::{GradientError, Result},
        graph::Attribute,
        onnx,
    },
    tensors::Tensors,
};

/// Reads an attribute other than a subgraph.
pub(super) fn read(mut proto: onnx::AttributeProto, tensors: &mut Tensors) -> Result<Attribute> {
    use onnx::attribute_proto::AttributeType as T;
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_err(|_| GradientError::Invalid("a string that is not UTF-8".to_owned()))
    };
    Ok(match kind(&proto) {
        T::Float => Attribute::Float(proto.f),
        T::Int => Attribute::Int(proto.i),
        // The bytes of an opaque attribute need not be text.
        T::String => match String::from_utf8(std::mem::take(&mut proto.s)) {
            Ok(text) => Attribute::Text(text),
            Err(error) => {
                proto.s = error.into_bytes();
                Attribute::Opaque(Box::new(proto))
            }
        },
        T::Floats => Attribute::Floats(proto.floats),
        T::Ints => Attribute::Ints(proto.ints),
        T::Strings => Attribute::Texts(proto.strings.into_iter().map(text).collect::<Result<_>>()?),
        T::Tensor => {
            let name = proto.name.clone();
            let tensor = proto.t.as_mut();
            let tensor = tensor.ok_or_else(|| GradientError::Invalid("an attribute without its tensor".to_owned()))?;
            match tensors.read(tensor, &name)? {
                Some(tensor) => Attribute::Tensor(tensor),
                None => opaque(proto)?,
            }
        }
        T::SparseTensor => {
            let sparse = proto.sparse_tensor.take();
            let sparse = sparse.ok_or_else(|| GradientError::Invalid("an attribute without its tensor".to_owned()))?;
            Attribute::Tensor(tensors.densified(sparse)?.1)
        }
        T::Undefined => return Err(GradientError::Unsupported("a kind of attribute that is not read".to_owned())),
        T::Graph | T::Graphs => return Err(GradientError::Unsupported("lists of subgraphs are not read".to_owned())),
        T::Tensors | T::SparseTensors | T::TypeProto | T::TypeProtos => opaque(proto)?,
    })
}

/// The kind of an attribute. Files of the first IR versions leave it to the field that is set.
pub(super) fn kind(proto: &onnx::AttributeProto) -> onnx::attribute_proto::AttributeType {
    use onnx::attribute_proto::AttributeType as T;
    match proto.r#type() {
        T::Undefined if proto.t.is_some() => T::Tensor,
        T::Undefined if proto.g.is_some() => T::Graph,
        T::Undefined if !proto.ints.is_empty() => T::Ints,
        T::Undefined if !proto.floats.is_empty() => T::Floats,
        T::Undefined if !proto.strings.is_empty() => T::Strings,
        T::Undefined if !proto.s.is_empty() => T::String,
        T::Undefined if proto.f != 0.0 => T::Float,
        T::Undefined if proto.i != 0 => T::Int,
        kind => kind,
    }
}

fn opaque(proto: onnx::AttributeProto) -> Result<Attribute> {
    let external = onnx::tensor_proto::DataLocation::External;
    if proto.t.iter().chain(&proto.tensors).any(|tensor| tensor.data_location() == external) {
        return Err(GradientError::Unsupported("a tensor of no numbers in another file".to_owned()));
    }
    Ok(Attribute::Opaque(Box::new(proto)))
}
