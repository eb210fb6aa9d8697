//! A dataset as it was found: how many samples of what shape and class there are, and the samples once they are asked
//! for.
//!
//! Invariant: only the samples that a call takes are decoded, and they are the same bytes however many others there
//! are; memory is bounded before it is taken.

use std::fmt;

use ndarray::Array2;
use rayon::prelude::*;

use super::{
    DatasetError,
    manifest::Manifest,
    picture::{self, Channels, Picture, Pixels},
    place::{Place, Seen},
    samples::{Dataset, Targets, Values, draw},
    selection::Selection,
};
use crate::limits;

/// What a format finds at a place.
#[derive(Debug)]
pub struct Found {
    pub content: Content,
    pub n_samples: usize,
    /// Of one sample as it is stored: `[channels, height, width]`, or `[features]`.
    pub shape: Vec<usize>,
    pub labels: Option<Vec<u32>>,
    /// Names of the classes in order of their numbers; may be empty.
    pub classes: Vec<String>,
    /// What [`Stored::target`] gives.
    pub target: Option<Target>,
}

/// What one target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// So many numbers.
    Numbers(usize),
    /// Channels, height and width of a map, which gets the size that pictures get.
    Map([usize; 3]),
}

/// Where the samples are.
#[derive(Debug)]
pub enum Content {
    Memory(Dataset),
    Files(Box<dyn Stored>),
}

/// Samples that stay where they are until they are asked for.
pub trait Stored: fmt::Debug + Send + Sync {
    /// One sample. Rows are asked for in ascending order.
    ///
    /// # Errors
    /// A file that cannot be read; it and the row are named.
    fn sample(&self, row: usize) -> Result<Raw, DatasetError>;

    /// The dense target of a sample, where there are any.
    ///
    /// # Errors
    /// As [`Stored::sample`].
    fn target(&self, _row: usize) -> Result<Option<Raw>, DatasetError> {
        Ok(None)
    }

    /// The files that hold this sample and no other.
    fn files(&self, _row: usize) -> Vec<Place> {
        Vec::new()
    }

    /// Memory that it takes, in bytes.
    fn bytes(&self) -> u64;
}

/// A sample as it is stored.
pub enum Raw {
    Picture(Picture),
    /// An image file. `label` names it, with its row, in messages.
    Image {
        label: String,
        bytes: Vec<u8>,
        channels: Channels,
    },
    /// A target of numbers.
    Numbers(Vec<f32>),
    /// An image file whose values are a dense target; `is_names` where its numbers stand for things.
    Map {
        label: String,
        bytes: Vec<u8>,
        is_names: bool,
    },
}

/// A dataset by its name. Cheap to keep: the samples of datasets of files are elsewhere.
#[derive(Debug)]
pub struct Collection {
    pub(super) name: String,
    pub(super) format: &'static str,
    pub(super) summary: String,
    pub(super) licence: String,
    pub(super) shape: Vec<usize>,
    pub(super) classes: Vec<String>,
    pub(super) n_classes: usize,
    /// Distinguishes it from others of the same name, before and after.
    pub(super) generation: u64,
    pub(super) seen: Seen,
    content: Content,
    selection: Selection,
    target: Option<Target>,
    size: Option<[usize; 2]>,
    n_samples: usize,
}

/// Samples that were read from files, and the versions of those.
#[derive(Debug)]
pub(super) struct Decoded {
    pub dataset: Dataset,
    pub seen: Seen,
}

impl Found {
    /// A dataset that is in memory as a whole.
    pub fn in_memory(dataset: Dataset) -> Found {
        Found {
            n_samples: dataset.n_samples(),
            shape: dataset.shape().to_vec(),
            labels: dataset.labels().map(<[u32]>::to_vec),
            classes: Vec::new(),
            target: Some(dataset.target_size()).filter(|&d| d > 0).map(Target::Numbers),
            content: Content::Memory(dataset),
        }
    }
}

impl Collection {
    /// Applies a manifest to what was found.
    ///
    /// # Errors
    /// Classes, positions or a size that the dataset does not have.
    pub(super) fn new(
        name: &str,
        format: &'static str,
        manifest: Manifest,
        found: Found,
    ) -> Result<Collection, DatasetError> {
        let Found { content, n_samples, mut shape, labels, classes, mut target } = found;
        let selection = Selection::new(&manifest, n_samples, labels, &classes)?;
        let (content, selection) = match (content, manifest.size) {
            (Content::Memory(dataset), None) => (Content::Memory(selection.of(dataset)), selection),
            (Content::Memory(dataset), Some(_)) => (Content::Files(Box::new(Resident(dataset))), selection),
            files => (files.0, selection),
        };
        if let Some([height, width]) = manifest.size {
            let &[channels, _, _] = shape.as_slice() else {
                return Err(manifest
                    .wrong("size", "is for pictures, but the samples are vectors; leave it out")
                    .into());
            };
            shape = vec![channels, height, width];
            target = target.map(|target| match target {
                Target::Map([channels, ..]) => Target::Map([channels, height, width]),
                numbers => numbers,
            });
        }
        Ok(Collection {
            name: name.to_owned(),
            format,
            summary: manifest.summary,
            licence: manifest.licence,
            shape,
            n_classes: selection.n_classes,
            classes: selection.names.clone(),
            generation: 0,
            seen: Seen::default(),
            n_samples: selection.rows.as_ref().map_or(n_samples, Vec::len),
            content,
            selection,
            target,
            size: manifest.size,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The format's name.
    pub fn format(&self) -> &'static str {
        self.format
    }

    /// One line, from the manifest; may be empty.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// From the manifest; may be empty.
    pub fn licence(&self) -> &str {
        &self.licence
    }

    /// N.
    pub fn n_samples(&self) -> usize {
        self.n_samples
    }

    /// Shape of one sample: `[channels, height, width]` for images, `[features]` for vectors.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Classes of the labels; 0 without labels.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// Names of the classes in order of their numbers; empty where the dataset has none.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// d: values of one regression or dense target; 0 without targets.
    pub fn target_size(&self) -> usize {
        match self.target {
            None => 0,
            Some(Target::Numbers(count)) => count,
            Some(Target::Map(shape)) => shape.iter().product(),
        }
    }

    /// The dataset, where it is in memory as a whole.
    pub(super) fn resident(&self) -> Option<&Dataset> {
        match &self.content {
            Content::Memory(dataset) => Some(dataset),
            Content::Files(_) => None,
        }
    }

    /// Memory that it takes, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let content = match &self.content {
            Content::Memory(dataset) => dataset.bytes(),
            Content::Files(files) => files.bytes(),
        };
        content + self.selection.bytes()
    }

    /// At most `max_samples` of the samples, in their order, drawn as [`Dataset::subset`] draws; 0 means all.
    ///
    /// # Errors
    /// Files that cannot be read, are damaged or of another size than the others; more than memory is given for.
    pub(super) fn decode(&self, max_samples: usize, seed: u64) -> Result<Decoded, DatasetError> {
        let files = match &self.content {
            Content::Memory(dataset) => {
                return Ok(Decoded { dataset: dataset.subset(max_samples, seed), seen: Seen::default() });
            }
            Content::Files(files) => files,
        };
        let is_all = max_samples == 0 || max_samples >= self.n_samples;
        let places: Vec<usize> =
            if is_all { (0..self.n_samples).collect() } else { draw(self.n_samples, max_samples, seed) };
        let rows: Vec<usize> = places.iter().filter_map(|&place| self.selection.row(place)).collect();
        self.check_memory(rows.len())?;
        let mut seen = Seen::default();
        let (values, targets) = self.decode_rows(files.as_ref(), &rows, &mut seen)?;
        let targets = match (self.selection.labels.as_ref(), targets) {
            (_, Some(targets)) => Targets::Values(targets),
            (Some(labels), None) => {
                Targets::Classes(places.iter().filter_map(|&place| labels.get(place).copied()).collect())
            }
            (None, None) => Targets::None,
        };
        let mut dataset = Dataset::new(&self.name, self.shape.clone(), values, targets).with_classes(self.n_classes);
        if !is_all {
            dataset = dataset.standing_at(places);
        }
        Ok(Decoded { dataset, seen })
    }

    fn check_memory(&self, n: usize) -> Result<(), DatasetError> {
        let of_one = self.shape.iter().map(|&length| length as u64).product::<u64>() + 4 * self.target_size() as u64;
        let bytes = of_one.saturating_mul(n as u64);
        if bytes <= limits::DATASET_UNPACKED_BYTES {
            return Ok(());
        }
        let limit = limits::DATASET_UNPACKED_BYTES;
        let problem = format!(
            "{n} samples of shape {:?} take {bytes} bytes, more than the {limit} allowed; take fewer with max_samples, \
             or set size in dataset.toml",
            self.shape
        );
        Err(DatasetError::File { file: self.name.clone(), problem })
    }

    fn decode_rows(
        &self,
        files: &dyn Stored,
        rows: &[usize],
        seen: &mut Seen,
    ) -> Result<(Values, Option<Array2<f32>>), DatasetError> {
        let width: usize = self.shape.iter().product();
        let (mut bytes, mut floats, mut targets) = (Vec::new(), Vec::new(), Vec::new());
        for together in rows.chunks(limits::IMAGES_TOGETHER) {
            let mut raw = Vec::with_capacity(together.len());
            for &row in together {
                // One that is missing is told, with its row, when it is read.
                files.files(row).iter().filter(|file| file.exists()).try_for_each(|file| seen.note(file))?;
                raw.push((row, files.sample(row)?, files.target(row)?));
            }
            // What is wrong is told of the first sample in order, whichever was decoded first.
            let decoded: Vec<Result<_, DatasetError>> = raw
                .into_par_iter()
                .map(|(row, sample, target)| {
                    Ok((self.picture(row, sample)?, target.map(|raw| self.target_of(row, raw)).transpose()?))
                })
                .collect();
            for sample in decoded {
                let (picture, target) = sample?;
                match picture.pixels {
                    Pixels::Bytes(pixels) => bytes.extend(pixels),
                    Pixels::Floats(pixels) => floats.extend(pixels),
                }
                targets.extend(target.into_iter().flatten());
            }
        }
        let n = rows.len();
        let shaped =
            |error: ndarray::ShapeError| DatasetError::File { file: self.name.clone(), problem: error.to_string() };
        let values = if floats.is_empty() {
            Values::Bytes(Array2::from_shape_vec((n, width), bytes).map_err(shaped)?)
        } else {
            Values::Floats(Array2::from_shape_vec((n, width), floats).map_err(shaped)?)
        };
        let targets = match self.target {
            Some(_) => Some(Array2::from_shape_vec((n, self.target_size()), targets).map_err(shaped)?),
            None => None,
        };
        Ok((values, targets))
    }

    fn picture(&self, row: usize, raw: Raw) -> Result<Picture, DatasetError> {
        let (label, picture) = match raw {
            Raw::Picture(picture) => (format!("{} (row {row})", self.name), picture),
            Raw::Image { label, bytes, channels } => match picture::decode(&bytes, channels) {
                Ok(picture) => (label, picture),
                Err(problem) => return Err(DatasetError::File { file: label, problem }),
            },
            Raw::Map { .. } | Raw::Numbers(_) => return Err(self.lacks(row, "picture")),
        };
        let picture = match self.size {
            Some(size) => picture.at_size(size),
            None => picture,
        };
        if picture.shape.as_slice() == self.shape {
            return Ok(picture);
        }
        Err(DatasetError::File { file: label, problem: other_size(&picture.shape, &self.shape) })
    }

    fn target_of(&self, row: usize, raw: Raw) -> Result<Vec<f32>, DatasetError> {
        let (label, bytes, is_names) = match (raw, self.target) {
            (Raw::Numbers(numbers), Some(Target::Numbers(count))) if numbers.len() == count => return Ok(numbers),
            (Raw::Map { label, bytes, is_names }, _) => (label, bytes, is_names),
            _ => return Err(self.lacks(row, "target")),
        };
        let wrong = |problem| DatasetError::File { file: label.clone(), problem };
        let picture = picture::decode_exactly(&bytes).map_err(wrong)?;
        let Some(Target::Map(shape)) = self.target else { return Err(self.lacks(row, "target")) };
        let [channels, height, width] = shape;
        if picture.shape[0] != channels || (self.size.is_none() && picture.size() != [height, width]) {
            return Err(wrong(other_size(&picture.shape, &shape)));
        }
        Ok(picture.into_target([height, width], is_names))
    }

    fn lacks(&self, row: usize, what: &str) -> DatasetError {
        DatasetError::File {
            file: self.name.clone(),
            problem: format!("has no {what} in row {row}; download it again"),
        }
    }
}

/// What is wrong with a picture that is not as the first one is.
fn other_size(found: &[usize], first: &[usize]) -> String {
    let text = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    format!(
        "is {}, the first one {} (channels, height, width); set size = [height, width] in dataset.toml, to which all are \
         resized",
        text(found),
        text(first)
    )
}

/// A dataset in memory whose pictures get another size.
#[derive(Debug)]
struct Resident(Dataset);

impl Stored for Resident {
    fn sample(&self, row: usize) -> Result<Raw, DatasetError> {
        let wrong = || DatasetError::File { file: self.0.name().to_owned(), problem: format!("has no row {row}") };
        let pixels = self.0.sample(row).ok_or_else(wrong)?;
        let shape = self.0.shape().try_into().map_err(|_| wrong())?;
        Ok(Raw::Picture(Picture { shape, pixels }))
    }

    fn target(&self, row: usize) -> Result<Option<Raw>, DatasetError> {
        let targets = self.0.targets();
        Ok(targets.filter(|targets| row < targets.nrows()).map(|targets| Raw::Numbers(targets.row(row).to_vec())))
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}
