//! The gradient compiler: every rule against finite differences and its own adjoint, whole networks, hostile files.

mod calculus;
mod composition;
mod hostile;
mod importing;
mod model;
mod networks;
mod operators;
mod spatial;
