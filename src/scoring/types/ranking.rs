//! What is answered about many sources.

use super::PairScores;
use crate::stats::{Agreement, Estimate, Regret};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankingMetric {
    /// What several scores say together.
    Recommended,
    CombinedReferenceToSource,
    CombinedSourceToReference,
    Alpha1ReferenceToSource,
    Alpha1SourceToReference,
    Alpha2ReferenceToSource,
    Alpha2SourceToReference,
    Tau1,
    Explained,
    FunctionMatchingR2,
    LinearProbeAccuracy,
    AffineTransferR2,
    VerificationAccuracy,
    FineTuneAccuracy,
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
    NParameters,
    CleanAccuracy,
}

/// One event of a ranking.
#[derive(Clone, Debug, PartialEq)]
pub enum RankingEvent {
    Progress(Progress),
    Row { source_model: String, scores: Box<PairScores> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    pub stage: String,
}

/// The end of a ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    pub rank_by: RankingMetric,
    /// Best first.
    pub sources: Vec<RankedSource>,
    /// In the order of the sources: how probable it is that the row's is above the column's; empty for too many sources.
    pub probability_above: Vec<Vec<f64>>,
    pub correlations: Vec<MeasureCorrelation>,
    pub recommendation: Recommendation,
    pub skipped: Vec<SkippedSource>,
}

/// The ranking that several scores make together.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommendation {
    /// Best first; the value is the mean share of the other sources that a source is above, 0..1.
    pub sources: Vec<RankedSource>,
    /// The scores that have a say.
    pub from: Vec<WeightedScore>,
    /// The sources among which the best one is with the probability below, in the order of `sources`: more than one where the
    /// evidence does not tell them apart.
    pub contenders: Vec<String>,
    pub probability: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WeightedScore {
    /// The path of its field in the answer.
    pub score: String,
    /// Share of the whole, in (0, 1].
    pub weight: f64,
}

/// What a number of the answer says about transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeasureKind {
    /// How attacks and gradients carry over between source and reference.
    Adversarial,
    /// Estimated from the source's features or outputs, without a head that is judged on samples it has not seen.
    Estimate,
    /// Of the source alone: it knows nothing of the task.
    Baseline,
    /// Transfer itself: how well what was fitted does on samples that it has not seen.
    Transfer,
    /// What several scores say together.
    Recommendation,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RankedSource {
    pub source_model: String,
    pub rank: usize,
    pub value: Estimate,
    /// That no other source is above it, 0..1; `None` where the sources were not measured on the same resamples.
    pub probability_best: Option<f64>,
    /// That it is above the next source, 0..1; `None` for the last one too.
    pub probability_above_next: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SkippedSource {
    pub source_model: String,
    pub reason: String,
}

/// How well a score predicts a measured transfer over the sources.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasureCorrelation {
    /// The path of its field in the answer; "recommendation" for the recommendation.
    pub score: String,
    /// What the score is; never [`MeasureKind::Transfer`].
    pub kind: MeasureKind,
    /// The path of its field in the answer.
    pub measured_transfer: String,
    /// Those that have both.
    pub n_sources: usize,
    /// `None` where one side is constant.
    pub agreement: Option<Agreement>,
    pub regret_at_1: Option<Regret>,
    pub regret_at_3: Option<Regret>,
    /// Of choosing any source.
    pub regret_at_random: Option<Regret>,
    /// That the source with the largest score has the largest measured transfer, 0..1, by resampled samples.
    pub probability_top_is_best: Option<f64>,
}
