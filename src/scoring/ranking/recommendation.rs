//! The recommended ranking: what several scores say together, and whether they say it clearly.

use super::{measures::Measure, order};
use crate::{
    error::{Error, Reason, Result},
    scoring::types::{Estimate, PairScores, RankingRequest, Recommendation, WeightedScore},
    stats::{Ballot, contenders, mean_share_below},
};

/// What a recommendation is made of where the request names nothing: kinds of evidence with an equal say, each shared by its
/// scores, so that ten estimators from the same labels do not outvote the rest.
///
/// No measured transfer and no baseline: the one is what is to be predicted, the other knows nothing of the task. Of
/// scores that say nearly the same, the one in the direction that the paper pairs with transfer from the source; of the
/// estimators from labels, some that take the features of any source, whatever its outputs.
const EVIDENCE: [&[&str]; 3] = [
    &["reference_to_source.combined", "reference_to_source.alpha1", "gradient_matching.explained"],
    &["knowledge.function_matching.held_out_r2"],
    &["knowledge.log_me", "knowledge.n_leep", "knowledge.regularized_h_score", "knowledge.sfda"],
];

/// Refuses a recommendation from scores that there are not.
///
/// # Errors
/// [`Reason::OptionOutOfRange`].
pub fn check(request: &RankingRequest) -> Result<()> {
    let unknown = request.recommend_from.iter().position(|path| Measure::at(path).is_none());
    unknown.map_or(Ok(()), |index| {
        let field = format!("recommend_from[{index}]");
        let paths: Vec<&str> = Measure::all().map(|measure| measure.path).collect();
        let message = format!("{field} is no score; give the path of one: {}", paths.join(", "));
        Err(Error::new(Reason::OptionOutOfRange, message).at(field))
    })
}

/// What the scores say together, of those that every source has.
///
/// # Errors
/// [`Reason::OptionUnsupported`] where a score that the request names was not computed for a source.
pub fn recommend(rows: &[(String, PairScores)], request: &RankingRequest) -> Result<Recommendation> {
    let mut from = Vec::new();
    let mut ballots = Vec::new();
    for (path, weight) in votes(rows, request)? {
        let estimates = Measure::at(path).and_then(|measure| estimates(measure, rows).ok());
        ballots.extend(estimates.map(|estimates| Ballot { weight, estimates }));
        from.push(WeightedScore { score: path.to_owned(), weight });
    }
    let confidence = request.options.confidence;
    let shares = mean_share_below(&ballots, confidence, request.options.seed).unwrap_or_default();
    let sources = order(rows.iter().map(|(name, _)| name.clone()).zip(shares).collect());
    let best: Vec<f64> = sources.iter().filter_map(|source| source.probability_best).collect();
    let mut first: Vec<usize> = contenders(&best, confidence.level);
    // The one that is put first is always one of them, however the resamples fall.
    if !sources.is_empty() && !first.contains(&0) {
        first.push(0);
    }
    first.sort_unstable();
    let contenders =
        first.into_iter().filter_map(|index| sources.get(index).map(|source| source.source_model.clone())).collect();
    Ok(Recommendation { sources, from, contenders, probability: confidence.level })
}

/// The scores that have a say, and how much of the whole: they add up to 1.
fn votes<'a>(rows: &[(String, PairScores)], request: &'a RankingRequest) -> Result<Vec<(&'a str, f64)>> {
    let mut groups: Vec<Vec<&'a str>> = Vec::new();
    if request.recommend_from.is_empty() {
        let is_known = |path: &&str| Measure::at(path).is_some_and(|measure| estimates(measure, rows).is_ok());
        groups.extend(EVIDENCE.iter().map(|kind| kind.iter().copied().filter(is_known).collect()));
    }
    for (index, path) in request.recommend_from.iter().enumerate() {
        if let Some(Err(source)) = Measure::at(path).map(|measure| estimates(measure, rows)) {
            let message = format!("{path} was not computed for `{source}`; ask for its measure, or name other scores");
            return Err(Error::new(Reason::OptionUnsupported, message).at(format!("recommend_from[{index}]")));
        }
        if !groups.iter().any(|group| group.contains(&path.as_str())) {
            groups.push(vec![path.as_str()]);
        }
    }
    groups.retain(|group| !group.is_empty());
    let share = |group: &Vec<&str>| 1.0 / (groups.len() * group.len()) as f64;
    Ok(groups.iter().flat_map(|group| group.iter().map(move |path| (*path, share(group)))).collect())
}

/// A measure of each source; the name of the first that has none.
fn estimates(measure: Measure, rows: &[(String, PairScores)]) -> Result<Vec<Estimate>, &str> {
    rows.iter().map(|(name, scores)| measure.of(scores).ok_or(name.as_str())).collect()
}
