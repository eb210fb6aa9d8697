//! STL-10 as its authors publish it: `train_X.bin`, `train_y.bin`, `test_X.bin`, `test_y.bin`, `class_names.txt`, in
//! a folder or in `stl10_binary.tar.gz`.
//!
//! A picture is 3×96×96 bytes, each channel column by column; a label is one byte, 1 to 10, read as class 0 to 9.
//! Samples are those of training in order, then those of the test. Pictures without labels are not read.

use super::{Wanted, check_classes};
use crate::{
    dataset::{
        DatasetError,
        archive::{Members, first_folder},
        collection::{Content, Found, Raw, Stored},
        manifest::Part,
        picture::{Picture, Pixels},
        place::{Blob, Place, Seen},
    },
    limits,
};

const SIDE: usize = 96;
const SHAPE: [usize; 3] = [3, SIDE, SIDE];
/// Bytes of one picture.
const PIXELS: usize = 3 * SIDE * SIDE;
const N_CLASSES: u8 = 10;

const FOLDER: &str = "stl10_binary";
const NAMES: &str = "class_names.txt";
const TRAIN: [&str; 2] = ["train_X.bin", "train_y.bin"];
const TEST: [&str; 2] = ["test_X.bin", "test_y.bin"];

/// Pictures of the parts in use, with their numbers.
#[derive(Debug)]
struct Pictures(Vec<(Blob, usize)>);

/// A folder with the files, or with such a folder, or the archive of one.
pub fn recognises(place: &Place) -> bool {
    match first_folder(place) {
        Some(folder) => folder == FOLDER,
        None => root(place).is_some(),
    }
}

fn root(place: &Place) -> Option<Place> {
    place.first_of(&[".", FOLDER], |place| [TRAIN, TEST].iter().any(|[pictures, _]| place.join(pictures).is_file()))
}

/// Reads labels and names of the classes.
///
/// # Errors
/// A file that is missing or damaged, a label out of range.
pub fn open(wanted: &Wanted<'_>, seen: &mut Seen) -> Result<Found, DatasetError> {
    wanted.manifest.no_label()?;
    let parts: &[[&str; 2]] = match wanted.manifest.part_of(&[Part::Train, Part::Test])? {
        Part::Train => &[TRAIN],
        Part::Test => &[TEST],
        Part::Validation | Part::All => &[TRAIN, TEST],
    };
    let root = root(wanted.place).unwrap_or_else(|| wanted.place.clone());
    let mut files = parts.concat();
    files.push(NAMES);
    let members = Members::of(&root, &files, seen)?;
    let (mut labels, mut pictures) = (Vec::new(), Vec::new());
    for [x, y] in parts {
        let (x, y) = (members.need(x)?, members.need(y)?);
        let n = count(x)?;
        if y.len() != n as u64 {
            return Err(y.wrong(format!(
                "has {} labels for the {n} pictures of {}; download both again",
                y.len(),
                x.label()
            )));
        }
        for (row, label) in y.read_at(0, n)?.into_iter().enumerate() {
            if !(1..=N_CLASSES).contains(&label) {
                let problem =
                    format!("(row {row}) has label {label}, not 1 to {N_CLASSES}: it is damaged; download it again");
                return Err(y.wrong(problem));
            }
            labels.push(u32::from(label) - 1);
        }
        pictures.push((x.clone(), n));
    }
    let classes: Vec<String> = match members.get(NAMES) {
        Some(blob) => blob.text()?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect(),
        None => Vec::new(),
    };
    check_classes(&classes, usize::from(N_CLASSES), &members, NAMES)?;
    Ok(Found {
        n_samples: labels.len(),
        shape: SHAPE.to_vec(),
        labels: Some(labels),
        classes,
        target: None,
        content: Content::Files(Box::new(Pictures(pictures))),
    })
}

fn count(blob: &Blob) -> Result<usize, DatasetError> {
    let n = blob.len() / PIXELS as u64;
    if n == 0 || !blob.len().is_multiple_of(PIXELS as u64) || n > limits::DATASET_FILES as u64 {
        let problem = format!(
            "has {} bytes, which is no multiple of the {PIXELS} of a picture: it is truncated; download it again",
            blob.len()
        );
        return Err(blob.wrong(problem));
    }
    Ok(usize::try_from(n).unwrap_or(usize::MAX))
}

impl Stored for Pictures {
    fn sample(&self, row: usize) -> Result<Raw, DatasetError> {
        let mut place = row;
        for (blob, n) in &self.0 {
            if place < *n {
                let stored = blob.read_at((place * PIXELS) as u64, PIXELS)?;
                return Ok(Raw::Picture(Picture { shape: SHAPE, pixels: Pixels::Bytes(by_rows(&stored)) }));
            }
            place -= n;
        }
        Err(DatasetError::File { file: FOLDER.to_owned(), problem: format!("has no row {row}") })
    }

    fn bytes(&self) -> u64 {
        self.0.iter().map(|(blob, _)| blob.held()).sum()
    }
}

/// Channels that are stored column by column, row by row.
fn by_rows(stored: &[u8]) -> Vec<u8> {
    stored
        .chunks_exact(SIDE * SIDE)
        .flat_map(|channel| (0..SIDE).flat_map(move |row| channel.iter().skip(row).step_by(SIDE).copied()))
        .collect()
}
