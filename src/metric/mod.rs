//! The metrics of adversarial transferability and of gradient matching, from deviations and Jacobians, with uncertainty.
//!
//! Pure: arrays in, estimates out. The formulas are those of Liang et al. 2021; the letters are the paper's.

mod alpha;
mod deviation;
mod error;
mod gradient_matching;
mod moment_inverse;
mod outer_mean;
mod tau;

pub use alpha::{Alphas, AttackSign, Deviations, Nulls, alpha1_floor, alphas};
pub use deviation::first_order_deviations;
pub use error::Error;
pub use gradient_matching::{CrossGrams, GradientMatching, gradient_matching};
pub use tau::{squared_cosines, tau1, tau2};
