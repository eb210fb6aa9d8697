//! `.npz` archives: `x`, the samples, and `y`, their labels or targets, if any, or in its place the array that `label` names.
//! Other arrays are ignored.
//!
//! | x | read as |
//! |---|---|
//! | uint8 (N, height, width, channels) or (N, channels, height, width) | images, 0..255 standing for 0..1 |
//! | uint8 or float (N, height, width) | grey images |
//! | float (N, channels, height, width) or (N, height, width, channels) | images, pixels 0..1 |
//! | float (N, features) | vectors, as they are |
//!
//! The channel axis is the one of length 1 or 3. Where both could be, it is the last one for uint8, as image files have
//! it, and the second for floats, as networks have it.
//!
//! | y | read as |
//! |---|---|
//! | integers or booleans (N) or (N, 1) | class indices, as they are |
//! | float (N, …) | regression or dense targets, flattened |

use std::{collections::BTreeMap, fs::File, io::Read};

use ndarray::{Array2, ArrayD, IxDyn};
use zip::result::ZipError;

use super::{
    Wanted,
    npy::{Element, Header, NpyError},
};
use crate::{
    dataset::{
        DatasetError,
        collection::Found,
        place::{Place, Seen},
        samples::{Dataset, Targets, Values, check_labels, check_values},
        zipped::{self, Zip},
    },
    limits,
};

const SAMPLES: &str = "x";
/// Unless a manifest names another array.
const TARGETS: &str = "y";

/// Most names of arrays that a message lists.
const LISTED_ARRAYS: usize = 10;

/// The file of an archive in a folder of its own.
const FILE: &str = "data.npz";

/// An `.npz` file, or a folder with a `data.npz`.
pub fn recognises(place: &Place) -> bool {
    place.has_extension("npz") || place.join(FILE).is_file()
}

/// Reads a dataset, samples and all: an archive gives none of them alone.
///
/// # Errors
/// A file that is damaged, too large, or not laid out as above.
pub fn open(wanted: &Wanted<'_>, seen: &mut Seen) -> Result<Found, DatasetError> {
    wanted.manifest.part_of(&[])?;
    let place = if wanted.place.is_folder() { wanted.place.join(FILE) } else { wanted.place.clone() };
    seen.note(&place)?;
    let (file, _) = place.open(limits::DATASET_BYTES)?;
    let archive = Archive::open(place.label(), file)?;
    Ok(Found::in_memory(read_arrays(wanted, archive)?))
}

/// All arrays of an archive by name, as double precision numbers.
///
/// # Errors
/// A file that is damaged or too large, an element type that is no number.
pub fn read_all(label: &str, file: File) -> Result<BTreeMap<String, ArrayD<f64>>, String> {
    let mut archive = Archive::open(label, file).map_err(|error| error.to_string())?;
    let mut arrays = BTreeMap::new();
    for index in 0..archive.zip.len() {
        let mut entry = archive.zip.by_index(index).map_err(|error| format!("{label}: {error}"))?;
        let name = entry.name().map_err(|error| format!("{label}: {error}"))?.to_string();
        let Some(name) = name.strip_suffix(".npy").map(str::to_owned) else { continue };
        let wrong = |error: NpyError| format!("{label}: the array `{name}` {error}");
        let header = Header::read(&mut entry, archive.budget).map_err(wrong)?;
        archive.budget = archive.budget.saturating_sub(header.n_bytes());
        let array = match header.element {
            Element::Float(_) => header.read_floats(&mut entry).map(|array| array.mapv(f64::from)),
            _ => header.read_integers(&mut entry).map(|array| array.mapv(|value| value as f64)),
        };
        arrays.insert(name.clone(), array.map_err(wrong)?);
    }
    Ok(arrays)
}

/// An open archive with what it may still unpack.
struct Archive<'a> {
    label: &'a str,
    zip: Zip,
    /// Bytes that may still be unpacked.
    budget: u64,
}

impl<'a> Archive<'a> {
    fn open(label: &'a str, file: File) -> Result<Archive<'a>, DatasetError> {
        let broken = |problem: String| DatasetError::Archive { file: label.to_owned(), problem };
        let zip = zipped::open(file).map_err(|error| broken(error.to_string()))?;
        if zip.has_duplicate_names() {
            return Err(broken("two arrays have the same name".to_owned()));
        }
        Ok(Archive { label, zip, budget: limits::DATASET_UNPACKED_BYTES })
    }

    /// Opens an array, reads its header, and hands both to `read`. `None` where the archive has no such array.
    fn array<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&Header, &mut dyn Read) -> Result<T, String>,
    ) -> Result<Option<T>, DatasetError> {
        let (label, budget) = (self.label, self.budget);
        let wrong = |problem: String| DatasetError::Array { file: label.to_owned(), array: name.to_owned(), problem };
        let mut entry = match self.zip.by_name(&format!("{name}.npy")) {
            Ok(entry) => entry,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(error) => return Err(wrong(format!("cannot be unpacked: {error}; save it again with numpy.savez"))),
        };
        let header = Header::read(&mut entry, budget).map_err(|error| wrong(error.to_string()))?;
        if entry.size() < header.n_bytes() {
            // What the archive declares is not trusted either, but where the two disagree nothing needs to be read.
            let found = usize::try_from(entry.size()).unwrap_or(usize::MAX) / header.element.width();
            let error = NpyError::Truncated { found, expected: header.n_elements };
            return Err(wrong(error.to_string()));
        }
        let value = read(&header, &mut entry).map_err(wrong)?;
        self.budget = budget.saturating_sub(header.n_bytes());
        Ok(Some(value))
    }

    /// Names of the first arrays, for messages.
    fn listed(&self) -> Vec<String> {
        let names = self.zip.file_names().filter_map(Result::ok);
        let mut found: Vec<String> =
            names.map(|name| name.trim_end_matches(".npy").to_owned()).take(LISTED_ARRAYS).collect();
        found.sort();
        found
    }
}

fn read_arrays(wanted: &Wanted<'_>, mut archive: Archive<'_>) -> Result<Dataset, DatasetError> {
    let label = wanted.manifest.label.as_deref();
    let named = label.unwrap_or(TARGETS);
    // Targets first: they are small, and what is wrong with them shows before the samples are unpacked.
    let targets = match (archive.array(named, read_targets)?, label) {
        (Some(targets), _) => targets,
        (None, None) => Targets::None,
        (None, Some(label)) => {
            let there = archive.listed().join(", ");
            let problem = format!("is {label:?}, but the archive has {there}; name one of its arrays, or leave it out");
            return Err(wanted.manifest.wrong("label", problem).into());
        }
    };
    let n_targets = targets.n_rows();
    let samples = archive.array(SAMPLES, |header, reader| {
        let n_samples = header.shape.first().copied().unwrap_or(0);
        if let Some(n_targets) = n_targets.filter(|&n| n != n_samples) {
            return Err(format!("has {n_samples} samples, {named} has {n_targets}; give one target for each sample"));
        }
        read_samples(header, reader)
    })?;
    match samples {
        Some((shape, values)) => Ok(Dataset::new(wanted.name, shape, values, targets)),
        None => {
            Err(DatasetError::MissingArray { file: archive.label.to_owned(), array: SAMPLES, found: archive.listed() })
        }
    }
}

fn read_samples(header: &Header, mut reader: &mut dyn Read) -> Result<(Vec<usize>, Values), String> {
    if header.n_elements == 0 {
        return Err(format!("is empty, its shape is {:?}; save at least one sample", header.shape));
    }
    let axes = Axes::of(header)?;
    if header.element == Element::Unsigned(1) {
        let array = header.read_bytes(&mut reader).map_err(|error| error.to_string())?;
        let (shape, values) = axes.rows(array)?;
        return Ok((shape, Values::Bytes(values)));
    }
    let array = header.read_floats(&mut reader).map_err(|error| error.to_string())?;
    let (shape, values) = axes.rows(array)?;
    check_values(&values, shape.len() == 3).map_err(|bad| bad.to_string())?;
    Ok((shape, Values::Floats(values)))
}

fn read_targets(header: &Header, mut reader: &mut dyn Read) -> Result<Targets, String> {
    if header.shape.is_empty() {
        return Err("is a single number; give one target for each sample".to_owned());
    }
    if header.n_elements == 0 {
        return Err(format!("is empty, its shape is {:?}; leave it out, or give targets", header.shape));
    }
    if let Element::Float(_) = header.element {
        let array = header.read_floats(&mut reader).map_err(|error| error.to_string())?;
        let values = flatten(array)?;
        check_values(&values, false).map_err(|bad| bad.to_string())?;
        return Ok(Targets::Values(values));
    }
    match header.shape.as_slice() {
        [_] | [_, 1] => {
            let labels = header.read_integers(&mut reader).map_err(|error| error.to_string())?;
            check_labels(labels.into_iter()).map(Targets::Classes).map_err(|bad| bad.to_string())
        }
        shape => Err(format!(
            "has {} elements and shape {shape:?}; give one class index for each sample, or floats for targets",
            header.element.name()
        )),
    }
}

/// What the axes of `x` mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Axes {
    /// Sample, channel, height, width.
    Nchw,
    /// Sample, height, width, channel.
    Nhwc,
    /// Sample, height, width.
    Nhw,
    /// Sample, feature.
    Nf,
}

impl Axes {
    fn of(header: &Header) -> Result<Axes, String> {
        let channels = |length: usize| matches!(length, 1 | 3);
        let bytes = match header.element {
            Element::Unsigned(1) => true,
            Element::Float(_) => false,
            element => {
                return Err(format!(
                    "has elements of type {}; save pixels as uint8, anything else with astype('float32')",
                    element.name()
                ));
            }
        };
        match header.shape.as_slice() {
            &[_, second, _, last] => match (channels(second), channels(last)) {
                (true, true) if bytes => Ok(Axes::Nhwc),
                (true, _) => Ok(Axes::Nchw),
                (false, true) => Ok(Axes::Nhwc),
                (false, false) => Err(format!(
                    "has shape {:?}, with no axis of 1 or 3 channels; give (N, height, width, channels)",
                    header.shape
                )),
            },
            [_, _, _] => Ok(Axes::Nhw),
            [_, _] if bytes => Err(format!(
                "has uint8 elements and shape {:?}; reshape images to (N, height, width), save vectors with \
                 astype('float32')",
                header.shape
            )),
            [_, _] => Ok(Axes::Nf),
            shape => Err(format!(
                "has shape {shape:?}; give (N, height, width, channels) for images, (N, features) for vectors"
            )),
        }
    }

    /// The shape of a sample and the samples as rows.
    fn rows<T: Clone>(self, array: ArrayD<T>) -> Result<(Vec<usize>, Array2<T>), String> {
        let array = match self {
            Axes::Nhwc => array.permuted_axes(IxDyn(&[0, 3, 1, 2])),
            Axes::Nhw => array.insert_axis(ndarray::Axis(1)),
            Axes::Nchw | Axes::Nf => array,
        };
        let shape = array.shape().iter().skip(1).copied().collect();
        Ok((shape, flatten(array)?))
    }
}

/// Samples as rows, in row-major order whatever the order of the array.
fn flatten<T: Clone>(array: ArrayD<T>) -> Result<Array2<T>, String> {
    let n = array.shape().first().copied().unwrap_or(0);
    let width: usize = array.shape().iter().skip(1).product();
    let array = if array.is_standard_layout() {
        array
    } else if let Ok(images) = array.view().into_dimensionality::<ndarray::Ix4>() {
        // The fixed number of dimensions is several times faster to walk through.
        images.as_standard_layout().into_owned().into_dyn()
    } else {
        array.as_standard_layout().into_owned()
    };
    array.into_shape_with_order((n, width)).map_err(|error| format!("cannot be laid out as rows: {error}"))
}
