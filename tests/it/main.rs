//! One test binary: a module per area.

mod gradient;
mod runtime;
mod support;
