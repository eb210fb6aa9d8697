//! Folders of image files: a folder for each class, named after it; where there are none, pictures without labels.
//!
//! `train/`, `validation/` (`valid`, `val`) and `test/` above the classes are parts. Classes are numbered in order of
//! name, samples come part by part, class by class, in order of name; folders within a class belong to it.

use std::collections::BTreeSet;

use super::Wanted;
use crate::{
    dataset::{
        DatasetError,
        collection::{Content, Found, Raw, Stored},
        manifest::Part,
        picture::{self, Channels, EXTENSIONS},
        place::{Entry, Place, Seen, has_extension},
    },
    limits,
};

/// Folders that are looked into to recognise a dataset.
const GLANCED_FOLDERS: usize = 20;
/// In the order in which samples come.
const PARTS: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

/// Files below a folder.
#[derive(Debug)]
struct Images {
    place: Place,
    paths: Vec<String>,
    channels: Channels,
}

/// A folder with image files in it, or in its folders, or in theirs.
pub fn recognises(place: &Place) -> bool {
    has_images(place, 2)
}

fn has_images(place: &Place, nesting: usize) -> bool {
    let entries = place.glance();
    entries.iter().any(is_image)
        || nesting > 0
            && entries
                .iter()
                .filter(|entry| entry.is_folder)
                .take(GLANCED_FOLDERS)
                .any(|entry| has_images(&place.join(&entry.name), nesting - 1))
}

fn is_image(entry: &Entry) -> bool {
    !entry.is_folder && EXTENSIONS.iter().any(|extension| has_extension(&entry.name, extension))
}

/// Lists the files, and reads the head of the first.
///
/// # Errors
/// A folder without pictures, too many files, a first picture that is damaged.
pub fn open(wanted: &Wanted<'_>, seen: &mut Seen) -> Result<Found, DatasetError> {
    wanted.manifest.no_label()?;
    let place = wanted.place;
    let mut paths = Vec::new();
    for folder in parts(wanted, seen)? {
        let root = if folder.is_empty() { place.clone() } else { place.join(&folder) };
        let entries = root.entries(seen)?;
        let above = paths.len();
        for class in entries.iter().filter(|entry| entry.is_folder) {
            walk(place, &below(&folder, &class.name), Some(&class.name), limits::DATASET_NESTING, &mut paths, seen)?;
        }
        // Pictures beside classes belong to none and are left out.
        if paths.len() == above {
            let loose = entries.iter().filter(|entry| is_image(entry));
            paths.extend(loose.map(|entry| (None, below(&folder, &entry.name))));
        }
    }
    let classes: BTreeSet<&String> = paths.iter().filter_map(|(class, _)| class.as_ref()).collect();
    let classes: Vec<String> = classes.into_iter().cloned().collect();
    if classes.len() > limits::CLASSES {
        return Err(place.wrong(format!("has {} classes, more than the {} allowed", classes.len(), limits::CLASSES)));
    }
    let number = |class: &Option<String>| {
        let place = classes.binary_search(class.as_ref()?).ok()?;
        u32::try_from(place).ok()
    };
    let labels: Option<Vec<u32>> = paths.iter().map(|(class, _)| number(class)).collect();
    let Some((_, first)) = paths.first() else {
        return Err(place.wrong(format!("has no pictures ({}); put some there", EXTENSIONS.join(", "))));
    };
    let file = place.join(first);
    seen.note(&file)?;
    let head = picture::head(&file.read(limits::IMAGE_FILE_BYTES)?).map_err(|problem| file.wrong(problem))?;
    let channels = wanted.manifest.channels.unwrap_or(head.channels);
    let paths: Vec<String> = paths.into_iter().map(|(_, path)| path).collect();
    Ok(Found {
        n_samples: paths.len(),
        shape: vec![channels.count(), head.size[0], head.size[1]],
        labels: labels.filter(|_| !classes.is_empty()),
        classes,
        target: None,
        content: Content::Files(Box::new(Images { place: place.clone(), paths, channels })),
    })
}

/// The folders of the part that is wanted; `""` is the whole.
fn parts(wanted: &Wanted<'_>, seen: &mut Seen) -> Result<Vec<String>, DatasetError> {
    let entries = wanted.place.entries(seen)?;
    let folders = entries.into_iter().filter(|entry| entry.is_folder);
    let parts: Option<Vec<(Part, String)>> =
        folders.map(|folder| Some((Part::of_name(&folder.name)?, folder.name))).collect();
    let Some(parts) = parts.filter(|parts| !parts.is_empty()) else {
        wanted.manifest.part_of(&[])?;
        return Ok(vec![String::new()]);
    };
    let known: Vec<Part> = PARTS.into_iter().filter(|part| parts.iter().any(|(known, _)| known == part)).collect();
    let wanted_part = wanted.manifest.part_of(&known)?;
    let is_wanted = |part: &Part| wanted_part == Part::All || wanted_part == *part;
    let of = |part: Part| parts.iter().filter(move |(known, _)| *known == part).map(|(_, folder)| folder.clone());
    Ok(known.into_iter().filter(is_wanted).flat_map(of).collect())
}

/// Adds the image files below a folder, in order of name.
fn walk(
    place: &Place,
    folder: &str,
    class: Option<&String>,
    nesting: usize,
    paths: &mut Vec<(Option<String>, String)>,
    seen: &mut Seen,
) -> Result<(), DatasetError> {
    let here = place.join(folder);
    if nesting == 0 {
        return Err(here.wrong(format!("lies more than {} folders deep; move it up", limits::DATASET_NESTING)));
    }
    for entry in here.entries(seen)? {
        let path = below(folder, &entry.name);
        if entry.is_folder {
            walk(place, &path, class, nesting - 1, paths, seen)?;
        } else if is_image(&entry) {
            if paths.len() >= limits::DATASET_FILES {
                return Err(place.wrong(format!("has more than {} pictures; split it", limits::DATASET_FILES)));
            }
            paths.push((class.cloned(), path));
        }
    }
    Ok(())
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

impl Stored for Images {
    fn sample(&self, row: usize) -> Result<Raw, DatasetError> {
        let file = self.place.join(self.paths.get(row).map(String::as_str).unwrap_or_default());
        let label = format!("{} (row {row})", file.label());
        Ok(Raw::Image { label, bytes: file.read(limits::IMAGE_FILE_BYTES)?, channels: self.channels })
    }

    fn files(&self, row: usize) -> Vec<Place> {
        self.paths.get(row).map(|path| self.place.join(path)).into_iter().collect()
    }

    fn bytes(&self) -> u64 {
        self.paths.iter().map(|path| path.len() + size_of::<String>()).sum::<usize>() as u64
    }
}
