//! Probe sets: named files and folders on disk, and samples that came with a request.
//!
//! A dataset is a file or a sub-folder of a dataset folder: one that a format recognises, or one with a `dataset.toml`,
//! which says where it lies and which samples are meant. `formats` has a file and a line for each layout. The folders
//! are looked at anew on every call; a [`Dataset`] that is in use stays as it was.

mod archive;
mod collection;
mod formats;
mod inline;
mod manifest;
mod picture;
mod place;
mod resize;
mod samples;
mod selection;
pub mod upload;
mod zipped;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

pub use collection::Collection;
pub use formats::npz;
pub use inline::inline;
pub use resize::resize;
pub use samples::Dataset;

use collection::Decoded;
use formats::{BARE, FORMATS, Wanted, format_of};
use manifest::Manifest;
use place::{Place, Seen};

use crate::{
    error::{Error, Reason},
    limits,
    registry::{
        Intake, IntakeBounds, Listed, Located, ManifestError, Placement, Shelf, ShelfError, Stamp, Use, Uses,
        VersionCache,
    },
};

/// The manifest of a dataset's folder.
const MANIFEST: &str = "dataset.toml";

/// Why a dataset cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error("{file}: no readable .npz archive: {problem}; save it again with numpy.savez")]
    Archive { file: String, problem: String },
    #[error("{file}: no array {array:?}, but {found:?}; save it with numpy.savez(file, x=samples, y=labels)")]
    MissingArray { file: String, array: &'static str, found: Vec<String> },
    #[error("{file}: array {array:?} {problem}")]
    Array { file: String, array: String, problem: String },
    #[error("{file} {problem}")]
    File { file: String, problem: String },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{field} {problem}")]
    Inline { field: &'static str, problem: String },
}

impl From<DatasetError> for Error {
    fn from(error: DatasetError) -> Error {
        match &error {
            DatasetError::Inline { field, .. } => {
                Error::new(Reason::ProbeInvalid, error.to_string()).at(format!("inline_dataset.{field}"))
            }
            DatasetError::Shelf(ShelfError::NotFound { .. } | ShelfError::BadName { .. }) => {
                Error::new(Reason::DatasetNotFound, error.to_string())
            }
            _ => Error::new(Reason::DatasetInvalid, error.to_string()),
        }
    }
}

/// The datasets of some folders. Shared by all calls.
#[derive(Debug)]
pub struct DatasetStore {
    shelf: Shelf,
    uses: Uses,
    found: VersionCache<Stamp, Collection>,
    /// By the collection, the number of samples and the seed.
    decoded: VersionCache<(u64, usize, u64), Decoded>,
    generation: AtomicU64,
}

impl DatasetStore {
    /// Opens dataset folders. Datasets are read when they are asked for.
    ///
    /// # Errors
    /// A folder that cannot be read, or a name that two files have.
    pub fn open(folders: &[PathBuf]) -> Result<DatasetStore, DatasetError> {
        let bare = BARE.iter().map(|extension| Placement::Bare(extension));
        let placements = bare.chain([Placement::Folder(is_dataset)]).collect();
        let shelf = Shelf::open("dataset", placements, folders)?;
        Ok(DatasetStore {
            shelf,
            uses: Uses::default(),
            found: VersionCache::new("datasets", limits::DATASET_CACHE_BYTES),
            decoded: VersionCache::new("decoded", limits::DECODED_CACHE_BYTES),
            generation: AtomicU64::new(0),
        })
    }

    /// Makes one of the folders take uploads.
    ///
    /// # Errors
    /// As [`Intake::open`].
    pub fn intake(&self, folder: &Path, bounds: IntakeBounds) -> Result<Intake, Error> {
        Intake::open(&self.shelf, &self.uses, folder, bounds)
    }

    /// Keeps the files of a dataset as they are while it is found and loaded.
    pub fn reading(&self, name: &str) -> Use {
        self.uses.begin(name)
    }

    /// Every name, in order, the unusable included.
    pub fn names(&self) -> Vec<String> {
        self.list().into_iter().map(|listed| listed.name).collect()
    }

    /// Every name, in order, with what the folder tells is wrong. [`DatasetStore::find`] tells what is wrong with the
    /// files.
    pub fn list(&self) -> Vec<Listed> {
        self.shelf.list()
    }

    /// The present version of a dataset, its samples not yet decoded where they are files of their own.
    ///
    /// # Errors
    /// No such name, or files that cannot be read, are too large, or hold no valid probe set.
    pub fn find(&self, name: &str) -> Result<Arc<Collection>, DatasetError> {
        let _reading = self.reading(name);
        let located = self.shelf.locate(name).inspect_err(|_| self.forget(name))?;
        let stamp = located.stamp()?;
        if let Some(collection) = self.found.get(name, &stamp).filter(|collection| collection.seen.is_current()) {
            return Ok(collection);
        }
        let mut seen = Seen::default();
        let read = read(&located, &mut seen);
        if located.stamp()? != stamp || !seen.is_current() {
            // Whatever was read, or is wrong with it, may be a mixture of two versions.
            return Err(ShelfError::Changed { file: located.label }.into());
        }
        let mut collection = read?;
        collection.seen = seen;
        collection.generation = self.generation.fetch_add(1, Ordering::Relaxed);
        let collection = Arc::new(collection);
        self.found.put(name, stamp, &collection, collection.bytes());
        Ok(collection)
    }

    /// At most `max_samples` samples, drawn as [`Dataset::subset`] draws; 0 means all.
    ///
    /// # Errors
    /// Samples that cannot be read or decoded.
    pub fn load(&self, collection: &Collection, max_samples: usize, seed: u64) -> Result<Dataset, DatasetError> {
        if let Some(dataset) = collection.resident() {
            return Ok(dataset.subset(max_samples, seed));
        }
        let is_all = max_samples == 0 || max_samples >= collection.n_samples();
        let mark = if is_all { (collection.generation, 0, 0) } else { (collection.generation, max_samples, seed) };
        let name = collection.name();
        if let Some(decoded) = self.decoded.get(name, &mark).filter(|decoded| decoded.seen.is_current()) {
            return Ok(decoded.dataset.clone());
        }
        let decoded = Arc::new(collection.decode(max_samples, seed)?);
        self.decoded.put(name, mark, &decoded, decoded.dataset.bytes());
        Ok(decoded.dataset.clone())
    }

    /// Drops what is kept of a dataset; calls that have its samples keep them.
    pub fn forget(&self, name: &str) {
        self.found.forget(name);
        self.decoded.forget(name);
    }

    /// All samples of the present version of a dataset.
    ///
    /// # Errors
    /// As [`DatasetStore::find`] and [`DatasetStore::load`].
    pub fn get(&self, name: &str) -> Result<Arc<Dataset>, DatasetError> {
        let _reading = self.reading(name);
        Ok(Arc::new(self.load(&*self.find(name)?, 0, 0)?))
    }
}

/// Whether a folder holds a dataset.
fn is_dataset(folder: &Path) -> bool {
    let place = Place::unnamed(folder);
    place.join(MANIFEST).exists() || FORMATS.iter().any(|format| (format.recognises)(&place))
}

/// Reads a dataset as its manifest or its form says.
fn read(located: &Located, seen: &mut Seen) -> Result<Collection, DatasetError> {
    let named = Place::named(located);
    let file = named.join(MANIFEST);
    let manifest = if named.is_folder() && file.exists() {
        seen.note(&file)?;
        Manifest::parse(file.label(), &file.read(limits::MANIFEST_BYTES)?)?
    } else {
        Manifest::default()
    };
    let place = match &manifest.path {
        None => named,
        Some(path) => {
            let place = named.led_to(path);
            if !place.exists() {
                return Err(manifest.wrong("path", format!("is {path:?}, where nothing is; correct it")).into());
            }
            place
        }
    };
    let format = format_of(&place, &manifest)?;
    let name = located.name.as_str();
    let found = (format.open)(&Wanted { name, place: &place, manifest: &manifest }, seen)?;
    Collection::new(name, format.name, manifest, found)
}
