//! CelebA as its authors, or Kaggle, publish it: aligned faces in `img_align_celeba/` or `img_align_celeba.zip`, and
//! lists of their attributes, identities and parts.
//!
//! | list | looks like |
//! |---|---|
//! | `list_attr_celeba.txt` | the number of faces; the attributes' names; `000001.jpg -1 1 …` |
//! | `list_attr_celeba.csv` | `image_id,5_o_Clock_Shadow,…`; `000001.jpg,-1,1,…` |
//! | `identity_CelebA.txt` | `000001.jpg 2880` |
//! | `list_eval_partition.txt`, `.csv` | `000001.jpg 0`: 0 training, 1 validation, 2 test |
//!
//! Lists may lie in `Anno/` and `Eval/`, pictures in `Img/`. Samples are those of the attributes' list, in its order.
//! The label is an attribute (class 1 where a face has it, else 0) or `identity` (the identity's own number).

use std::{
    collections::HashMap,
    io::Read as _,
    sync::{Mutex, PoisonError},
};

use zip::result::ZipError;

use super::Wanted;
use crate::{
    dataset::{
        DatasetError,
        collection::{Content, Found, Raw, Stored},
        manifest::{Manifest, Part},
        picture::{self, Channels},
        place::{Place, Seen},
        zipped::{self, Zip},
    },
    limits,
    registry::close_names,
};

const ATTRIBUTES: [&str; 4] =
    ["list_attr_celeba.txt", "list_attr_celeba.csv", "Anno/list_attr_celeba.txt", "Anno/list_attr_celeba.csv"];
const IDENTITIES: [&str; 2] = ["identity_CelebA.txt", "Anno/identity_CelebA.txt"];
const PARTS: [&str; 4] = [
    "list_eval_partition.txt",
    "list_eval_partition.csv",
    "Eval/list_eval_partition.txt",
    "Eval/list_eval_partition.csv",
];
const FOLDERS: [&str; 3] = ["img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba"];
const ARCHIVES: [&str; 2] = ["img_align_celeba.zip", "Img/img_align_celeba.zip"];
/// The label that is no attribute.
const IDENTITY: &str = "identity";

/// A list of faces with one column of its numbers.
struct List {
    place: Place,
    names: Vec<String>,
    /// Empty where no column was asked for.
    numbers: Vec<i64>,
}

/// Where the pictures are.
#[derive(Debug)]
enum Pictures {
    Folder(Place),
    Archive { place: Place, zip: Mutex<Zip>, entries: usize },
}

#[derive(Debug)]
struct Faces {
    pictures: Pictures,
    names: Vec<String>,
    channels: Channels,
}

/// A folder with a list of attributes or identities, under its own name.
pub fn recognises(place: &Place) -> bool {
    ATTRIBUTES.iter().chain(&IDENTITIES).any(|list| place.join(list).is_file())
}

/// Reads the lists, and the head of the first picture.
///
/// # Errors
/// A list or picture that is missing or damaged, an attribute that is not listed.
pub fn open(wanted: &Wanted<'_>, seen: &mut Seen) -> Result<Found, DatasetError> {
    let (place, manifest) = (wanted.place, wanted.manifest);
    let file = |paths: &[&str]| place.first_of(paths, Place::is_file);
    let identities = file(&IDENTITIES);
    let attribute = manifest.label.as_deref().filter(|label| *label != IDENTITY);
    let (listed, column) = match file(&ATTRIBUTES).or_else(|| identities.clone()) {
        Some(list) => (list, attribute),
        None => return Err(place.wrong(format!("has no {}; put it there", ATTRIBUTES[0]))),
    };
    let list = List::read(listed, column, manifest, seen)?;
    let mut classes = Vec::new();
    let mut labels = match (manifest.label.as_deref(), identities) {
        (None, _) => None,
        (Some(IDENTITY), Some(identities)) => Some(by_name(&list, List::read(identities, Some(""), manifest, seen)?)?),
        (Some(IDENTITY), None) => return Err(place.wrong(format!("has no {}; put it there", IDENTITIES[0]))),
        (Some(attribute), _) => {
            classes = vec![format!("not {attribute}"), attribute.to_owned()];
            Some(list.numbers.clone())
        }
    };
    if let Some(labels) = &mut labels {
        check(&list, labels, attribute)?;
    }
    let rows = match (manifest.part_of(&[Part::Train, Part::Validation, Part::Test])?, file(&PARTS)) {
        (Part::All, _) => (0..list.names.len()).collect(),
        (part, Some(parts)) => of_part(part, &by_name(&list, List::read(parts, Some(""), manifest, seen)?)?),
        (_, None) => return Err(place.wrong(format!("has no {}; put it there, or take part = \"all\"", PARTS[0]))),
    };
    let chosen = |labels: Vec<i64>| rows.iter().filter_map(|&row| u32::try_from(*labels.get(row)?).ok()).collect();
    let labels = labels.map(chosen);
    let names: Vec<String> = rows.iter().filter_map(|&row| list.names.get(row).cloned()).collect();
    let mut faces = Faces { pictures: pictures(place, seen)?, names, channels: Channels::Three };
    let Some(first) = faces.names.first() else { return Err(list.place.wrong("lists no face of this part")) };
    let (label, bytes) = faces.read(0, first)?;
    let head = picture::head(&bytes).map_err(|problem| DatasetError::File { file: label, problem })?;
    faces.channels = manifest.channels.unwrap_or(head.channels);
    Ok(Found {
        n_samples: faces.names.len(),
        shape: vec![faces.channels.count(), head.size[0], head.size[1]],
        labels,
        classes,
        target: None,
        content: Content::Files(Box::new(faces)),
    })
}

fn pictures(place: &Place, seen: &mut Seen) -> Result<Pictures, DatasetError> {
    // Kaggle's archive has a folder in the folder.
    if let Some(folder) = place.first_of(&FOLDERS, Place::is_folder) {
        return Ok(Pictures::Folder(folder));
    }
    let Some(archive) = place.first_of(&ARCHIVES, Place::is_file) else {
        return Err(place.wrong(format!("has neither {}/ nor {}; put one there", FOLDERS[1], ARCHIVES[0])));
    };
    seen.note(&archive)?;
    let (file, _) = archive.open(limits::DATASET_BYTES)?;
    let zip = zipped::open(file)
        .map_err(|error| archive.wrong(format!("is no readable .zip: {error}; download it again")))?;
    Ok(Pictures::Archive { entries: zip.len(), place: archive, zip: Mutex::new(zip) })
}

impl List {
    /// Reads a list. `column` is the one whose numbers are wanted: a name, or `""` for the only one.
    fn read(place: Place, column: Option<&str>, manifest: &Manifest, seen: &mut Seen) -> Result<List, DatasetError> {
        let text = place.text(seen)?;
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
        let is_table = lines.peek().is_some_and(|(_, line)| line.contains(','));
        let fields = |line: &str| -> Vec<String> {
            if is_table {
                line.split(',').map(|field| field.trim().to_owned()).collect()
            } else {
                line.split_whitespace().map(str::to_owned).collect()
            }
        };
        // Authors write the number of lines and then the columns' names; tables have these only; other lists, neither.
        let declared: Option<usize> =
            lines.next_if(|(_, line)| !is_table && fields(line).len() == 1).and_then(|(_, n)| n.trim().parse().ok());
        let mut columns = Vec::new();
        if is_table || declared.is_some() {
            columns = lines.next().map(|(_, line)| fields(line)).unwrap_or_default();
            columns = columns.split_off(usize::from(is_table).min(columns.len()));
        }
        let n_columns = columns.len().max(1);
        let wanted = match column {
            None => None,
            Some("") => Some(0),
            Some(name) => Some(columns.iter().position(|known| known == name).ok_or_else(|| {
                let close = close_names(name, columns.iter().map(String::as_str));
                let mend = if close.is_empty() {
                    "name one, or identity".to_owned()
                } else {
                    format!("did you mean {}?", close.join(", "))
                };
                let (n, file) = (columns.len(), place.label());
                manifest.wrong("label", format!("is {name:?}, which is none of the {n} attributes of {file}; {mend}"))
            })?),
        };
        let (mut names, mut numbers) = (Vec::new(), Vec::new());
        for (index, line) in lines {
            let wrong = |problem: String| place.wrong(format!("(line {}) {problem}; download it again", index + 1));
            let mut found = fields(line);
            if found.len() != n_columns + 1 {
                return Err(wrong(format!("has {} fields, not {}", found.len(), n_columns + 1)));
            }
            if let Some(wanted) = wanted {
                let field = found.get(wanted + 1).map(String::as_str).unwrap_or_default();
                numbers.push(field.parse().map_err(|_| wrong(format!("has {field:?}, which is no number")))?);
            }
            let name = found.swap_remove(0);
            if name.starts_with('.') || name.contains(['/', '\\']) || names.len() >= limits::DATASET_FILES {
                return Err(wrong(format!("names {name:?}, which is no name of a picture")));
            }
            names.push(name);
        }
        match declared {
            Some(n) if n != names.len() => Err(place.wrong(format!(
                "lists {} faces, not the {n} of its first line: it is truncated; download it again",
                names.len()
            ))),
            _ => Ok(List { place, names, numbers }),
        }
    }
}

/// The numbers of another list, for the faces of the first.
fn by_name(list: &List, other: List) -> Result<Vec<i64>, DatasetError> {
    let numbers: HashMap<&str, i64> =
        other.names.iter().map(String::as_str).zip(other.numbers.iter().copied()).collect();
    let number = |(row, name): (usize, &String)| {
        let lacks =
            || other.place.wrong(format!("lacks {name:?}, row {row} of {}; download both again", list.place.label()));
        numbers.get(name.as_str()).copied().ok_or_else(lacks)
    };
    list.names.iter().enumerate().map(number).collect()
}

/// Makes class indices of the numbers of a list.
fn check(list: &List, labels: &mut [i64], attribute: Option<&str>) -> Result<(), DatasetError> {
    for (row, label) in labels.iter_mut().enumerate() {
        *label = match (attribute, *label) {
            (Some(_), -1) => 0,
            (Some(_), 1) => 1,
            (None, identity) if (0..limits::CLASSES as i64).contains(&identity) => identity,
            (attribute, bad) => {
                let what = attribute.unwrap_or(IDENTITY);
                return Err(list
                    .place
                    .wrong(format!("(row {row}) has {what} {bad}, which is out of range; download it again")));
            }
        };
    }
    Ok(())
}

fn of_part(part: Part, parts: &[i64]) -> Vec<usize> {
    let wanted = match part {
        Part::Train => 0,
        Part::Validation => 1,
        Part::Test | Part::All => 2,
    };
    parts.iter().enumerate().filter(|(_, part)| **part == wanted).map(|(row, _)| row).collect()
}

impl Faces {
    /// The file's name for messages, and its bytes.
    fn read(&self, row: usize, name: &str) -> Result<(String, Vec<u8>), DatasetError> {
        match &self.pictures {
            Pictures::Folder(folder) => {
                let place = folder.join(name);
                if !place.exists() {
                    return Err(place.wrong(format!("(row {row}) is missing; unpack the whole archive there")));
                }
                Ok((format!("{} (row {row})", place.label()), place.read(limits::IMAGE_FILE_BYTES)?))
            }
            Pictures::Archive { place, zip, .. } => {
                let label = format!("{}/{name} (row {row})", place.label());
                let wrong = |problem: String| DatasetError::File { file: label.clone(), problem };
                let mut zip = zip.lock().unwrap_or_else(PoisonError::into_inner);
                let nested = format!("img_align_celeba/{name}");
                let path = if zip.index_for_name(&nested).is_some() { nested.as_str() } else { name };
                let entry = zip.by_name(path).map_err(|error| match error {
                    ZipError::FileNotFound => wrong("is missing; download the archive again".to_owned()),
                    error => wrong(format!("cannot be unpacked: {error}; download the archive again")),
                })?;
                let mut bytes = Vec::new();
                entry
                    .take(limits::IMAGE_FILE_BYTES + 1)
                    .read_to_end(&mut bytes)
                    .map_err(|error| wrong(format!("cannot be unpacked: {error}; download the archive again")))?;
                if bytes.len() as u64 > limits::IMAGE_FILE_BYTES {
                    return Err(wrong(format!("has more than {} bytes", limits::IMAGE_FILE_BYTES)));
                }
                Ok((label, bytes))
            }
        }
    }
}

impl Stored for Faces {
    fn sample(&self, row: usize) -> Result<Raw, DatasetError> {
        let name = self.names.get(row).map(String::as_str).unwrap_or_default();
        let (label, bytes) = self.read(row, name)?;
        Ok(Raw::Image { label, bytes, channels: self.channels })
    }

    fn files(&self, row: usize) -> Vec<Place> {
        match (&self.pictures, self.names.get(row)) {
            (Pictures::Folder(folder), Some(name)) => vec![folder.join(name)],
            _ => Vec::new(),
        }
    }

    fn bytes(&self) -> u64 {
        const OF_ENTRY: usize = 256;
        let entries = match &self.pictures {
            Pictures::Folder(_) => 0,
            Pictures::Archive { entries, .. } => entries * OF_ENTRY,
        };
        (entries + self.names.iter().map(|name| name.len() + size_of::<String>()).sum::<usize>()) as u64
    }
}
