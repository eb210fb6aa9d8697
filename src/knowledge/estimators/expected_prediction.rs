//! LEEP (Nguyen et al. 2020) and NCE (Tran, Nguyen, Hassner 2019): how well the source's own classes predict the target's.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::Task;
use crate::knowledge::{Classes, Error, Score};

/// LEEP: the mean of log Σ_z P(y_i|z) θ(x_i)_z, θ the source's probabilities, P(y|z) = Σ_{i: y_i=y} θ(x_i)_z / Σ_i θ(x_i)_z.
///
/// The interval holds P(y|z) fixed and resamples samples.
pub(super) fn leep(task: &Task<'_>) -> Result<Score, Error> {
    of_probabilities(task, task.source_probabilities()?)
}

/// LEEP of any soft assignment of samples to things: the source's classes, or the components of a mixture.
pub(super) fn of_probabilities(task: &Task<'_>, probabilities: ArrayView2<'_, f64>) -> Result<Score, Error> {
    let classes = task.classes()?;
    let mean = |classes: &Classes| {
        let logarithms = log_expected(probabilities, classes);
        logarithms.iter().sum::<f64>() / logarithms.len() as f64
    };
    let logarithms = log_expected(probabilities, classes);
    Ok(Score::with_interval(task.resamples().mean(&logarithms)?).with_shuffled(task.shuffled(classes, mean)))
}

/// log of the expected empirical prediction of each sample's class.
fn log_expected(probabilities: ArrayView2<'_, f64>, classes: &Classes) -> Vec<f64> {
    let mut conditional: Array2<f64> = classes.sums(probabilities);
    let totals: Array1<f64> = conditional.sum_axis(Axis(0));
    for mut row in conditional.rows_mut() {
        row.zip_mut_with(&totals, |joint, &total| *joint = if total > 0.0 { *joint / total } else { 0.0 });
    }
    let rows = probabilities.rows().into_iter().zip(classes.of_samples());
    // A sample's own share in P(y|z) keeps the sum above 0 but for probabilities near the smallest number.
    rows.map(|(row, &class)| row.dot(&conditional.row(class)).max(f64::MIN_POSITIVE).ln()).collect()
}

/// NCE: −H(Y|Z) = Σ_{y,z} P(y, z) log P(y|z), z the source's likeliest class, the first of equals: the mean of log P(y_i|z_i).
///
/// The interval holds P(y|z) fixed and resamples samples.
pub(super) fn nce(task: &Task<'_>) -> Result<Score, Error> {
    let (classes, probabilities) = (task.classes()?, task.source_probabilities()?);
    let likeliest: Vec<usize> = probabilities
        .rows()
        .into_iter()
        .map(|row| {
            let best = row.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (class, &probability)| {
                if probability > best.1 { (class, probability) } else { best }
            });
            best.0
        })
        .collect();
    let logarithms = |classes: &Classes| -> Vec<f64> {
        let mut joint = Array2::<f64>::zeros((classes.count(), probabilities.ncols()));
        let pairs = || classes.of_samples().iter().zip(&likeliest);
        for (&class, &source) in pairs() {
            if let Some(count) = joint.get_mut((class, source)) {
                *count += 1.0;
            }
        }
        let totals = joint.sum_axis(Axis(0));
        let share = |class: usize, source: usize| Some(joint.get((class, source))? / totals.get(source)?);
        pairs().map(|(&class, &source)| share(class, source).unwrap_or(1.0).ln()).collect()
    };
    let mean = |classes: &Classes| {
        let logarithms = logarithms(classes);
        logarithms.iter().sum::<f64>() / logarithms.len() as f64
    };
    let estimate = task.resamples().mean(&logarithms(classes))?;
    Ok(Score::with_interval(estimate).with_shuffled(task.shuffled(classes, mean)))
}

/// softmax of outputs (N, d), row by row; rows that are probabilities already, 0 or more and summing to 1, as they are.
pub fn class_probabilities(outputs: ArrayView2<'_, f64>) -> Array2<f64> {
    let is_probability =
        |row: ndarray::ArrayView1<'_, f64>| row.iter().all(|&x| x >= 0.0) && (row.sum() - 1.0).abs() < 1e-4;
    let mut rows = outputs.to_owned();
    let is_softmax = rows.rows().into_iter().all(is_probability);
    for mut row in rows.rows_mut() {
        if !is_softmax {
            let largest = row.fold(f64::NEG_INFINITY, |largest, &x| largest.max(x));
            row.mapv_inplace(|x| (x - largest).exp());
        }
        let sum = row.sum();
        row /= sum;
    }
    rows
}
