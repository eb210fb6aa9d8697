//! PARC (Bolya, Mittapalli, Hoffman 2021): do samples that look alike to the source have the same label?

use ndarray::{Array2, Axis};

use super::Task;
use crate::{
    knowledge::{Classes, Error, Score},
    limits,
    stats::{Purpose, gram_of_rows, permutation, stream},
};

/// PARC: Spearman's correlation, over pairs of samples, of 1 − the correlation of their features and 1 − the correlation of
/// their one-hot labels. Features are standardised first; −1..1, where the authors' code gives percent. At most
/// [`limits::PAIRED_SAMPLES`] samples, drawn by the seed, are compared.
pub(super) fn parc(task: &Task<'_>) -> Result<Score, Error> {
    let (features, classes) = drawn(task)?;
    let standardised = standardised(features)?;
    let correlations = gram_of_rows(standardised.view());
    // Distances to the samples before; the label's distance is one of two numbers, so its ranks are as good as it.
    let mut distances: Vec<(f64, usize)> = Vec::with_capacity(correlations.len() / 2);
    for (sample, row) in correlations.rows().into_iter().enumerate() {
        distances.extend(row.iter().take(sample).map(|&correlation| 1.0 - correlation).zip(distances.len()..));
    }
    let ranks = centred_ranks(distances);
    let value = |classes: &Classes| correlation_with_classes(&ranks, classes);
    let found = value(&classes).ok_or(Error::NotANumber)?;
    Ok(Score::of(found).with_shuffled(task.shuffled(&classes, |classes| value(classes).unwrap_or(f64::NAN))))
}

/// The features and classes of the samples that are compared.
fn drawn(task: &Task<'_>) -> Result<(Array2<f64>, Classes), Error> {
    let (features, classes) = (task.features(), task.classes()?);
    let n = features.nrows();
    if n <= limits::PAIRED_SAMPLES {
        return Ok((features.to_owned(), classes.clone()));
    }
    let mut order = permutation(&mut stream(task.options().seed, Purpose::ComparedSamples, 0), n);
    order.truncate(limits::PAIRED_SAMPLES);
    order.sort_unstable();
    let label = |sample: &usize| classes.of_samples().get(*sample).map(|&class| class as u32);
    let labels: Vec<u32> = order.iter().filter_map(label).collect();
    Ok((features.select(Axis(0), &order), Classes::new(&labels)?))
}

/// Each feature less its mean over its deviation, then each sample less its mean over its length, so that products are
/// correlations. A sample without a direction correlates with none.
fn standardised(mut rows: Array2<f64>) -> Result<Array2<f64>, Error> {
    let n = rows.nrows() as f64;
    for mut column in rows.columns_mut() {
        let largest = column.fold(0.0_f64, |largest, x| largest.max(x.abs()));
        let mean = column.sum() / n;
        column -= mean;
        let deviation = (column.dot(&column) / n).sqrt();
        if deviation > 1e-12 * largest { column /= deviation } else { column.fill(0.0) }
    }
    let mut varies = false;
    for mut row in rows.rows_mut() {
        let mean = row.sum() / row.len() as f64;
        let largest = row.fold(0.0_f64, |largest, x| largest.max(x.abs()));
        row -= mean;
        let length = row.dot(&row).sqrt();
        if length > 1e-12 * largest {
            row /= length;
            varies = true;
        } else {
            row.fill(0.0);
        }
    }
    if varies { Ok(rows) } else { Err(Error::ConstantFeatures) }
}

/// The average ranks of numbers that come with their places, less their mean, in the order of the places.
fn centred_ranks(mut numbers: Vec<(f64, usize)>) -> Vec<f64> {
    numbers.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let middle = (numbers.len() as f64 + 1.0) / 2.0;
    let mut ranks = vec![0.0; numbers.len()];
    let mut before = 0;
    for ties in numbers.chunk_by(|a, b| a.0 == b.0) {
        let rank = before as f64 + (ties.len() as f64 + 1.0) / 2.0;
        before += ties.len();
        for (_, place) in ties {
            if let Some(slot) = ranks.get_mut(*place) {
                *slot = rank - middle;
            }
        }
    }
    ranks
}

/// Pearson's correlation of centred ranks with "of different classes"; `None` where one side is constant.
fn correlation_with_classes(ranks: &[f64], classes: &Classes) -> Option<f64> {
    let (mut n_same, mut of_same) = (0_usize, 0.0);
    let mut ranks_left = ranks.iter();
    for (sample, class) in classes.of_samples().iter().enumerate() {
        for (other, rank) in classes.of_samples().iter().take(sample).zip(ranks_left.by_ref()) {
            if other == class {
                n_same += 1;
                of_same += rank;
            }
        }
    }
    let n = ranks.len() as f64;
    let share = n_same as f64 / n;
    let deviation = (share * (1.0 - share)).sqrt() * (ranks.iter().map(|rank| rank * rank).sum::<f64>() / n).sqrt();
    (deviation > 0.0).then(|| (-of_same / n / deviation).clamp(-1.0, 1.0))
}
