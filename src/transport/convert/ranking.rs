//! The metric to rank by, and the events of a ranking.

use super::{
    field::{count, finite, known},
    scores::{estimate, pair_scores},
};
use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::{
        Agreement, Coefficient, MeasureCorrelation, MeasureKind, Progress, RankedSource, Ranking, RankingEvent,
        RankingMetric, Recommendation, Regret,
    },
    transport::proto::{self, rank_sources_response::Event},
};

/// Every metric to rank by and its number on the wire.
const METRICS: [(proto::RankingMetric, RankingMetric); 27] = [
    (proto::RankingMetric::CombinedReferenceToSource, RankingMetric::CombinedReferenceToSource),
    (proto::RankingMetric::CombinedSourceToReference, RankingMetric::CombinedSourceToReference),
    (proto::RankingMetric::Alpha1ReferenceToSource, RankingMetric::Alpha1ReferenceToSource),
    (proto::RankingMetric::Alpha1SourceToReference, RankingMetric::Alpha1SourceToReference),
    (proto::RankingMetric::Alpha2ReferenceToSource, RankingMetric::Alpha2ReferenceToSource),
    (proto::RankingMetric::Alpha2SourceToReference, RankingMetric::Alpha2SourceToReference),
    (proto::RankingMetric::Tau1, RankingMetric::Tau1),
    (proto::RankingMetric::Explained, RankingMetric::Explained),
    (proto::RankingMetric::FunctionMatchingR2, RankingMetric::FunctionMatchingR2),
    (proto::RankingMetric::LinearProbeAccuracy, RankingMetric::LinearProbeAccuracy),
    (proto::RankingMetric::Recommended, RankingMetric::Recommended),
    (proto::RankingMetric::AffineTransferR2, RankingMetric::AffineTransferR2),
    (proto::RankingMetric::VerificationAccuracy, RankingMetric::VerificationAccuracy),
    (proto::RankingMetric::FineTuneAccuracy, RankingMetric::FineTuneAccuracy),
    (proto::RankingMetric::Leep, RankingMetric::Leep),
    (proto::RankingMetric::NLeep, RankingMetric::NLeep),
    (proto::RankingMetric::Nce, RankingMetric::Nce),
    (proto::RankingMetric::LogMe, RankingMetric::LogMe),
    (proto::RankingMetric::HScore, RankingMetric::HScore),
    (proto::RankingMetric::RegularizedHScore, RankingMetric::RegularizedHScore),
    (proto::RankingMetric::TransRate, RankingMetric::TransRate),
    (proto::RankingMetric::Gbc, RankingMetric::Gbc),
    (proto::RankingMetric::Sfda, RankingMetric::Sfda),
    (proto::RankingMetric::Parc, RankingMetric::Parc),
    (proto::RankingMetric::Knn, RankingMetric::Knn),
    (proto::RankingMetric::NParameters, RankingMetric::NParameters),
    (proto::RankingMetric::CleanAccuracy, RankingMetric::CleanAccuracy),
];

/// The metric to rank by.
pub fn ranking_metric(number: i32) -> Result<RankingMetric> {
    let named: proto::RankingMetric = known("rank_by", number)?;
    let found = METRICS.iter().find(|(other, _)| *other == named).map(|(_, metric)| *metric);
    Ok(found.unwrap_or(RankingMetric::CombinedReferenceToSource))
}

/// A metric's number on the wire.
pub fn ranked_by(metric: RankingMetric) -> proto::RankingMetric {
    let number = METRICS.iter().find(|(_, other)| *other == metric).map(|(number, _)| *number);
    number.unwrap_or(proto::RankingMetric::Unspecified)
}

/// The scores to recommend from; the domain knows their names.
pub fn recommend_from(paths: Vec<String>) -> Result<Vec<String>> {
    if paths.len() > limits::RECOMMENDED_SCORES {
        let message = format!("recommend_from has {} paths; give at most {}", paths.len(), limits::RECOMMENDED_SCORES);
        return Err(Error::new(Reason::LimitExceeded, message).at("recommend_from"));
    }
    Ok(paths)
}

/// An event on the way.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn event(event: RankingEvent) -> Result<proto::RankSourcesResponse> {
    Ok(response(match event {
        RankingEvent::Progress(advanced) => Event::Progress(progress(advanced)),
        RankingEvent::Row { source_model, scores } => {
            Event::Row(proto::RankingRow { source_model, scores: Some(pair_scores(*scores)?) })
        }
    }))
}

/// How far work is.
pub fn progress(progress: Progress) -> proto::Progress {
    let Progress { done, total, stage } = progress;
    proto::Progress { done, total, stage }
}

/// The last event.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn ranking(ranking: Ranking) -> Result<proto::RankSourcesResponse> {
    let skipped = ranking.skipped.into_iter();
    let comparisons = ranking.sources.iter().zip(ranking.probability_above).map(|(source, row)| {
        let probability_above = row.into_iter().map(|value| finite("a probability", value)).collect::<Result<_>>()?;
        Ok(proto::RankingComparison { source_model: source.source_model.clone(), probability_above })
    });
    Ok(response(Event::Ranking(proto::Ranking {
        rank_by: ranked_by(ranking.rank_by).into(),
        sources: ranking.sources.iter().map(ranked_source).collect::<Result<_>>()?,
        comparisons: comparisons.collect::<Result<_>>()?,
        correlations: ranking.correlations.into_iter().map(correlation).collect::<Result<_>>()?,
        recommendation: Some(recommendation(&ranking.recommendation)?),
        skipped: skipped
            .map(|skipped| proto::SkippedSource { source_model: skipped.source_model, reason: skipped.reason })
            .collect(),
    })))
}

fn ranked_source(source: &RankedSource) -> Result<proto::RankedSource> {
    Ok(proto::RankedSource {
        source_model: source.source_model.clone(),
        rank: count(source.rank),
        value: Some(estimate("the ranked value", &source.value)?),
        probability_best: optional("a probability", source.probability_best)?,
        probability_above_next: optional("a probability", source.probability_above_next)?,
    })
}

fn recommendation(recommendation: &Recommendation) -> Result<proto::Recommendation> {
    let weighted = recommendation.from.iter().map(|vote| {
        let weight = finite("the weight of a score", vote.weight)?;
        Ok(proto::WeightedScore { score: vote.score.clone(), weight })
    });
    Ok(proto::Recommendation {
        sources: recommendation.sources.iter().map(ranked_source).collect::<Result<_>>()?,
        scores: weighted.collect::<Result<_>>()?,
        contenders: recommendation.contenders.clone(),
        probability: finite("a probability", recommendation.probability)?,
    })
}

fn optional(what: &str, value: Option<f64>) -> Result<Option<f64>> {
    value.map(|value| finite(what, value)).transpose()
}

fn correlation(correlation: MeasureCorrelation) -> Result<proto::Correlation> {
    let of = |read: fn(&Agreement) -> Coefficient| -> Result<Option<proto::Coefficient>> {
        correlation.agreement.as_ref().map(|agreement| coefficient(read(agreement))).transpose()
    };
    Ok(proto::Correlation {
        kind: measure_kind(correlation.kind).into(),
        n_sources: count(correlation.n_sources),
        pearson: of(|agreement| agreement.pearson)?,
        spearman: of(|agreement| agreement.spearman)?,
        kendall: of(|agreement| agreement.kendall)?,
        weighted_kendall: of(|agreement| agreement.weighted_kendall)?,
        n_degenerate_resamples: correlation.agreement.map_or(0, |agreement| count(agreement.n_degenerate)),
        regret_at_1: correlation.regret_at_1.map(regret).transpose()?,
        regret_at_3: correlation.regret_at_3.map(regret).transpose()?,
        regret_at_random: correlation.regret_at_random.map(regret).transpose()?,
        probability_top_is_best: optional("a probability", correlation.probability_top_is_best)?,
        score: correlation.score,
        measured_transfer: correlation.measured_transfer,
    })
}

fn coefficient(coefficient: Coefficient) -> Result<proto::Coefficient> {
    let (lower, upper) = coefficient.interval.unzip();
    Ok(proto::Coefficient {
        value: finite("a correlation", coefficient.value)?,
        lower: optional("a correlation's interval", lower)?,
        upper: optional("a correlation's interval", upper)?,
        p_value: finite("a correlation's p-value", coefficient.p_value)?,
    })
}

fn regret(regret: Regret) -> Result<proto::Regret> {
    Ok(proto::Regret {
        absolute: finite("a regret", regret.absolute)?,
        relative: optional("a regret", regret.relative)?,
    })
}

fn measure_kind(kind: MeasureKind) -> proto::MeasureKind {
    match kind {
        MeasureKind::Adversarial => proto::MeasureKind::Adversarial,
        MeasureKind::Estimate => proto::MeasureKind::Estimate,
        MeasureKind::Baseline => proto::MeasureKind::Baseline,
        MeasureKind::Transfer => proto::MeasureKind::Transfer,
        MeasureKind::Recommendation => proto::MeasureKind::Recommendation,
    }
}

fn response(event: Event) -> proto::RankSourcesResponse {
    proto::RankSourcesResponse { event: Some(event) }
}
