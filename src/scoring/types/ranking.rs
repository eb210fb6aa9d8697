//! What is answered about many sources.

use super::PairScores;
use crate::stats::Estimate;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankingMetric {
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
    pub skipped: Vec<SkippedSource>,
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

/// How an adversarial metric and a knowledge measure agree over the sources.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasureCorrelation {
    pub adversarial_metric: String,
    pub knowledge_measure: String,
    pub n_sources: usize,
    pub pearson: Option<f64>,
    pub spearman: Option<f64>,
    pub kendall: Option<f64>,
}
