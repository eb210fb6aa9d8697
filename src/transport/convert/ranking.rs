//! The metric to rank by, and the events of a ranking.

use super::{
    field::{count, finite, known},
    scores::{estimate, pair_scores},
};
use crate::{
    error::Result,
    scoring::types::{MeasureCorrelation, Ranking, RankingEvent, RankingMetric},
    transport::proto::{self, rank_sources_response::Event},
};

/// The metric to rank by.
pub fn ranking_metric(number: i32) -> Result<RankingMetric> {
    Ok(match known("rank_by", number)? {
        proto::RankingMetric::Unspecified | proto::RankingMetric::CombinedReferenceToSource => {
            RankingMetric::CombinedReferenceToSource
        }
        proto::RankingMetric::CombinedSourceToReference => RankingMetric::CombinedSourceToReference,
        proto::RankingMetric::Alpha1ReferenceToSource => RankingMetric::Alpha1ReferenceToSource,
        proto::RankingMetric::Alpha1SourceToReference => RankingMetric::Alpha1SourceToReference,
        proto::RankingMetric::Alpha2ReferenceToSource => RankingMetric::Alpha2ReferenceToSource,
        proto::RankingMetric::Alpha2SourceToReference => RankingMetric::Alpha2SourceToReference,
        proto::RankingMetric::Tau1 => RankingMetric::Tau1,
        proto::RankingMetric::Explained => RankingMetric::Explained,
        proto::RankingMetric::FunctionMatchingR2 => RankingMetric::FunctionMatchingR2,
        proto::RankingMetric::LinearProbeAccuracy => RankingMetric::LinearProbeAccuracy,
    })
}

/// A metric's number on the wire.
pub fn ranked_by(metric: RankingMetric) -> proto::RankingMetric {
    match metric {
        RankingMetric::CombinedReferenceToSource => proto::RankingMetric::CombinedReferenceToSource,
        RankingMetric::CombinedSourceToReference => proto::RankingMetric::CombinedSourceToReference,
        RankingMetric::Alpha1ReferenceToSource => proto::RankingMetric::Alpha1ReferenceToSource,
        RankingMetric::Alpha1SourceToReference => proto::RankingMetric::Alpha1SourceToReference,
        RankingMetric::Alpha2ReferenceToSource => proto::RankingMetric::Alpha2ReferenceToSource,
        RankingMetric::Alpha2SourceToReference => proto::RankingMetric::Alpha2SourceToReference,
        RankingMetric::Tau1 => proto::RankingMetric::Tau1,
        RankingMetric::Explained => proto::RankingMetric::Explained,
        RankingMetric::FunctionMatchingR2 => proto::RankingMetric::FunctionMatchingR2,
        RankingMetric::LinearProbeAccuracy => proto::RankingMetric::LinearProbeAccuracy,
    }
}

/// An event on the way.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn event(event: RankingEvent) -> Result<proto::RankSourcesResponse> {
    Ok(response(match event {
        RankingEvent::Progress(progress) => {
            Event::Progress(proto::Progress { done: progress.done, total: progress.total, stage: progress.stage })
        }
        RankingEvent::Row { source_model, scores } => {
            Event::Row(proto::RankingRow { source_model, scores: Some(pair_scores(*scores)?) })
        }
    }))
}

/// The last event.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn ranking(ranking: Ranking) -> Result<proto::RankSourcesResponse> {
    let sources = ranking.sources.iter().map(|source| {
        Ok(proto::RankedSource {
            source_model: source.source_model.clone(),
            rank: count(source.rank),
            value: Some(estimate("the ranked value", &source.value)?),
            probability_best: probability(source.probability_best)?,
            probability_above_next: probability(source.probability_above_next)?,
        })
    });
    let skipped = ranking.skipped.into_iter();
    let comparisons = ranking.sources.iter().zip(ranking.probability_above).map(|(source, row)| {
        let probability_above = row.into_iter().map(|value| finite("a probability", value)).collect::<Result<_>>()?;
        Ok(proto::RankingComparison { source_model: source.source_model.clone(), probability_above })
    });
    Ok(response(Event::Ranking(proto::Ranking {
        rank_by: ranked_by(ranking.rank_by).into(),
        sources: sources.collect::<Result<_>>()?,
        comparisons: comparisons.collect::<Result<_>>()?,
        correlations: ranking.correlations.into_iter().map(correlation).collect::<Result<_>>()?,
        skipped: skipped
            .map(|skipped| proto::SkippedSource { source_model: skipped.source_model, reason: skipped.reason })
            .collect(),
    })))
}

fn probability(value: Option<f64>) -> Result<Option<f64>> {
    value.map(|value| finite("a probability", value)).transpose()
}

fn correlation(correlation: MeasureCorrelation) -> Result<proto::Correlation> {
    let coefficient = |value: Option<f64>| value.map(|value| finite("a correlation", value)).transpose();
    Ok(proto::Correlation {
        pearson: coefficient(correlation.pearson)?,
        spearman: coefficient(correlation.spearman)?,
        kendall: coefficient(correlation.kendall)?,
        n_sources: count(correlation.n_sources),
        adversarial_metric: correlation.adversarial_metric,
        knowledge_measure: correlation.knowledge_measure,
    })
}

fn response(event: Event) -> proto::RankSourcesResponse {
    proto::RankSourcesResponse { event: Some(event) }
}
