//! Running the service: metrics, logs, certificates, tokens, settings, browsers, and the files of `deploy/`.

mod certificates;
mod files;
mod http;
mod observed;
mod security;
mod settings;
mod web;
