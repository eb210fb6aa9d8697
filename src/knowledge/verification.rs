//! Pair verification of embeddings, labels being identities: are two samples the same? By the cosine of their embeddings,
//! after the protocol of Labeled Faces in the Wild (Huang et al. 2007).

use ndarray::{Array1, Array2, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{Classes, Error, error::check_finite, stratified_folds};
use crate::{
    limits,
    stats::{Estimate, Purpose, Resamples, below, stream},
};

/// Folds of the protocol.
const FOLDS: usize = 10;
/// Accepted shares of mismatched pairs that the true accept rate is told at.
const FALSE_ACCEPT_RATES: [f64; 2] = [1e-2, 1e-3];

/// How well the cosine of two embeddings tells whether they are of the same identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// Share of pairs judged rightly, 0..1, each fold by the threshold that is best on the others. 1/2 by chance.
    pub accuracy: Estimate,
    /// Area under the receiver operating characteristic: the probability that a matched pair is more alike than a
    /// mismatched one. 1/2 by chance.
    pub roc_auc: Estimate,
    /// For false accept rates 1e-2 and 1e-3, in this order: share of matched pairs accepted. `None` where there are too
    /// few mismatched pairs for one to be that share of them.
    pub true_accept_rates: [Option<Estimate>; 2],
    /// Mean over folds of the cosine from which on a pair is taken for matched, -1..1.
    pub threshold: f64,
    /// Pairs of one identity, and as many of two, that the accuracy is over.
    pub n_pairs: usize,
}

/// Verifies pairs of embeddings (N, d), labels being identities.
///
/// At most [`limits::VERIFIED_PAIRS`] matched and as many mismatched pairs, drawn by the seed without replacement where there are
/// more. The accuracy is over as many of the one as of the other kind, the rates and the area over all. The intervals resample samples, a pair counting the product of how often its samples were drawn, and
/// hold the thresholds of the accuracy fixed.
///
/// # Errors
/// When there is one identity, no two samples of one, fewer pairs than the protocol has folds, or a number is not finite.
pub fn verification(
    embeddings: ArrayView2<'_, f64>,
    labels: &[u32],
    seed: u64,
    resamples: &Resamples,
) -> Result<Verification, Error> {
    let n = resamples.n_samples();
    for (what, found) in [("embeddings", embeddings.nrows()), ("labels", labels.len())] {
        if found != n {
            return Err(Error::SampleCount { what, expected: n, found });
        }
    }
    check_finite("the embedding", embeddings)?;
    let classes = Classes::new(labels)?;
    let mut pairs = drawn_pairs(&classes, seed)?;
    let directions = directions(embeddings);
    for pair in &mut pairs {
        let [first, second] = pair.samples.map(|sample| directions.row(sample));
        pair.similarity = first.dot(&second);
    }
    // Most alike first; what is equal counts as one step.
    pairs.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then(a.samples.cmp(&b.samples)));
    let (hits, threshold) = judged(&pairs, seed)?;
    let all = Array1::ones(n);
    let n_mismatched = pairs.iter().filter(|pair| !pair.is_matched).count();
    let rates = FALSE_ACCEPT_RATES.map(|rate| (n_mismatched as f64 * rate >= 1.0).then_some(rate));
    let of = |counts: &Array1<f64>| Figures::of(&pairs, &hits, counts, rates);
    let value = of(&all);
    let every: Vec<usize> = (0..n).collect();
    let replicates: Vec<Figures> = resamples
        .blocks(&every)
        .flat_map(|block| block.rows().into_iter().map(|counts| of(&counts.to_owned())).collect::<Vec<_>>())
        .collect();
    let estimate =
        |read: &dyn Fn(&Figures) -> f64| resamples.percentile(read(&value), replicates.iter().map(read).collect());
    let chance = |estimate: Estimate| Estimate { null_floor: Some(0.5), ..estimate };
    let at = |rate: Option<f64>, read: &dyn Fn(&Figures) -> f64| {
        rate.map(|rate| Estimate { null_floor: Some(rate), ..estimate(read) })
    };
    let [first, second] = rates;
    Ok(Verification {
        accuracy: chance(estimate(&|figures| figures.accuracy)),
        roc_auc: chance(estimate(&|figures| figures.roc_auc)),
        true_accept_rates: [
            at(first, &|Figures { accepted: [accepted, _], .. }| *accepted),
            at(second, &|Figures { accepted: [_, accepted], .. }| *accepted),
        ],
        threshold,
        n_pairs: pairs.iter().filter(|pair| pair.judges).count() / 2,
    })
}

/// Two samples.
#[derive(Clone, Debug)]
struct Pair {
    /// Ascending.
    samples: [usize; 2],
    is_matched: bool,
    /// Whether the accuracy counts it.
    judges: bool,
    similarity: f64,
}

/// Matched pairs, then mismatched ones; as many of the one as of the other judge.
fn drawn_pairs(classes: &Classes, seed: u64) -> Result<Vec<Pair>, Error> {
    let members = classes.members();
    let of_class = |size: &usize| size * (size - 1) / 2;
    let n = classes.of_samples().len();
    let n_matched: usize = classes.sizes().iter().map(of_class).sum();
    if n_matched == 0 {
        return Err(Error::NoMatchedPairs);
    }
    let n_mismatched = n * (n - 1) / 2 - n_matched;
    let [count, other_count] = [n_matched, n_mismatched].map(|total| total.min(limits::VERIFIED_PAIRS));
    let mut pairs = Vec::with_capacity(count + other_count);
    let mut rng = stream(seed, Purpose::VerifiedPairs, 0);
    let mut number_of = chosen(&mut rng, n_matched, count).into_iter();
    let mut next = number_of.next();
    let mut before = 0;
    for members in &members {
        let end = before + of_class(&members.len());
        while let Some(number) = next.filter(|&number| number < end) {
            let [low, high] = pair_of(number - before);
            if let (Some(&first), Some(&second)) = (members.get(low), members.get(high)) {
                pairs.push(Pair { samples: [first, second], is_matched: true, judges: false, similarity: 0.0 });
            }
            next = number_of.next();
        }
        before = end;
    }
    let mut rng = stream(seed, Purpose::VerifiedPairs, 1);
    pairs.extend(mismatched(&mut rng, classes, n_mismatched, other_count));
    let (matched, mismatched) = pairs.split_at_mut(count);
    for (kind, pairs) in [matched, mismatched].into_iter().enumerate() {
        let mut rng = stream(seed, Purpose::VerifiedPairs, 2 + kind as u64);
        for place in chosen(&mut rng, pairs.len(), count.min(other_count)) {
            pairs.get_mut(place).into_iter().for_each(|pair| pair.judges = true);
        }
    }
    Ok(pairs)
}

/// Mismatched pairs: by enumeration where few of them are to be left out, else by trial.
fn mismatched(rng: &mut impl rand::Rng, classes: &Classes, n_mismatched: usize, count: usize) -> Vec<Pair> {
    let of_samples = classes.of_samples();
    let n = of_samples.len();
    let differ = |samples: &[usize; 2]| {
        let [first, second] = samples.map(|sample| of_samples.get(sample));
        first != second
    };
    let pair = |samples| Pair { samples, is_matched: false, judges: false, similarity: 0.0 };
    if n_mismatched <= 4 * count {
        let every: Vec<[usize; 2]> = (0..n * (n - 1) / 2).map(pair_of).filter(differ).collect();
        let chosen = chosen(rng, every.len(), count);
        return chosen.into_iter().filter_map(|number| every.get(number).copied()).map(pair).collect();
    }
    let mut found = std::collections::BTreeSet::new();
    // There are four times as many as are looked for, so a trial seldom finds one again.
    while found.len() < count {
        let samples = pair_of(below(rng, n * (n - 1) / 2));
        if differ(&samples) {
            found.insert(samples);
        }
    }
    found.into_iter().map(pair).collect()
}

/// `count` of the numbers `0..total`, ascending (Floyd's sampling).
fn chosen(rng: &mut impl rand::Rng, total: usize, count: usize) -> Vec<usize> {
    let mut found = std::collections::BTreeSet::new();
    for last in total.saturating_sub(count)..total {
        let number = below(rng, last + 1);
        if !found.insert(number) {
            found.insert(last);
        }
    }
    found.into_iter().collect()
}

/// The pair of a number: (0, 1), (0, 2), (1, 2), (0, 3), …
fn pair_of(number: usize) -> [usize; 2] {
    let mut high = ((1.0 + (1.0 + 8.0 * number as f64).sqrt()) / 2.0) as usize;
    // The root may be off by one.
    while high * (high - 1) / 2 > number {
        high -= 1;
    }
    while (high + 1) * high / 2 <= number {
        high += 1;
    }
    [number - high * (high - 1) / 2, high]
}

/// Rows of length 1; rows of length 0 as they are.
fn directions(rows: ArrayView2<'_, f64>) -> Array2<f64> {
    let lengths = rows.map_axis(Axis(1), |row| row.dot(&row).sqrt()).mapv(|x| if x > 0.0 { x } else { 1.0 });
    &rows / &lengths.insert_axis(Axis(1))
}

/// Whether each pair is judged rightly, `None` for those that the accuracy leaves out, and the mean threshold.
fn judged(pairs: &[Pair], seed: u64) -> Result<(Vec<Option<bool>>, f64), Error> {
    let judging: Vec<&Pair> = pairs.iter().filter(|pair| pair.judges).collect();
    let kinds: Vec<usize> = judging.iter().map(|pair| usize::from(pair.is_matched)).collect();
    let folds = FOLDS.min(judging.len() / 2).max(2);
    let fold_of = stratified_folds(&kinds, 2, folds, seed)?;
    let mut thresholds = Vec::with_capacity(folds);
    for fold in 0..folds {
        let others = judging.iter().zip(&fold_of).filter(|(_, other)| **other != fold).map(|(pair, _)| *pair);
        thresholds.push(best_threshold(others));
    }
    let mut folds_of_judging = fold_of.iter();
    let hits = pairs.iter().map(|pair| {
        let fold = if pair.judges { folds_of_judging.next() } else { None };
        let threshold = thresholds.get(*fold?).copied().unwrap_or(f64::INFINITY);
        Some((pair.similarity >= threshold) == pair.is_matched)
    });
    Ok((hits.collect(), thresholds.iter().sum::<f64>() / folds as f64))
}

/// The similarity from which on pairs are best taken for matched, half way between two that occur; the highest of equally
/// good ones. The pairs come most alike first.
fn best_threshold<'a>(pairs: impl Iterator<Item = &'a Pair>) -> f64 {
    let pairs: Vec<&Pair> = pairs.collect();
    let highest = pairs.first().map_or(1.0, |pair| pair.similarity);
    // Above every pair, all mismatched are right.
    let (mut gained, mut best, mut threshold) = (0_i64, 0_i64, highest + 1e-9);
    let mut steps = pairs.chunk_by(|a, b| a.similarity == b.similarity).peekable();
    while let Some(step) = steps.next() {
        gained += step.iter().map(|pair| if pair.is_matched { 1 } else { -1 }).sum::<i64>();
        if gained > best {
            let here = step.first().map_or(highest, |pair| pair.similarity);
            let below = steps.peek().and_then(|next| next.first()).map_or(here, |pair| pair.similarity);
            (best, threshold) = (gained, here.midpoint(below));
        }
    }
    threshold
}

/// The figures of one resample.
struct Figures {
    accuracy: f64,
    roc_auc: f64,
    accepted: [f64; 2],
}

impl Figures {
    /// Of pairs, most alike first, each counting the product of its samples' counts; NaN where a kind of pairs is missing.
    fn of(pairs: &[Pair], hits: &[Option<bool>], counts: &Array1<f64>, rates: [Option<f64>; 2]) -> Self {
        let weight = |pair: &Pair| {
            let [first, second] = pair.samples.map(|sample| counts.get(sample).copied().unwrap_or(0.0));
            first * second
        };
        let (mut matched, mut mismatched, mut judged, mut right) = (0.0, 0.0, 0.0, 0.0);
        for (pair, &hit) in pairs.iter().zip(hits) {
            let weight = weight(pair);
            if pair.is_matched {
                matched += weight
            } else {
                mismatched += weight
            }
            judged += if hit.is_some() { weight } else { 0.0 };
            right += if hit == Some(true) { weight } else { 0.0 };
        }
        let (mut accepted, mut wrongly, mut area) = (0.0, 0.0, 0.0);
        let mut at_rates = [0.0; 2];
        for step in pairs.chunk_by(|a, b| a.similarity == b.similarity) {
            let (mut of_matched, mut of_mismatched) = (0.0, 0.0);
            for pair in step {
                if pair.is_matched { of_matched += weight(pair) } else { of_mismatched += weight(pair) }
            }
            area += of_mismatched * (accepted + 0.5 * of_matched);
            accepted += of_matched;
            wrongly += of_mismatched;
            for (at_rate, rate) in at_rates.iter_mut().zip(rates) {
                if rate.is_some_and(|rate| wrongly <= rate * mismatched) {
                    *at_rate = accepted / matched;
                }
            }
        }
        Figures { accuracy: right / judged, roc_auc: area / (matched * mismatched), accepted: at_rates }
    }
}
