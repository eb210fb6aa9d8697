//! What can be wrong with the input of a metric.

use crate::{attack::JacobianError, stats};

/// An error of the metrics.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("{what}: {found} samples came where {expected} are needed; give one row for each sample of the probe set")]
    SampleCount { what: &'static str, expected: usize, found: usize },
    #[error("{what}: rows of {found} numbers came where {expected} are needed; give outputs of the same model")]
    RowLength { what: &'static str, expected: usize, found: usize },
    #[error("{what} of sample {sample} is not finite; leave the sample out or mend the model that gave it")]
    NotFinite { what: &'static str, sample: usize },
    #[error("{n_samples} samples are too many for the theory checks with so many outputs; set max_samples to {limit}")]
    TooManySamples { n_samples: usize, limit: usize },
    #[error("one output probe has no standard error; use 2 or more")]
    TooFewProbes,
    #[error("the label of sample {sample} has no logit among {n_outputs}; leave the labels out")]
    Label { sample: usize, n_outputs: usize },
    #[error("sample {position} came twice or is not one of the {n_samples} of the probe set; give each sample once")]
    Position { position: usize, n_samples: usize },
    #[error(
        "the attack moves no sample: the attacked model's own deviations are all zero; use a probe set on which both \
         models respond to their input, and a larger epsilon where the attack has one"
    )]
    AllDead,
    #[error("{n_outputs} outputs of so many samples are too many; set max_samples to {limit}")]
    TooManyOutputs { n_outputs: usize, limit: usize },
    #[error(
        "the reference's Jacobians are all zero, so there are no gradients to match; use a probe set on which it \
         responds to its input"
    )]
    NoGradients,
    #[error(transparent)]
    Jacobian(#[from] JacobianError),
    #[error(transparent)]
    Statistics(#[from] stats::Error),
}

/// Refuses rows with a number that is not finite.
pub(super) fn check_finite(what: &'static str, rows: ndarray::ArrayView2<'_, f64>) -> Result<(), Error> {
    match rows.rows().into_iter().position(|row| row.iter().any(|x| !x.is_finite())) {
        Some(sample) => Err(Error::NotFinite { what, sample }),
        None => Ok(()),
    }
}

/// Refuses another number of samples.
pub(super) fn check_samples(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if found == expected { Ok(()) } else { Err(Error::SampleCount { what, expected, found }) }
}
