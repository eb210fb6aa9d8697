//! A pair's scores, read by the path of a field: "knowledge.linear_probe.accuracy".

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

use crate::{
    stats::{Estimate, ShuffledNull},
    transport::proto::{FILE_DESCRIPTOR_SET, TransferScoreResponse},
};

/// Scores whose fields can be read by their path.
pub struct Scores(DynamicMessage);

impl Scores {
    /// `None` where the message cannot be read, which none of ours is.
    pub fn of(scores: &TransferScoreResponse) -> Option<Scores> {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).ok()?;
        let descriptor = pool.get_message_by_name("transferscore.v1.TransferScoreResponse")?;
        DynamicMessage::decode(descriptor, scores.encode_to_vec().as_slice()).ok().map(Scores)
    }

    /// The number at a path of fields; `None` where one of them is absent or it is no number.
    pub fn at(&self, path: &str) -> Option<Estimate> {
        number(&self.0, path)
    }
}

fn number(message: &DynamicMessage, path: &str) -> Option<Estimate> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let field = message.descriptor().get_field_by_name(name)?;
    if field.supports_presence() && !message.has_field(&field) {
        return None;
    }
    match (&*message.get_field(&field), rest) {
        (Value::Message(inner), Some(rest)) => number(inner, rest),
        (Value::Message(inner), None) => with_interval(inner),
        (Value::F64(value), None) => Some(Estimate::exact(*value)),
        (Value::U64(value), None) => Some(Estimate::exact(*value as f64)),
        _ => None,
    }
}

/// A message with a value and, where it has them, the ends of its interval and what chance gives.
fn with_interval(message: &DynamicMessage) -> Option<Estimate> {
    let part = |name: &str| {
        let field = message.descriptor().get_field_by_name(name)?;
        let is_absent = field.supports_presence() && !message.has_field(&field);
        if is_absent { None } else { message.get_field(&field).as_f64() }
    };
    let value = part("value")?;
    let shuffled = part("shuffled_null").zip(part("shuffled_null_upper"));
    Some(Estimate {
        null_floor: part("null_floor"),
        shuffled: shuffled.map(|(mean, upper)| ShuffledNull { mean, upper }),
        ..Estimate::of(value, part("lower").unwrap_or(value), part("upper").unwrap_or(value))
    })
}
