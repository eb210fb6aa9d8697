//! Messages as JSON: the protocol buffers' own mapping, which grpcurl prints too.

use std::io::{self, Write};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Deserializer;

use super::Failure;
use crate::transport::proto::FILE_DESCRIPTOR_SET;

/// Prints a message of package `transferscore.v1` on a line of its own.
///
/// # Errors
/// When standard output is closed.
pub fn print(name: &str, message: &impl Message) -> Result<(), Failure> {
    let line = to_json(name, message)?;
    writeln!(io::stdout().lock(), "{line}")?;
    Ok(())
}

/// A message of package `transferscore.v1` as JSON. Fields at their default are there too, so that a score of 0 is not
/// taken for a missing one.
pub fn to_json(name: &str, message: &impl Message) -> Result<String, Failure> {
    write(name, message, &SerializeOptions::new().skip_default_fields(false))
}

/// The same without fields at their default, for a person.
pub fn brief(name: &str, message: &impl Message) -> Result<String, Failure> {
    write(name, message, &SerializeOptions::new().use_proto_field_name(true))
}

fn write(name: &str, message: &impl Message, options: &SerializeOptions) -> Result<String, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::Work(format!("cannot write {name} as JSON: {error}"));
    let dynamic = DynamicMessage::decode(descriptor(name)?, message.encode_to_vec().as_slice());
    let dynamic = dynamic.map_err(|error| broken(&error))?;
    let mut json = Vec::new();
    dynamic
        .serialize_with_options(&mut serde_json::Serializer::new(&mut json), options)
        .map_err(|error| broken(&error))?;
    String::from_utf8(json).map_err(|error| broken(&error))
}

/// A message of package `transferscore.v1` from its JSON.
///
/// # Errors
/// What is wrong with the JSON, and where.
pub fn from_json<M: Message + Default>(name: &str, json: &str) -> Result<M, Failure> {
    let value: serde_json::Value =
        serde_json::from_str(json).map_err(|error| Failure::Work(format!("cannot read {name}: {error}")))?;
    from_value(name, value)
}

/// The same from values that are read already, of JSON or of TOML.
///
/// # Errors
/// A field that the message does not have, or a value of another type.
pub fn from_value<'a, M: Message + Default, V: Deserializer<'a>>(name: &str, value: V) -> Result<M, Failure> {
    let broken = |error: &dyn std::fmt::Display| Failure::Usage(format!("cannot read {name}: {error}"));
    let dynamic = DynamicMessage::deserialize(descriptor(name)?, value).map_err(|error| broken(&error))?;
    M::decode(dynamic.encode_to_vec().as_slice()).map_err(|error| broken(&error))
}

fn descriptor(name: &str) -> Result<MessageDescriptor, Failure> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|error| Failure::Work(error.to_string()))?;
    pool.get_message_by_name(&format!("transferscore.v1.{name}"))
        .ok_or_else(|| Failure::Work(format!("there is no message {name}")))
}
