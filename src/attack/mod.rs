//! Attacks: small composable pieces over arrays. Pure: gradients come in through functions, randomness through seeds.
//!
//! Every attack treats each sample by itself, so results do not depend on how samples are grouped into batches.

mod auto_projected_gradient;
mod deepfool;
mod error;
mod goal;
mod gradient_sign;
mod gram;
mod lanczos;
mod loss;
mod minimum_norm;
mod model;
mod norm;
mod objective;
mod projected_gradient;
mod transform;
mod virtual_attack;

pub use auto_projected_gradient::{AutoProjectedGradient, auto_projected_gradient};
pub use deepfool::{DeepFool, deepfool};
pub use error::{Error, IterationError, JacobianError};
pub use goal::{Goal, TargetClass, argmax};
pub use gradient_sign::fast_gradient;
pub use gram::sample_grams;
pub use lanczos::{JacobianProducts, LanczosSettings, SingularTriples, singular_triples};
pub use loss::{Loss, LossTarget, loss_and_cotangents};
pub use minimum_norm::{MinimumNorm, RadiusRule, Smallest, minimum_norm};
pub use model::{Choose, MeanOutputs, Model, Pullback};
pub use norm::{Ball, Norm, PixelRange};
pub use objective::{Evaluation, Objective, Term};
pub use projected_gradient::{Accumulated, Momentum, ProjectedGradient, projected_gradient, random_starts};
pub use transform::{InputDiversity, Transforms, TranslationKernel};
pub use virtual_attack::{DEAD_LENGTH, TopSingular, singular_levels, top_singular};
