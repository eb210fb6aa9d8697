//! Knowledge transferability: heads fitted to a source's features, judged on held-out samples.
//!
//! Pure: arrays in, estimates out; the only randomness is the seeded folds.

mod affine;
mod error;
mod folds;
mod lbfgs;
mod linear_probe;
mod logistic;

pub use affine::{AffineFit, affine_fit};
pub use error::Error;
pub use folds::stratified_folds;
pub use linear_probe::{LinearProbe, linear_probe};
pub use logistic::{LogisticFit, LogisticProblem};
