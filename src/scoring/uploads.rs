//! Taking models and datasets from clients.

use std::path::Path;

use crate::{
    cancel::Cancel,
    config::UploadConfig,
    dataset::{self, DatasetError, DatasetStore},
    error::{Error, Reason, Result},
    gradient::Graph,
    limits,
    registry::{Announced, Digest, Intake, IntakeBounds, Manifest, NextChunk, Registry, RegistryError, Snapshot},
    scoring::{describe, types::*},
};

/// The folders that take uploads.
#[derive(Debug)]
pub struct Intakes {
    pub models: Intake,
    pub datasets: Intake,
}

impl Intakes {
    /// Opens both folders for uploads.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub fn open(config: &UploadConfig, registry: &Registry, datasets: &DatasetStore) -> Result<Intakes> {
        let bounds = IntakeBounds { file_bytes: config.file_bytes, space_bytes: config.space_bytes };
        let file_bytes = bounds.file_bytes.min(limits::MODEL_BYTES);
        Ok(Intakes {
            models: registry.intake(&config.models, IntakeBounds { file_bytes, ..bounds })?,
            datasets: datasets.intake(&config.datasets, bounds)?,
        })
    }
}

/// Takes a model.
///
/// # Errors
/// As [`super::Scoring::upload_model`].
pub fn model(
    intake: &Intake,
    upload: &Upload,
    next: &mut NextChunk<'_>,
    cancel: &Cancel,
) -> Result<Uploaded<ModelDescription>> {
    let announced = announced(upload)?;
    if upload.manifest.len() as u64 > limits::MANIFEST_BYTES {
        let message = format!("model.toml has more than {} bytes; shorten it", limits::MANIFEST_BYTES);
        return Err(Error::new(Reason::LimitExceeded, message).at("header.manifest"));
    }
    Manifest::parse("model.toml", upload.manifest.as_bytes())
        .map_err(|error| Error::from(RegistryError::from(error)).at("header.manifest"))?;
    let mut staging = intake.begin(&upload.name, upload.overwrite)?;
    let mut bytes = staging.receive(announced, next, cancel)?;
    staging.keep_as("model.onnx")?;
    if !upload.manifest.is_empty() {
        bytes += staging.add(Path::new("model.toml"), &mut upload.manifest.as_bytes(), limits::MANIFEST_BYTES)?;
    }
    let description = {
        let _checking = intake.check_alone();
        cancel.check()?;
        let alone = Registry::open(&[staging.root()])?;
        checked_model(&*alone.get(staging.name().as_str())?)?
    };
    let replaced = staging.place(announced.digest, bytes, cancel)?;
    tracing::info!(model = upload.name, digest = %announced.digest, bytes, replaced, "uploaded");
    Ok(Uploaded { description, replaced })
}

/// Reads a model as any call would.
fn checked_model(snapshot: &Snapshot) -> Result<ModelDescription> {
    if let Some(file) = Graph::external_files(snapshot.bytes()).first() {
        let message = format!(
            "model `{}` keeps tensors in a file of its own, {file:?}; save it with all tensors in one file",
            snapshot.name()
        );
        return Err(Error::new(Reason::ModelInvalid, message));
    }
    describe::parse(snapshot)?;
    Ok(describe::model(snapshot))
}

/// Takes a dataset.
///
/// # Errors
/// As [`super::Scoring::upload_dataset`].
pub fn dataset(
    intake: &Intake,
    upload: &Upload,
    next: &mut NextChunk<'_>,
    cancel: &Cancel,
) -> Result<Uploaded<DatasetDescription>> {
    let announced = announced(upload)?;
    dataset::upload::check_manifest(&upload.manifest)?;
    let mut staging = intake.begin(&upload.name, upload.overwrite)?;
    let received = staging.receive(announced, next, cancel)?;
    let (description, bytes) = {
        let _checking = intake.check_alone();
        cancel.check()?;
        let bytes = dataset::upload::settle(&mut staging, received, &upload.manifest)?;
        let alone = DatasetStore::open(&[staging.root()])?;
        let collection = alone.find(staging.name().as_str()).map_err(unrecognised)?;
        alone.load(&collection, limits::CHECKED_SAMPLES, 0)?;
        (describe::dataset(&collection), bytes)
    };
    let replaced = staging.place(announced.digest, bytes, cancel)?;
    tracing::info!(dataset = upload.name, digest = %announced.digest, bytes, replaced, "uploaded");
    Ok(Uploaded { description, replaced })
}

/// A folder that no format recognises is no dataset, which a name would be told not to be there for.
fn unrecognised(cause: DatasetError) -> Error {
    let error = Error::from(cause);
    if error.reason != Reason::DatasetNotFound {
        return error;
    }
    let message = "what the archive holds is laid out as no known dataset; docs/datasets.md shows how each looks, and \
                   the archive is to hold the folder's contents, not the folder";
    Error::new(Reason::DatasetInvalid, message)
}

fn announced(upload: &Upload) -> Result<Announced> {
    if upload.sha256.is_empty() {
        let message = "header.sha256 is empty; give the file's SHA-256, as sha256sum prints it";
        return Err(Error::new(Reason::FieldMissing, message).at("header.sha256"));
    }
    let digest = Digest::parse(&upload.sha256).ok_or_else(|| {
        let message = "header.sha256 is no SHA-256; give 64 hexadecimal digits, as sha256sum prints them";
        Error::new(Reason::OptionOutOfRange, message).at("header.sha256")
    })?;
    Ok(Announced { digest, bytes: upload.size_bytes })
}

/// Refuses what a server without uploads is asked.
pub fn allowed(intakes: Option<&Intakes>) -> Result<&Intakes> {
    intakes.ok_or_else(|| {
        let message = "this server takes no uploads; have the operator start it with --allow-uploads";
        Error::new(Reason::UploadsNotAllowed, message)
    })
}
