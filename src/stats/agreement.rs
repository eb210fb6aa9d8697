//! How well a score agrees with a measured transfer over sources, and how surely.

use super::{
    Confidence, Error, Purpose, Resamples, correlation::Correlations, estimate::interval, few_pairs::FewPairs,
    pairs::Pairs, permutation, stream,
};

/// Up to this many sources, every permutation is tried.
pub const ENUMERATED_SOURCES: usize = 8;
/// Fewest sources with an interval: fewer have too few different resamples.
pub const INTERVAL_SOURCES: usize = 5;
/// Fewest different sources of a resample that counts: two correlate perfectly, whatever they are.
const DISTINCT_SOURCES: usize = 3;
/// Coefficients this close are equal but for rounding.
const ROUNDING: f64 = 1e-12;

/// A coefficient over sources, -1..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coefficient {
    pub value: f64,
    /// Percentile interval over resampled sources; contains the value. `None` for fewer than [`INTERVAL_SOURCES`], and where
    /// every resample gives the same coefficient, as in a perfect agreement, which says nothing of its spread.
    pub interval: Option<(f64, f64)>,
    /// How probable a coefficient at least as far from 0 is where the score says nothing, 0..1: the share of permutations of
    /// the measured values that give one. All of them up to [`ENUMERATED_SOURCES`]; beyond, (1 + found)/(1 + drawn) of as many
    /// as there are resamples.
    pub p_value: f64,
}

/// The coefficients of one score with one measured transfer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    pub pearson: Coefficient,
    pub spearman: Coefficient,
    pub kendall: Coefficient,
    pub weighted_kendall: Coefficient,
    /// Resamples that the intervals leave out: of fewer than three different sources, or of a single value on one side.
    pub n_degenerate: usize,
}

/// Resamples and permutations of k sources, drawn once for all scores: they are compared on the same draws.
#[derive(Clone, Debug)]
pub struct SourceDraws {
    level: f64,
    /// How often each resample drew each source.
    counts: Vec<Vec<usize>>,
    /// Without the identity where drawn at random.
    permutations: Vec<Vec<usize>>,
    are_all: bool,
}

impl SourceDraws {
    /// Draws for `n_sources`.
    ///
    /// # Errors
    /// As [`Resamples::new`].
    pub fn new(n_sources: usize, confidence: Confidence, seed: u64) -> Result<Self, Error> {
        let resamples = Resamples::new(n_sources, confidence, seed)?;
        let counts = match n_sources {
            ..INTERVAL_SOURCES => Vec::new(),
            _ => {
                resamples.counts().rows().into_iter().map(|row| row.iter().map(|&n| usize::from(n)).collect()).collect()
            }
        };
        let are_all = n_sources <= ENUMERATED_SOURCES;
        let random = |index: usize| permutation(&mut stream(seed, Purpose::SourcePermutation, index as u64), n_sources);
        let permutations =
            if are_all { all_permutations(n_sources) } else { (0..confidence.resamples).map(random).collect() };
        Ok(SourceDraws { level: confidence.level, counts, permutations, are_all })
    }

    /// `None` where there are no coefficients: see [`Correlations::of`]. `scores` and `measured` have one value for each
    /// source.
    pub fn agreement(&self, scores: &[f64], measured: &[f64]) -> Option<Agreement> {
        let pairs = Pairs::new(scores, measured)?;
        let values = pairs.correlations(&vec![1; scores.len()])?;
        let is_usable = |counts: &&Vec<usize>| counts.iter().filter(|&&n| n > 0).count() >= DISTINCT_SOURCES;
        let resampled: Vec<Correlations> =
            self.counts.iter().filter(is_usable).filter_map(|counts| pairs.correlations(counts)).collect();
        let few = FewPairs::new(&pairs);
        let permuted = self.permutations.iter().filter_map(|order| match &few {
            Some(few) => Some(few.permuted(order)),
            None => pairs.permuted(order).correlations(&vec![1; order.len()]),
        });
        let permuted: Vec<Correlations> = permuted.collect();
        let of = |read: fn(&Correlations) -> f64| {
            let value = read(&values);
            let replicates: Vec<f64> = resampled.iter().map(read).collect();
            let as_far = permuted.iter().filter(|&found| read(found).abs() >= value.abs() - ROUNDING).count();
            let own = usize::from(!self.are_all);
            Coefficient {
                value,
                interval: varies(&replicates).then(|| interval(value, replicates, self.level)),
                p_value: (as_far + own) as f64 / (permuted.len() + own) as f64,
            }
        };
        Some(Agreement {
            pearson: of(|found| found.pearson),
            spearman: of(|found| found.spearman),
            kendall: of(|found| found.kendall),
            weighted_kendall: of(|found| found.weighted_kendall),
            n_degenerate: self.counts.len() - resampled.len(),
        })
    }
}

/// Whether there are different numbers among these.
fn varies(values: &[f64]) -> bool {
    values.iter().zip(values.iter().skip(1)).any(|(a, b)| (a - b).abs() > ROUNDING)
}

/// Every order of 0..n.
pub(super) fn all_permutations(n: usize) -> Vec<Vec<usize>> {
    (0..n).fold(vec![Vec::new()], |shorter, next| {
        let longer = shorter.iter().flat_map(|order: &Vec<usize>| {
            (0..=order.len()).map(move |place| {
                let mut order = order.clone();
                order.insert(place, next);
                order
            })
        });
        longer.collect()
    })
}
