//! One test binary: a module per area.

mod runtime;
mod support;
