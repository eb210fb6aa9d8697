//! Checks that many fields share.

use crate::{
    error::{Error, Reason, Result},
    limits,
};

/// A model's or dataset's name: it becomes part of a path, so nothing that could lead out of a folder.
///
/// # Errors
/// At `field`, with `listing` naming the call that lists the names there are.
pub fn name(field: &str, name: String, listing: &str) -> Result<String> {
    let wrong = if name.is_empty() {
        return Err(
            Error::new(Reason::FieldMissing, format!("{field} is empty; give a name that {listing} lists")).at(field)
        );
    } else if name.len() > limits::NAME_BYTES {
        format!("is {} bytes long, more than {}", name.len(), limits::NAME_BYTES)
    } else if name.starts_with('.') {
        "starts with a dot".to_owned()
    } else if name.contains(['/', '\\']) {
        "contains a path separator".to_owned()
    } else if name.contains(char::is_control) {
        "contains a control character".to_owned()
    } else {
        return Ok(name);
    };
    Err(Error::new(
        Reason::OptionOutOfRange,
        format!("the name in {field} {wrong}; give a name that {listing} lists, not a path"),
    )
    .at(field))
}

/// A number that a message of the .proto gives an open set of.
///
/// # Errors
/// At `field`, for a number that the enum has no name for.
pub fn known<E: TryFrom<i32>>(field: &str, number: i32) -> Result<E> {
    E::try_from(number).map_err(|_| {
        Error::new(
            Reason::OptionOutOfRange,
            format!("{field} has no value number {number}; use one that this server's .proto names"),
        )
        .at(field)
    })
}

/// A length in pixel units.
///
/// # Errors
/// At `field`, unless the value is finite and greater than 0.
pub fn positive(field: &str, value: Option<f64>) -> Result<Option<f64>> {
    match value {
        Some(value) if !(value.is_finite() && value > 0.0) => {
            Err(out_of_range(field, value, "a finite number greater than 0, or leave it out for the default"))
        }
        value => Ok(value),
    }
}

/// The error of a number outside its range. `allowed` ends the sentence "give ...".
pub fn out_of_range(field: &str, value: impl std::fmt::Display, allowed: &str) -> Error {
    Error::new(Reason::OptionOutOfRange, format!("{field} is {value}; give {allowed}")).at(field)
}

/// A count for the wire.
pub fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// A number for the wire: the one place through which every computed number leaves.
///
/// # Errors
/// [`Reason::Internal`] for NaN and infinities, which the domain must not produce.
pub fn finite(what: &str, value: f64) -> Result<f64> {
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::new(Reason::Internal, format!("{what} came out as {value}; it was not sent")))
}
