//! The linear probe: multinomial logistic regression on a source's features, judged on held-out folds (the paper's
//! last-layer transfer).

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, parallel::prelude::*};
use serde::{Deserialize, Serialize};

use super::{Classes, Error, LogisticProblem, error::check_finite, stratified_folds};
use crate::{
    limits,
    stats::{Estimate, Resamples, SymmetricEigen, gram_of_columns, gram_of_rows, product},
};

/// Strengths tried, strongest first so that each solution starts the next: three a decade and a half, 10 to 1e-5.
const STRENGTHS: usize = 10;
/// Directions of the standardised features with less variance than this share of the largest are rounding.
const VARIANCE_CUT: f64 = 1e-12;

/// Features that are standardised together where there are more than samples: their products are summed, so that no second
/// copy of all of them is made.
const CHUNK: usize = 4_096;

/// How well a linear head classifies samples that it was not fitted to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearProbe {
    /// Share of held-out samples classified rightly, 0..1.
    pub accuracy: Estimate,
    /// Mean cross-entropy of held-out samples, in nats.
    pub cross_entropy: Estimate,
    /// L2 strength that all folds together prefer, on standardised features and the mean loss.
    pub l2: f64,
    pub folds: usize,
    /// Features fitted: those that vary.
    pub n_features: usize,
    /// Accuracy of always answering the most frequent class.
    pub majority_accuracy: f64,
    /// Of the classes that the samples have, by ascending label.
    pub classes: Vec<ClassFigures>,
}

/// How well the held-out samples of one class are classified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    pub label: u32,
    pub n_samples: usize,
    /// Share of them classified rightly, 0..1.
    pub accuracy: f64,
    /// Their mean cross-entropy, in nats.
    pub cross_entropy: f64,
}

/// Probes features (N, m) with labels, one for each sample.
///
/// Features are standardised over all samples, which uses no labels; constant ones are dropped. Labels need not be
/// consecutive. Each fold is predicted by the head fitted to the others. The strength for a fold is the one with the least
/// cross-entropy on the held-out samples of the *other* folds, so that a fold's own held-out loss has no say in it. The
/// intervals resample the held-out samples and hold the heads fixed.
///
/// # Errors
/// When there is one class, a class of one sample, fewer samples than folds, no feature that varies, or a number that is not
/// finite.
pub fn linear_probe(
    features: ArrayView2<'_, f64>,
    labels: &[u32],
    folds: usize,
    seed: u64,
    resamples: &Resamples,
) -> Result<LinearProbe, Error> {
    let n = resamples.n_samples();
    for (what, found) in [("features", features.nrows()), ("labels", labels.len())] {
        if found != n {
            return Err(Error::SampleCount { what, expected: n, found });
        }
    }
    check_finite("the feature", features)?;
    if n.min(features.ncols()) > limits::FITTED_WIDTH {
        return Err(Error::TooWide { what: "features", width: features.ncols(), limit: limits::FITTED_WIDTH });
    }
    let classes = Classes::new(labels)?;
    if let Some((&class, _)) = classes.labels().iter().zip(classes.sizes()).find(|(_, size)| **size < 2) {
        return Err(Error::LonelyClass { class });
    }
    let (of_samples, n_classes) = (classes.of_samples(), classes.count());
    let fold_of = stratified_folds(of_samples, n_classes, folds, seed)?;
    let (rotated, n_features) = standardise_and_rotate(features)?;

    let paths: Result<Vec<Path>, Error> = (0..folds)
        .into_par_iter()
        .map(|fold| Path::of_fold(fold, &fold_of, rotated.view(), of_samples, n_classes))
        .collect();
    let paths = paths?;
    let (mut hits, mut losses) = (vec![false; n], vec![0.0; n]);
    for (fold, path) in paths.iter().enumerate() {
        let others = paths.iter().enumerate().filter(|(other, _)| *other != fold).map(|(_, path)| path);
        let Some(held_out) = path.held_out.get(best_strength(others)) else { continue };
        for (&sample, &(loss, hit)) in path.samples.iter().zip(held_out) {
            if let (Some(to_loss), Some(to_hit)) = (losses.get_mut(sample), hits.get_mut(sample)) {
                *to_loss = loss;
                *to_hit = hit;
            }
        }
    }
    let majority = classes.sizes().iter().max().copied().unwrap_or(0);
    Ok(LinearProbe {
        accuracy: resamples.share(&hits.iter().copied().map(Some).collect::<Vec<_>>())?,
        cross_entropy: resamples.mean(&losses)?,
        l2: strength(best_strength(paths.iter())),
        folds,
        n_features,
        majority_accuracy: majority as f64 / n as f64,
        classes: class_figures(&classes, &hits, &losses),
    })
}

/// The means of each class's samples.
fn class_figures(classes: &Classes, hits: &[bool], losses: &[f64]) -> Vec<ClassFigures> {
    let mean = |members: &[usize], value: &dyn Fn(usize) -> Option<f64>| {
        members.iter().filter_map(|&sample| value(sample)).sum::<f64>() / members.len() as f64
    };
    let hit = |sample: usize| hits.get(sample).map(|&hit| f64::from(u8::from(hit)));
    let figures = classes.members().into_iter().zip(classes.labels()).map(|(members, &label)| ClassFigures {
        label,
        n_samples: members.len(),
        accuracy: mean(&members, &hit),
        cross_entropy: mean(&members, &|sample| losses.get(sample).copied()),
    });
    figures.collect()
}

/// Standardised features in the coordinates of their principal axes, and the number of features that vary.
///
/// A rotation leaves the objective as it is, and in these coordinates the Hessian is nearly diagonal, which the solver's
/// preconditioner can use.
fn standardise_and_rotate(features: ArrayView2<'_, f64>) -> Result<(Array2<f64>, usize), Error> {
    let n = features.nrows() as f64;
    let varying: Vec<Standard<'_>> = features.columns().into_iter().filter_map(Standard::of).collect();
    if varying.is_empty() {
        return Err(Error::NoFeatures);
    }
    if varying.len() <= features.nrows() {
        let standardised = side_by_side(&varying);
        let eigen = SymmetricEigen::of((gram_of_columns(standardised.view()) / n).view())?;
        let rank = eigen.rank(VARIANCE_CUT);
        let rotated = product(standardised.view(), eigen.vectors.slice(ndarray::s![.., ..rank]));
        return Ok((rotated, varying.len()));
    }
    // With fewer samples than features: X Xᵀ = U S² Uᵀ, and the coordinates are U S.
    let mut gram = Array2::zeros((features.nrows(), features.nrows()));
    for part in varying.chunks(CHUNK) {
        gram += &gram_of_rows(side_by_side(part).view());
    }
    let eigen = SymmetricEigen::of((gram / n).view())?;
    let rank = eigen.rank(VARIANCE_CUT);
    let roots = eigen.values.slice(ndarray::s![..rank]).mapv(|value| (value * n).sqrt());
    Ok((&eigen.vectors.slice(ndarray::s![.., ..rank]) * &roots, varying.len()))
}

/// A feature that varies, and what standardises it.
struct Standard<'a> {
    column: ArrayView1<'a, f64>,
    mean: f64,
    deviation: f64,
}

impl<'a> Standard<'a> {
    fn of(column: ArrayView1<'a, f64>) -> Option<Self> {
        let n = column.len() as f64;
        let mean = column.sum() / n;
        let deviation = (column.fold(0.0, |sum, x| sum + (x - mean) * (x - mean)) / n).sqrt();
        let largest = column.fold(0.0_f64, |largest, x| x.abs().max(largest));
        // Below f32's resolution of the feature, the variation is rounding.
        (deviation > 1e-7 * largest).then_some(Standard { column, mean, deviation })
    }
}

/// Standardised features, a column each.
fn side_by_side(features: &[Standard<'_>]) -> Array2<f64> {
    let n_samples = features.first().map_or(0, |feature| feature.column.len());
    let mut columns = Array2::zeros((n_samples, features.len()));
    for (mut to, Standard { column, mean, deviation }) in columns.columns_mut().into_iter().zip(features) {
        to.zip_mut_with(column, |to, x| *to = (x - mean) / deviation);
    }
    columns
}

/// The heads of one fold, for all strengths, judged on the samples held out.
struct Path {
    samples: Vec<usize>,
    /// (cross-entropy, whether right) of each held-out sample, for each strength.
    held_out: Vec<Vec<(f64, bool)>>,
}

impl Path {
    fn of_fold(
        fold: usize,
        fold_of: &[usize],
        features: ArrayView2<'_, f64>,
        classes: &[usize],
        n_classes: usize,
    ) -> Result<Path, Error> {
        let (samples, others): (Vec<usize>, Vec<usize>) =
            (0..classes.len()).partition(|&sample| fold_of.get(sample) == Some(&fold));
        let classes_of = |samples: &[usize]| -> Vec<usize> {
            samples.iter().filter_map(|&sample| classes.get(sample).copied()).collect()
        };
        let fitted = features.select(Axis(0), &others);
        let problem = LogisticProblem::new(fitted.view(), &classes_of(&others), n_classes)?;
        let judged = features.select(Axis(0), &samples);
        let truth = classes_of(&samples);
        let (mut held_out, mut previous) = (Vec::with_capacity(STRENGTHS), None);
        for index in 0..STRENGTHS {
            let fit = problem.solve(strength(index), previous.as_ref())?;
            let log_probabilities = fit.log_probabilities(judged.view());
            let outcomes = log_probabilities.rows().into_iter().zip(&truth).map(|(row, &class)| {
                let own = row.get(class).copied().unwrap_or(f64::NEG_INFINITY);
                // Among equals the first class is the answer.
                let answer = row.iter().enumerate().fold((0, f64::NEG_INFINITY), |best, (class, &score)| {
                    if score > best.1 { (class, score) } else { best }
                });
                (-own, answer.0 == class)
            });
            held_out.push(outcomes.collect());
            previous = Some(fit);
        }
        Ok(Path { samples, held_out })
    }
}

fn strength(index: usize) -> f64 {
    10.0_f64.powf(1.0 - index as f64 * 2.0 / 3.0)
}

/// The index of the strength with the least held-out cross-entropy over some folds; the stronger of equals.
fn best_strength<'a>(paths: impl Iterator<Item = &'a Path>) -> usize {
    let mut sums = [0.0; STRENGTHS];
    for path in paths {
        for (sum, held_out) in sums.iter_mut().zip(&path.held_out) {
            *sum += held_out.iter().map(|(loss, _)| loss).sum::<f64>();
        }
    }
    let best = sums.iter().enumerate().fold(
        (0, f64::INFINITY),
        |best, (index, &sum)| {
            if sum < best.1 { (index, sum) } else { best }
        },
    );
    best.0
}
