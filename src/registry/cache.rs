//! Loaded files kept in memory, up to a number of bytes; least recently used first out.
//!
//! Invariant: the kept values' sizes never add up to more than the bound. A value that is in use elsewhere lives on
//! outside the cache for as long as it is used.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::telemetry::metrics;

/// Values by name, each with the mark of the version that it was loaded from.
#[derive(Debug)]
pub struct VersionCache<M, T> {
    /// What metrics call it.
    name: &'static str,
    limit: u64,
    state: Mutex<State<M, T>>,
}

#[derive(Debug)]
struct State<M, T> {
    entries: HashMap<String, Entry<M, T>>,
    bytes: u64,
    /// Counts uses: the smallest is the longest ago.
    clock: u64,
}

#[derive(Debug)]
struct Entry<M, T> {
    mark: M,
    value: Arc<T>,
    bytes: u64,
    used: u64,
}

impl<M: PartialEq, T> VersionCache<M, T> {
    /// A cache of at most `limit` bytes; `name` is what metrics call it.
    pub fn new(name: &'static str, limit: u64) -> Self {
        VersionCache { name, limit, state: Mutex::new(State { entries: HashMap::new(), bytes: 0, clock: 0 }) }
    }

    /// The value of this very version.
    pub fn get(&self, name: &str, mark: &M) -> Option<Arc<T>> {
        let found = self.find(name, mark);
        let counted = if found.is_some() { metrics::CACHE_HITS } else { metrics::CACHE_MISSES };
        counted.add(&[self.name], 1);
        found
    }

    fn find(&self, name: &str, mark: &M) -> Option<Arc<T>> {
        let mut state = self.lock();
        state.clock += 1;
        let now = state.clock;
        let entry = state.entries.get_mut(name).filter(|entry| entry.mark == *mark)?;
        entry.used = now;
        Some(Arc::clone(&entry.value))
    }

    /// Keeps a value in place of any older version. One that alone exceeds the bound is not kept.
    pub fn put(&self, name: &str, mark: M, value: &Arc<T>, bytes: u64) {
        let mut state = self.lock();
        state.forget(name);
        if bytes > self.limit {
            self.tell(&state);
            return;
        }
        while state.bytes > self.limit - bytes {
            let oldest = state.entries.iter().min_by_key(|(_, entry)| entry.used).map(|(name, _)| name.clone());
            match oldest {
                Some(oldest) => drop(state.forget(&oldest)),
                None => break,
            }
        }
        state.clock += 1;
        state.bytes += bytes;
        let entry = Entry { mark, value: Arc::clone(value), bytes, used: state.clock };
        state.entries.insert(name.to_owned(), entry);
        self.tell(&state);
    }

    /// Drops a name that is gone.
    pub fn forget(&self, name: &str) {
        self.take(name);
    }

    /// Drops a name and gives what was kept under it.
    pub fn take(&self, name: &str) -> Option<Arc<T>> {
        let mut state = self.lock();
        let kept = state.forget(name);
        self.tell(&state);
        kept
    }

    fn tell(&self, state: &State<M, T>) {
        metrics::CACHE_BYTES.set(&[self.name], state.bytes as f64);
    }

    /// Bytes kept now.
    pub fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    fn lock(&self) -> MutexGuard<'_, State<M, T>> {
        // No code that can panic runs under the lock, so that a poisoned state is still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M, T> State<M, T> {
    fn forget(&mut self, name: &str) -> Option<Arc<T>> {
        let entry = self.entries.remove(name)?;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(entry.value)
    }
}
