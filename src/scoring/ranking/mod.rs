//! From the rows of a ranking to its order, what its scores recommend together, and how well each predicts transfer.

mod agreement;
mod measures;
mod recommendation;

pub use recommendation::check;

use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result},
    limits,
    scoring::types::*,
    stats::{best_first, probabilities_above, probability_above, probability_best},
};

/// The ranking of these sources.
///
/// # Errors
/// [`Reason::OptionUnsupported`] when the metric to rank by, or a score to recommend from, was not computed for a source;
/// [`Reason::Cancelled`].
pub fn ranking(
    rows: &[(String, PairScores)],
    request: &RankingRequest,
    skipped: Vec<SkippedSource>,
    cancel: &Cancel,
) -> Result<Ranking> {
    let recommendation = recommendation::recommend(rows, request)?;
    let sources = match measures::path(request.rank_by) {
        Some(path) => order(valued(rows, path)?),
        None => recommendation.sources.clone(),
    };
    let options = &request.options;
    Ok(Ranking {
        rank_by: request.rank_by,
        probability_above: probabilities(&sources),
        sources,
        correlations: agreement::correlations(rows, &recommendation, options.confidence, options.seed, cancel)?,
        recommendation,
        skipped,
    })
}

/// What each source is ranked by.
fn valued(rows: &[(String, PairScores)], path: &str) -> Result<Vec<(String, Estimate)>> {
    let measure = measures::Measure::at(path);
    let valued = rows.iter().map(|(name, scores)| {
        let value = measure.and_then(|measure| measure.of(scores)).ok_or_else(|| {
            let message = format!("the metric to rank by was not computed for `{name}`; ask for its measure");
            Error::new(Reason::OptionUnsupported, message).at("rank_by")
        })?;
        Ok((name.clone(), value))
    });
    valued.collect()
}

/// Orders sources by a value, best first, as [`best_first`] does.
fn order(valued: Vec<(String, Estimate)>) -> Vec<RankedSource> {
    let values: Vec<Estimate> = valued.iter().map(|(_, value)| value.clone()).collect();
    let order = best_first(&values);
    let valued: Vec<(String, Estimate)> = order.into_iter().filter_map(|place| valued.get(place).cloned()).collect();
    let (names, values): (Vec<String>, Vec<Estimate>) = valued.into_iter().unzip();
    let best = probability_best(&values);
    let above_next: Vec<Option<f64>> =
        values.windows(2).map(|pair| if let [a, b] = pair { probability_above(a, b) } else { None }).collect();
    let sources = names.into_iter().zip(values).enumerate().map(|(index, (source_model, value))| RankedSource {
        source_model,
        rank: index + 1,
        value,
        probability_best: best.as_ref().and_then(|best| best.get(index).copied()),
        probability_above_next: above_next.get(index).copied().flatten(),
    });
    sources.collect()
}

/// How surely each ranked source is above each other, in their order; empty for more than [`limits::COMPARED_SOURCES`].
fn probabilities(ranked: &[RankedSource]) -> Vec<Vec<f64>> {
    if ranked.len() > limits::COMPARED_SOURCES {
        return Vec::new();
    }
    let values: Vec<Estimate> = ranked.iter().map(|source| source.value.clone()).collect();
    probabilities_above(&values).unwrap_or_default()
}
