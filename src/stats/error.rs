//! What can be wrong with the input of a statistic.

/// An error of the statistics.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("there are no samples; give at least one")]
    NoSamples,
    #[error("confidence level {0} is outside (0, 1); 0.95 is usual")]
    Level(f64),
    #[error("an interval needs at least 1 bootstrap resample; 1000 is usual")]
    NoResamples,
    #[error("{found} values came for {expected} samples; give one for each sample")]
    Length { expected: usize, found: usize },
    #[error("the value of sample {sample} is not finite; leave the sample out or mend the model that gave it")]
    NotFinite { sample: usize },
    #[error("every sample is left out of the mean; use a probe set on which the models respond")]
    NothingToAverage,
    #[error("the decomposition of a {rows}x{columns} matrix did not converge; check the range of its entries")]
    NoConvergence { rows: usize, columns: usize },
}
