//! Bounds what decoding a model can allocate, before anything is decoded.
//!
//! An empty protobuf message takes two bytes on the wire and hundreds in memory, so a small hostile file could ask for
//! far more memory than its size. This walks the wire format without allocating and counts nodes, nesting and fields.

use super::{
    error::{GradientError, Result},
    onnx,
};
use crate::limits;

/// Most length-delimited fields of a file: names, attributes, types, tensors.
const FIELDS: usize = 40 * limits::MODEL_NODES;

/// The messages whose fields are counted; everything else is a leaf of bounded cost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    Model,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    SparseTensor,
    Named,
    Leaf,
}

/// What message a length-delimited field of a message holds.
fn child(parent: Message, field: u64) -> Message {
    match (parent, field) {
        (Message::Model, 7) | (Message::Attribute, 6 | 11) => Message::Graph,
        (Message::Model, 25) => Message::Function,
        (Message::Function, 7) | (Message::Graph, 1) => Message::Node,
        (Message::Function, 11) | (Message::Node, 5) => Message::Attribute,
        (Message::Graph, 5) | (Message::Attribute, 5 | 10) | (Message::SparseTensor, 1 | 2) => Message::Tensor,
        (Message::Graph, 15) | (Message::Attribute, 22 | 23) => Message::SparseTensor,
        // Types nest: value, tensor type, shape, dimensions.
        (Message::Graph, 11..=13) | (Message::Attribute, 14 | 15) | (Message::Function, 12) | (Message::Named, _) => {
            Message::Named
        }
        _ => Message::Leaf,
    }
}

struct Counts {
    nodes: usize,
    fields: usize,
}

/// Checks a file before it is decoded.
///
/// # Errors
/// Where the bytes are not protobuf, or decoding them would pass a bound of [`limits`].
pub(super) fn check(bytes: &[u8]) -> Result<()> {
    if bytes.len() as u64 > limits::MODEL_BYTES {
        return Err(GradientError::Limit(format!("{} bytes, more than {}", bytes.len(), limits::MODEL_BYTES)));
    }
    walk(bytes, Message::Model, 0, &mut Counts { nodes: 0, fields: 0 })
}

fn walk(mut bytes: &[u8], message: Message, depth: usize, counts: &mut Counts) -> Result<()> {
    // A graph nests in node, attribute and graph; a type needs four levels below that.
    if depth > 3 * limits::MODEL_NESTING + 8 {
        return Err(GradientError::Limit(format!("nested deeper than {} levels", limits::MODEL_NESTING)));
    }
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = tag >> 3;
        match tag & 7 {
            0 => {
                varint(&mut bytes)?;
            }
            1 => {
                take(&mut bytes, 8)?;
            }
            5 => {
                take(&mut bytes, 4)?;
            }
            2 => {
                let length = varint(&mut bytes)?;
                let content = take(&mut bytes, length)?;
                let inner = child(message, field);
                counts.fields += 1;
                counts.nodes += usize::from(inner == Message::Node);
                if counts.nodes > limits::MODEL_NODES {
                    return Err(GradientError::Limit(format!("more than {} nodes", limits::MODEL_NODES)));
                }
                if counts.fields > FIELDS {
                    return Err(GradientError::Limit(format!("more than {FIELDS} fields")));
                }
                // Names are leaves inside a type; a name that does not parse as a message is no error.
                match inner {
                    Message::Leaf => {}
                    Message::Named => walk(content, inner, depth + 1, counts).or_else(ignore_malformed)?,
                    _ => walk(content, inner, depth + 1, counts)?,
                }
            }
            _ => return Err(malformed()),
        }
    }
    Ok(())
}

fn ignore_malformed(error: GradientError) -> Result<()> {
    match error {
        GradientError::Malformed(_) => Ok(()),
        // A name whose bytes happen to look like deep nesting is no nesting: real types are bounded by prost.
        GradientError::Limit(message) if message.starts_with("nested") => Ok(()),
        other => Err(other),
    }
}

fn malformed() -> GradientError {
    GradientError::Malformed("the protobuf encoding is broken or cut off".to_owned())
}

fn varint(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first().ok_or_else(malformed)?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(malformed())
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8]> {
    let length = usize::try_from(length).map_err(|_| malformed())?;
    let (content, rest) = bytes.split_at_checked(length).ok_or_else(malformed)?;
    *bytes = rest;
    Ok(content)
}

/// Decodes a checked file.
pub(super) fn decode(bytes: bytes::Bytes) -> Result<onnx::ModelProto> {
    check(&bytes)?;
    prost::Message::decode(bytes).map_err(|error| GradientError::Malformed(error.to_string()))
}
