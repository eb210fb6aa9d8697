//! Hierarchical clustering by Ward's criterion (Ward 1963).

use kodama::{Method, linkage};
use ndarray::ArrayView2;

use super::pairs::product_moment;

/// Two clusters made one. Clusters 0..n are the rows themselves; merge i makes cluster n + i.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merge {
    /// The smaller of the two numbers.
    pub first: usize,
    pub second: usize,
    /// How far apart they are: √(2·|A||B|/(|A| + |B|))·‖mean of A − mean of B‖, SciPy's convention. Grows from merge to
    /// merge.
    pub height: f64,
    /// Rows in the new cluster.
    pub size: usize,
}

/// Merges rows (n, d) step by step, each time the two clusters that raise the variance within clusters least: n − 1 merges.
///
/// `None` where a number is not finite.
pub fn ward(rows: ArrayView2<'_, f64>) -> Option<Vec<Merge>> {
    if rows.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let n = rows.nrows();
    if n < 2 {
        return Some(Vec::new());
    }
    let mut distances = row_distances(rows);
    let dendrogram = linkage(&mut distances, n, Method::Ward);
    let merges = dendrogram.steps().iter().map(|step| Merge {
        first: step.cluster1.min(step.cluster2),
        second: step.cluster1.max(step.cluster2),
        height: step.dissimilarity,
        size: step.size,
    });
    Some(merges.collect())
}

/// Euclidean distances of all pairs of rows: 0 and 1, 0 and 2, …, 1 and 2, …
fn row_distances(rows: ArrayView2<'_, f64>) -> Vec<f64> {
    let n = rows.nrows();
    let mut distances = Vec::with_capacity(n * n.saturating_sub(1) / 2);
    for (index, row) in rows.rows().into_iter().enumerate() {
        for other in rows.rows().into_iter().skip(index + 1) {
            distances.push(row.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt());
        }
    }
    distances
}

/// The height at which each pair of `n` rows comes together, in the order (0, 1), (0, 2), … (1, 2), …; 0 for a pair that never does.
pub fn cophenetic_distances(merges: &[Merge], n: usize) -> Vec<f64> {
    let mut distances = vec![0.0; n * n.saturating_sub(1) / 2];
    let mut clusters: Vec<Vec<usize>> = (0..n).map(|row| vec![row]).collect();
    for merge in merges {
        let mut rows = |cluster: usize| clusters.get_mut(cluster).map(std::mem::take).unwrap_or_default();
        let (mut joined, other) = (rows(merge.first), rows(merge.second));
        for (&a, &b) in joined.iter().flat_map(|a| other.iter().map(move |b| (a, b))) {
            if let Some(distance) = distances.get_mut(place_of_pair(a.min(b), a.max(b), n)) {
                *distance = merge.height;
            }
        }
        joined.extend(other);
        clusters.push(joined);
    }
    distances
}

/// Where the pair of rows `low` < `high` of `n` stands among all pairs.
pub(super) fn place_of_pair(low: usize, high: usize, n: usize) -> usize {
    low * (2 * n - low - 1) / 2 + high - low - 1
}

/// How faithfully a clustering keeps the distances of the rows it was made of: the correlation of the heights at which pairs
/// come together with the pairs' distances (Sokal and Rohlf 1962), -1..1.
///
/// `None` for fewer than three rows, and where all distances or all heights are equal.
pub fn cophenetic_correlation(merges: &[Merge], rows: ArrayView2<'_, f64>) -> Option<f64> {
    let (heights, distances) = (cophenetic_distances(merges, rows.nrows()), row_distances(rows));
    if rows.nrows() < 3 {
        return None;
    }
    product_moment(&heights, &distances, &vec![1; heights.len()])
}

/// The group of each of `n` rows once merging stops at `n_groups` groups; groups are numbered from 0 in the order of their
/// first row. `n_groups` is clamped to 1..=n.
pub fn flat_groups(merges: &[Merge], n: usize, n_groups: usize) -> Vec<usize> {
    let kept = n.saturating_sub(n_groups.clamp(1, n.max(1)));
    // The cluster that each cluster became part of.
    let mut parents: Vec<usize> = (0..n + merges.len()).collect();
    for (index, merge) in merges.iter().take(kept).enumerate() {
        for part in [merge.first, merge.second] {
            if let Some(parent) = parents.get_mut(part) {
                *parent = n + index;
            }
        }
    }
    let root = |mut cluster: usize| {
        while let Some(&parent) = parents.get(cluster).filter(|&&parent| parent != cluster) {
            cluster = parent;
        }
        cluster
    };
    let mut seen: Vec<usize> = Vec::new();
    (0..n)
        .map(|row| {
            let root = root(row);
            seen.iter().position(|&known| known == root).unwrap_or_else(|| {
                seen.push(root);
                seen.len() - 1
            })
        })
        .collect()
}
