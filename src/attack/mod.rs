//! Attacks: small composable pieces over arrays. Pure: gradients come in through functions, randomness through seeds.
//!
//! Every attack treats each sample by itself, so results do not depend on how samples are grouped into batches.

mod error;
mod gradient_sign;
mod gram;
mod norm;
mod projected_gradient;
mod virtual_attack;

pub use error::{Error, JacobianError};
pub use gradient_sign::fast_gradient;
pub use gram::sample_grams;
pub use norm::{Ball, Norm, PixelRange};
pub use projected_gradient::{ProjectedGradient, projected_gradient, random_starts};
pub use virtual_attack::{DEAD_LENGTH, TopSingular, top_singular};
