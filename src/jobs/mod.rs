//! Jobs: long work that outlives its client and the process, with its events, its units and its results.
//!
//! `store` keeps them on disk, `runner` works on one after another. What a job computes is not known here: requests,
//! rows and results are bytes, and [`Work`] makes one of the other. Every function blocks for as long as the disk takes.
//!
//! Invariant: what was told of a job is on the disk before it is told, so that nothing that anybody has seen is lost. Only
//! progress, which nobody needs any more once it is over, lives in memory.

mod runner;
mod store;
mod types;

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use tokio::sync::{Notify, watch};

pub use self::{
    runner::{Outcome, Work, WorkEvent},
    store::{Created, Ending, Store, StoreError},
    types::*,
};
use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result},
    limits,
    scoring::types::Progress,
};

/// The jobs of a server.
#[derive(Debug)]
pub struct Jobs {
    store: Store,
    /// Those that are not over. Locked before the store where both are.
    open: Mutex<HashMap<JobNumber, Open>>,
    /// Those that failed on a disk that took no word of it.
    unrecorded: Mutex<HashMap<JobNumber, Error>>,
    waiting: Notify,
}

#[derive(Debug)]
struct Open {
    cancel: Cancel,
    pulse: watch::Sender<Pulse>,
}

/// What is new of a job that is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Sequence number of its last event.
    pub sequence: u64,
    pub progress: Option<Progress>,
}

impl Jobs {
    /// Opens the store in a folder and takes up the jobs that a process left there.
    ///
    /// # Errors
    /// A store that cannot be used, with what mends it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Jobs::with_store(Store::open(folder, limits::JOB_STORE_BYTES)?)
    }

    /// The same with a store that is open.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn with_store(store: Store) -> Result<Self, StoreError> {
        store.recover(limits::JOB_INTERRUPTIONS, SystemTime::now())?;
        let open = store.open_jobs()?.into_iter().map(|(number, sequence)| (number, Open::at(sequence))).collect();
        Ok(Jobs { store, open: Mutex::new(open), unrecorded: Mutex::default(), waiting: Notify::new() })
    }

    /// Creates a job, or finds the one that the same creation made before.
    ///
    /// # Errors
    /// `REQUEST_ID_TAKEN`, `LIMIT_EXCEEDED` where too many jobs wait, `JOB_STORE_FULL`.
    pub fn create(&self, new: &NewJob) -> Result<Job> {
        let bytes = new.request.len();
        if bytes > limits::JOB_REQUEST_BYTES {
            let message = format!(
                "the request has {bytes} bytes, a job's has at most {}; send fewer inline samples, or name a dataset",
                limits::JOB_REQUEST_BYTES
            );
            return Err(Error::new(Reason::LimitExceeded, message));
        }
        self.store.prune(limits::KEPT_JOBS)?;
        // So that nobody works on the job before it is among the open ones.
        let mut open = lock(&self.open);
        match self.store.create(new, limits::QUEUED_JOBS, SystemTime::now())? {
            Created::New(job) => {
                open.insert(job.number, Open::at(job.last_sequence));
                self.waiting.notify_one();
                Ok(job)
            }
            Created::Again(job) => Ok(job),
            Created::Taken(number) => {
                let message = format!("this request_id made {number} of another request; choose a new one");
                Err(Error::new(Reason::RequestIdTaken, message).at("request_id"))
            }
            Created::TooMany => {
                let message = format!("{} jobs wait already; cancel one, or try again later", limits::QUEUED_JOBS);
                Err(Error::new(Reason::LimitExceeded, message))
            }
        }
    }

    /// A job by number.
    ///
    /// # Errors
    /// `JOB_NOT_FOUND`.
    pub fn get(&self, number: JobNumber) -> Result<Job> {
        let job = self.store.job(number)?.ok_or_else(|| not_found(&number.to_string()))?;
        Ok(self.as_it_is(job))
    }

    /// A job's request and, once it succeeded, its result.
    ///
    /// # Errors
    /// `JOB_NOT_FOUND`.
    pub fn contents(&self, number: JobNumber) -> Result<Contents> {
        self.store.contents(number)?.ok_or_else(|| not_found(&number.to_string()))
    }

    /// At most `most` jobs, newest first, from the one created before `before` on.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn list(&self, filter: &JobFilter, before: Option<JobNumber>, most: usize) -> Result<Vec<Job>> {
        let found = self.store.list(filter, before, most)?;
        Ok(found.into_iter().map(|job| self.as_it_is(job)).collect())
    }

    /// Ends a job that waits, and tells one that runs to stop. One that is over stays as it is.
    ///
    /// # Errors
    /// `JOB_NOT_FOUND`.
    pub fn cancel(&self, number: JobNumber) -> Result<Job> {
        let mut open = lock(&self.open);
        let job = self.store.cancel(number, SystemTime::now())?.ok_or_else(|| not_found(&number.to_string()))?;
        if job.state.is_over() {
            open.remove(&number);
        } else if let Some(running) = open.get(&number) {
            running.cancel.cancel();
        }
        drop(open);
        Ok(self.as_it_is(job))
    }

    /// Jobs that are not over.
    pub fn n_open(&self) -> usize {
        lock(&self.open).len()
    }

    /// Tells all work to stop; it goes on with the next process.
    pub fn interrupt(&self) {
        lock(&self.open).values().for_each(|job| job.cancel.cancel());
    }

    /// At most `most` events of a job after the one of this sequence number, in order.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn events(&self, number: JobNumber, after: u64, most: usize) -> Result<Vec<JobEvent>> {
        Ok(self.store.events(number, after, most)?)
    }

    /// Tells of what is new of a job from now on, and ends when the job does; `None` for one that is over.
    pub fn follow(&self, number: JobNumber) -> Option<watch::Receiver<Pulse>> {
        lock(&self.open).get(&number).map(|job| job.pulse.subscribe())
    }

    /// Ends once a job was created that nobody has looked at.
    pub async fn created(&self) {
        self.waiting.notified().await;
    }

    /// What the store says of a job, with what only memory knows.
    fn as_it_is(&self, job: Job) -> Job {
        if let Some(error) = lock(&self.unrecorded).get(&job.number) {
            return Job { state: JobState::Failed, error: Some(error.clone()), ..job };
        }
        let progress = lock(&self.open).get(&job.number).and_then(|open| open.pulse.borrow().progress.clone());
        Job { progress: progress.filter(|_| job.state == JobState::Running), ..job }
    }
}

impl Open {
    fn at(sequence: u64) -> Self {
        Open { cancel: Cancel::default(), pulse: watch::Sender::new(Pulse { sequence, progress: None }) }
    }
}

/// The refusal of a name that no job has.
pub fn not_found(name: &str) -> Error {
    Error::new(Reason::JobNotFound, format!("there is no job {name}; ListJobs lists those there are")).at("name")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that can panic runs under these locks, so that what they guard is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
