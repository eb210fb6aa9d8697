//! Finished parts of long work, kept by whoever asked for it, so that work that was broken off goes on where it was.
//!
//! A unit is a source of a ranking, or a group of samples of a comparison. Its key names everything that its numbers depend
//! on: what was computed from other models, samples, options, or by another version of this program, is never taken for it.

use serde::{Serialize, de::DeserializeOwned};

use crate::error::{Error, Reason, Result};

/// Keeps the units of one piece of work.
pub trait Units: Sync {
    /// Whether units are kept at all.
    fn are_kept(&self) -> bool;

    /// What was kept under a key.
    fn kept(&self, key: &str) -> Option<Vec<u8>>;

    /// Keeps a unit; `name` says which one it is, for people.
    ///
    /// # Errors
    /// Those of the place where it is kept; the work ends with them.
    fn keep(&self, key: &str, name: &str, unit: &[u8]) -> Result<()>;
}

/// For work that nobody goes on with.
#[derive(Clone, Copy, Debug)]
pub struct NotKept;

impl Units for NotKept {
    fn are_kept(&self) -> bool {
        false
    }

    fn kept(&self, _key: &str) -> Option<Vec<u8>> {
        None
    }

    fn keep(&self, _key: &str, _name: &str, _unit: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// A unit that was kept; `None` where there is none, or one that cannot be read and is to be computed again.
pub(super) fn kept<T: DeserializeOwned>(units: &dyn Units, key: &str) -> Option<T> {
    serde_json::from_slice(&units.kept(key)?).ok()
}

/// Keeps a unit where units are kept.
///
/// # Errors
/// As [`Units::keep`].
pub(super) fn keep<T: Serialize>(units: &dyn Units, key: &str, name: &str, unit: impl FnOnce() -> T) -> Result<()> {
    if !units.are_kept() {
        return Ok(());
    }
    let unit = serde_json::to_vec(&unit())
        .map_err(|cause| Error::new(Reason::Internal, format!("the unit of {name} cannot be written: {cause}")))?;
    units.keep(key, name, &unit)
}
