//! Models on disk: names, manifests, digests, immutable snapshots.
//!
//! A model is a sub-folder `<name>/model.onnx` with an optional `model.toml` beside it, or a bare `<name>.onnx`. The
//! folders are looked at anew on every call, so that a file that was added, replaced or removed counts at once; a
//! [`Snapshot`] that is in use stays as it was. Nothing here parses ONNX but for the names of the files beside a model.

mod cache;
mod intake;
mod manifest;
mod name;
mod shelf;
mod snapshot;
mod staging;
mod uses;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use cache::VersionCache;
pub use intake::{Intake, IntakeBounds, IntakeError};
pub use manifest::{Features, InputManifest, Layout, Manifest, ManifestError, Normalisation, OutputManifest};
pub(crate) use manifest::{one_line, parse_toml, picture_size};
pub use name::{Name, NameError, close_names};
pub use shelf::{Listed, Located, Placement, Shelf, ShelfError, Stamp};
pub use snapshot::{Digest, GRADIENT, MODEL, Snapshot};
pub use staging::{Announced, NextChunk, Staging};
pub use uses::{Use, Uses};

use bytes::Bytes;

use crate::{
    error::{Error, Reason},
    gradient::Graph,
    limits,
};

/// What a model's output means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputKind {
    /// Unnormalised log-probabilities of classes.
    Logits,
    /// A vector whose directions carry meaning.
    Embedding,
    /// A value for each place of a map.
    Dense,
}

impl OutputKind {
    /// The word for it in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            OutputKind::Logits => "logits",
            OutputKind::Embedding => "embedding",
            OutputKind::Dense => "dense",
        }
    }
}

/// Why a model cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{file} is empty; put an ONNX model there")]
    Empty { file: String },
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Error {
        let reason = match &error {
            RegistryError::Shelf(ShelfError::NotFound { .. } | ShelfError::BadName { .. }) => Reason::ModelNotFound,
            _ => Reason::ModelInvalid,
        };
        Error::new(reason, error.to_string())
    }
}

/// The version of a model: its file's stamp and its manifest's.
type Version = (Stamp, Option<Stamp>);

/// A snapshot, and the stamps of the files beside it that it needs.
#[derive(Debug)]
struct Kept {
    snapshot: Arc<Snapshot>,
    external: Vec<(String, Option<Stamp>)>,
}

/// The models of some folders. Shared by all calls.
#[derive(Debug)]
pub struct Registry {
    shelf: Shelf,
    uses: Uses,
    snapshots: VersionCache<Version, Kept>,
}

impl Registry {
    /// Opens model folders. Models are read when they are asked for.
    ///
    /// # Errors
    /// A folder that cannot be read, or a name that two files have.
    pub fn open(folders: &[PathBuf]) -> Result<Registry, RegistryError> {
        let placements = vec![Placement::InFolder(snapshot::MODEL), Placement::Bare("onnx")];
        let shelf = Shelf::open("model", placements, folders)?;
        let snapshots = VersionCache::new("models", limits::MODEL_CACHE_BYTES);
        Ok(Registry { shelf, uses: Uses::default(), snapshots })
    }

    /// Makes one of the folders take uploads.
    ///
    /// # Errors
    /// As [`Intake::open`].
    pub fn intake(&self, folder: &Path, bounds: IntakeBounds) -> Result<Intake, Error> {
        Intake::open(&self.shelf, &self.uses, folder, bounds)
    }

    /// Every name, in order, the unusable included.
    pub fn names(&self) -> Vec<String> {
        self.list().into_iter().map(|listed| listed.name).collect()
    }

    /// Every name, in order, with what the folder tells is wrong. [`Registry::get`] tells what is wrong with the file.
    pub fn list(&self) -> Vec<Listed> {
        self.shelf.list()
    }

    /// The present version of a model. Reads its file if that is new.
    ///
    /// # Errors
    /// No such name, a file that cannot be read or is too large, a manifest that makes no sense.
    pub fn get(&self, name: &str) -> Result<Arc<Snapshot>, RegistryError> {
        let _reading = self.uses.begin(name);
        let model = self.shelf.locate(name).inspect_err(|_| self.snapshots.forget(name))?;
        // A bare `<name>.onnx` has no manifest: a `model.toml` beside it would be no particular model's.
        let in_folder = model.placement == 0;
        let manifest = if in_folder { model.beside("model.toml")? } else { None };
        let version = (model.stamp()?, manifest.as_ref().map(Located::stamp).transpose()?);
        if let Some(kept) = self.snapshots.get(name, &version) {
            let mut changed = false;
            for (file, stamp) in &kept.external {
                changed |= stamp_beside(&model, file)? != *stamp;
            }
            if !changed {
                return Ok(Arc::clone(&kept.snapshot));
            }
        }
        let (bytes, model_stamp) = model.read(limits::MODEL_BYTES)?;
        if bytes.is_empty() {
            return Err(RegistryError::Empty { file: model.label });
        }
        let (manifest, manifest_stamp) = match manifest {
            Some(file) => {
                let (text, stamp) = file.read(limits::MANIFEST_BYTES)?;
                (Manifest::parse(&file.label, &text)?, Some(stamp))
            }
            None => (Manifest::default(), None),
        };
        let bytes = Bytes::from(bytes);
        let (mut external, mut stamps) = (BTreeMap::new(), Vec::new());
        let mut left = limits::MODEL_BYTES;
        let mut beside = Graph::external_files(&bytes);
        beside.extend(in_folder.then(|| snapshot::GRADIENT.to_owned()));
        for path in beside {
            // A file that is missing is the model's problem, told when it is parsed.
            let mut stamp = None;
            if let Some(file) = model.beside(&path)? {
                let (contents, read) = file.read(left)?;
                left -= contents.len() as u64;
                external.insert(path.clone(), Bytes::from(contents));
                stamp = Some(read);
            }
            stamps.push((path, stamp));
        }
        let snapshot = Arc::new(Snapshot::new(model.name, bytes, external, manifest));
        let kept = Arc::new(Kept { snapshot: Arc::clone(&snapshot), external: stamps });
        self.snapshots.put(name, (model_stamp, manifest_stamp), &kept, snapshot.size_bytes());
        Ok(snapshot)
    }

    /// Drops what is kept of a model; calls that have it keep it. Tells whether there was anything.
    ///
    /// # Errors
    /// No such name.
    pub fn unload(&self, name: &str) -> Result<bool, RegistryError> {
        let kept = self.snapshots.take(name).is_some();
        self.shelf.locate(name)?;
        Ok(kept)
    }
}

/// The version of a file beside a model; `None` where it has gone.
fn stamp_beside(model: &Located, file: &str) -> Result<Option<Stamp>, RegistryError> {
    Ok(model.beside(file)?.as_ref().map(Located::stamp).transpose()?)
}
