//! A ranking from the server as a [`RankingReport`].

use super::{
    rank::{Ranked, score_words, words},
    reported::{Settings, estimate, model, request},
    scores::Scores,
};
use crate::{
    limits,
    report::{
        RankingReport, RecommendedPlace, ReportedPoint, ReportedRecommendation, ReportedScore, ReportedSource,
        ReportedTransfer,
    },
    stats::{Agreement, Coefficient, Estimate},
    transport::proto::{self, Correlation, RankedSource, RankingRow, TransferScoreResponse},
};

/// What the page tells of a ranking; `None` when the ranking has no source.
pub fn of(ranked: &Ranked) -> Option<RankingReport> {
    let Ranked { request: asked, rows, ranking } = ranked;
    let provenance = rows.first()?.scores.as_ref()?.provenance.as_ref()?;
    let row_of = |source: &RankedSource| rows.iter().find(|row| row.source_model == source.source_model);
    let level = provenance.confidence.as_ref().and_then(|used| used.level);
    let settings = Settings {
        attack: provenance.attack.as_ref(),
        seed: provenance.seed,
        confidence: provenance.confidence.as_ref(),
        dropped: &provenance.dropped,
        provider: &provenance.provider,
        version: &provenance.version,
    };
    Some(RankingReport {
        reference_model: model(provenance.reference_model.as_ref()),
        dataset: provenance.dataset.clone(),
        n_samples: provenance.n_samples as usize,
        probe_digest: provenance.probe_digest.clone(),
        metric: words(ranking.rank_by()),
        confidence_level: level.unwrap_or(limits::DEFAULT_CONFIDENCE_LEVEL),
        sources: ranking.sources.iter().filter_map(|source| reported_source(source, row_of(source)?)).collect(),
        skipped: ranking.skipped.iter().map(|skipped| (skipped.source_model.clone(), skipped.reason.clone())).collect(),
        recommendation: ranking.recommendation.as_ref().map(recommendation).unwrap_or_default(),
        transfers: transfers(ranked),
        settings: settings.list(),
        examples: None,
        request: request("RankSources", "RankSourcesRequest", asked),
    })
}

fn reported_source(source: &RankedSource, row: &RankingRow) -> Option<ReportedSource> {
    let scores: &TransferScoreResponse = row.scores.as_ref()?;
    let knowledge = scores.knowledge.as_ref()?;
    let probe = knowledge.linear_probe.as_ref().and_then(|probe| probe.accuracy.as_ref());
    let matching = knowledge.function_matching.as_ref().and_then(|fit| fit.r2.as_ref());
    Some(ReportedSource {
        rank: source.rank as usize,
        model: model(scores.provenance.as_ref()?.source_model.as_ref()),
        value: estimate(source.value.as_ref()?),
        probability_best: source.probability_best,
        probability_above_next: source.probability_above_next,
        linear_probe_accuracy: probe.map(estimate),
        function_matching_r2: matching.map(estimate),
        n_parameters: knowledge.n_parameters,
        clean_accuracy: knowledge.clean_accuracy,
    })
}

/// What several scores recommend together.
pub fn recommendation(recommendation: &proto::Recommendation) -> ReportedRecommendation {
    let place = |source: &RankedSource| {
        Some(RecommendedPlace {
            name: source.source_model.clone(),
            value: estimate(source.value.as_ref()?),
            probability_best: source.probability_best,
        })
    };
    ReportedRecommendation {
        places: recommendation.sources.iter().filter_map(place).collect(),
        scores: recommendation.scores.iter().map(|vote| (score_words(&vote.score), vote.weight)).collect(),
        contenders: recommendation.contenders.clone(),
        probability: recommendation.probability,
    }
}

/// The measured transfers in the order of the answer; of each the scores, baselines last.
fn transfers(Ranked { rows, ranking, .. }: &Ranked) -> Vec<ReportedTransfer> {
    let sources: Vec<(usize, &str, Scores)> = ranking
        .sources
        .iter()
        .filter_map(|source| {
            let row = rows.iter().find(|row| row.source_model == source.source_model)?;
            Some((source.rank as usize, source.source_model.as_str(), Scores::of(row.scores.as_ref()?)?))
        })
        .collect();
    let mut transfers: Vec<(&str, ReportedTransfer)> = Vec::new();
    for correlation in &ranking.correlations {
        let path = correlation.measured_transfer.as_str();
        let points = sources.iter().filter_map(|(rank, name, scores)| {
            let score = match correlation.kind() {
                proto::MeasureKind::Recommendation => recommended_value(ranking, name)?,
                _ => scores.at(&correlation.score)?,
            };
            let transfer = scores.at(path)?;
            Some(ReportedPoint { rank: *rank, name: (*name).to_owned(), score, transfer })
        });
        let score = reported_score(correlation, points.collect());
        match transfers.iter_mut().find(|(other, _)| *other == path) {
            Some((_, transfer)) => transfer.scores.push(score),
            None => transfers.push((path, ReportedTransfer { name: score_words(path), scores: vec![score] })),
        }
    }
    transfers.iter_mut().for_each(|(_, transfer)| transfer.scores.sort_by_key(|score| score.is_baseline));
    transfers.into_iter().map(|(_, transfer)| transfer).collect()
}

fn reported_score(correlation: &Correlation, points: Vec<ReportedPoint>) -> ReportedScore {
    let regret = |regret: &Option<proto::Regret>| regret.as_ref().map(|regret| regret.absolute);
    ReportedScore {
        name: score_words(&correlation.score),
        is_baseline: correlation.kind() == proto::MeasureKind::Baseline,
        n_sources: correlation.n_sources as usize,
        coefficients: agreement(correlation),
        regret_at_1: regret(&correlation.regret_at_1),
        regret_at_3: regret(&correlation.regret_at_3),
        regret_at_random: regret(&correlation.regret_at_random),
        probability_top_is_best: correlation.probability_top_is_best,
        points,
    }
}

fn agreement(correlation: &Correlation) -> Option<Agreement> {
    let coefficient = |found: &Option<proto::Coefficient>| {
        let found = found.as_ref()?;
        Some(Coefficient { value: found.value, interval: found.lower.zip(found.upper), p_value: found.p_value })
    };
    Some(Agreement {
        pearson: coefficient(&correlation.pearson)?,
        spearman: coefficient(&correlation.spearman)?,
        kendall: coefficient(&correlation.kendall)?,
        weighted_kendall: coefficient(&correlation.weighted_kendall)?,
        n_degenerate: correlation.n_degenerate_resamples as usize,
    })
}

fn recommended_value(ranking: &proto::Ranking, name: &str) -> Option<Estimate> {
    let mut places = ranking.recommendation.as_ref()?.sources.iter();
    places.find(|place| place.source_model == name)?.value.as_ref().map(estimate)
}
