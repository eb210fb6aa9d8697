//! The field's estimators of transferability: numbers computed from a source's features or class probabilities and the
//! target's labels, without training. Larger is better for each.
//!
//! docs/knowledge.md pins the conventions where the literature has variants. A new estimator is one file here, one variant
//! and one line of [`TABLE`].

use serde::{Deserialize, Serialize};

mod bhattacharyya;
mod evidence;
mod expected_prediction;
mod fisher;
mod mixture;
mod nearest;
mod representation;
mod separation;
mod spectrum;
mod task;

pub use expected_prediction::class_probabilities;
pub use mixture::Mixture;
pub use task::{Task, TaskOptions};

use super::{Error, Score};

/// An estimator of transferability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Estimator {
    Leep,
    NLeep,
    Nce,
    LogMe,
    HScore,
    RegularizedHScore,
    TransRate,
    Gbc,
    Sfda,
    Parc,
    Knn,
}

/// An estimator, the path of its field in the answer, and what computes it.
type Entry = (Estimator, &'static str, fn(&Task<'_>) -> Result<Score, Error>);

/// Every estimator, in the order of the answer.
const TABLE: [Entry; 11] = [
    (Estimator::Leep, "knowledge.leep", expected_prediction::leep),
    (Estimator::NLeep, "knowledge.n_leep", mixture::n_leep),
    (Estimator::Nce, "knowledge.nce", expected_prediction::nce),
    (Estimator::LogMe, "knowledge.log_me", evidence::log_me),
    (Estimator::HScore, "knowledge.h_score", separation::h_score),
    (Estimator::RegularizedHScore, "knowledge.regularized_h_score", separation::regularized_h_score),
    (Estimator::TransRate, "knowledge.trans_rate", separation::trans_rate),
    (Estimator::Gbc, "knowledge.gbc", bhattacharyya::gbc),
    (Estimator::Sfda, "knowledge.sfda", fisher::sfda),
    (Estimator::Parc, "knowledge.parc", representation::parc),
    (Estimator::Knn, "knowledge.knn", nearest::knn),
];

impl Estimator {
    /// Every estimator, in the order of the answer.
    pub fn all() -> impl Iterator<Item = Estimator> {
        TABLE.iter().map(|(estimator, ..)| *estimator)
    }

    /// The path of its field in the answer, such as `knowledge.leep`.
    pub fn path(self) -> &'static str {
        TABLE.iter().find(|(other, ..)| *other == self).map_or("", |(_, path, _)| path)
    }

    /// Whether targets, in place of labels, will do.
    pub fn takes_targets(self) -> bool {
        self == Estimator::LogMe
    }

    /// Its value for a source and a task.
    ///
    /// # Errors
    /// Where the mathematics has no value, or what it needs is missing.
    pub fn score(self, task: &Task<'_>) -> Result<Score, Error> {
        let compute = TABLE.iter().find(|(other, ..)| *other == self).map(|(.., compute)| compute);
        let score = compute.map_or(Err(Error::NoFeatures), |compute| compute(task))?;
        if score.value().is_finite() { Ok(score) } else { Err(Error::NotANumber) }
    }
}
