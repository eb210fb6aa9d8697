//! What happens to jobs, in order, and the units of those that are not over.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, jobs, unknown};
use crate::jobs::types::{Happened, JobEvent, JobNumber};

/// Kinds of events by their numbers in the file, which never change.
const STATE: i64 = 1;
const UNIT: i64 = 2;
const ROW: i64 = 3;

impl Store {
    /// At most `most` events of a job after the one of this sequence number, in order.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn events(&self, number: JobNumber, after: u64, most: usize) -> Result<Vec<JobEvent>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        self.read(|connection| {
            let sql = "SELECT sequence, kind, state, attempt, name, message FROM events
                       WHERE job = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3";
            let mut found = connection.prepare(sql)?;
            found.query_map(params![number.0, after, most], event)?.collect()
        })
    }

    /// Adds a row of a ranking to a job's events, unless it is there already. Gives the job's last sequence number.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn add_row(&self, number: JobNumber, message: Vec<u8>) -> Result<u64, StoreError> {
        self.write(|connection| {
            let sql = "SELECT sequence FROM events WHERE job = ?1 AND kind = ?2 AND message = ?3";
            let is_there = connection.query_row(sql, params![number.0, ROW, message], |_| Ok(())).optional()?.is_some();
            if is_there {
                let sql = "SELECT last_sequence FROM jobs WHERE number = ?1";
                return connection.query_row(sql, [number.0], |row| row.get::<_, u32>(0).map(u64::from));
            }
            append(connection, number, &Happened::Row(message))
        })
    }

    /// Keeps a unit of a job, and tells of it among the events. Gives the job's last sequence number.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn keep_unit(
        &self,
        number: JobNumber,
        key: &str,
        name: &str,
        unit: &[u8],
        attempt: u32,
    ) -> Result<u64, StoreError> {
        self.write(|connection| {
            connection.execute(
                "INSERT OR REPLACE INTO units (job, key, unit, digest) VALUES (?1, ?2, ?3, ?4)",
                params![number.0, key, unit, digest(unit)],
            )?;
            connection.execute("UPDATE jobs SET interruptions = 0 WHERE number = ?1", [number.0])?;
            append(connection, number, &Happened::Unit { name: name.to_owned(), attempt })
        })
    }

    /// A unit of a job; `None` where it was not kept, or is no longer what was kept.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn unit(&self, number: JobNumber, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.read(|connection| {
            let sql = "SELECT unit, digest FROM units WHERE job = ?1 AND key = ?2";
            let found = connection.query_row(sql, params![number.0, key], |row| Ok((row.get(0)?, row.get(1)?)));
            let found: Option<(Vec<u8>, Vec<u8>)> = found.optional()?;
            Ok(found.filter(|(unit, kept)| digest(unit) == *kept).map(|(unit, _)| unit))
        })
    }
}

fn digest(unit: &[u8]) -> Vec<u8> {
    Sha256::digest(unit).to_vec()
}

/// Adds an event and gives its sequence number.
pub(super) fn append(connection: &Connection, number: JobNumber, what: &Happened) -> rusqlite::Result<u64> {
    let sql = "UPDATE jobs SET last_sequence = last_sequence + 1 WHERE number = ?1 RETURNING last_sequence";
    let sequence: u32 = connection.query_row(sql, [number.0], |row| row.get(0))?;
    let (kind, state, attempt, name, message) = match what {
        Happened::State(state) => (STATE, Some(jobs::state_number(*state)), None, None, None),
        Happened::Unit { name, attempt } => (UNIT, None, Some(*attempt), Some(name), None),
        Happened::Row(message) => (ROW, None, None, None, Some(message)),
    };
    connection.execute(
        "INSERT INTO events (job, sequence, kind, state, attempt, name, message) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![number.0, sequence, kind, state, attempt, name, message],
    )?;
    Ok(sequence.into())
}

fn event(row: &Row<'_>) -> rusqlite::Result<JobEvent> {
    let what = match row.get(1)? {
        STATE => Happened::State(jobs::state_of(row, 2)?),
        UNIT => Happened::Unit { name: row.get(4)?, attempt: row.get(3)? },
        ROW => Happened::Row(row.get(5)?),
        kind => return Err(unknown(1, "kind of event", kind)),
    };
    Ok(JobEvent { sequence: row.get::<_, u32>(0)?.into(), what })
}
