//! One test binary: a module per area.

mod cli;
mod clients;
mod config;
mod dataset;
mod errors;
mod experiment;
mod faults;
mod fuzzing;
mod gradient;
mod jobs;
mod layers;
mod malformed;
mod mathematics;
mod measuring;
mod operation;
mod raw_call;
mod registry;
mod report;
mod runtime;
mod scoring;
mod server_process;
mod setup;
mod support;
mod synthetic;
mod transport;
mod uploads;
