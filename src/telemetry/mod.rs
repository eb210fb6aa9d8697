//! What a process tells of itself: logs here, on standard error, so that standard output stays the command's own; numbers
//! in [`metrics`], time by stage in `stage`.

pub mod metrics;
mod stage;

use std::io;

use tracing_subscriber::{EnvFilter, filter::ParseError};

pub use stage::{Stage, timed};

/// How a log line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Why logs could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("--log {filter:?}: {source}; give a level, such as info, or a filter, such as transferscore=debug")]
    Filter { filter: String, source: ParseError },
    #[error("logs are already set up: {0}")]
    Twice(String),
}

/// Sets logs up for the process, once. `filter` is a level or a list of `target=level`.
///
/// # Errors
/// When the filter cannot be read, or logs were set up before.
pub fn init(filter: &str, format: LogFormat) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(parsed).with_writer(io::stderr);
    match format {
        LogFormat::Text => subscriber.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    }
    .map_err(|error| TelemetryError::Twice(error.to_string()))
}
