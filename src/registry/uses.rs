//! Which names are being read, so that nothing is replaced or deleted under its reader.
//!
//! Invariant: while [`Uses::alone`] changes what a name stands for, nobody holds a [`Use`] of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{cancel::Cancel, error::Result};

/// How often one who waits for readers looks whether he is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// The readers of a folder's things, by name. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Uses(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    readers: Mutex<BTreeMap<String, usize>>,
    ended: Condvar,
}

/// A reader of a name, until it is dropped.
#[derive(Debug)]
pub struct Use {
    uses: Uses,
    name: String,
}

impl Uses {
    /// Keeps what a name stands for as it is. Waits while it is being changed, which takes a few renames.
    pub fn begin(&self, name: &str) -> Use {
        *self.lock().entry(name.to_owned()).or_default() += 1;
        Use { uses: self.clone(), name: name.to_owned() }
    }

    /// Makes a change once nobody reads the name.
    ///
    /// # Errors
    /// When cancelled meanwhile.
    pub fn alone<T>(&self, name: &str, cancel: &Cancel, change: impl FnOnce() -> T) -> Result<T> {
        let mut readers = self.lock();
        loop {
            cancel.check()?;
            if !readers.contains_key(name) {
                return Ok(change());
            }
            let waited = self.0.ended.wait_timeout(readers, LOOK);
            readers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, usize>> {
        // Counts are whole whatever happened to a change.
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut readers = self.uses.lock();
        if let Some(count) = readers.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                readers.remove(&self.name);
                self.uses.0.ended.notify_all();
            }
        }
    }
}
