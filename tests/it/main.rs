//! One test binary: a module per area.

mod gradient;
mod mathematics;
mod runtime;
mod support;
