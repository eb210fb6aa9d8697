//! k nearest neighbours by cosine, leave-one-out.

use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use rayon::prelude::*;

use super::Task;
use crate::{
    knowledge::{Classes, Error, Score},
    stats::product_of_rows,
};

/// Rows whose similarities to all later ones are in memory together.
const BLOCK: usize = 256;

/// Samples that single precision puts forward beside the neighbours asked for; double precision chooses among them.
const MORE_CANDIDATES: usize = 40;

/// The share of samples that most of their k nearest neighbours have the class of. Among equally many, the class that has
/// the nearest neighbour wins; among equally near, the earlier sample is nearer. The nearest are chosen in double precision
/// from among those and forty more that are the nearest in single precision. The interval resamples samples and holds the neighbours fixed.
pub(super) fn knn(task: &Task<'_>) -> Result<Score, Error> {
    let (classes, rows, k) = (task.classes()?, task.rows()?, task.options().n_neighbors);
    let n_samples = rows.rows.nrows();
    if k >= n_samples {
        return Err(Error::Neighbors { neighbors: k, n_samples });
    }
    let lengths = rows.rows.map_axis(Axis(1), |row| row.dot(&row).sqrt());
    let mut directions: Array2<f32> = Array2::zeros(rows.rows.dim());
    for ((mut to, row), &length) in directions.rows_mut().into_iter().zip(rows.rows.rows()).zip(&lengths) {
        if length > 0.0 {
            to.zip_mut_with(&row, |to, x| *to = (x / length) as f32);
        }
    }
    let candidates = nearest(&directions, (k + MORE_CANDIDATES).min(n_samples - 1));
    let neighbors: Vec<Vec<usize>> = candidates
        .into_par_iter()
        .enumerate()
        .map(|(sample, candidates)| nearest_of(candidates, sample, rows.rows.view(), &lengths, k))
        .collect();
    let hits = |classes: &Classes| -> Vec<Option<bool>> {
        let of_samples = classes.of_samples();
        neighbors.iter().zip(of_samples).map(|(nearest, own)| Some(vote(nearest, of_samples) == Some(*own))).collect()
    };
    let mean =
        |classes: &Classes| hits(classes).iter().filter(|hit| **hit == Some(true)).count() as f64 / n_samples as f64;
    let accuracy = task.resamples().share(&hits(classes))?;
    Ok(Score::with_interval(accuracy).with_shuffled(task.shuffled(classes, mean)))
}

/// The k of some samples that are the most similar to one, nearest first.
fn nearest_of(
    mut candidates: Vec<usize>,
    sample: usize,
    rows: ArrayView2<'_, f64>,
    lengths: &Array1<f64>,
    k: usize,
) -> Vec<usize> {
    candidates.sort_unstable();
    let row = rows.row(sample);
    let cosine = |other: usize| match lengths.get(other) {
        Some(&length) if length > 0.0 => row.dot(&rows.row(other)) / length,
        _ => 0.0,
    };
    let mut similar: Vec<(f64, usize)> = candidates.into_iter().map(|other| (cosine(other), other)).collect();
    similar.sort_by(|a, b| b.0.total_cmp(&a.0));
    similar.truncate(k);
    similar.into_iter().map(|(_, other)| other).collect()
}

/// The k most similar samples to each but itself, nearest first. Each block of similarities is computed once and read both
/// ways.
fn nearest(directions: &Array2<f32>, k: usize) -> Vec<Vec<usize>> {
    let n = directions.nrows();
    let blocks: Vec<usize> = (0..n).step_by(BLOCK).collect();
    let rows = |start: usize| directions.slice(s![start..(start + BLOCK).min(n), ..]);
    let mut nearest: Vec<Nearest> = vec![Nearest::default(); n];
    for &first in &blocks {
        let others: Vec<usize> = blocks.iter().copied().filter(|&second| second >= first).collect();
        let found: Vec<Array2<f32>> =
            others.par_iter().map(|&second| product_of_rows(rows(second), rows(first))).collect();
        let (_, rest) = nearest.split_at_mut(first);
        let (own, after) = rest.split_at_mut(rows(first).nrows());
        // The block's own samples see all later ones, and all later ones see the block's.
        own.par_iter_mut().enumerate().for_each(|(column, nearest)| {
            for (&second, similarities) in others.iter().zip(&found) {
                nearest.see(similarities.column(column).iter().copied(), second, first + column, k);
            }
        });
        after.par_chunks_mut(BLOCK).zip(found.get(1..).unwrap_or_default()).for_each(|(chunk, similarities)| {
            for (nearest, row) in chunk.iter_mut().zip(similarities.rows()) {
                nearest.see(row.iter().copied(), first, usize::MAX, k);
            }
        });
    }
    nearest.into_iter().map(|nearest| nearest.samples.into_iter().map(|(_, sample)| sample).collect()).collect()
}

/// The most similar samples so far, nearest first; among equally near ones the earlier sample, as they are seen in order.
#[derive(Clone, Default)]
struct Nearest {
    samples: Vec<(f32, usize)>,
}

impl Nearest {
    /// Looks at the similarities of the samples from `start` on, but for `own`.
    fn see(&mut self, similarities: impl Iterator<Item = f32>, start: usize, own: usize, k: usize) {
        let farthest = |samples: &[(f32, usize)]| match samples.len() < k {
            true => f32::NEG_INFINITY,
            false => samples.last().map_or(f32::NEG_INFINITY, |(similarity, _)| *similarity),
        };
        let mut bound = farthest(&self.samples);
        for (sample, similarity) in (start..).zip(similarities) {
            if similarity > bound && sample != own {
                let place = self.samples.partition_point(|(other, _)| *other >= similarity);
                self.samples.insert(place, (similarity, sample));
                self.samples.truncate(k);
                bound = farthest(&self.samples);
            }
        }
    }
}

/// The class of most neighbours; of equally frequent ones, that of the nearest.
fn vote(neighbors: &[usize], classes: &[usize]) -> Option<usize> {
    let voters: Vec<usize> = neighbors.iter().filter_map(|&sample| classes.get(sample).copied()).collect();
    let votes = |class: &usize| voters.iter().filter(|other| *other == class).count();
    voters
        .iter()
        .fold(None, |best: Option<(usize, usize)>, class| {
            let found = votes(class);
            if best.is_some_and(|(_, most)| most >= found) { best } else { Some((*class, found)) }
        })
        .map(|(class, _)| class)
}
