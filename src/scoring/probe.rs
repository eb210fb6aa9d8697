//! From a request's probe set to the samples that are measured on.

use std::sync::Arc;

use crate::{
    dataset::{self, Collection, Dataset, DatasetStore},
    error::{Error, Reason, Result},
    scoring::types::{DroppedSamples, Probe},
};

/// How many samples a request gets.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// What the request says; 0 for all.
    pub max_samples: usize,
    /// The server's limit.
    pub limit: usize,
    pub fewest: usize,
}

/// A probe set before its samples are drawn.
enum Whole {
    Stored(Arc<Collection>),
    Sent(Dataset),
}

/// The samples of a request, and how many were left out and why.
///
/// # Errors
/// Those of the dataset; [`Reason::ProbeMismatch`] for too few samples.
pub fn drawn(
    datasets: &DatasetStore,
    probe: &Probe,
    bounds: Bounds,
    seed: u64,
) -> Result<(Dataset, Vec<DroppedSamples>)> {
    let at_fault = |cause| Error::from(cause).at("dataset");
    let _reading = match probe {
        Probe::Dataset(name) => Some(datasets.reading(name)),
        Probe::Inline(_) => None,
    };
    let whole = match probe {
        Probe::Dataset(name) => Whole::Stored(datasets.find(name).map_err(at_fault)?),
        Probe::Inline(inline) => Whole::Sent(dataset::inline(&inline.shape, inline.samples.clone(), &inline.labels)?),
    };
    let n_samples = match &whole {
        Whole::Stored(collection) => collection.n_samples(),
        Whole::Sent(samples) => samples.n_samples(),
    };
    let Bounds { max_samples, limit, fewest } = bounds;
    let asked = if max_samples == 0 { n_samples } else { max_samples };
    let kept = asked.min(limit).min(n_samples);
    if kept < fewest {
        let message = format!("{kept} samples are too few for an interval; give {fewest} or more");
        let field = if max_samples == 0 { "dataset" } else { "max_samples" };
        return Err(Error::new(Reason::ProbeMismatch, message).at(field));
    }
    let count = n_samples - kept;
    let reason = if asked > limit { "over the server's limit" } else { "over max_samples" };
    let dropped = (count > 0).then(|| DroppedSamples { reason: reason.to_owned(), count });
    let samples = match whole {
        // Only the samples in use are decoded.
        Whole::Stored(collection) => datasets.load(&collection, kept, seed).map_err(at_fault)?,
        Whole::Sent(samples) => samples.subset(kept, seed),
    };
    Ok((samples, dropped.into_iter().collect()))
}
