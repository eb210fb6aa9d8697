//! Scoring requests.

use std::collections::HashSet;

use super::{
    attack, confidence,
    field::{name, out_of_range},
    knowledge, probe, ranking,
};
use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::{MatchingOptions, PairRequest, RankingRequest, ScoreOptions, TheoryOptions},
    transport::proto::{self, rank_sources_request, transfer_score_request},
};

/// A request for one pair.
pub fn pair(request: proto::TransferScoreRequest) -> Result<PairRequest> {
    use transfer_score_request::Probe;
    Ok(PairRequest {
        source_model: name("source_model", request.source_model, "ListModels")?,
        reference_model: name("reference_model", request.reference_model, "ListModels")?,
        probe: match request.probe {
            Some(Probe::Dataset(dataset)) => probe::dataset(dataset)?,
            Some(Probe::InlineDataset(dataset)) => probe::inline(dataset, limits::MIN_SAMPLES)?,
            None => return Err(probe::missing()),
        },
        options: ScoreOptions {
            max_samples: max_samples(request.max_samples)?,
            attack: attack::attack(request.attack)?,
            matching: matching(request.gradient_matching),
            theory: request.theory_checks.map(|options| TheoryOptions { smoothness: options.smoothness }),
            knowledge: knowledge::knowledge(request.knowledge)?,
            seed: request.seed,
            confidence: confidence::confidence(request.confidence)?,
        },
    })
}

/// A request for a ranking.
pub fn ranking_request(request: proto::RankSourcesRequest) -> Result<RankingRequest> {
    use rank_sources_request::Probe;
    Ok(RankingRequest {
        source_models: sources(request.source_models)?,
        reference_model: name("reference_model", request.reference_model, "ListModels")?,
        probe: match request.probe {
            Some(Probe::Dataset(dataset)) => probe::dataset(dataset)?,
            Some(Probe::InlineDataset(dataset)) => probe::inline(dataset, limits::MIN_SAMPLES)?,
            None => return Err(probe::missing()),
        },
        options: ScoreOptions {
            max_samples: max_samples(request.max_samples)?,
            attack: attack::attack(request.attack)?,
            matching: matching(request.gradient_matching),
            theory: request.theory_checks.map(|options| TheoryOptions { smoothness: options.smoothness }),
            knowledge: knowledge::knowledge(request.knowledge)?,
            seed: request.seed,
            confidence: confidence::confidence(request.confidence)?,
        },
        rank_by: ranking::ranking_metric(request.rank_by)?,
        recommend_from: ranking::recommend_from(request.recommend_from)?,
    })
}

fn sources(names: Vec<String>) -> Result<Vec<String>> {
    if names.len() > limits::SOURCES {
        return Err(Error::new(
            Reason::LimitExceeded,
            format!("source_models has {} names; rank at most {} at once", names.len(), limits::SOURCES),
        )
        .at("source_models"));
    }
    let mut seen = HashSet::new();
    let mut sources = Vec::with_capacity(names.len());
    for (index, source) in names.into_iter().enumerate() {
        let field = format!("source_models[{index}]");
        let source = name(&field, source, "ListModels")?;
        if !seen.insert(source.clone()) {
            return Err(Error::new(
                Reason::OptionUnsupported,
                format!("{field} names {source} a second time; name each source once"),
            )
            .at(field));
        }
        sources.push(source);
    }
    Ok(sources)
}

/// 0 for all, or enough for an interval.
pub(super) fn max_samples(max_samples: u32) -> Result<usize> {
    match max_samples as usize {
        few @ 1..limits::MIN_SAMPLES => {
            Err(out_of_range("max_samples", few, &format!("at least {}, or 0 for all", limits::MIN_SAMPLES)))
        }
        max_samples => Ok(max_samples),
    }
}

/// How gradients are matched; the domain knows the ranges.
fn matching(options: Option<proto::GradientMatchingOptions>) -> MatchingOptions {
    let options = options.unwrap_or_default();
    MatchingOptions { skip: options.skip, n_probes: options.n_probes as usize }
}
