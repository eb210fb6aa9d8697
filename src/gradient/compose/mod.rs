//! Puts preprocessing in front of a model, a loss behind it and an attack's step around it, and chooses its outputs.
//!
//! Each function gives a new graph. Invariant: a composed graph is an ordinary model, so compositions compose.

mod loss;
mod preprocessing;
mod select;
mod step;

pub use loss::{Loss, with_loss};
pub use preprocessing::{Interpolation, Layout, Preprocessing, with_preprocessing};
pub use select::{expose, features, with_outputs};
pub use step::{Accumulated, Norm, attack_step};
