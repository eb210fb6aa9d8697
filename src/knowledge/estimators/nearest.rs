//! k nearest neighbours by cosine, leave-one-out.

use ndarray::{Array2, Axis, parallel::prelude::*, s};

use super::Task;
use crate::{
    knowledge::{Classes, Error, Score},
    stats::product_of_rows,
};

/// Rows whose similarities to all others are in memory together.
const BLOCK: usize = 256;

/// The share of samples that most of their k nearest neighbours have the class of. Among equally many, the class that has
/// the nearest neighbour wins; among equally near, the earlier sample is nearer. Similarities are computed in single
/// precision. The interval resamples samples and holds the neighbours fixed.
pub(super) fn knn(task: &Task<'_>) -> Result<Score, Error> {
    let (classes, rows, k) = (task.classes()?, task.rows()?, task.options().n_neighbors);
    let n_samples = rows.rows.nrows();
    if k >= n_samples {
        return Err(Error::Neighbors { neighbors: k, n_samples });
    }
    let mut directions: Array2<f32> = Array2::zeros(rows.rows.dim());
    for (mut to, row) in directions.rows_mut().into_iter().zip(rows.rows.rows()) {
        let length = row.dot(&row).sqrt();
        if length > 0.0 {
            to.zip_mut_with(&row, |to, x| *to = (x / length) as f32);
        }
    }
    let starts: Vec<usize> = (0..n_samples).step_by(BLOCK).collect();
    let neighbors: Vec<Vec<usize>> = starts
        .into_par_iter()
        .flat_map_iter(|start| {
            let block = directions.slice(s![start..(start + BLOCK).min(n_samples), ..]);
            let similarities = product_of_rows(block, directions.view());
            let nearest = similarities.axis_iter(Axis(0)).enumerate();
            nearest.map(|(row, similar)| nearest_of(similar.iter().copied(), start + row, k)).collect::<Vec<_>>()
        })
        .collect();
    let hits = |classes: &Classes| -> Vec<f64> {
        let of_samples = classes.of_samples();
        let samples = neighbors.iter().zip(of_samples);
        samples.map(|(neighbors, own)| f64::from(u8::from(vote(neighbors, of_samples) == Some(*own)))).collect()
    };
    let mean = |classes: &Classes| hits(classes).iter().sum::<f64>() / n_samples as f64;
    let accuracy = task.resamples().mean(&hits(classes))?;
    Ok(Score::with_interval(accuracy).with_shuffled(task.shuffled(classes, mean)))
}

/// The k most similar samples but the sample itself, nearest first.
fn nearest_of(similarities: impl Iterator<Item = f32>, own: usize, k: usize) -> Vec<usize> {
    let mut nearest: Vec<(f32, usize)> = Vec::with_capacity(k + 1);
    let mut bound = f32::NEG_INFINITY;
    for (sample, similarity) in similarities.enumerate() {
        if sample == own || (nearest.len() == k && similarity <= bound) {
            continue;
        }
        let place = nearest.partition_point(|(other, _)| *other >= similarity);
        nearest.insert(place, (similarity, sample));
        nearest.truncate(k);
        bound = nearest.last().map_or(f32::NEG_INFINITY, |(similarity, _)| *similarity);
    }
    nearest.into_iter().map(|(_, sample)| sample).collect()
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
