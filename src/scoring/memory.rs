//! What all requests together may keep in memory: each says what it will need before it runs its first model.
//!
//! Small requests never wait: a part of the memory is left to them, of which each may take what is theirs if the queue of
//! requests is full of them. Larger ones wait for each other, in the order in which they came, without their turn to compute.
//!
//! Invariant: what is in use never exceeds the whole.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result},
    limits,
    telemetry::metrics,
};

/// How often a request that waits looks whether anybody still wants its result.
const LOOK: Duration = Duration::from_millis(50);

/// The memory of a server.
#[derive(Debug)]
pub struct Memory {
    /// For large requests, in bytes.
    large: u64,
    /// The most that a small request needs, in bytes.
    small: u64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    large_in_use: u64,
    in_use: u64,
    /// Large requests that wait, in order.
    line: VecDeque<u64>,
    next_number: u64,
}

/// A request's memory, given back when it is dropped.
#[derive(Debug)]
pub struct Reserved<'a> {
    memory: &'a Memory,
    bytes: u64,
}

impl Memory {
    /// `bytes` for all of at most `requests` requests.
    pub fn new(bytes: u64, requests: usize) -> Self {
        let for_small = bytes / limits::SMALL_REQUESTS_PART;
        Memory {
            large: bytes - for_small,
            small: for_small / requests.max(1) as u64,
            state: Mutex::default(),
            freed: Condvar::new(),
        }
    }

    /// The most that one request can have, in bytes.
    pub fn largest(&self) -> u64 {
        self.large
    }

    /// What requests have now, in bytes.
    pub fn in_use(&self) -> u64 {
        self.lock().in_use
    }

    /// Requests that wait for memory.
    pub fn n_waiting(&self) -> usize {
        self.lock().line.len()
    }

    /// Takes `bytes`, once they are there.
    ///
    /// # Errors
    /// [`Reason::LimitExceeded`] for more than there ever is, [`Reason::Cancelled`].
    pub fn reserve(&self, bytes: u64, cancel: &Cancel) -> Result<Reserved<'_>> {
        if bytes > self.large {
            let message = format!(
                "the request needs {} MiB, the server has {} for all; set max_samples lower",
                bytes >> 20,
                self.large >> 20
            );
            return Err(Error::new(Reason::LimitExceeded, message).at("max_samples"));
        }
        let mut state = self.lock();
        if bytes > self.small && !state.has_room(self.large, bytes) {
            drop(state);
            cancel.aside(|| self.wait(bytes, cancel))?;
        } else {
            self.take(&mut state, bytes);
        }
        Ok(Reserved { memory: self, bytes })
    }

    /// Waits in line and takes `bytes`.
    fn wait(&self, bytes: u64, cancel: &Cancel) -> Result<()> {
        let mut state = self.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.line.push_back(number);
        while state.line.front() != Some(&number) || state.large_in_use + bytes > self.large {
            if cancel.is_cancelled() {
                state.line.retain(|&waiting| waiting != number);
                self.freed.notify_all();
                return cancel.check();
            }
            (state, _) = self.freed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
        state.line.pop_front();
        self.take(&mut state, bytes);
        // The next in line may fit too.
        self.freed.notify_all();
        Ok(())
    }

    fn take(&self, state: &mut State, bytes: u64) {
        state.in_use += bytes;
        if bytes > self.small {
            state.large_in_use += bytes;
        }
        metrics::MEMORY_RESERVED.set(&[], state.in_use as f64);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a large request fits that nobody is ahead of.
    fn has_room(&self, large: u64, bytes: u64) -> bool {
        self.line.is_empty() && self.large_in_use + bytes <= large
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        state.in_use = state.in_use.saturating_sub(self.bytes);
        if self.bytes > self.memory.small {
            state.large_in_use = state.large_in_use.saturating_sub(self.bytes);
        }
        metrics::MEMORY_RESERVED.set(&[], state.in_use as f64);
        self.memory.freed.notify_all();
    }
}
