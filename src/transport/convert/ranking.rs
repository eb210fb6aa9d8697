//! The events of a ranking.

use super::{
    field::{count, finite},
    options::ranked_by,
    scores::{estimate, pair_scores},
};
use crate::{
    error::Result,
    scoring::types::{MeasureCorrelation, Ranking, RankingEvent},
    transport::proto::{self, rank_sources_response::Event},
};

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
        })
    });
    let skipped = ranking.skipped.into_iter();
    Ok(response(Event::Ranking(proto::Ranking {
        rank_by: ranked_by(ranking.rank_by).into(),
        sources: sources.collect::<Result<_>>()?,
        correlations: ranking.correlations.into_iter().map(correlation).collect::<Result<_>>()?,
        skipped: skipped
            .map(|skipped| proto::SkippedSource { source_model: skipped.source_model, reason: skipped.reason })
            .collect(),
    })))
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
