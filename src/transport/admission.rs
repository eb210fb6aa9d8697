//! Who may compute now, who waits, who is sent away: one gate for the whole process, whatever the connections.
//!
//! Invariant: a [`Permit`] travels with the work itself, so that it comes back when the work ends, not when its client
//! leaves.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    error::{Error, Reason, Result},
    telemetry::metrics,
};

/// A gate with so many at work and so many waiting, first come first served.
#[derive(Clone, Debug)]
pub struct Admission {
    /// What metrics call it.
    name: &'static str,
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
    /// A gate for `concurrent` at work and `queued` waiting; `name` is what metrics call it.
    pub fn new(name: &'static str, concurrent: usize, queued: usize) -> Self {
        Admission {
            name,
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
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            metrics::ADMISSION_REFUSED.add(&[self.name], 1);
            self.full()
        })?;
        self.run(place).await
    }

    /// Waits for a turn, and before that for a place in the queue: for work that no client waits for.
    ///
    /// # Errors
    /// None while the server runs.
    pub async fn enter_when_possible(&self) -> Result<Permit> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| self.full())?;
        self.run(place).await
    }

    async fn run(&self, place: OwnedSemaphorePermit) -> Result<Permit> {
        let since = Instant::now();
        let running = Arc::clone(&self.running).acquire_owned().await.map_err(|_| self.full())?;
        metrics::ADMISSION_WAIT_SECONDS.record(&[self.name], since.elapsed());
        Ok(Permit { _running: running, _place: place })
    }

    /// Sets the metrics to how busy the gate is now.
    pub fn tell(&self) {
        let running = self.concurrent.saturating_sub(self.running.available_permits());
        metrics::ADMISSION_RUNNING.set(&[self.name], running as f64);
        metrics::ADMISSION_WAITING.set(&[self.name], self.in_progress().saturating_sub(running) as f64);
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
