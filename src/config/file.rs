//! A file of settings: TOML whose keys are the flags of `serve` without their dashes.
//!
//! It only reads; what a key means is the command line's business, so that a new flag is a key of the file by itself.

use std::path::Path;

use toml::Value;

use super::ConfigError;
use crate::limits;

/// The settings of a file, each as the words that the flag would be given.
///
/// # Errors
/// A file that cannot be read, or holds more than keys with plain values and lists of them.
pub fn settings(path: &Path) -> Result<Vec<(String, Vec<String>)>, ConfigError> {
    let failed = |cause: String| ConfigError::File { path: path.to_owned(), cause };
    let bytes = std::fs::metadata(path).map_err(|cause| failed(cause.to_string()))?.len();
    if bytes > limits::MANIFEST_BYTES {
        return Err(failed(format!("it has {bytes} bytes, at most {} make sense", limits::MANIFEST_BYTES)));
    }
    let text = std::fs::read_to_string(path).map_err(|cause| failed(cause.to_string()))?;
    let table: toml::Table = toml::from_str(&text).map_err(|cause| failed(cause.to_string()))?;
    table
        .into_iter()
        .map(|(key, value)| {
            let words = match value {
                Value::Array(values) => values.iter().map(word).collect(),
                value => word(&value).map(|word| vec![word]),
            };
            let words = words.ok_or_else(|| failed(format!("{key} is neither a plain value nor a list of such")))?;
            Ok((key, words))
        })
        .collect()
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}
