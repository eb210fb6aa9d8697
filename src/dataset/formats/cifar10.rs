//! CIFAR-10 as its authors publish it: the binary version, the Python version, and the `.tar.gz` of either.
//!
//! | version | files |
//! |---|---|
//! | binary | `data_batch_1.bin` … `data_batch_5.bin`, `test_batch.bin`: a label and 3×32×32 pixels each; `batches.meta.txt` |
//! | Python | `data_batch_1` … `data_batch_5`, `test_batch`, `batches.meta`: pickles |
//!
//! Samples are those of the training files in order, then the test file's.

use std::io::Read as _;

use super::{
    Wanted, check_classes,
    pickle::{self, Pickle},
};
use crate::dataset::{
    DatasetError,
    archive::{Members, first_folder},
    collection::{Content, Found, Raw, Stored},
    manifest::Part,
    picture::{Picture, Pixels},
    place::{Blob, Place, Seen},
};

const SHAPE: [usize; 3] = [3, 32, 32];
/// Bytes of one picture.
const PIXELS: usize = 3 * 32 * 32;
const N_CLASSES: usize = 10;

const FOLDERS: [&str; 2] = ["cifar-10-batches-bin", "cifar-10-batches-py"];
const BINARY: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];
const BINARY_NAMES: &str = "batches.meta.txt";
const PYTHON: [&str; 6] =
    ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
const PYTHON_NAMES: &str = "batches.meta";

/// One of the files.
#[derive(Debug)]
struct Batch {
    blob: Blob,
    n: usize,
    /// Where the first picture's pixels begin, and how far the next one's are.
    start: u64,
    stride: u64,
}

#[derive(Debug)]
struct Batches(Vec<Batch>);

/// A folder with the batches of either version, or with such a folder, or the archive of one.
pub fn recognises(place: &Place) -> bool {
    match first_folder(place) {
        Some(folder) => FOLDERS.contains(&folder.as_str()),
        None => root(place).is_some(),
    }
}

fn root(place: &Place) -> Option<Place> {
    let is_one = |place: &Place| [BINARY, PYTHON].iter().flatten().any(|file| place.join(file).is_file());
    place.first_of(&[".", FOLDERS[0], FOLDERS[1]], is_one)
}

/// Reads labels and names of the classes.
///
/// # Errors
/// A file that is missing or damaged, a label out of range.
pub fn open(wanted: &Wanted<'_>, seen: &mut Seen) -> Result<Found, DatasetError> {
    wanted.manifest.no_label()?;
    let part = wanted.manifest.part_of(&[Part::Train, Part::Test])?;
    let root = root(wanted.place).unwrap_or_else(|| wanted.place.clone());
    let is_binary = match first_folder(&root) {
        Some(folder) => folder == FOLDERS[0],
        None => BINARY.iter().any(|file| root.join(file).is_file()),
    };
    let (files, names) = if is_binary { (BINARY, BINARY_NAMES) } else { (PYTHON, PYTHON_NAMES) };
    let files = match part {
        Part::Train => files.get(..5).unwrap_or_default(),
        Part::Test => files.get(5..).unwrap_or_default(),
        Part::Validation | Part::All => files.as_slice(),
    };
    let mut all = files.to_vec();
    all.push(names);
    let members = Members::of(&root, &all, seen)?;
    let mut labels = Vec::new();
    let mut batches = Vec::new();
    for file in files {
        let blob = members.need(file)?;
        let (batch, batch_labels) = if is_binary { binary(blob)? } else { python(blob)? };
        labels.extend(check(blob, &batch_labels)?);
        batches.push(batch);
    }
    let classes = match members.get(names) {
        Some(blob) if is_binary => blob.text()?.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        Some(blob) => pickle::read(blob)?.texts("label_names").map_err(|problem| blob.wrong(problem))?,
        None => Vec::new(),
    };
    check_classes(&classes, N_CLASSES, &members, names)?;
    Ok(Found {
        n_samples: labels.len(),
        shape: SHAPE.to_vec(),
        labels: Some(labels),
        classes,
        target: None,
        content: Content::Files(Box::new(Batches(batches))),
    })
}

fn binary(blob: &Blob) -> Result<(Batch, Vec<i64>), DatasetError> {
    let record = PIXELS as u64 + 1;
    if blob.len() == 0 || !blob.len().is_multiple_of(record) {
        let problem = format!(
            "has {} bytes, which is no multiple of the {record} of a picture with its label: it is truncated; download it \
             again",
            blob.len()
        );
        return Err(blob.wrong(problem));
    }
    let n = usize::try_from(blob.len() / record).unwrap_or(usize::MAX);
    let mut reader = blob.reader()?;
    let mut labels = Vec::with_capacity(n);
    let mut one = [0; PIXELS + 1];
    for row in 0..n {
        reader.read_exact(&mut one).map_err(|error| blob.wrong(format!("(row {row}) cannot be read: {error}")))?;
        labels.push(i64::from(one[0]));
    }
    Ok((Batch { blob: blob.clone(), n, start: 1, stride: record }, labels))
}

fn python(blob: &Blob) -> Result<(Batch, Vec<i64>), DatasetError> {
    let wrong = |problem: String| blob.wrong(problem);
    let pickle: Pickle = pickle::read(blob)?;
    let labels = pickle.integers("labels").map_err(wrong)?;
    let data = pickle.bytes_array("data").map_err(wrong)?;
    if data.shape != [labels.len() as u64, PIXELS as u64] || labels.is_empty() {
        let problem = format!(
            "has data of shape {:?} and {} labels, not {PIXELS} bytes for each label; download it again",
            data.shape,
            labels.len()
        );
        return Err(wrong(problem));
    }
    Ok((Batch { blob: blob.clone(), n: labels.len(), start: data.offset, stride: PIXELS as u64 }, labels))
}

fn check(blob: &Blob, labels: &[i64]) -> Result<Vec<u32>, DatasetError> {
    let valid = |(row, &label): (usize, &i64)| match u32::try_from(label) {
        Ok(class) if (class as usize) < N_CLASSES => Ok(class),
        _ => Err(blob.wrong(format!("(row {row}) has label {label}, not 0 to 9: it is damaged; download it again"))),
    };
    labels.iter().enumerate().map(valid).collect()
}

impl Stored for Batches {
    fn sample(&self, row: usize) -> Result<Raw, DatasetError> {
        let mut place = row;
        for batch in &self.0 {
            if place < batch.n {
                let bytes = batch.blob.read_at(batch.start + batch.stride * place as u64, PIXELS)?;
                return Ok(Raw::Picture(Picture { shape: SHAPE, pixels: Pixels::Bytes(bytes) }));
            }
            place -= batch.n;
        }
        Err(DatasetError::File { file: "CIFAR-10".to_owned(), problem: format!("has no row {row}") })
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|batch| batch.blob.held()).sum()
    }
}
