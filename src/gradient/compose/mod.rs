//! Puts preprocessing in front of a model, a loss or a new head behind it, an attack's step or one of training around it,
//! and chooses its outputs.
//!
//! Each function gives a new graph. Invariant: a composed graph is an ordinary model, so compositions compose.

mod head;
mod loss;
mod preprocessing;
mod select;
mod step;
mod training;

pub use head::{Head, only_head, with_head};
pub use loss::{Loss, with_loss};
pub use preprocessing::{Interpolation, Layout, Preprocessing, is_preprocessing, with_preprocessing};
pub use select::{expose, features, tensors, with_outputs};
pub use step::{Accumulated, Norm, attack_step};
pub use training::{Optimizer, Tuning, training_step};
