//! How well each score predicts each measured transfer over the sources of a ranking.

use std::collections::BTreeMap;

use ndarray::parallel::prelude::*;

use super::measures::Measure;
use crate::{
    cancel::Cancel,
    error::Result,
    limits,
    scoring::types::{Confidence, Estimate, MeasureCorrelation, MeasureKind, PairScores, Recommendation},
    stats::{SourceDraws, probability_best, regret},
};

/// Fewest sources of which a correlation says anything.
const FEWEST_SOURCES: usize = 3;

/// The path of the recommendation itself among the scores.
const RECOMMENDATION: &str = "recommendation";

/// A number of each source, where it has one.
struct Column {
    path: &'static str,
    kind: MeasureKind,
    values: Vec<Option<Estimate>>,
}

/// A score and a measured transfer, over the sources that have both.
struct Comparison {
    score: &'static str,
    kind: MeasureKind,
    measured: &'static str,
    x: Vec<f64>,
    y: Vec<f64>,
    /// How probable it is that each source has the largest measured transfer; empty where that is not known.
    best: Vec<f64>,
}

/// Relates the recommendation, every score and every baseline to every measured transfer, over the sources that have both.
///
/// # Errors
/// [`crate::error::Reason::Cancelled`].
pub fn correlations(
    rows: &[(String, PairScores)],
    recommendation: &Recommendation,
    confidence: Confidence,
    seed: u64,
    cancel: &Cancel,
) -> Result<Vec<MeasureCorrelation>> {
    let comparisons = comparisons(&columns(rows, recommendation));
    let visits: usize = comparisons.iter().map(|comparison| comparison.x.len()).sum();
    let affordable = (limits::AGREEMENT_VISITS / visits.max(1)).max(limits::MIN_RESAMPLES);
    let confidence = Confidence { resamples: confidence.resamples.min(affordable), ..confidence };
    let mut draws = BTreeMap::new();
    for comparison in &comparisons {
        let n_sources = comparison.x.len();
        if let (false, Ok(drawn)) = (draws.contains_key(&n_sources), SourceDraws::new(n_sources, confidence, seed)) {
            draws.insert(n_sources, drawn);
        }
    }
    let related = comparisons.par_iter().map(|comparison| {
        cancel.check()?;
        Ok(comparison.relate(draws.get(&comparison.x.len())))
    });
    related.collect()
}

/// Every measure of every source, and what is recommended unless it knows a measured transfer.
fn columns(rows: &[(String, PairScores)], recommendation: &Recommendation) -> Vec<Column> {
    let mut columns = Vec::new();
    let is_transfer = |score: &str| Measure::at(score).is_some_and(|measure| measure.kind == MeasureKind::Transfer);
    if !recommendation.from.iter().any(|vote| is_transfer(&vote.score)) {
        let places = recommendation.sources.iter();
        let places: BTreeMap<&str, &Estimate> =
            places.map(|source| (source.source_model.as_str(), &source.value)).collect();
        let values = rows.iter().map(|(name, _)| places.get(name.as_str()).map(|&value| value.clone())).collect();
        columns.push(Column { path: RECOMMENDATION, kind: MeasureKind::Recommendation, values });
    }
    columns.extend(Measure::all().map(|measure| Column {
        path: measure.path,
        kind: measure.kind,
        values: rows.iter().map(|(_, scores)| measure.of(scores)).collect(),
    }));
    columns
}

fn comparisons(columns: &[Column]) -> Vec<Comparison> {
    let (measured, scores): (Vec<&Column>, Vec<&Column>) =
        columns.iter().partition(|column| column.kind == MeasureKind::Transfer);
    let mut comparisons = Vec::new();
    for transfer in measured {
        let known: Vec<Estimate> = transfer.values.iter().flatten().cloned().collect();
        let mut best = probability_best(&known).unwrap_or_default().into_iter();
        let best: Vec<Option<f64>> =
            transfer.values.iter().map(|value| value.as_ref().and_then(|_| best.next())).collect();
        for score in &scores {
            let Column { path, kind, values } = score;
            let (measured, x, y) = (transfer.path, Vec::new(), Vec::new());
            let mut comparison = Comparison { score: path, kind: *kind, measured, x, y, best: Vec::new() };
            for ((value, transfer), probability) in values.iter().zip(&transfer.values).zip(&best) {
                let (Some(value), Some(transfer)) = (value, transfer) else { continue };
                comparison.x.push(value.value);
                comparison.y.push(transfer.value);
                comparison.best.extend(probability);
            }
            if comparison.x.len() >= FEWEST_SOURCES {
                comparisons.push(comparison);
            }
        }
    }
    comparisons
}

impl Comparison {
    fn relate(&self, draws: Option<&SourceDraws>) -> MeasureCorrelation {
        let Comparison { x, y, .. } = self;
        MeasureCorrelation {
            score: self.score.to_owned(),
            kind: self.kind,
            measured_transfer: self.measured.to_owned(),
            n_sources: x.len(),
            agreement: draws.and_then(|draws| draws.agreement(x, y)),
            regret_at_1: regret(x, y, 1),
            regret_at_3: regret(x, y, 3),
            // With all scores equal, the first choice is any source.
            regret_at_random: regret(&vec![0.0; y.len()], y, 1),
            probability_top_is_best: self.probability_top_is_best(),
        }
    }

    /// The mean over the sources that tie for the largest score.
    fn probability_top_is_best(&self) -> Option<f64> {
        let largest = self.x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let tops = self.x.iter().zip(&self.best).filter(|(x, _)| **x == largest).map(|(_, best)| *best);
        let (sum, count) = tops.fold((0.0, 0_usize), |(sum, count), best| (sum + best, count + 1));
        (count > 0).then(|| sum / count as f64)
    }
}
