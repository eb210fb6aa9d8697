//! Statistics: seeded resampling, intervals, nulls, correlations, and the decompositions that the measures share.
//!
//! Pure: no I/O, no clock, no global randomness. The same inputs and seed give the same bits, whatever the thread count.

mod aggregation;
mod agreement;
mod bits;
mod clustering;
mod comparison;
mod correlation;
mod decomposition;
mod error;
mod estimate;
mod few_pairs;
mod groups;
mod pairs;
mod product;
mod random;
mod regret;
mod resampling;
mod tridiagonal;

pub use aggregation::{Ballot, mean_share_below};
pub use agreement::{Agreement, Coefficient, ENUMERATED_SOURCES, INTERVAL_SOURCES, SourceDraws};
pub use bits::Bits;
pub use clustering::{Merge, cophenetic_correlation, cophenetic_distances, flat_groups, ward};
pub use comparison::{best_first, contenders, probabilities_above, probability_above, probability_best};
pub use correlation::{Correlations, kendall, pearson, spearman, weighted_kendall};
pub use decomposition::{
    FactoredEigen, LeftSingular, SymmetricEigen, half_solve, largest_eigenvalue, log_determinant, solve_positive,
};
pub use error::Error;
pub use estimate::{Confidence, Estimate, Replicates, ShuffledNull, quantile};
pub use few_pairs::FewPairs;
pub use groups::{AgainstChance, GroupAgreement, adjusted_rand_index, group_agreement};
pub use pairs::Pairs;
pub(crate) use product::accumulate_product;
pub use product::{gram_of_columns, gram_of_rows, product, product_of_rows, project_out};
pub use random::{
    Purpose, below, cyclic_permutation, permutation, random_sign, standard_normal, stream, unit_interval,
};
pub use regret::{Regret, regret};
pub use resampling::Resamples;
