//! Samples that came with a request.

use ndarray::Array2;

use super::{
    DatasetError,
    samples::{Dataset, Targets, Values, check_labels, check_values},
};
use crate::limits;

/// Checks samples and makes a probe set of them, without a name.
///
/// `shape` is that of one sample, `[channels, height, width]` or `[features]`; `samples` are row-major, one after
/// another, pixels in 0..1; `labels` are class indices, one for each sample, or none.
///
/// # Errors
/// [`DatasetError::Inline`], which names the field at fault.
pub fn inline(shape: &[u32], samples: Vec<f32>, labels: &[u32]) -> Result<Dataset, DatasetError> {
    let wrong = |field, problem: String| DatasetError::Inline { field, problem };
    let lengths: Vec<usize> = match shape {
        [] => return Err(wrong("shape", "is empty; give [channels, height, width] or [features]".to_owned())),
        [_] | [_, _, _] => shape.iter().filter_map(|&length| usize::try_from(length).ok()).collect(),
        _ => {
            let problem = format!("is {shape:?}; give [channels, height, width] or [features]");
            return Err(wrong("shape", problem));
        }
    };
    let width = shape.iter().try_fold(1u64, |product, &length| product.checked_mul(u64::from(length)));
    let width = width.filter(|width| (1..=limits::TENSOR_ELEMENTS).contains(width));
    let Some(width) = width.and_then(|width| usize::try_from(width).ok()) else {
        let problem = format!("is {shape:?}; every length must be at least 1, and the product fit in memory");
        return Err(wrong("shape", problem));
    };
    if samples.is_empty() {
        return Err(wrong("samples", "is empty; give at least one sample".to_owned()));
    }
    if !samples.len().is_multiple_of(width) {
        let problem = format!("has {} values, which is no multiple of the {width} of one sample", samples.len());
        return Err(wrong("samples", problem));
    }
    let n_samples = samples.len() / width;
    if !labels.is_empty() && labels.len() != n_samples {
        let problem = format!("has {} values for {n_samples} samples; give one for each, or none", labels.len());
        return Err(wrong("labels", problem));
    }
    let samples =
        Array2::from_shape_vec((n_samples, width), samples).map_err(|error| wrong("samples", error.to_string()))?;
    check_values(&samples, lengths.len() == 3).map_err(|bad| wrong("samples", format!("is invalid: {bad}")))?;
    let targets = if labels.is_empty() {
        Targets::None
    } else {
        let labels = check_labels(labels.iter().map(|&label| i64::from(label)));
        Targets::Classes(labels.map_err(|bad| wrong("labels", format!("is invalid: {bad}")))?)
    };
    Ok(Dataset::new("", lengths, Values::Floats(samples), targets))
}
