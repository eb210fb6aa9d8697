//! The mathematics against independent implementations, closed forms and invariances.

mod attack;
mod attack_models;
mod attack_peers;
mod classification;
mod estimators;
mod knowledge;
mod lanczos;
mod metric;
mod minimum_norm;
mod moments;
mod objective;
mod probes;
mod ranking;
mod stats;
mod support;
mod tasks;
mod theory;
mod training;
mod verification;
