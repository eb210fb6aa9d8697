//! The gradient compiler: every rule against finite differences and its own adjoint, whole networks, hostile files.

mod attack_step;
mod attention;
pub mod calculus;
mod composition;
mod constants;
mod documents;
mod expansion;
mod files;
mod forms;
mod functions;
mod grids;
pub mod hostile;
mod importing;
pub mod model;
mod moving;
mod networks;
mod normalizations;
mod operators;
mod parts;
mod precisions;
mod products;
mod random_graphs;
mod recurrent;
mod resizing;
mod spatial;
mod training;
mod verifying;
