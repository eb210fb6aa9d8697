//! How well a clustering finds groups that are known beforehand, against the same with the groups' names shuffled.

use super::{
    Confidence, Merge, Purpose, ShuffledNull,
    agreement::{ENUMERATED_SOURCES, all_permutations},
    clustering::{cophenetic_distances, flat_groups, place_of_pair},
    permutation, stream,
};

/// Values this close are equal but for rounding.
const ROUNDING: f64 = 1e-12;

/// A value, and what it is where the groups say nothing: the same with the groups shuffled among the members.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AgainstChance {
    pub value: f64,
    /// Mean and upper quantile, at the confidence level, over permutations.
    pub chance: ShuffledNull,
    /// The share of permutations that give at least the value. All of them up to [`ENUMERATED_SOURCES`] members; beyond,
    /// (1 + found)/(1 + drawn).
    pub p_value: f64,
}

/// How a clustering agrees with known groups.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupAgreement {
    /// The cluster of each member once the clustering is cut into as many clusters as there are groups.
    pub clusters: Vec<usize>,
    /// Adjusted Rand index of that cut.
    pub adjusted_rand_index: AgainstChance,
    /// The correlation of the heights at which pairs come together with their being of different groups, -1..1. `None` where
    /// either is the same for all pairs.
    pub cophenetic_correlation: Option<AgainstChance>,
    pub n_permutations: usize,
}

/// The adjusted Rand index of two partitions of the same members (Hubert and Arabie 1985), at most 1: 0 is what chance gives
/// on average, 1 the same partition. Partitions are given as the number of each member's part.
///
/// `None` for partitions of different lengths or of nothing.
pub fn adjusted_rand_index(a: &[usize], b: &[usize]) -> Option<f64> {
    if a.is_empty() || a.len() != b.len() {
        return None;
    }
    let (a, b) = (numbered(a), numbered(b));
    let n_parts = |parts: &[usize]| parts.iter().max().map_or(0, |last| last + 1);
    let (rows, columns) = (n_parts(&a), n_parts(&b));
    let mut shared = vec![0_u64; rows * columns];
    let (mut of_a, mut of_b) = (vec![0_u64; rows], vec![0_u64; columns]);
    let count = |counts: &mut Vec<u64>, place: usize| {
        if let Some(count) = counts.get_mut(place) {
            *count += 1;
        }
    };
    for (&a, &b) in a.iter().zip(&b) {
        count(&mut shared, a * columns + b);
        count(&mut of_a, a);
        count(&mut of_b, b);
    }
    let pairs = |counts: &[u64]| counts.iter().map(|&n| (n * n.saturating_sub(1) / 2) as f64).sum::<f64>();
    let (together, in_a, in_b) = (pairs(&shared), pairs(&of_a), pairs(&of_b));
    let n = a.len() as f64;
    let all = n * (n - 1.0) / 2.0;
    let expected = if all > 0.0 { in_a * in_b / all } else { 0.0 };
    let most = (in_a + in_b) / 2.0;
    // One part each, or a part for each member: there is only one such partition.
    Some(if most == expected { 1.0 } else { (together - expected) / (most - expected) })
}

/// Parts numbered from 0 in the order of their first members.
fn numbered(parts: &[usize]) -> Vec<usize> {
    let mut seen: Vec<usize> = Vec::new();
    let number = |part: &usize| {
        seen.iter().position(|known| known == part).unwrap_or_else(|| {
            seen.push(*part);
            seen.len() - 1
        })
    };
    parts.iter().map(number).collect()
}

/// Holds a clustering of members 0..n against the group of each. The groups are shuffled as often as there are resamples, or
/// in every order up to [`ENUMERATED_SOURCES`] members.
///
/// `None` without members.
pub fn group_agreement(
    merges: &[Merge],
    groups: &[usize],
    confidence: Confidence,
    seed: u64,
) -> Option<GroupAgreement> {
    let n = groups.len();
    let groups = numbered(groups);
    let clusters = flat_groups(merges, n, groups.iter().max()? + 1);
    let heights = cophenetic_distances(merges, n);
    let correlation = Separation::new(&heights, &groups);
    let are_all = n <= ENUMERATED_SOURCES;
    let orders = match are_all {
        true => all_permutations(n),
        false => (0..confidence.resamples)
            .map(|index| permutation(&mut stream(seed, Purpose::GroupPermutation, index as u64), n))
            .collect(),
    };
    let (mut indices, mut correlations) = (Vec::with_capacity(orders.len()), Vec::with_capacity(orders.len()));
    for order in &orders {
        let shuffled: Vec<usize> = order.iter().filter_map(|&member| groups.get(member).copied()).collect();
        indices.extend(adjusted_rand_index(&clusters, &shuffled));
        correlations.extend(correlation.as_ref().map(|correlation| correlation.of(&shuffled)));
    }
    let against = |value: f64, shuffled: Vec<f64>| {
        let own = usize::from(!are_all);
        let found = shuffled.iter().filter(|&&other| other >= value - ROUNDING).count() + own;
        let p_value = found as f64 / (shuffled.len() + own) as f64;
        let mut chance = ShuffledNull::of(shuffled, confidence.level)?;
        if chance.mean.abs() < ROUNDING {
            chance.mean = 0.0;
        }
        Some(AgainstChance { value, chance, p_value })
    };
    Some(GroupAgreement {
        adjusted_rand_index: against(adjusted_rand_index(&clusters, &groups)?, indices)?,
        cophenetic_correlation: correlation.and_then(|found| against(found.of(&groups), correlations)),
        clusters,
        n_permutations: orders.len(),
    })
}

/// The correlation of heights with being of different groups, for groups of fixed sizes: only the heights within groups
/// change when members change places.
struct Separation<'a> {
    heights: &'a [f64],
    mean: f64,
    /// √(Σ (height − mean)²) · √(Σ (different − mean)²).
    scale: f64,
}

impl<'a> Separation<'a> {
    /// `None` where the heights, or the groups, are the same for all pairs.
    fn new(heights: &'a [f64], groups: &[usize]) -> Option<Separation<'a>> {
        let n_pairs = heights.len() as f64;
        let mean = heights.iter().sum::<f64>() / n_pairs;
        let within = pairs_within(groups).count() as f64;
        let spread = heights.iter().map(|height| (height - mean).powi(2)).sum::<f64>();
        let scale = spread.sqrt() * (within * (n_pairs - within) / n_pairs).sqrt();
        (scale.is_finite() && scale > 0.0).then_some(Separation { heights, mean, scale })
    }

    fn of(&self, groups: &[usize]) -> f64 {
        let within = pairs_within(groups).filter_map(|place| self.heights.get(place));
        (-within.map(|height| height - self.mean).sum::<f64>() / self.scale).clamp(-1.0, 1.0)
    }
}

/// The places of the pairs of one group among all pairs.
fn pairs_within(groups: &[usize]) -> impl Iterator<Item = usize> {
    let members = groups.iter().enumerate();
    members.flat_map(move |(low, group)| {
        let later = groups.iter().enumerate().skip(low + 1).filter(move |(_, other)| *other == group);
        later.map(move |(high, _)| place_of_pair(low, high, groups.len()))
    })
}
