//! What a process tells of itself: logs here, on standard error, so that standard output stays the command's own; numbers
//! in [`metrics`], time by stage in `stage`, traces in `traces`.

pub mod metrics;
mod stage;
#[cfg(feature = "opentelemetry")]
mod traces;
// What takes its place where the program is built without it.
#[cfg(not(feature = "opentelemetry"))]
#[path = "untraced.rs"]
mod traces;

use std::io;

use tracing_subscriber::{
    EnvFilter, Layer, Registry, filter::ParseError, layer::SubscriberExt, util::SubscriberInitExt,
};

pub use self::{
    stage::{Stage, timed},
    traces::{Traces, adopt},
};

/// Something that spans and events are told to.
type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

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
    #[error("--traces: {0}")]
    Traces(String),
}

/// Sets logs up for the process, once, and traces where a collector is named. `filter` is a level or a list of `target=level`;
/// traces do not depend on it. What it gives is to be flushed at the end. Called inside tokio.
///
/// # Errors
/// When the filter cannot be read, logs were set up before, or traces cannot be.
pub fn init(filter: &str, format: LogFormat, collector: Option<&str>) -> Result<Traces, TelemetryError> {
    let parsed = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| TelemetryError::Filter { filter: filter.to_owned(), source })?;
    let (traces, to_collector) = traces::open(collector)?;
    let log = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let log = match format {
        LogFormat::Text => log.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
        LogFormat::Json => log.json().flatten_event(true).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(to_collector).with(log.with_filter(parsed));
    subscriber.try_init().map_err(|error| TelemetryError::Twice(error.to_string()))?;
    Ok(traces)
}
