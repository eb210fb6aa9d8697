//! Jobs from their creation to their end.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Store, StoreError, events, from_nanoseconds, to_nanoseconds, unknown};
use crate::{
    error::{Error, Reason},
    jobs::types::{Contents, Happened, Job, JobFilter, JobKind, JobNumber, JobState, NewJob},
};

/// Kinds and states by their numbers in the file, which never change.
const KINDS: [(JobKind, i64); 2] = [(JobKind::Ranking, 1), (JobKind::Comparison, 2)];
const STATES: [(JobState, i64); 5] = [
    (JobState::Queued, 1),
    (JobState::Running, 2),
    (JobState::Succeeded, 3),
    (JobState::Failed, 4),
    (JobState::Cancelled, 5),
];

const COLUMNS: &str = "number, kind, state, request_id, dataset, created, started, ended, attempts, is_cancel_requested, \
                       last_sequence, error_reason, error_field, error_message";

/// What has become of a creation.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    New(Job),
    /// There is a job with this request id and the same request.
    Again(Job),
    /// There is a job with this request id and another request.
    Taken(JobNumber),
    /// So many jobs wait already.
    TooMany,
}

/// How work on a job ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ending {
    /// With an encoded result, and the models in it.
    Succeeded {
        result: Vec<u8>,
        models: Vec<String>,
    },
    Failed(Error),
    Cancelled,
    /// Broken off; it goes on when the server is back.
    Interrupted,
}

impl Ending {
    /// What metrics call it.
    pub fn name(&self) -> &'static str {
        match self {
            Ending::Succeeded { .. } => "succeeded",
            Ending::Failed(_) => "failed",
            Ending::Cancelled => "cancelled",
            Ending::Interrupted => "interrupted",
        }
    }
}

impl Store {
    /// Creates a job, unless its request id is known or `most` jobs wait.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn create(&self, new: &NewJob, most: usize, now: SystemTime) -> Result<Created, StoreError> {
        self.write(|connection| {
            if let Some(number) = with_request_id(connection, new.request_id.as_deref())? {
                let sql = "SELECT request = ?2 AND kind = ?3 FROM contents JOIN jobs ON job = number WHERE number = ?1";
                let is_same =
                    connection.query_row(sql, params![number.0, new.request, kind_number(new.kind)], |row| {
                        row.get::<_, bool>(0)
                    })?;
                return match job(connection, number)? {
                    Some(job) if is_same => Ok(Created::Again(job)),
                    _ => Ok(Created::Taken(number)),
                };
            }
            let sql = "SELECT count(*) FROM jobs WHERE state = ?1";
            let waiting: i64 = connection.query_row(sql, [state_number(JobState::Queued)], |row| row.get(0))?;
            if usize::try_from(waiting).unwrap_or(usize::MAX) >= most {
                return Ok(Created::TooMany);
            }
            connection.execute(
                "INSERT INTO jobs (kind, state, request_id, dataset, created) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    kind_number(new.kind),
                    state_number(JobState::Queued),
                    new.request_id,
                    new.dataset,
                    to_nanoseconds(now)
                ],
            )?;
            let number = JobNumber(connection.last_insert_rowid());
            connection
                .execute("INSERT INTO contents (job, request) VALUES (?1, ?2)", params![number.0, new.request])?;
            add_models(connection, number, &new.models)?;
            events::append(connection, number, &Happened::State(JobState::Queued))?;
            job(connection, number)?.map(Created::New).ok_or(rusqlite::Error::QueryReturnedNoRows)
        })
    }

    /// A job by number.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn job(&self, number: JobNumber) -> Result<Option<Job>, StoreError> {
        self.read(|connection| job(connection, number))
    }

    /// A job's request and result.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn contents(&self, number: JobNumber) -> Result<Option<Contents>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT request, result FROM contents WHERE job = ?1";
            let contents = |row: &Row<'_>| Ok(Contents { request: row.get(0)?, result: row.get(1)? });
            connection.query_row(sql, [number.0], contents).optional()
        })
    }

    /// At most `most` jobs, newest first, from the one created before `before` on.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn list(&self, filter: &JobFilter, before: Option<JobNumber>, most: usize) -> Result<Vec<Job>, StoreError> {
        let states: i64 = filter.states.iter().fold(0, |bits, &state| bits | 1 << state_number(state));
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs
             WHERE (?1 IS NULL OR number < ?1)
               AND (?2 IS NULL OR EXISTS (SELECT 1 FROM models WHERE job = number AND model = ?2))
               AND (?3 IS NULL OR dataset = ?3)
               AND (?4 = 0 OR (1 << state) & ?4 <> 0)
               AND (?5 IS NULL OR created > ?5)
               AND (?6 IS NULL OR created < ?6)
             ORDER BY number DESC LIMIT ?7"
        );
        self.read(|connection| {
            let parameters = params![
                before.map(|before| before.0),
                filter.model,
                filter.dataset,
                states,
                filter.created_after.map(to_nanoseconds),
                filter.created_before.map(to_nanoseconds),
                i64::try_from(most).unwrap_or(i64::MAX),
            ];
            let mut found = connection.prepare(&sql)?;
            let rows: Vec<Job> = found.query_map(parameters, read)?.collect::<rusqlite::Result<_>>()?;
            rows.into_iter().map(|job| with_models(connection, job)).collect()
        })
    }

    /// The job whose turn it is, now running, with its request; `None` where none waits.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn claim(&self, now: SystemTime) -> Result<Option<(Job, Vec<u8>)>, StoreError> {
        self.write(|connection| {
            let sql = "SELECT number FROM jobs WHERE state = ?1 ORDER BY number LIMIT 1";
            let next = connection.query_row(sql, [state_number(JobState::Queued)], |row| row.get(0).map(JobNumber));
            let Some(number) = next.optional()? else { return Ok(None) };
            connection.execute(
                "UPDATE jobs SET attempts = attempts + 1, started = coalesce(started, ?2) WHERE number = ?1",
                params![number.0, to_nanoseconds(now)],
            )?;
            set_state(connection, number, JobState::Running)?;
            let sql = "SELECT request FROM contents WHERE job = ?1";
            let request = connection.query_row(sql, [number.0], |row| row.get(0))?;
            Ok(job(connection, number)?.zip(Some(request)))
        })
    }

    /// Writes down how work on a job ended. Its units go, unless it is to go on. Gives its last sequence number.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn end(&self, number: JobNumber, ending: &Ending, now: SystemTime) -> Result<u64, StoreError> {
        self.write(|connection| end(connection, number, ending, now))
    }

    /// Ends a job that waits, or says of one that runs that it is to end.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn cancel(&self, number: JobNumber, now: SystemTime) -> Result<Option<Job>, StoreError> {
        self.write(|connection| {
            let Some(found) = job(connection, number)? else { return Ok(None) };
            if !found.state.is_over() {
                connection.execute("UPDATE jobs SET is_cancel_requested = 1 WHERE number = ?1", [number.0])?;
            }
            if found.state == JobState::Queued {
                end(connection, number, &Ending::Cancelled, now)?;
            }
            job(connection, number)
        })
    }

    /// Takes up what a process left that ended without a word: its running jobs wait again, end as cancelled where that was
    /// asked for, or as failed where they broke off `most` times in a row without finishing a unit.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn recover(&self, most: u32, now: SystemTime) -> Result<(), StoreError> {
        self.write(|connection| {
            let sql = "UPDATE jobs SET interruptions = interruptions + 1 WHERE state = ?1
                       RETURNING number, is_cancel_requested, interruptions";
            let mut left = connection.prepare(sql)?;
            let rows = left.query_map([state_number(JobState::Running)], |row| {
                Ok((JobNumber(row.get(0)?), row.get::<_, bool>(1)?, row.get::<_, u32>(2)?))
            })?;
            for (number, is_cancel_requested, interruptions) in rows.collect::<rusqlite::Result<Vec<_>>>()? {
                let ending = if is_cancel_requested {
                    Ending::Cancelled
                } else if interruptions >= most {
                    let message = format!(
                        "the server ended {interruptions} times while it worked on this job and nothing came of it; look \
                         for the cause in its log, or ask for less"
                    );
                    Ending::Failed(Error::new(Reason::JobAbandoned, message))
                } else {
                    Ending::Interrupted
                };
                end(connection, number, &ending, now)?;
            }
            Ok(())
        })
    }

    /// Counts that a job was broken off, and gives how often it was since it finished a unit.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn count_interruption(&self, number: JobNumber) -> Result<u32, StoreError> {
        self.write(|connection| {
            let sql = "UPDATE jobs SET interruptions = interruptions + 1 WHERE number = ?1 RETURNING interruptions";
            connection.query_row(sql, [number.0], |row| row.get(0))
        })
    }

    /// Jobs that are not over, with their last sequence numbers.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn open_jobs(&self) -> Result<Vec<(JobNumber, u64)>, StoreError> {
        self.read(|connection| {
            let mut open = connection.prepare("SELECT number, last_sequence FROM jobs WHERE state IN (?1, ?2)")?;
            let states = [JobState::Queued, JobState::Running].map(state_number);
            open.query_map(states, |row| Ok((JobNumber(row.get(0)?), row.get::<_, u32>(1)?.into())))?.collect()
        })
    }

    /// Forgets the oldest jobs that are over until at most `most` of them are left and half of the store's room is free.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn prune(&self, most: usize) -> Result<(), StoreError> {
        self.write(|connection| {
            loop {
                let sql = "SELECT count(*), min(number) FROM jobs WHERE state NOT IN (?1, ?2)";
                let states = [JobState::Queued, JobState::Running].map(state_number);
                let (count, oldest): (i64, Option<i64>) =
                    connection.query_row(sql, states, |row| Ok((row.get(0)?, row.get(1)?)))?;
                let is_too_many = usize::try_from(count).unwrap_or(usize::MAX) > most;
                match oldest {
                    Some(oldest) if is_too_many || is_half_full(connection)? => {
                        connection.execute("DELETE FROM jobs WHERE number = ?1", [oldest])?;
                    }
                    _ => break Ok(()),
                }
            }
        })
    }
}

fn is_half_full(connection: &Connection) -> rusqlite::Result<bool> {
    let pages = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    Ok(2 * (pages("page_count")? - pages("freelist_count")?) > pages("max_page_count")?)
}

fn end(connection: &Connection, number: JobNumber, ending: &Ending, now: SystemTime) -> rusqlite::Result<u64> {
    if *ending != Ending::Interrupted {
        // Also so that a store that is full has room for what follows.
        connection.execute("DELETE FROM units WHERE job = ?1", [number.0])?;
        connection.execute("UPDATE jobs SET ended = ?2 WHERE number = ?1", params![number.0, to_nanoseconds(now)])?;
    }
    let state = match ending {
        Ending::Succeeded { result, models } => {
            connection.execute("UPDATE contents SET result = ?2 WHERE job = ?1", params![number.0, result])?;
            add_models(connection, number, models)?;
            JobState::Succeeded
        }
        Ending::Failed(error) => {
            let sql = "UPDATE jobs SET error_reason = ?2, error_field = ?3, error_message = ?4 WHERE number = ?1";
            connection.execute(sql, params![number.0, error.reason.name(), error.field, error.message])?;
            JobState::Failed
        }
        Ending::Cancelled => JobState::Cancelled,
        Ending::Interrupted => JobState::Queued,
    };
    set_state(connection, number, state)
}

fn set_state(connection: &Connection, number: JobNumber, state: JobState) -> rusqlite::Result<u64> {
    connection.execute("UPDATE jobs SET state = ?2 WHERE number = ?1", params![number.0, state_number(state)])?;
    events::append(connection, number, &Happened::State(state))
}

fn with_request_id(connection: &Connection, request_id: Option<&str>) -> rusqlite::Result<Option<JobNumber>> {
    let Some(request_id) = request_id else { return Ok(None) };
    let sql = "SELECT number FROM jobs WHERE request_id = ?1";
    connection.query_row(sql, [request_id], |row| row.get(0).map(JobNumber)).optional()
}

fn add_models(connection: &Connection, number: JobNumber, models: &[String]) -> rusqlite::Result<()> {
    let mut insert = connection.prepare("INSERT OR IGNORE INTO models (job, model) VALUES (?1, ?2)")?;
    models.iter().try_for_each(|model| insert.execute(params![number.0, model]).map(drop))
}

fn job(connection: &Connection, number: JobNumber) -> rusqlite::Result<Option<Job>> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE number = ?1");
    let found = connection.query_row(&sql, [number.0], read).optional()?;
    found.map(|job| with_models(connection, job)).transpose()
}

fn with_models(connection: &Connection, job: Job) -> rusqlite::Result<Job> {
    let mut models = connection.prepare("SELECT model FROM models WHERE job = ?1 ORDER BY model")?;
    let models = models.query_map([job.number.0], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(Job { models, ..job })
}

/// A job without its models, from its row.
fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    let time = |column: usize| row.get::<_, Option<i64>>(column).map(|time| time.map(from_nanoseconds));
    let reason: Option<String> = row.get(11)?;
    let error = reason.map(|name| -> rusqlite::Result<Error> {
        // A reason that a newer version gave.
        let reason = Reason::ALL.iter().copied().find(|reason| reason.name() == name).unwrap_or(Reason::Internal);
        let message: Option<String> = row.get(13)?;
        Ok(Error { reason, field: row.get(12)?, message: message.unwrap_or_default() })
    });
    Ok(Job {
        number: JobNumber(row.get(0)?),
        kind: known(&KINDS, row, 1, "kind of job")?,
        state: known(&STATES, row, 2, "state of a job")?,
        request_id: row.get(3)?,
        models: Vec::new(),
        dataset: row.get(4)?,
        created: from_nanoseconds(row.get(5)?),
        started: time(6)?,
        ended: time(7)?,
        attempts: row.get(8)?,
        is_cancel_requested: row.get(9)?,
        last_sequence: row.get::<_, u32>(10)?.into(),
        error: error.transpose()?,
        progress: None,
    })
}

fn known<T: Copy>(table: &[(T, i64)], row: &Row<'_>, column: usize, what: &str) -> rusqlite::Result<T> {
    let number = row.get(column)?;
    let found = table.iter().find(|(_, other)| *other == number).map(|(known, _)| *known);
    found.ok_or_else(|| unknown(column, what, number))
}

fn kind_number(kind: JobKind) -> i64 {
    KINDS.iter().find(|(other, _)| *other == kind).map_or(0, |(_, number)| *number)
}

pub(super) fn state_number(state: JobState) -> i64 {
    STATES.iter().find(|(other, _)| *other == state).map_or(0, |(_, number)| *number)
}

pub(super) fn state_of(row: &Row<'_>, column: usize) -> rusqlite::Result<JobState> {
    known(&STATES, row, column, "state of a job")
}
