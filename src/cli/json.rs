//! Messages as JSON: the protocol buffers' own mapping, which grpcurl prints too.

use std::io::{self, Write};

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

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
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|error| broken(&error))?;
    let descriptor = pool
        .get_message_by_name(&format!("transferscore.v1.{name}"))
        .ok_or_else(|| broken(&"there is no such message"))?;
    let dynamic =
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(|error| broken(&error))?;
    let mut json = Vec::new();
    dynamic
        .serialize_with_options(&mut serde_json::Serializer::new(&mut json), options)
        .map_err(|error| broken(&error))?;
    String::from_utf8(json).map_err(|error| broken(&error))
}
