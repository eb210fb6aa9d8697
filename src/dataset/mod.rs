//! Probe sets: named files on disk, and samples that came with a request.
//!
//! A dataset is a sub-folder or a file of a dataset folder; `FORMATS` tells which. A new format is one file and one
//! line there. The folders are looked at anew on every call; a [`Dataset`] that is in use stays as it was.

mod inline;
mod npy;
pub mod npz;
mod samples;

use std::{fs::File, path::PathBuf, sync::Arc};

pub use inline::inline;
pub use samples::Dataset;

use crate::{
    error::{Error, Reason},
    limits,
    registry::{Listed, Located, Placement, Shelf, ShelfError, Stamp, VersionCache},
};

/// A way to store a dataset.
struct Format {
    placement: Placement,
    read: fn(&Located, File) -> Result<Dataset, DatasetError>,
}

/// Every format, in the order in which they are tried.
const FORMATS: &[Format] = &[
    Format { placement: Placement::Bare("npz"), read: npz::read },
    Format { placement: Placement::InFolder("data.npz"), read: npz::read },
];

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
    Array { file: String, array: &'static str, problem: String },
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
    loaded: VersionCache<Stamp, Dataset>,
}

impl DatasetStore {
    /// Opens dataset folders. Datasets are read when they are asked for.
    ///
    /// # Errors
    /// A folder that cannot be read, or a name that two files have.
    pub fn open(folders: &[PathBuf]) -> Result<DatasetStore, DatasetError> {
        let placements = FORMATS.iter().map(|format| format.placement).collect();
        let shelf = Shelf::open("dataset", placements, folders)?;
        Ok(DatasetStore { shelf, loaded: VersionCache::new(limits::DATASET_CACHE_BYTES) })
    }

    /// Every name, in order, the unusable included.
    pub fn names(&self) -> Vec<String> {
        self.list().into_iter().map(|listed| listed.name).collect()
    }

    /// Every name, in order, with what the folder tells is wrong. [`DatasetStore::get`] tells what is wrong with the
    /// file.
    pub fn list(&self) -> Vec<Listed> {
        self.shelf.list()
    }

    /// The present version of a dataset. Reads its file if that is new.
    ///
    /// # Errors
    /// No such name, or a file that cannot be read, is too large, or holds no valid probe set.
    pub fn get(&self, name: &str) -> Result<Arc<Dataset>, DatasetError> {
        let located = self.shelf.locate(name).inspect_err(|_| self.loaded.forget(name))?;
        let stamp = located.stamp()?;
        if let Some(dataset) = self.loaded.get(name, &stamp) {
            return Ok(dataset);
        }
        let (file, stamp) = located.open(limits::DATASET_BYTES)?;
        let Some(format) = FORMATS.get(located.placement) else {
            return Err(ShelfError::Changed { file: located.label }.into());
        };
        let read = (format.read)(&located, file);
        if located.stamp()? != stamp {
            // Whatever was read, or is wrong with it, may be a mixture of two versions.
            return Err(ShelfError::Changed { file: located.label }.into());
        }
        let dataset = Arc::new(read?);
        self.loaded.put(name, stamp, &dataset, dataset.bytes());
        Ok(dataset)
    }
}
