//! Who may compute now, who waits, who is sent away: one gate for the whole process, whatever the connections.
//!
//! First come, first served, in turns: work that has had [`limits::TURN_MILLIS`] while others wait goes to the end of the
//! queue with what it has, wherever it looks at its `Cancel`, so that a long ranking keeps nobody waiting for much longer
//! than a turn for each call ahead, and is itself not kept waiting by many short ones.
//!
//! Invariant: a [`Permit`] travels with the work itself, so that it comes back when the work ends, not when its client
//! leaves.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    cancel::Turn,
    error::{Error, Reason, Result},
    limits,
    telemetry::metrics,
};

/// A gate with so many at work and so many waiting.
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
    turn: Arc<AdmittedTurn>,
    _place: OwnedSemaphorePermit,
}

/// The turn of admitted work.
#[derive(Debug)]
struct AdmittedTurn {
    admission: Admission,
    runtime: Handle,
    state: Mutex<TurnState>,
}

#[derive(Debug)]
struct TurnState {
    running: Option<OwnedSemaphorePermit>,
    since: Instant,
    /// Whether the work is done, and wants no more turns.
    has_ended: bool,
}

impl Permit {
    /// The turn, for the work to give up and take back.
    pub fn turn(&self) -> Arc<dyn Turn> {
        Arc::clone(&self.turn) as Arc<dyn Turn>
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.turn.lock();
        state.has_ended = true;
        state.running = None;
    }
}

impl AdmittedTurn {
    fn lock(&self) -> MutexGuard<'_, TurnState> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn for AdmittedTurn {
    fn is_over(&self) -> bool {
        let state = self.lock();
        let had_its_share = state.since.elapsed() >= Duration::from_millis(limits::TURN_MILLIS);
        state.running.is_some() && had_its_share && self.admission.waiting() > 0
    }

    fn give_up(&self) {
        self.lock().running = None;
    }

    fn take_back(&self) {
        let is_away = {
            let state = self.lock();
            state.running.is_none() && !state.has_ended
        };
        if !is_away {
            return;
        }
        metrics::ADMISSION_TURNS.add(&[self.admission.name], 1);
        // The semaphore is never closed, so there is no error to look at.
        let running = self.runtime.block_on(Arc::clone(&self.admission.running).acquire_owned()).ok();
        let mut state = self.lock();
        state.running = running;
        state.since = Instant::now();
    }
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
        let state = TurnState { running: Some(running), since: Instant::now(), has_ended: false };
        let turn = AdmittedTurn { admission: self.clone(), runtime: Handle::current(), state: Mutex::new(state) };
        Ok(Permit { turn: Arc::new(turn), _place: place })
    }

    /// Sets the metrics to how busy the gate is now.
    pub fn tell(&self) {
        metrics::ADMISSION_RUNNING.set(&[self.name], self.running() as f64);
        metrics::ADMISSION_WAITING.set(&[self.name], self.waiting() as f64);
    }

    fn running(&self) -> usize {
        self.concurrent.saturating_sub(self.running.available_permits())
    }

    fn waiting(&self) -> usize {
        self.in_progress().saturating_sub(self.running())
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
