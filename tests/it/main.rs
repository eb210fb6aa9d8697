//! One test binary: a module per area.

mod dataset;
mod gradient;
mod mathematics;
mod registry;
mod runtime;
mod support;
