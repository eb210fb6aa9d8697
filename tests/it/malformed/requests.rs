//! The requests of `requests.json`: for each method a valid message, and changes to it that are refused.

use std::{collections::BTreeMap, fs};

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use serde_json::Value;
use transferscore::transport::proto::FILE_DESCRIPTOR_SET;

use super::Case;
use crate::server_process::repository;

#[derive(serde::Deserialize)]
struct Method {
    valid: Value,
    /// Name, change, reason, field.
    cases: Vec<(String, Value, String, String)>,
}

/// Every case of the table.
pub fn cases() -> Vec<Case> {
    let table = fs::read_to_string(repository("tests/it/malformed/requests.json")).unwrap();
    let methods: BTreeMap<String, Method> = serde_json::from_str(&table).unwrap();
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut cases = Vec::new();
    for (path, Method { valid, cases: changes }) in &methods {
        let descriptor = request_of(&pool, path);
        encoded(&descriptor, valid.clone());
        cases.extend(changes.iter().map(|(name, change, reason, field)| {
            let message = encoded(&descriptor, changed(valid.clone(), change));
            Case::new(name, path, vec![message], reason, field)
        }));
    }
    cases
}

fn request_of(pool: &DescriptorPool, path: &str) -> MessageDescriptor {
    let (service, method) = path.split_once('/').unwrap();
    let service = pool.get_service_by_name(&format!("transferscore.v1.{service}")).expect(path);
    service.methods().find(|found| found.name() == method).expect(path).input()
}

fn encoded(descriptor: &MessageDescriptor, message: Value) -> Vec<u8> {
    let text = message.to_string();
    DynamicMessage::deserialize(descriptor.clone(), message).expect(&text).encode_to_vec()
}

/// A message with other values (RFC 7386): objects are changed field by field, null takes a field away.
fn changed(message: Value, change: &Value) -> Value {
    let Value::Object(change) = change else { return change.clone() };
    let mut fields = match message {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    };
    for (name, value) in change {
        match value {
            Value::Null => drop(fields.remove(name)),
            value => {
                let former = fields.remove(name).unwrap_or(Value::Null);
                fields.insert(name.clone(), changed(former, value));
            }
        }
    }
    Value::Object(fields)
}
