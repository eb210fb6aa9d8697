//! Hierarchical clustering by Ward's criterion (Ward 1963).

use kodama::{Method, linkage};
use ndarray::ArrayView2;

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
    let mut distances: Vec<f64> = Vec::with_capacity(n * n.saturating_sub(1) / 2);
    for (index, row) in rows.rows().into_iter().enumerate() {
        for other in rows.rows().into_iter().skip(index + 1) {
            distances.push(row.iter().zip(other).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt());
        }
    }
    if n < 2 {
        return Some(Vec::new());
    }
    let dendrogram = linkage(&mut distances, n, Method::Ward);
    let merges = dendrogram.steps().iter().map(|step| Merge {
        first: step.cluster1.min(step.cluster2),
        second: step.cluster1.max(step.cluster2),
        height: step.dissimilarity,
        size: step.size,
    });
    Some(merges.collect())
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
