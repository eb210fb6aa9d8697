//! Who may compute now, who waits, who is sent away: one gate for the whole process, whatever the connections.
//!
//! Invariant: a [`Permit`] travels with the work itself, so that it comes back when the work ends, not when its client
//! leaves.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Reason, Result};

/// A gate with so many at work and so many waiting, first come first served.
#[derive(Clone, Debug)]
pub struct Admission {
    running: Arc<Semaphore>,
    places: Arc<Semaphore>,
    concurrent: usize,
    queued: usize,
}

/// The right to work. Dropping it lets the next one in.
#[derive(Debug)]
pub struct Permit {
    _running: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
}

impl Admission {
    /// A gate for `concurrent` at work and `queued` waiting.
    pub fn new(concurrent: usize, queued: usize) -> Self {
        Admission {
            running: Arc::new(Semaphore::new(concurrent)),
            places: Arc::new(Semaphore::new(concurrent + queued)),
            concurrent,
            queued,
        }
    }

    /// Waits for a turn. Dropping the future gives the place in the queue back.
    ///
    /// # Errors
    /// [`Reason::ServerBusy`] at once when the queue is full.
    pub async fn enter(&self) -> Result<Permit> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| self.full())?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| self.full())?;
        Ok(Permit { _running: running, _place: place })
    }

    /// Waits for a turn, and before that for a place in the queue: for work that no client waits for.
    ///
    /// # Errors
    /// None while the server runs.
    pub async fn enter_when_possible(&self) -> Result<Permit> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| self.full())?;
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| self.full())?;
        Ok(Permit { _running: running, _place: place })
    }

    /// Calls at work or waiting.
    pub fn in_progress(&self) -> usize {
        (self.concurrent + self.queued).saturating_sub(self.places.available_permits())
    }

    /// Waits until nothing works and nothing waits.
    pub async fn idle(&self) {
        let all = u32::try_from(self.concurrent + self.queued).unwrap_or(u32::MAX);
        // Neither semaphore is ever closed, so there is no error to look at.
        let _all = self.places.acquire_many(all).await;
    }

    fn full(&self) -> Error {
        Error::new(
            Reason::ServerBusy,
            format!(
                "the server works on {} such calls and {} more wait; try again after the delay in RetryInfo",
                self.concurrent, self.queued
            ),
        )
    }
}
