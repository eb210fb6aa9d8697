//! Statistics: seeded resampling, intervals, nulls, correlations, and the decompositions that the measures share.
//!
//! Pure: no I/O, no clock, no global randomness. The same inputs and seed give the same bits, whatever the thread count.

mod clustering;
mod comparison;
mod correlation;
mod decomposition;
mod error;
mod estimate;
mod product;
mod random;
mod resampling;

pub use clustering::{Merge, flat_groups, ward};
pub use comparison::{probabilities_above, probability_above, probability_best};
pub use correlation::{kendall, pearson, spearman};
pub use decomposition::{LeftSingular, SymmetricEigen, half_solve, largest_eigenvalue};
pub use error::Error;
pub use estimate::{Confidence, Estimate, Replicates, ShuffledNull, quantile};
pub(crate) use product::accumulate_product;
pub use product::{product, project_out};
pub use random::{
    Purpose, below, cyclic_permutation, permutation, random_sign, standard_normal, stream, unit_interval,
};
pub use resampling::Resamples;
