//! What can be wrong with the input of a knowledge measure.

use ndarray::ArrayView2;

use crate::stats;

/// An error of the knowledge measures.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{what} of sample {sample} is not finite; leave the sample out or mend the model that gave it")]
    NotFinite { what: &'static str, sample: usize },
    #[error("{what}: {found} came for {expected} samples; give one for each sample")]
    SampleCount { what: &'static str, expected: usize, found: usize },
    #[error("{found} samples are too few; the fit needs at least {needed}")]
    TooFewSamples { needed: usize, found: usize },
    #[error("{width} {what} are too many to fit; use at most {limit} of them, or at most {limit} samples")]
    TooWide { what: &'static str, width: usize, limit: usize },
    #[error("there are no features to fit; give outputs or features of at least one number a sample")]
    NoFeatures,
    #[error("no feature varies over the samples; use another tensor or other samples")]
    ConstantFeatures,
    #[error("it needs labels, and the probe set has none; labels are whole numbers of an integer type")]
    NoLabels,
    #[error("it needs the probabilities that a classifier gives its own classes, and the source is none")]
    NoSourceProbabilities,
    #[error("{neighbors} neighbours are too many for {n_samples} samples; give fewer than there are samples")]
    Neighbors { neighbors: usize, n_samples: usize },
    #[error("no two samples have the same label; verification needs pairs of one identity")]
    NoMatchedPairs,
    #[error("it has no finite value on these features; check their range")]
    NotANumber,
    #[error("the targets do not vary over the samples, so nothing can be explained; use other targets or samples")]
    ConstantTargets,
    #[error("ridge strength {0} is not a finite number of 0 or more; leave it out to have it chosen")]
    Ridge(f64),
    #[error("L2 strength {0} is not a positive finite number")]
    Strength(f64),
    #[error("{0} folds are too few; give at least 2, 5 is usual")]
    Folds(usize),
    #[error("all samples have the same class; a probe needs samples of at least two classes")]
    SingleClass,
    #[error("each class has one sample, so nothing can be told of classes; use more samples of each")]
    EveryClassOnce,
    #[error(
        "class {class} has 1 sample; a probe needs at least 2 of each class, so use more samples or drop the class"
    )]
    LonelyClass { class: u32 },
    #[error(
        "the probe did not reach a gradient of {tolerance:e} in {iterations} iterations; it stopped at {reached:e}"
    )]
    NotConverged { tolerance: f64, iterations: usize, reached: f64 },
    #[error(transparent)]
    Statistics(#[from] stats::Error),
}

/// Refuses rows with a number that is not finite.
pub(super) fn check_finite(what: &'static str, rows: ArrayView2<'_, f64>) -> Result<(), Error> {
    match rows.rows().into_iter().position(|row| row.iter().any(|x| !x.is_finite())) {
        Some(sample) => Err(Error::NotFinite { what, sample }),
        None => Ok(()),
    }
}
