//! The metrics of adversarial transferability and of gradient matching, from deviations and Jacobians, with uncertainty.
//!
//! Pure: arrays in, estimates out. The formulas are those of Liang et al. 2021; the letters are the paper's.

mod alpha;
mod classification;
mod coordinates;
mod deviation;
mod error;
mod gradient_matching;
mod gradient_moments;
mod moment_inverse;
mod outer_mean;
mod shuffle;
mod tau1;
mod tau2;
mod theory;
mod tournament;

pub use alpha::{Alphas, AttackSign, Deviations, Nulls, alpha1_floor, alphas};
pub use classification::{Answers, LossScores, Truth, losses, similarity};
pub use deviation::first_order_deviations;
pub use error::Error;
pub use gradient_matching::{
    CrossGrams, GradientMatching, ProbeErrors, gradient_matching, gradient_matching_by_probes,
};
pub use gradient_moments::GradientMoments;
pub use tau1::{squared_cosines, tau1};
pub use tau2::tau2;
pub use theory::{TaskOutputs, TheoremCheck, TheoryChecks, TheoryMoments, joint_grams, theory_checks};
pub use tournament::{Tournament, tournament};
