//! Work on one job: from its place in the queue to its end, with every unit kept on the way.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::SystemTime,
};

use super::{Ending, Job, JobKind, JobNumber, Jobs, StoreError, lock};
use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result, panic_text},
    limits,
    scoring::{Units, types::Progress},
    telemetry::metrics,
};

/// What jobs compute.
pub trait Work: Send + Sync {
    /// Makes a result of a request; events go to `on_event` as they come.
    ///
    /// # Errors
    /// Any [`Reason`] that a request can bring about.
    fn run(
        &self,
        kind: JobKind,
        request: &[u8],
        units: &dyn Units,
        on_event: &mut (dyn FnMut(WorkEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Outcome>;
}

/// One event of the work on a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkEvent {
    Progress(Progress),
    /// A source's row of a ranking, encoded.
    Row(Vec<u8>),
}

/// What work came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The result, encoded.
    pub result: Vec<u8>,
    /// The models in it.
    pub models: Vec<String>,
}

impl Jobs {
    /// Works on the job whose turn it is, to its end or until it is interrupted. Whatever becomes of it is written down,
    /// panics too. `false` where no job waits.
    ///
    /// # Errors
    /// Those of the disk when it is asked for the next job.
    pub fn run_next(&self, work: &dyn Work) -> Result<bool, StoreError> {
        let Some((job, request)) = self.store.claim(SystemTime::now())? else { return Ok(false) };
        tracing::info!(job = %job.number, attempt = job.attempts, "a job begins");
        let cancel = lock(&self.open).get(&job.number).map(|open| open.cancel.clone()).unwrap_or_default();
        self.tell(job.number, job.last_sequence);
        let units = KeptUnits { jobs: self, job: &job };
        let mut failure = None;
        let mut on_event = |event| {
            let told = match event {
                WorkEvent::Progress(progress) => {
                    self.advance(job.number, progress);
                    Ok(())
                }
                WorkEvent::Row(row) => {
                    self.store.add_row(job.number, row).map(|sequence| self.tell(job.number, sequence))
                }
            };
            // The work cannot be told of a failed event, only to stop.
            if let Err(error) = told {
                failure.get_or_insert(Error::from(error));
                cancel.cancel();
            }
        };
        let span = tracing::info_span!("job", job = %job.number, attempt = job.attempts);
        let run = || work.run(job.kind, &request, &units, &mut on_event, &cancel);
        let outcome = catch_unwind(AssertUnwindSafe(|| span.in_scope(run))).unwrap_or_else(|panic| {
            Err(Error::new(Reason::Internal, format!("the work panicked: {}", panic_text(&*panic))))
        });
        self.end(&job, failure.map_or(outcome, Err));
        Ok(true)
    }

    /// Writes down what has become of a job.
    fn end(&self, job: &Job, outcome: Result<Outcome>) {
        let number = job.number;
        let mut open = lock(&self.open);
        let is_cancelled = || matches!(self.store.job(number), Ok(Some(job)) if job.is_cancel_requested);
        let mut ending = match outcome {
            Ok(Outcome { result, models }) => Ending::Succeeded { result, models },
            Err(error) if error.reason == Reason::Cancelled && is_cancelled() => Ending::Cancelled,
            Err(error) if error.reason == Reason::Cancelled => Ending::Interrupted,
            // The device is there again once the process was started again, or there are others.
            Err(error) if error.reason == Reason::DeviceLost => self.without_device(number, error),
            Err(error) => Ending::Failed(error),
        };
        if let Ending::Failed(error) = &ending {
            tracing::warn!(job = %number, reason = error.reason.name(), %error, "a job failed");
        }
        let mut written = self.store.end(number, &ending, SystemTime::now());
        if let (Err(cause), Ending::Succeeded { .. }) = (&written, &ending) {
            // A result that does not fit is a failure, and that may fit.
            tracing::error!(job = %number, %cause, "a job's result cannot be kept");
            ending = Ending::Failed(Error::new(
                Reason::JobStoreFull,
                "the result could not be kept; the operator makes room on the disk of --jobs",
            ));
            written = self.store.end(number, &ending, SystemTime::now());
        }
        metrics::JOBS_ENDED.add(&[ending.name()], 1);
        match (written, ending) {
            (Ok(sequence), Ending::Interrupted) => {
                tracing::info!(job = %number, "a job is broken off and goes on when the server is back");
                if let Some(open) = open.get(&number) {
                    open.pulse.send_modify(|pulse| *pulse = super::Pulse { sequence, progress: None });
                }
            }
            (Ok(_), _) => {
                tracing::info!(job = %number, "a job is over");
                open.remove(&number);
            }
            (Err(cause), ending) => {
                tracing::error!(job = %number, %cause, "what has become of a job cannot be written down");
                let error = match ending {
                    Ending::Failed(error) => error,
                    _ => cause.into(),
                };
                lock(&self.unrecorded).insert(number, error);
                open.remove(&number);
            }
        }
    }

    /// How a job ends that lost its device: it waits for another, but not for ever.
    fn without_device(&self, number: JobNumber, error: Error) -> Ending {
        match self.store.count_interruption(number) {
            Ok(times) if times >= limits::JOB_INTERRUPTIONS => Ending::Failed(Error::new(
                Reason::JobAbandoned,
                format!("its device was lost {times} times and nothing came of the job: {error}"),
            )),
            _ => Ending::Interrupted,
        }
    }

    /// Tells watchers of a new event.
    fn tell(&self, number: JobNumber, sequence: u64) {
        if let Some(open) = lock(&self.open).get(&number) {
            open.pulse.send_modify(|pulse| pulse.sequence = sequence);
        }
    }

    fn advance(&self, number: JobNumber, progress: Progress) {
        if let Some(open) = lock(&self.open).get(&number) {
            open.pulse.send_modify(|pulse| pulse.progress = Some(progress));
        }
    }
}

/// The units of a job, in the store.
struct KeptUnits<'a> {
    jobs: &'a Jobs,
    job: &'a Job,
}

impl Units for KeptUnits<'_> {
    fn are_kept(&self) -> bool {
        true
    }

    fn kept(&self, key: &str) -> Option<Vec<u8>> {
        // What cannot be read is computed again.
        let found = self.jobs.store.unit(self.job.number, key);
        found.unwrap_or_else(|cause| {
            tracing::warn!(job = %self.job.number, %cause, "a unit cannot be read");
            None
        })
    }

    fn keep(&self, key: &str, name: &str, unit: &[u8]) -> Result<()> {
        if unit.len() > limits::JOB_UNIT_BYTES {
            tracing::warn!(job = %self.job.number, unit = name, bytes = unit.len(), "a unit is too large to be kept");
            return Ok(());
        }
        let Job { number, attempts, .. } = *self.job;
        let sequence = self.jobs.store.keep_unit(number, key, name, unit, attempts)?;
        self.jobs.tell(number, sequence);
        Ok(())
    }
}
