//! Attacks: small composable pieces over arrays. Pure: gradients come in through functions, randomness through seeds.
//!
//! Every attack treats each sample by itself, so results do not depend on how samples are grouped into batches.

mod error;
mod gradient_sign;
mod gram;
mod lanczos;
mod norm;
mod projected_gradient;
mod virtual_attack;

pub use error::{Error, IterationError, JacobianError};
pub use gradient_sign::fast_gradient;
pub use gram::sample_grams;
pub use lanczos::{JacobianProducts, LanczosSettings, SingularTriples, singular_triples};
pub use norm::{Ball, Norm, PixelRange};
pub use projected_gradient::{ProjectedGradient, projected_gradient, random_starts};
pub use virtual_attack::{DEAD_LENGTH, TopSingular, singular_levels, top_singular};
