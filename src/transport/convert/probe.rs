//! The probe set of a request.
//!
//! Checks shapes and counts only; values are the domain's to check, as looking at millions of them takes longer than
//! an async executor may be held.

use super::field::name;
use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::{InlineDataset, Probe},
    transport::proto,
};

/// A dataset by name.
pub fn dataset(dataset: String) -> Result<Probe> {
    Ok(Probe::Dataset(name("dataset", dataset, "ListDatasets")?))
}

/// Samples sent along, at least the `fewest`.
pub fn inline(dataset: proto::InlineDataset, fewest: usize) -> Result<Probe> {
    let proto::InlineDataset { shape, samples, labels } = dataset;
    let sample_size = sample_size(&shape)?;
    if samples.is_empty() {
        return Err(Error::new(
            Reason::FieldMissing,
            format!("inline_dataset.samples is empty; send at least {fewest} samples"),
        )
        .at("inline_dataset.samples"));
    }
    if samples.len() % sample_size != 0 {
        return Err(invalid(
            "inline_dataset.samples",
            format!(
                "inline_dataset.samples has {} numbers, not a multiple of the {sample_size} of one sample of shape \
                 {shape:?}; send whole samples, or correct the shape",
                samples.len()
            ),
        ));
    }
    let n_samples = samples.len() / sample_size;
    if n_samples < fewest {
        return Err(invalid(
            "inline_dataset.samples",
            format!("inline_dataset.samples holds {n_samples} samples of shape {shape:?}; send at least {fewest}"),
        ));
    }
    if !labels.is_empty() && labels.len() != n_samples {
        return Err(invalid(
            "inline_dataset.labels",
            format!(
                "inline_dataset.labels has {} labels for {n_samples} samples; send one for each sample, or none",
                labels.len()
            ),
        ));
    }
    Ok(Probe::Inline(InlineDataset { shape, samples, labels }))
}

/// Without a probe set there is nothing to measure on.
pub fn missing() -> Error {
    Error::new(
        Reason::FieldMissing,
        "the request has no probe set; name a dataset that ListDatasets lists, or send inline_dataset",
    )
    .at("dataset")
}

fn sample_size(shape: &[u32]) -> Result<usize> {
    if shape.is_empty() {
        return Err(Error::new(
            Reason::FieldMissing,
            "inline_dataset.shape is empty; give [channels, height, width] or [features]",
        )
        .at("inline_dataset.shape"));
    }
    let size = shape.iter().try_fold(1_u64, |size, &dimension| size.checked_mul(u64::from(dimension)));
    match size {
        Some(size @ 1..=limits::TENSOR_ELEMENTS) if shape.len() == 1 || shape.len() == 3 => {
            usize::try_from(size).map_err(|_| shape_error(shape))
        }
        _ => Err(shape_error(shape)),
    }
}

fn shape_error(shape: &[u32]) -> Error {
    let shown = shape.iter().take(limits::TENSOR_RANK).collect::<Vec<_>>();
    invalid(
        "inline_dataset.shape",
        format!(
            "inline_dataset.shape {shown:?} is not the shape of a sample; give [channels, height, width] or \
             [features], every dimension 1 or more"
        ),
    )
}

fn invalid(field: &str, message: String) -> Error {
    Error::new(Reason::ProbeInvalid, message).at(field)
}
