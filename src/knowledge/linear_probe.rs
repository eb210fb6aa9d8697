//! The linear probe: multinomial logistic regression on a source's features, judged on held-out folds (the paper's
//! last-layer transfer).

use ndarray::{Array1, Array2, ArrayView2, Axis, parallel::prelude::*};

use super::{Error, LogisticProblem, error::check_finite, stratified_folds};
use crate::stats::{Estimate, Resamples, SymmetricEigen, product};

/// Strengths tried, strongest first so that each solution starts the next: three a decade and a half, 10 to 1e-5.
const STRENGTHS: usize = 10;
/// Directions of the standardised features with less variance than this share of the largest are rounding.
const VARIANCE_CUT: f64 = 1e-12;

/// How well a linear head classifies samples that it was not fitted to.
#[derive(Clone, Debug, PartialEq)]
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
    let Classes { of_samples, sizes } = Classes::new(labels)?;
    let fold_of = stratified_folds(&of_samples, sizes.len(), folds, seed)?;
    let (rotated, n_features) = standardise_and_rotate(features)?;

    let paths: Result<Vec<Path>, Error> = (0..folds)
        .into_par_iter()
        .map(|fold| Path::of_fold(fold, &fold_of, rotated.view(), &of_samples, sizes.len()))
        .collect();
    let paths = paths?;
    let (mut hits, mut losses) = (vec![0.0; n], vec![0.0; n]);
    for (fold, path) in paths.iter().enumerate() {
        let others = paths.iter().enumerate().filter(|(other, _)| *other != fold).map(|(_, path)| path);
        let Some(held_out) = path.held_out.get(best_strength(others)) else { continue };
        for (&sample, &(loss, hit)) in path.samples.iter().zip(held_out) {
            if let (Some(to_loss), Some(to_hit)) = (losses.get_mut(sample), hits.get_mut(sample)) {
                *to_loss = loss;
                *to_hit = f64::from(u8::from(hit));
            }
        }
    }
    let majority = sizes.iter().max().copied().unwrap_or(0);
    Ok(LinearProbe {
        accuracy: resamples.mean(&hits)?,
        cross_entropy: resamples.mean(&losses)?,
        l2: strength(best_strength(paths.iter())),
        folds,
        n_features,
        majority_accuracy: majority as f64 / n as f64,
    })
}

/// Labels as indices 0..C without gaps.
struct Classes {
    of_samples: Vec<usize>,
    sizes: Vec<usize>,
}

impl Classes {
    fn new(labels: &[u32]) -> Result<Self, Error> {
        let mut present = labels.to_vec();
        present.sort_unstable();
        let (names, sizes): (Vec<u32>, Vec<usize>) =
            present.chunk_by(|a, b| a == b).filter_map(|run| run.first().map(|&name| (name, run.len()))).unzip();
        if names.len() < 2 {
            return Err(Error::SingleClass);
        }
        if let Some((&class, _)) = names.iter().zip(&sizes).find(|(_, size)| **size < 2) {
            return Err(Error::LonelyClass { class });
        }
        let of_samples = labels.iter().map(|label| names.partition_point(|name| name < label)).collect();
        Ok(Classes { of_samples, sizes })
    }
}

/// Standardised features in the coordinates of their principal axes, and the number of features that vary.
///
/// A rotation leaves the objective as it is, and in these coordinates the Hessian is nearly diagonal, which the solver's
/// preconditioner can use.
fn standardise_and_rotate(features: ArrayView2<'_, f64>) -> Result<(Array2<f64>, usize), Error> {
    let n = features.nrows() as f64;
    let mut columns = Vec::new();
    for column in features.columns() {
        let mean = column.sum() / n;
        let centred = column.mapv(|x| x - mean);
        let deviation = (centred.dot(&centred) / n).sqrt();
        let largest = column.fold(0.0_f64, |largest, x| x.abs().max(largest));
        // Below f32's resolution of the feature, the variation is rounding.
        if deviation > 1e-7 * largest {
            columns.push(centred / deviation);
        }
    }
    let views: Vec<_> = columns.iter().map(|column: &Array1<f64>| column.view()).collect();
    let standardised: Array2<f64> = ndarray::stack(Axis(1), &views).map_err(|_| Error::NoFeatures)?;
    let n_features = columns.len();
    let rotated = if n_features as f64 <= n {
        let eigen = SymmetricEigen::of((product(standardised.t(), standardised.view()) / n).view())?;
        let rank = eigen.rank(VARIANCE_CUT);
        product(standardised.view(), eigen.vectors.slice(ndarray::s![.., ..rank]))
    } else {
        // With fewer samples than features: X Xᵀ = U S² Uᵀ, and the coordinates are U S.
        let eigen = SymmetricEigen::of((product(standardised.view(), standardised.t()) / n).view())?;
        let rank = eigen.rank(VARIANCE_CUT);
        let roots = eigen.values.slice(ndarray::s![..rank]).mapv(|value| (value * n).sqrt());
        &eigen.vectors.slice(ndarray::s![.., ..rank]) * &roots
    };
    Ok((rotated, n_features))
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
