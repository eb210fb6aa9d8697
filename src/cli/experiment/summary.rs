//! `result.json`: what an experiment found, in one file.
//!
//! For each ranking, how well every score agrees with every measured transfer over the sources; for each comparison, how well its
//! clusters agree with the known groups. The answers themselves are in the calls' own files.

use std::{collections::BTreeMap, path::Path};

use serde::Serialize;

use super::{
    checkpoint::{Answer, Finished, write_whole},
    definition::{Call, Definition},
    together::{PublishedSummary, Together, TransfersSummary, values},
};
use crate::{
    cli::{Failure, rank::Ranked},
    transport::proto::{self, TaskComparison},
};

pub const FILE: &str = "result.json";

#[derive(Serialize)]
struct Summary<'a> {
    title: &'a str,
    question: &'a str,
    paper: &'a str,
    version: &'static str,
    /// Of all calls, as they were measured when each was made.
    seconds: f64,
    /// The most that any call left as the peak of its process; absent where none could tell.
    peak_bytes: Option<u64>,
    calls: Vec<CallSummary<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    transfers: Vec<TransfersSummary<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    published: Vec<PublishedSummary<'a>>,
}

#[derive(Serialize)]
struct CallSummary<'a> {
    name: &'a str,
    title: &'a str,
    seconds: f64,
    #[serde(flatten)]
    found: Found,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Ranking(RankingSummary),
    Comparison(ComparisonSummary),
}

#[derive(Serialize)]
struct RankingSummary {
    /// Best first.
    sources: Vec<String>,
    contenders: Vec<String>,
    recommended: Vec<String>,
    skipped: BTreeMap<String, String>,
    agreement: Vec<AgreementSummary>,
}

/// How well a score predicts a measured transfer.
#[derive(Serialize)]
struct AgreementSummary {
    score: String,
    measured_transfer: String,
    n_sources: u32,
    /// Sources whose score is above what it would be by chance, the upper end of its shuffled null; absent where the score has
    /// none.
    n_above_chance: Option<usize>,
    spearman: Option<CoefficientSummary>,
    weighted_kendall: Option<CoefficientSummary>,
    regret_at_1: Option<f64>,
}

#[derive(Serialize)]
struct CoefficientSummary {
    value: f64,
    lower: Option<f64>,
    upper: Option<f64>,
    p_value: f64,
}

#[derive(Serialize)]
struct ComparisonSummary {
    models: Vec<String>,
    groups: Vec<u32>,
    cophenetic_correlation: Option<f64>,
    adjusted_rand_index: Option<AgainstChance>,
    cophenetic_correlation_with_groups: Option<AgainstChance>,
    /// Names of the models of each known group.
    known_groups: BTreeMap<String, Vec<String>>,
    /// Of the tournaments: a row an attack, a column a model that it is read on, both as in `models`.
    affinity: Vec<Vec<f64>>,
}

#[derive(Serialize)]
struct AgainstChance {
    value: f64,
    chance_mean: f64,
    chance_upper: f64,
    p_value: f64,
}

/// Writes the file and gives its text.
///
/// # Errors
/// When it cannot be written.
pub fn write(
    definition: &Definition,
    finished: &[(&Call, Finished)],
    together: &Together,
    output: &Path,
) -> Result<String, Failure> {
    let calls = finished.iter().map(|(call, done)| CallSummary {
        name: &call.name,
        title: &call.title,
        seconds: done.seconds,
        found: match &done.answer {
            Answer::Ranked(ranked) => Found::Ranking(of_ranking(ranked)),
            Answer::Compared { comparison, .. } => Found::Comparison(of_comparison(comparison)),
        },
    });
    let (transfers, published) = together.summaries(definition);
    let summary = Summary {
        title: &definition.title,
        question: &definition.question,
        paper: &definition.paper,
        version: env!("CARGO_PKG_VERSION"),
        seconds: finished.iter().map(|(_, done)| done.seconds).sum(),
        peak_bytes: finished.iter().filter_map(|(_, done)| done.peak_bytes).max(),
        calls: calls.collect(),
        transfers,
        published,
    };
    let text = serde_json::to_string_pretty(&summary).map_err(|cause| Failure::Work(cause.to_string()))?;
    write_whole(&output.join(FILE), text.as_bytes())?;
    Ok(text)
}

fn of_ranking(ranked: &Ranked) -> RankingSummary {
    let ranking = &ranked.ranking;
    let recommendation = ranking.recommendation.clone().unwrap_or_default();
    RankingSummary {
        sources: ranking.sources.iter().map(|source| source.source_model.clone()).collect(),
        contenders: recommendation.contenders,
        recommended: recommendation.sources.into_iter().map(|source| source.source_model).collect(),
        skipped: ranking.skipped.iter().map(|one| (one.source_model.clone(), one.reason.clone())).collect(),
        agreement: ranking.correlations.iter().map(|correlation| agreement(correlation, ranked)).collect(),
    }
}

fn agreement(correlation: &proto::Correlation, ranked: &Ranked) -> AgreementSummary {
    let scores = values(ranked, &correlation.score);
    let above: Vec<bool> = scores
        .values()
        .filter_map(|score| score.shuffled.as_ref().map(|by_chance| score.value > by_chance.upper))
        .collect();
    AgreementSummary {
        n_above_chance: (!above.is_empty()).then(|| above.iter().filter(|&&is_above| is_above).count()),
        score: correlation.score.clone(),
        measured_transfer: correlation.measured_transfer.clone(),
        n_sources: correlation.n_sources,
        spearman: correlation.spearman.as_ref().map(coefficient),
        weighted_kendall: correlation.weighted_kendall.as_ref().map(coefficient),
        regret_at_1: correlation.regret_at_1.as_ref().map(|regret| regret.absolute),
    }
}

fn coefficient(found: &proto::Coefficient) -> CoefficientSummary {
    CoefficientSummary { value: found.value, lower: found.lower, upper: found.upper, p_value: found.p_value }
}

fn of_comparison(comparison: &TaskComparison) -> ComparisonSummary {
    let agreement = comparison.group_agreement.as_ref();
    let name = |row: &proto::TaskRow| row.model.as_ref().map_or_else(String::new, |model| model.name.clone());
    let against = |found: Option<&proto::AgainstChance>| {
        found.map(|found| AgainstChance {
            value: found.value,
            chance_mean: found.chance_mean,
            chance_upper: found.chance_upper,
            p_value: found.p_value,
        })
    };
    ComparisonSummary {
        models: comparison.rows.iter().map(name).collect(),
        groups: comparison.groups.clone(),
        cophenetic_correlation: comparison.cophenetic_correlation,
        adjusted_rand_index: against(agreement.and_then(|found| found.adjusted_rand_index.as_ref())),
        cophenetic_correlation_with_groups: against(agreement.and_then(|found| found.cophenetic_correlation.as_ref())),
        known_groups: agreement.map(known_groups).unwrap_or_default(),
        affinity: comparison.rows.iter().map(|row| row.affinity.clone()).collect(),
    }
}

fn known_groups(agreement: &proto::GroupAgreement) -> BTreeMap<String, Vec<String>> {
    agreement.known_groups.iter().map(|group| (group.name.clone(), group.models.clone())).collect()
}
