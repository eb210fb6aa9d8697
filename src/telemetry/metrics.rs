//! Numbers that a process counts while it serves, in Prometheus' words. Every metric is a constant here and a line of
//! [`ALL`]; `docs/operations.md` describes each.
//!
//! Invariant: the values of a label come from lists of this program, never from a request, so that a client cannot make
//! series without end. Until [`install`] was called, recording does nothing.

use std::{sync::OnceLock, time::Duration};

use metrics::{Key, KeyName, Label, Level, Metadata};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// What a metric counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Durations in seconds, by bucket.
    Histogram,
}

/// A metric: its name, what it tells, and the names of its labels.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub help: &'static str,
    pub labels: &'static [&'static str],
}

/// Upper ends of the buckets of durations, in seconds: from a look-up to a long ranking.
const SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0, 3_600.0];

macro_rules! metrics {
    ($($name:ident = $kind:ident $text:literal [$($label:literal),*] $help:literal;)+) => {
        $(#[doc = $help] pub const $name: Metric =
            Metric { name: $text, kind: Kind::$kind, help: $help, labels: &[$($label),*] };)+

        /// Every metric, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($name),+];
    };
}

metrics! {
    REQUESTS = Counter "transferscore_requests_total" ["method", "code"] "Calls that were answered, by gRPC code.";
    REQUEST_SECONDS = Histogram "transferscore_request_seconds" ["method"] "Time from a call's arrival to the end of its answer.";
    REQUESTS_IN_PROGRESS = Gauge "transferscore_requests_in_progress" ["method"] "Calls that are being answered.";
    ADMISSION_RUNNING = Gauge "transferscore_admission_running" ["gate"] "Work that runs, by the gate that let it in.";
    ADMISSION_WAITING = Gauge "transferscore_admission_waiting" ["gate"] "Work that waits for its turn.";
    ADMISSION_WAIT_SECONDS = Histogram "transferscore_admission_wait_seconds" ["gate"] "How long admitted work waited.";
    ADMISSION_TURNS = Counter "transferscore_admission_turns_total" ["gate"] "Times that work went back to the queue after its turn.";
    ADMISSION_REFUSED = Counter "transferscore_admission_refused_total" ["gate"] "Calls that found the queue full.";
    STAGE_SECONDS = Histogram "transferscore_stage_seconds" ["stage"] "Time by stage of a computation.";
    CACHE_HITS = Counter "transferscore_cache_hits_total" ["cache"] "Look-ups in a cache that found what they looked for.";
    CACHE_MISSES = Counter "transferscore_cache_misses_total" ["cache"] "Look-ups in a cache that did not.";
    MEMORY_RESERVED = Gauge "transferscore_memory_reserved_bytes" [] "What requests that compute or wait in between may keep, in bytes.";
    CACHE_BYTES = Gauge "transferscore_cache_bytes" ["cache"] "What a cache holds, in bytes.";
    SESSIONS = Gauge "transferscore_sessions" ["provider"] "Open sessions of ONNX Runtime.";
    SESSIONS_OPENED = Counter "transferscore_sessions_opened_total" ["provider"] "Sessions of ONNX Runtime opened so far.";
    HANDSHAKES_FAILED = Counter "transferscore_tls_handshakes_failed_total" [] "TLS handshakes that came to nothing.";
    JOBS_OPEN = Gauge "transferscore_jobs_open" [] "Jobs that wait or run.";
    JOBS_ENDED = Counter "transferscore_jobs_ended_total" ["state"] "Jobs that came to an end, or were broken off to go on later.";
    BUILD = Gauge "transferscore_build_info" ["version"] "1, with the version of the program.";
}

impl Metric {
    /// Adds to a counter. `values` are those of the labels, in their order; so below.
    pub fn add(&self, values: &[&str], count: u64) {
        self.with(values, |key, metadata, recorder| recorder.register_counter(key, metadata).increment(count));
    }

    /// Adds to a gauge what may be negative.
    pub fn shift(&self, values: &[&str], by: f64) {
        self.with(values, |key, metadata, recorder| recorder.register_gauge(key, metadata).increment(by));
    }

    /// Sets a gauge.
    pub fn set(&self, values: &[&str], value: f64) {
        self.with(values, |key, metadata, recorder| recorder.register_gauge(key, metadata).set(value));
    }

    /// Adds a duration to a histogram.
    pub fn record(&self, values: &[&str], duration: Duration) {
        let seconds = duration.as_secs_f64();
        self.with(values, |key, metadata, recorder| recorder.register_histogram(key, metadata).record(seconds));
    }

    fn with(&self, values: &[&str], then: impl FnOnce(&Key, &Metadata<'_>, &dyn metrics::Recorder)) {
        debug_assert_eq!(values.len(), self.labels.len(), "{} has other labels", self.name);
        let labels = self.labels.iter().zip(values).map(|(&name, &value)| Label::new(name, value.to_owned()));
        let key = Key::from_parts(self.name, labels.collect::<Vec<_>>());
        metrics::with_recorder(|recorder| then(&key, &Metadata::new("transferscore", Level::INFO, None), recorder));
    }
}

/// Begins to record, once for the process; again, it does nothing.
pub fn install() {
    handle();
}

/// All metrics, in Prometheus' text format.
pub fn render() -> String {
    handle().map(PrometheusHandle::render).unwrap_or_default()
}

/// Sorts recorded durations into their buckets, so that they take no memory until somebody asks.
pub fn tidy() {
    if let Some(handle) = handle() {
        handle.run_upkeep();
    }
}

/// The one recorder; `None` where another one took its place.
fn handle() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let installed = HANDLE.get_or_init(|| {
        let durations = Matcher::Suffix("_seconds".to_owned());
        let recorder = PrometheusBuilder::new().set_buckets_for_metric(durations, &SECONDS).ok()?.build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).ok()?;
        for metric in ALL {
            let (name, help) = (KeyName::from(metric.name), metric.help.into());
            metrics::with_recorder(|recorder| match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => recorder.describe_histogram(name, None, help),
            });
        }
        BUILD.set(&[env!("CARGO_PKG_VERSION")], 1.0);
        Some(handle)
    });
    installed.as_ref()
}
