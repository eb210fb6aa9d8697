//! Tells which pre-trained ONNX models transfer best to a task, by attacking them.
//!
//! The modules in reading order; each uses only those after it in ARCHITECTURE.md's layer table.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod cli;
pub mod transport;

pub mod jobs;
pub mod scoring;

pub mod dataset;
pub mod registry;
pub mod verify;

pub mod attack;
pub mod knowledge;
pub mod metric;
pub mod stats;
pub mod training;

pub mod gradient;
pub mod runtime;

pub mod report;

pub mod cancel;
pub mod config;
pub mod error;
pub mod limits;
pub mod telemetry;
