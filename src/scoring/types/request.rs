//! What is asked for a pair or a ranking.

use super::{AttackOptions, KnowledgeOptions, RankingMetric};
use crate::stats::Confidence;

/// Samples to measure on.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// A dataset of the server, by name.
    Dataset(String),
    /// Samples that came with the request.
    Inline(InlineDataset),
}

/// Samples that came with the request, not yet validated.
#[derive(Clone, Debug, PartialEq)]
pub struct InlineDataset {
    /// `[channels, height, width]` or `[features]`.
    pub shape: Vec<u32>,
    /// Row-major samples, one after another.
    pub samples: Vec<f32>,
    /// A class for each sample, or none.
    pub labels: Vec<u32>,
}

/// Settings that a pair and a ranking share.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreOptions {
    /// 0 means all.
    pub max_samples: usize,
    pub attack: AttackOptions,
    pub matching: MatchingOptions,
    /// Asks for both sides of the theorems.
    pub theory: Option<TheoryOptions>,
    pub knowledge: KnowledgeOptions,
    pub seed: u64,
    pub confidence: Confidence,
}

/// How gradients are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchingOptions {
    /// Leaves gradient matching out, and with it Jacobians that nothing else asks for.
    pub skip: bool,
    /// Output probes where a model's Jacobian is too large to be written down; 0 means the default.
    pub n_probes: usize,
}

/// What the theory checks are told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TheoryOptions {
    /// β: how much the gradients of both models change at most per pixel unit.
    pub smoothness: Option<f64>,
}

/// One source against one reference.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRequest {
    pub source_model: String,
    pub reference_model: String,
    pub probe: Probe,
    pub options: ScoreOptions,
}

/// Many sources against one reference.
#[derive(Clone, Debug, PartialEq)]
pub struct RankingRequest {
    /// Empty means every model that fits the probe set, except the reference.
    pub source_models: Vec<String>,
    pub reference_model: String,
    pub probe: Probe,
    pub options: ScoreOptions,
    pub rank_by: RankingMetric,
    /// Paths of the scores that a recommendation is made of, each with an equal say; empty means the usual ones.
    pub recommend_from: Vec<String>,
}
