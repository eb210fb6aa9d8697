//! A ranking from the server as a [`RankingReport`].

use super::rank::{Ranked, words};
use crate::{
    report::{RankingReport, ReportedModel, ReportedSource},
    stats::{Estimate, ShuffledNull},
    transport::proto::{self, RankedSource, RankingRow, TransferScoreResponse},
};

/// The adversarial metric that the report sets against knowledge.
const COMBINED: &str = "reference_to_source.combined";

/// What the page tells of a ranking; `None` when the ranking has no source.
pub fn of(ranked: &Ranked, confidence_level: f64) -> Option<RankingReport> {
    let Ranked { rows, ranking } = ranked;
    let provenance = rows.first()?.scores.as_ref()?.provenance.as_ref()?;
    let row_of = |source: &RankedSource| rows.iter().find(|row| row.source_model == source.source_model);
    let spearman = |knowledge: &str| {
        let mut pairs = ranking.correlations.iter();
        pairs.find(|pair| pair.adversarial_metric == COMBINED && pair.knowledge_measure == knowledge)?.spearman
    };
    Some(RankingReport {
        reference_model: model(provenance.reference_model.as_ref()),
        dataset: provenance.dataset.clone(),
        n_samples: provenance.n_samples as usize,
        probe_digest: provenance.probe_digest.clone(),
        metric: words(ranking.rank_by()),
        confidence_level: provenance.confidence.as_ref().and_then(|used| used.level).unwrap_or(confidence_level),
        sources: ranking.sources.iter().filter_map(|source| reported_source(source, row_of(source)?)).collect(),
        skipped: ranking.skipped.iter().map(|skipped| (skipped.source_model.clone(), skipped.reason.clone())).collect(),
        spearman_linear_probe: spearman("knowledge.linear_probe.accuracy"),
        spearman_function_matching: spearman("knowledge.function_matching.r2"),
        settings: settings(provenance),
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
        combined: estimate(scores.reference_to_source.as_ref()?.combined.as_ref()?),
        linear_probe_accuracy: probe.map(estimate),
        function_matching_r2: matching.map(estimate),
        n_parameters: knowledge.n_parameters,
    })
}

fn model(model: Option<&proto::ModelReference>) -> ReportedModel {
    let model = model.cloned().unwrap_or_default();
    ReportedModel { name: model.name, digest: model.digest }
}

fn estimate(estimate: &proto::Estimate) -> Estimate {
    Estimate {
        null_floor: estimate.null_floor,
        shuffled: estimate
            .shuffled_null
            .zip(estimate.shuffled_null_upper)
            .map(|(mean, upper)| ShuffledNull { mean, upper }),
        ..Estimate::of(estimate.value, estimate.lower, estimate.upper)
    }
}

fn settings(provenance: &proto::Provenance) -> Vec<(String, String)> {
    let attack = provenance.attack.clone().unwrap_or_default();
    let short = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase().replace('_', " ");
    let radius = attack.epsilon.map_or_else(|| "first order".to_owned(), |epsilon| format!("epsilon {epsilon}"));
    let mut settings = vec![
        ("attack".to_owned(), short(attack.method().as_str_name(), "ATTACK_METHOD_")),
        ("norm".to_owned(), short(attack.norm().as_str_name(), "NORM_")),
        ("radius".to_owned(), radius),
        ("seed".to_owned(), provenance.seed.to_string()),
    ];
    if attack.method() == proto::AttackMethod::Pgd {
        settings.push(("steps".to_owned(), attack.steps.to_string()));
    }
    if let Some(confidence) = &provenance.confidence {
        settings.push(("bootstrap resamples".to_owned(), confidence.resamples.to_string()));
    }
    settings.push(("provider".to_owned(), provenance.provider.clone()));
    settings.push(("version".to_owned(), provenance.version.clone()));
    settings
}
