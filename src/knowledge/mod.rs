//! Knowledge transferability: heads fitted to a source's features, judged on held-out samples, and estimators that stand in
//! for them.
//!
//! Pure: arrays in, estimates out; the only randomness is seeded. docs/knowledge.md pins every convention.

mod affine;
mod classes;
mod error;
mod estimators;
mod folds;
mod lbfgs;
mod linear_probe;
mod logistic;
mod score;
mod verification;

pub use affine::{AffineFit, affine_fit, affine_fit_by_folds};
pub use classes::Classes;
pub use error::Error;
pub use estimators::{Estimator, Mixture, Task, TaskOptions, class_probabilities};
pub use folds::stratified_folds;
pub use linear_probe::{ClassFigures, LinearProbe, linear_probe};
pub use logistic::{LogisticFit, LogisticProblem};
pub use score::Score;
pub use verification::{Verification, verification};
