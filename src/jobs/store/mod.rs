//! The store: one SQLite file with jobs, their events, their units and their results. The only place that names SQLite.
//!
//! Every function blocks for as long as the disk takes. Invariants: what a function returned for is on the disk; a job's
//! state, its events and its result change together or not at all.

mod events;
mod jobs;

pub use jobs::{Created, Ending};

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, ErrorCode, Transaction, ffi, types::Type};

use crate::error::{Error, Reason};

/// The file's name in the folder of `--jobs`.
const FILE: &str = "jobs.sqlite";

/// Marks a file as a store of jobs.
const APPLICATION: i64 = 0x7473_6a62;

/// Number of the schema below. A change of the schema raises it and brings a migration.
const SCHEMA_VERSION: i64 = 1;

/// Large contents have tables of their own, so that listings do not read past them.
const SCHEMA: &str = "
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        kind INTEGER NOT NULL,
        state INTEGER NOT NULL,
        request_id TEXT UNIQUE,
        dataset TEXT NOT NULL,
        created INTEGER NOT NULL,
        started INTEGER,
        ended INTEGER,
        attempts INTEGER NOT NULL DEFAULT 0,
        interruptions INTEGER NOT NULL DEFAULT 0,
        is_cancel_requested INTEGER NOT NULL DEFAULT 0,
        last_sequence INTEGER NOT NULL DEFAULT 0,
        error_reason TEXT,
        error_field TEXT,
        error_message TEXT
    ) STRICT;
    CREATE INDEX jobs_by_state ON jobs (state);
    CREATE TABLE models (
        model TEXT NOT NULL,
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
        PRIMARY KEY (job, model)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE contents (
        job INTEGER PRIMARY KEY REFERENCES jobs ON DELETE CASCADE,
        request BLOB NOT NULL,
        result BLOB
    ) STRICT;
    CREATE TABLE events (
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
        sequence INTEGER NOT NULL,
        kind INTEGER NOT NULL,
        state INTEGER,
        attempt INTEGER,
        name TEXT,
        message BLOB,
        UNIQUE (job, sequence)
    ) STRICT;
    CREATE TABLE units (
        job INTEGER NOT NULL REFERENCES jobs ON DELETE CASCADE,
        key TEXT NOT NULL,
        unit BLOB NOT NULL,
        digest BLOB NOT NULL,
        PRIMARY KEY (job, key)
    ) STRICT;
";

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("--jobs {}: the folder cannot be made or read: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("{}: another server keeps its jobs here; give each server a folder of its own", path.display())]
    InUse { path: PathBuf },
    #[error(
        "{}: the job store is damaged ({cause}); put a copy of it back, or move it away to start with an empty one",
        path.display()
    )]
    Damaged { path: PathBuf, cause: String },
    #[error("{}: this is not a job store of this program; give another folder", path.display())]
    Foreign { path: PathBuf },
    #[error(
        "{}: the job store was written by a newer version of this program (schema {found}, known is {SCHEMA_VERSION}); \
         start that one, or give another folder",
        path.display()
    )]
    Newer { path: PathBuf, found: i64 },
    #[error("the job store or its disk is full")]
    Full,
    #[error("the job store failed: {0}")]
    Sql(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        // SQLite takes a quota, or a limit of a file's size, for a failed write.
        let is_not_written = error.sqlite_error().is_some_and(|cause| cause.extended_code == ffi::SQLITE_IOERR_WRITE);
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => StoreError::Full,
            _ if is_not_written => StoreError::Full,
            _ => StoreError::Sql(error),
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => {
                let message = "the server has no room to keep jobs; the operator makes room on the disk of --jobs";
                Error::new(Reason::JobStoreFull, message)
            }
            other => Error::new(Reason::Internal, other.to_string()),
        }
    }
}

/// An open store. Nobody else can open it meanwhile.
#[derive(Debug)]
pub struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens the store in a folder, or makes both. It never grows beyond `limit` bytes.
    ///
    /// # Errors
    /// A store that is damaged, in use, or not ours: nothing is repaired or thrown away behind the operator's back.
    pub fn open(folder: &Path, limit: u64) -> Result<Self, StoreError> {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Folder { path: folder.to_owned(), source })?;
        let path = folder.join(FILE);
        let mut connection = Connection::open(&path)?;
        connection.busy_timeout(Duration::ZERO)?;
        let told = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path: path.clone() },
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                StoreError::Damaged { path: path.clone(), cause: error.to_string() }
            }
            _ => error.into(),
        };
        settle(&connection, limit).map_err(told)?;
        let is_new: bool =
            connection.query_row("SELECT count(*) = 0 FROM sqlite_schema", [], |row| row.get(0)).map_err(told)?;
        if is_new {
            make(&mut connection).map_err(told)?;
        }
        let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0)).map_err(told);
        if number("application_id")? != APPLICATION {
            return Err(StoreError::Foreign { path });
        }
        match number("user_version")? {
            SCHEMA_VERSION => {}
            found => return Err(StoreError::Newer { path, found }),
        }
        let cause: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(told)?;
        if cause != "ok" {
            return Err(StoreError::Damaged { path, cause });
        }
        Ok(Store { connection: Mutex::new(connection) })
    }

    /// Runs `work` in a transaction, which is on the disk when this returns.
    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let done = work(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        Ok(work(&self.lock())?)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic in the middle of a transaction rolls it back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A write-ahead log that is flushed with every transaction: they are few and each stands for seconds of work, so that
/// losing none, not even to a power cut, costs nothing to speak of.
fn settle(connection: &Connection, limit: u64) -> rusqlite::Result<()> {
    connection.pragma_update(None, "locking_mode", "exclusive")?;
    connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // A file is opened lazily: this takes the lock now, not with the first job.
    connection.execute_batch("BEGIN EXCLUSIVE; COMMIT")?;
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let pages = i64::try_from(limit).unwrap_or(i64::MAX) / page.max(1);
    connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
}

fn make(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(SCHEMA)?;
    transaction.pragma_update(None, "application_id", APPLICATION)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

/// Nanoseconds since 1970, within what 64 bits hold: the years 1677 to 2262.
fn to_nanoseconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_nanos()).map_or(i64::MIN, |nanoseconds| -nanoseconds),
    }
}

fn from_nanoseconds(nanoseconds: i64) -> SystemTime {
    let distance = Duration::from_nanos(nanoseconds.unsigned_abs());
    let time = if nanoseconds < 0 { UNIX_EPOCH.checked_sub(distance) } else { UNIX_EPOCH.checked_add(distance) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A number that stands for nothing this program knows.
fn unknown(column: usize, what: &str, number: i64) -> rusqlite::Error {
    let cause = format!("{number} is no {what}");
    rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, cause.into())
}
