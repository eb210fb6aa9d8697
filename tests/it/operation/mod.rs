//! Running the service: metrics, logs, certificates, tokens, settings, browsers, and the files of `deploy/`.

mod certificates;
mod files;
pub mod http;
pub mod observed;
mod security;
mod settings;
mod web;
