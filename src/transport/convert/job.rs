//! Jobs: requests to the bytes that are kept, and back.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::Message;
use prost_types::Timestamp;

use super::{
    comparison_request,
    field::{known, out_of_range},
    progress, ranking_request,
};
use crate::{
    error::{Error, Kind, Reason, Result},
    jobs::{self, Contents, Happened, Job, JobEvent, JobFilter, JobKind, JobNumber, JobState, NewJob},
    limits,
    scoring::types::Probe,
    transport::proto::{self, create_job_request, get_job_response, watch_job_response::Event},
};

/// A job to create: checked as the direct call's request is.
pub fn new_job(request: proto::CreateJobRequest) -> Result<NewJob> {
    use create_job_request::Work;
    let request_id = request_id(request.request_id)?;
    let missing = || Error::new(Reason::FieldMissing, "the job has no work; give rank or compare").at("work");
    let within = |field: &'static str| {
        move |error: Error| match &error.field {
            Some(inner) => Error { field: Some(format!("{field}.{inner}")), ..error },
            None => error.at(field),
        }
    };
    let work = request.work.ok_or_else(missing)?;
    let (kind, field, request) = match &work {
        Work::Rank(request) => (JobKind::Ranking, "rank", request.encode_to_vec()),
        Work::Compare(request) => (JobKind::Comparison, "compare", request.encode_to_vec()),
    };
    let (mut models, probe) = match work {
        Work::Rank(request) => {
            let request = ranking_request(request).map_err(within(field))?;
            ([request.source_models, vec![request.reference_model]].concat(), request.probe)
        }
        Work::Compare(request) => {
            let request = comparison_request(request).map_err(within(field))?;
            (request.models, request.probe)
        }
    };
    models.sort();
    models.dedup();
    let dataset = match probe {
        Probe::Dataset(name) => name,
        Probe::Inline(_) => String::new(),
    };
    Ok(NewJob { kind, request_id, request, models, dataset })
}

fn request_id(id: String) -> Result<Option<String>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    match id {
        id if id.is_empty() => Ok(None),
        id if id.len() <= limits::JOB_REQUEST_ID_BYTES && id.bytes().all(is_plain) => Ok(Some(id)),
        _ => {
            let most = limits::JOB_REQUEST_ID_BYTES;
            let message =
                format!("request_id has 1 to {most} letters, digits, dots, dashes and underscores, or is empty");
            Err(Error::new(Reason::OptionOutOfRange, message).at("request_id"))
        }
    }
}

/// The job of a name.
///
/// # Errors
/// `FIELD_MISSING`, or `JOB_NOT_FOUND` for a name that no job can have.
pub fn job_number(name: &str) -> Result<JobNumber> {
    if name.is_empty() {
        return Err(Error::new(Reason::FieldMissing, "name is empty; give one that ListJobs lists").at("name"));
    }
    // A name may be long, and it comes back in the message.
    let shown: String = name.chars().take(limits::NAME_BYTES).collect();
    name.parse().map_err(|()| jobs::not_found(&shown))
}

/// A job beside its request and its result.
pub fn job(job: Job) -> proto::Job {
    proto::Job {
        name: job.number.to_string(),
        kind: match job.kind {
            JobKind::Ranking => proto::JobKind::Ranking,
            JobKind::Comparison => proto::JobKind::Comparison,
        }
        .into(),
        state: state(job.state).into(),
        request_id: job.request_id.unwrap_or_default(),
        models: job.models,
        dataset: job.dataset,
        create_time: Some(timestamp(job.created)),
        start_time: job.started.map(timestamp),
        end_time: job.ended.map(timestamp),
        attempts: job.attempts,
        progress: job.progress.map(progress),
        cancel_requested: job.is_cancel_requested,
        last_sequence: job.last_sequence,
        error: job.error.map(|error| job_error(&job.number, error)),
    }
}

/// What went wrong inside the server stays in its log here too.
fn job_error(number: &JobNumber, error: Error) -> proto::JobError {
    let message = match error.kind() {
        Kind::Internal => format!("internal error; the server's log has the cause under {number}"),
        _ => error.message,
    };
    proto::JobError { reason: error.reason.name().to_owned(), message, field: error.field.unwrap_or_default() }
}

/// A job with its request and its result.
///
/// # Errors
/// Internal, where the store gives bytes that are no messages.
pub fn job_with_contents(found: Job, contents: Contents) -> Result<proto::GetJobResponse> {
    use get_job_response::{Result as Outcome, Work};
    let Contents { request, result } = contents;
    let result = result.filter(|_| found.state == JobState::Succeeded);
    let (work, result) = match found.kind {
        JobKind::Ranking => (Work::Rank(decode(&request)?), result.map(|result| decode(&result).map(Outcome::Ranking))),
        JobKind::Comparison => {
            (Work::Compare(decode(&request)?), result.map(|result| decode(&result).map(Outcome::Comparison)))
        }
    };
    Ok(proto::GetJobResponse { job: Some(job(found)), work: Some(work), result: result.transpose()? })
}

/// A message from the store.
///
/// # Errors
/// Internal, where it is none.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).map_err(|cause| Error::new(Reason::Internal, format!("the job store holds no message: {cause}")))
}

/// Which jobs to list, and how many.
pub fn job_filter(request: &proto::ListJobsRequest) -> Result<(JobFilter, usize)> {
    let named = |name: &String| Some(name.clone()).filter(|name| !name.is_empty());
    let states = request.states.iter().enumerate().map(|(index, &number)| {
        let field = format!("states[{index}]");
        match known(&field, number)? {
            proto::JobState::Unspecified => Err(out_of_range(&field, "not said", "a state, or leave states empty")),
            proto::JobState::Queued => Ok(JobState::Queued),
            proto::JobState::Running => Ok(JobState::Running),
            proto::JobState::Succeeded => Ok(JobState::Succeeded),
            proto::JobState::Failed => Ok(JobState::Failed),
            proto::JobState::Cancelled => Ok(JobState::Cancelled),
        }
    });
    let filter = JobFilter {
        model: named(&request.model),
        dataset: named(&request.dataset),
        states: states.collect::<Result<_>>()?,
        created_after: time("created_after", request.created_after.as_ref())?,
        created_before: time("created_before", request.created_before.as_ref())?,
    };
    let [usual, most] = limits::JOB_PAGE;
    let page = match request.page_size as usize {
        0 => usual,
        asked => asked.min(most),
    };
    Ok((filter, page))
}

/// An event of a job.
///
/// # Errors
/// Internal, where the store gives bytes that are no message.
pub fn job_event(event: JobEvent) -> Result<proto::WatchJobResponse> {
    let what = match event.what {
        Happened::State(reached) => Event::State(state(reached).into()),
        Happened::Unit { name, attempt } => Event::Unit(proto::JobUnit { name, attempt }),
        Happened::Row(row) => Event::Row(decode(&row)?),
    };
    Ok(proto::WatchJobResponse { sequence: event.sequence, event: Some(what) })
}

fn state(state: JobState) -> proto::JobState {
    match state {
        JobState::Queued => proto::JobState::Queued,
        JobState::Running => proto::JobState::Running,
        JobState::Succeeded => proto::JobState::Succeeded,
        JobState::Failed => proto::JobState::Failed,
        JobState::Cancelled => proto::JobState::Cancelled,
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// A moment that a client named: the years 1970 to 9999.
fn time(field: &str, timestamp: Option<&Timestamp>) -> Result<Option<SystemTime>> {
    const LAST: u64 = 253_402_300_799;
    let Some(&Timestamp { seconds, nanos }) = timestamp else { return Ok(None) };
    let moment = || {
        let seconds = u64::try_from(seconds).ok().filter(|&seconds| seconds <= LAST)?;
        let nanos = u32::try_from(nanos).ok().filter(|&nanos| nanos < 1_000_000_000)?;
        UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))
    };
    let shown = format!("{seconds} s and {nanos} ns");
    moment().map(Some).ok_or_else(|| out_of_range(field, shown, "a time between the years 1970 and 9999"))
}
