//! What the calls of an experiment say together: a score of every pair of models, and the paper's figures beside ours.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    checkpoint::{Answer, Finished},
    definition::{Call, Definition, Published, Transfers},
};
use crate::{
    cli::{
        rank::{Ranked, score_words},
        scores::Scores,
    },
    report::{PublishedReport, PublishedRow, TransfersReport},
    stats::{Estimate, spearman},
};

/// All of it.
pub struct Together {
    pub transfers: Vec<TransfersReport>,
    pub published: Vec<PublishedReport>,
}

/// A score of pairs as it stands in `result.json`.
#[derive(Serialize)]
pub struct TransfersSummary<'a> {
    title: &'a str,
    score: &'a str,
    models: &'a [String],
    /// A row for each source, a column for each reference.
    values: Vec<Vec<Option<f64>>>,
}

/// The paper's figures as they stand in `result.json`.
#[derive(Serialize)]
pub struct PublishedSummary<'a> {
    title: &'a str,
    call: &'a str,
    score: &'a str,
    rows: Vec<PublishedRowSummary<'a>>,
    spearman: Option<f64>,
}

#[derive(Serialize)]
struct PublishedRowSummary<'a> {
    name: &'a str,
    paper: f64,
    ours: Option<f64>,
}

/// A ranking, and its call's name.
type Rankings<'a> = Vec<(&'a str, &'a Ranked)>;

impl Together {
    pub fn of(definition: &Definition, finished: &[(&Call, Finished)]) -> Together {
        let ranked = finished.iter().filter_map(|(call, done)| match &done.answer {
            Answer::Ranked(ranked) => Some((call.name.as_str(), ranked.as_ref())),
            Answer::Compared { .. } => None,
        });
        let rankings: Rankings<'_> = ranked.collect();
        Together {
            transfers: definition.transfers.iter().map(|asked| transfers(asked, &rankings)).collect(),
            published: definition.published.iter().map(|asked| published(asked, &rankings)).collect(),
        }
    }

    /// For `result.json`, beside what was asked for.
    pub fn summaries<'a>(&'a self, asked: &'a Definition) -> (Vec<TransfersSummary<'a>>, Vec<PublishedSummary<'a>>) {
        let transfers = self.transfers.iter().zip(&asked.transfers).map(|(found, asked)| TransfersSummary {
            title: &found.title,
            score: &asked.score,
            models: &found.models,
            values: found.values.iter().map(|row| row.iter().map(|e| e.as_ref().map(|e| e.value)).collect()).collect(),
        });
        let published = self.published.iter().zip(&asked.published).map(|(found, asked)| PublishedSummary {
            title: &found.title,
            call: &asked.call,
            score: &asked.score,
            rows: found
                .rows
                .iter()
                .map(|row| PublishedRowSummary { name: &row.name, paper: row.paper, ours: row.ours })
                .collect(),
            spearman: found.spearman,
        });
        (transfers.collect(), published.collect())
    }
}

/// The number at a path for each source of a ranking.
pub fn values(ranked: &Ranked, path: &str) -> BTreeMap<String, Estimate> {
    let of = |row: &crate::transport::proto::RankingRow| {
        Some((row.source_model.clone(), Scores::of(row.scores.as_ref()?)?.at(path)?))
    };
    ranked.rows.iter().filter_map(of).collect()
}

fn transfers(asked: &Transfers, rankings: &Rankings<'_>) -> TransfersReport {
    let columns: BTreeMap<&str, BTreeMap<String, Estimate>> = rankings
        .iter()
        .map(|(_, ranked)| (ranked.request.reference_model.as_str(), values(ranked, &asked.score)))
        .collect();
    // In the order of the references, which is that of the calls; sources that are no reference behind them.
    let mut models: Vec<String> = rankings.iter().map(|(_, ranked)| ranked.request.reference_model.clone()).collect();
    models.extend(columns.values().flat_map(|column| column.keys().cloned()));
    let mut taken = std::collections::BTreeSet::new();
    models.retain(|model| taken.insert(model.clone()));
    let value = |source: &String, reference: &String| columns.get(reference.as_str())?.get(source).cloned();
    let row = |source| models.iter().map(|reference| value(source, reference)).collect();
    TransfersReport {
        title: asked.title.clone(),
        score: score_words(&asked.score),
        values: models.iter().map(row).collect(),
        models: models.clone(),
    }
}

fn published(asked: &Published, rankings: &Rankings<'_>) -> PublishedReport {
    let found = rankings.iter().find(|(name, _)| *name == asked.call);
    let found = found.map(|(_, ranked)| values(ranked, &asked.score)).unwrap_or_default();
    let mean = |sources: &[String]| {
        let values: Vec<f64> = sources.iter().filter_map(|name| found.get(name)).map(|e| e.value).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let rows = asked.rows.iter().map(|row| PublishedRow {
        name: row.name.clone(),
        paper: row.value,
        ours: mean(&row.sources),
    });
    let rows: Vec<PublishedRow> = rows.collect();
    let (paper, ours): (Vec<f64>, Vec<f64>) = rows.iter().filter_map(|row| Some((row.paper, row.ours?))).unzip();
    PublishedReport {
        title: asked.title.clone(),
        score: score_words(&asked.score),
        spearman: spearman(&paper, &ours),
        rows,
    }
}
