//! A probe set in memory: samples, and labels or targets.
//!
//! Invariant: every value is finite, pixels are in 0..1, labels are below the number of classes, and samples, labels
//! and targets have the same length, at least 1.

use std::{mem::size_of, ops::Range, sync::Arc};

use ndarray::{Array2, ArrayView2, Axis};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest as _, Sha256};

use super::picture::Pixels;
use crate::{limits, registry::Digest};

/// Samples to measure on. Clones and subsets share the samples' memory.
#[derive(Clone, Debug)]
pub struct Dataset {
    name: String,
    shape: Vec<usize>,
    values: Arc<Values>,
    /// Rows of `values` in use, ascending; `None`: all.
    rows: Option<Vec<usize>>,
    /// Where the samples stand in the whole dataset, ascending; `None`: these are all.
    places: Option<Vec<usize>>,
    labels: Option<Vec<u32>>,
    targets: Option<Array2<f32>>,
    n_classes: usize,
}

/// Samples as rows, flattened. Bytes stay bytes until a tile is read: a quarter of the memory.
#[derive(Debug)]
pub(super) enum Values {
    /// Pixels, 0..255 standing for 0..1.
    Bytes(Array2<u8>),
    Floats(Array2<f32>),
}

/// What belongs to each sample.
#[derive(Debug)]
pub(super) enum Targets {
    None,
    /// Class indices.
    Classes(Vec<u32>),
    /// N×d regression or dense targets, flattened.
    Values(Array2<f32>),
}

/// A value that no probe set may hold. Displays as a clause: "row 3, element 7 is NaN; …".
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub(super) enum BadValue {
    #[error("row {row}, element {element} is {value}; remove or repair that sample")]
    NotFinite { row: usize, element: usize, value: f32 },
    #[error("row {row}, element {element} is {value}; pixels are 0..1: undo any normalisation and divide by 255")]
    NotPixel { row: usize, element: usize, value: f32 },
    #[error("row {row} has label {label}; labels are class indices from 0 to {}", limits::CLASSES - 1)]
    Label { row: usize, label: i64 },
}

/// The seed's stream from which subsets are drawn, so that other uses of the same seed stay independent of it.
const SUBSET_STREAM: u64 = 1;
/// Rows that are turned to floats at a time for the digest.
const DIGEST_ROWS: usize = 256;

impl Dataset {
    /// What the samples take in memory, in bytes, those that a subset left out too.
    pub fn size_bytes(&self) -> u64 {
        let n_targets = self.targets.as_ref().map_or(0, Array2::len) + self.labels.as_ref().map_or(0, Vec::len);
        let samples = match &*self.values {
            Values::Bytes(values) => values.len(),
            Values::Floats(values) => values.len() * size_of::<f32>(),
        };
        (samples + n_targets * size_of::<f32>()) as u64
    }

    /// Puts a probe set together. `values` and `targets` must have been checked, and have the same number of rows.
    pub(super) fn new(name: &str, shape: Vec<usize>, values: Values, targets: Targets) -> Dataset {
        let (labels, targets) = match targets {
            Targets::None => (None, None),
            Targets::Classes(labels) => (Some(labels), None),
            Targets::Values(targets) => (None, Some(targets)),
        };
        let n_classes = labels.iter().flatten().max().map_or(0, |&largest| largest as usize + 1);
        let values = Arc::new(values);
        Dataset { name: name.to_owned(), shape, values, rows: None, places: None, labels, targets, n_classes }
    }

    /// Says how many classes the whole dataset has, where the labels do not show it.
    pub(super) fn with_classes(self, n_classes: usize) -> Dataset {
        Dataset { n_classes, ..self }
    }

    /// Says where in the whole dataset the samples stand.
    pub(super) fn standing_at(self, places: Vec<usize>) -> Dataset {
        Dataset { places: Some(places), ..self }
    }

    /// Some rows, in ascending order, as a dataset of their own with labels of its own. Shares the samples' memory.
    pub(super) fn view(&self, rows: Vec<usize>, labels: Option<Vec<u32>>, n_classes: usize) -> Dataset {
        Dataset {
            targets: self.targets.as_ref().map(|targets| targets.select(Axis(0), &rows)),
            rows: Some(rows.iter().filter_map(|&row| self.stored(row)).collect()),
            places: None,
            labels,
            n_classes,
            name: self.name.clone(),
            shape: self.shape.clone(),
            values: Arc::clone(&self.values),
        }
    }

    /// Empty for inline samples.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// N.
    pub fn n_samples(&self) -> usize {
        self.rows.as_ref().map_or_else(|| self.values.n_rows(), Vec::len)
    }

    /// Shape of one sample: `[channels, height, width]` for images, `[features]` for vectors.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// n: values of one sample, the product of the shape.
    pub fn n_features(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether the samples are images of pixels 0..1. Vectors are taken as they are, in any range.
    pub fn is_pixels(&self) -> bool {
        self.shape.len() == 3
    }

    /// A class for each sample, below [`Dataset::n_classes`].
    pub fn labels(&self) -> Option<&[u32]> {
        self.labels.as_deref()
    }

    /// N×d regression or dense targets.
    pub fn targets(&self) -> Option<ArrayView2<'_, f32>> {
        self.targets.as_ref().map(|targets| targets.view())
    }

    /// Largest label of the whole dataset plus one; 0 without labels. A subset keeps the number of the whole.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// d: values of one target; 0 without targets.
    pub fn target_size(&self) -> usize {
        self.targets.as_ref().map_or(0, Array2::ncols)
    }

    /// The place in the whole dataset of a sample of this subset.
    pub fn place(&self, sample: usize) -> usize {
        self.places.as_ref().and_then(|places| places.get(sample).copied()).unwrap_or(sample)
    }

    /// The row of `values` that a sample is.
    fn stored(&self, sample: usize) -> Option<usize> {
        match &self.rows {
            Some(rows) => rows.get(sample).copied(),
            None => (sample < self.n_samples()).then_some(sample),
        }
    }

    /// One sample as it is stored.
    pub(super) fn sample(&self, sample: usize) -> Option<Pixels> {
        let row = self.stored(sample)?;
        Some(match &*self.values {
            Values::Bytes(values) => Pixels::Bytes(values.row(row).to_vec()),
            Values::Floats(values) => Pixels::Floats(values.row(row).to_vec()),
        })
    }

    /// Samples of a range as rows, flattened in the order of [`Dataset::shape`]; pixels are 0..1. A range that reaches
    /// past the end gives the samples that there are.
    pub fn tile(&self, range: Range<usize>) -> Array2<f32> {
        let end = range.end.min(self.n_samples());
        self.samples(&(range.start.min(end)..end).collect::<Vec<_>>())
    }

    /// Samples by index as rows, flattened in the order of [`Dataset::shape`]; pixels are 0..1. An index past the end
    /// gives no row.
    pub fn samples(&self, indices: &[usize]) -> Array2<f32> {
        let rows: Vec<usize> = indices.iter().filter_map(|&index| self.stored(index)).collect();
        match &*self.values {
            Values::Bytes(values) => values.select(Axis(0), &rows).mapv(pixel),
            Values::Floats(values) => values.select(Axis(0), &rows),
        }
    }

    /// At most `max_samples` of the samples, in their order; 0 means all. Drawn without replacement; the same seed
    /// draws the same on every machine.
    #[must_use]
    pub fn subset(&self, max_samples: usize, seed: u64) -> Dataset {
        let n = self.n_samples();
        if max_samples == 0 || max_samples >= n {
            return self.clone();
        }
        let chosen = draw(n, max_samples, seed);
        Dataset {
            name: self.name.clone(),
            shape: self.shape.clone(),
            values: Arc::clone(&self.values),
            rows: Some(chosen.iter().filter_map(|&i| self.stored(i)).collect()),
            places: Some(chosen.iter().map(|&i| self.place(i)).collect()),
            labels: self.labels.as_ref().map(|labels| chosen.iter().filter_map(|&i| labels.get(i).copied()).collect()),
            targets: self.targets.as_ref().map(|targets| targets.select(Axis(0), &chosen)),
            n_classes: self.n_classes,
        }
    }

    /// SHA-256 of the sample shape, the samples as models see them (float32, little-endian), the labels and the
    /// targets. Two probe sets with the same digest give the same scores; names do not enter.
    pub fn digest(&self) -> Digest {
        let mut hasher = Sha256::new();
        let number = |value: usize, hasher: &mut Sha256| hasher.update((value as u64).to_le_bytes());
        number(self.shape.len(), &mut hasher);
        self.shape.iter().for_each(|&length| number(length, &mut hasher));
        number(self.n_samples(), &mut hasher);
        for start in (0..self.n_samples()).step_by(DIGEST_ROWS) {
            update_floats(&mut hasher, self.tile(start..start + DIGEST_ROWS).view());
        }
        // The lengths keep labels, targets and their absence apart.
        number(self.labels.as_ref().map_or(0, Vec::len), &mut hasher);
        for label in self.labels.iter().flatten() {
            hasher.update(label.to_le_bytes());
        }
        number(self.target_size(), &mut hasher);
        if let Some(targets) = self.targets() {
            update_floats(&mut hasher, targets);
        }
        Digest::finish(hasher)
    }

    /// Memory that samples, labels and targets take, in bytes.
    pub fn bytes(&self) -> u64 {
        let values = match &*self.values {
            Values::Bytes(values) => values.len(),
            Values::Floats(values) => values.len() * size_of::<f32>(),
        };
        let labels = self.labels.as_ref().map_or(0, Vec::len) * size_of::<u32>();
        let targets = self.targets.as_ref().map_or(0, Array2::len) * size_of::<f32>();
        (values + labels + targets) as u64
    }
}

impl Values {
    pub(super) fn n_rows(&self) -> usize {
        match self {
            Values::Bytes(values) => values.nrows(),
            Values::Floats(values) => values.nrows(),
        }
    }
}

impl Targets {
    /// `None` without targets.
    pub(super) fn n_rows(&self) -> Option<usize> {
        match self {
            Targets::None => None,
            Targets::Classes(labels) => Some(labels.len()),
            Targets::Values(targets) => Some(targets.nrows()),
        }
    }
}

fn pixel(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

fn update_floats(hasher: &mut Sha256, values: ArrayView2<'_, f32>) {
    let mut bytes = Vec::with_capacity(values.ncols() * size_of::<f32>());
    for row in values.rows() {
        bytes.clear();
        row.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
        hasher.update(&bytes);
    }
}

/// `k` of `0..n` without replacement, ascending, each set equally likely (Knuth's selection sampling, TAOCP 3.4.2 S).
/// Written out, because a library's choice of method may change between versions and would change every subset.
pub(super) fn draw(n: usize, k: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(SUBSET_STREAM);
    let mut chosen = Vec::with_capacity(k);
    for i in 0..n {
        let (wanted, left) = ((k - chosen.len()) as u64, (n - i) as u64);
        // Uniform below `left` by multiplying; its bias is below 2⁻⁴⁰ for any n that fits in memory.
        let uniform = (u128::from(rng.next_u64()) * u128::from(left)) >> 64;
        if uniform < u128::from(wanted) {
            chosen.push(i);
        }
    }
    chosen
}

/// Checks that values are finite, and in 0..1 where they are pixels.
pub(super) fn check_values(values: &Array2<f32>, pixels: bool) -> Result<(), BadValue> {
    let good = |value: f32| if pixels { (0.0..=1.0).contains(&value) } else { value.is_finite() };
    for (row, sample) in values.rows().into_iter().enumerate() {
        if let Some((element, &value)) = sample.iter().enumerate().find(|&(_, &value)| !good(value)) {
            return Err(if value.is_finite() {
                BadValue::NotPixel { row, element, value }
            } else {
                BadValue::NotFinite { row, element, value }
            });
        }
    }
    Ok(())
}

/// Checks that labels are class indices.
pub(super) fn check_labels(labels: impl Iterator<Item = i64>) -> Result<Vec<u32>, BadValue> {
    labels
        .enumerate()
        .map(|(row, label)| match u32::try_from(label) {
            Ok(class) if (class as usize) < limits::CLASSES => Ok(class),
            _ => Err(BadValue::Label { row, label }),
        })
        .collect()
}
