//! One test binary: a module per area.

