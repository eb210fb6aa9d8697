//! What it costs to trust a score.

use std::cmp::Ordering;

/// The best measured transfer less the best among the sources that a score puts first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Regret {
    /// In units of the measured transfer, 0 or more.
    pub absolute: f64,
    /// Divided by the best measured transfer; `None` unless that is above 0.
    pub relative: Option<f64>,
}

/// The regret of taking the best of the `top` sources with the largest scores.
///
/// Where sources tie at the last of these places, it is the mean over all ways to choose among them. `None` without sources,
/// for unequal lengths, for a `top` of 0, and for values that are not finite.
pub fn regret(scores: &[f64], measured: &[f64], top: usize) -> Option<Regret> {
    let best = measured.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let found = best_of_top(scores, measured, top)?;
    let absolute = (best - found).max(0.0);
    Some(Regret { absolute, relative: (best > 0.0).then(|| absolute / best).filter(|share| share.is_finite()) })
}

/// The expected largest measured value among the `top` largest scores.
fn best_of_top(scores: &[f64], measured: &[f64], top: usize) -> Option<f64> {
    let finite = scores.iter().chain(measured).all(|value| value.is_finite());
    if scores.len() != measured.len() || !finite {
        return None;
    }
    let mut sources: Vec<(f64, f64)> = scores.iter().copied().zip(measured.iter().copied()).collect();
    sources.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal));
    let last = sources.get(top.min(sources.len()).checked_sub(1)?)?.0;
    let certain = sources.iter().filter(|(score, _)| *score > last);
    let n_certain = certain.clone().count();
    let least = certain.map(|(_, measured)| *measured).fold(f64::NEG_INFINITY, f64::max);
    let mut tied: Vec<f64> =
        sources.iter().filter(|(score, _)| *score == last).map(|(_, measured)| *measured).collect();
    tied.sort_by(|a, b| b.total_cmp(a));
    // From the best of those that tie: it is the best chosen one where all better ones were not chosen.
    let mut places = top.min(sources.len()) - n_certain;
    let (mut expected, mut remaining) = (0.0, 1.0);
    for (index, value) in tied.iter().enumerate() {
        let share = places as f64 / (tied.len() - index) as f64;
        expected += remaining * share * value.max(least);
        remaining *= 1.0 - share;
        places = places.min(tied.len() - index - 1);
    }
    Some(expected)
}
