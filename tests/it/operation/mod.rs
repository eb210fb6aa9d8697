//! Running the service: metrics, logs, traces, certificates, tokens, settings, browsers, and the files of `deploy/`.

mod certificates;
mod files;
pub mod http;
pub mod observed;
mod security;
mod settings;
#[cfg(feature = "opentelemetry")]
mod traces;
mod web;
