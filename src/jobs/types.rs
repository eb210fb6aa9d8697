//! Jobs as they are asked for, kept and told.

use std::{fmt, str::FromStr, time::SystemTime};

use crate::{error::Error, scoring::types::Progress};

/// A job's number in its store, from 1, in the order of creation and never given twice. Its name is `job-` and the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobNumber(pub i64);

impl fmt::Display for JobNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job-{}", self.0)
    }
}

impl FromStr for JobNumber {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        let digits = name.strip_prefix("job-").ok_or(())?;
        let number = digits.parse().map_err(|_| ()).map(JobNumber)?;
        // One name for each job: no signs, no leading zeros.
        if number.0 > 0 && number.to_string() == name { Ok(number) } else { Err(()) }
    }
}

/// What a job computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    Ranking,
    Comparison,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobState {
    /// Waits for its turn, for the first time or to go on.
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
}

impl JobState {
    /// Whether nothing more will happen to the job.
    pub fn is_over(self) -> bool {
        matches!(self, JobState::Succeeded | JobState::Failed | JobState::Cancelled)
    }
}

/// A job to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewJob {
    pub kind: JobKind,
    /// Chosen by the client, so that a repeated creation makes no second job; `None` where it did not.
    pub request_id: Option<String>,
    /// The encoded request; equal requests are equal bytes.
    pub request: Vec<u8>,
    /// The models that the request names.
    pub models: Vec<String>,
    /// Empty for inline samples.
    pub dataset: String,
}

/// What is known of a job, without its request and result.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    pub number: JobNumber,
    pub kind: JobKind,
    pub state: JobState,
    pub request_id: Option<String>,
    /// Those that the request names, and once it succeeded those of the result; by name.
    pub models: Vec<String>,
    /// Empty for inline samples.
    pub dataset: String,
    /// Times are for people: a clock may jump, so nothing is ordered by them.
    pub created: SystemTime,
    pub started: Option<SystemTime>,
    pub ended: Option<SystemTime>,
    /// How often work on it began.
    pub attempts: u32,
    /// Whether it is to end as cancelled; work that runs stops within a tile.
    pub is_cancel_requested: bool,
    /// Sequence number of its last event.
    pub last_sequence: u64,
    /// Of a failed job.
    pub error: Option<Error>,
    /// Of a running job, once it is known.
    pub progress: Option<Progress>,
}

/// What a job was asked and, once it succeeded, what came out: encoded messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub request: Vec<u8>,
    pub result: Option<Vec<u8>>,
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEvent {
    /// From 1, without gaps.
    pub sequence: u64,
    pub what: Happened,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// The job came into a state.
    State(JobState),
    /// A unit was finished and kept in the attempt of this number.
    Unit { name: String, attempt: u32 },
    /// A source's row of a ranking: an encoded message.
    Row(Vec<u8>),
}

/// Which jobs to list; what is `None` or empty leaves nothing out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    pub model: Option<String>,
    pub dataset: Option<String>,
    pub states: Vec<JobState>,
    pub created_after: Option<SystemTime>,
    pub created_before: Option<SystemTime>,
}
