//! One test binary: a module per area.

mod dataset;
mod gradient;
mod mathematics;
mod registry;
mod report;
mod runtime;
mod scoring;
mod server_process;
mod support;
