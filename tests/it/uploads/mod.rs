//! Uploads in front of real models and data: what is taken, what is refused, and what is left of either.

mod broken;
mod datasets;
mod models;

use std::{
    fs,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tempfile::TempDir;
use transferscore::{
    cancel::Cancel,
    config::UploadConfig,
    error::{Error, Reason, Result},
    registry::Digest,
    scoring::{Scorer, ScorerConfig, Scoring, types::*},
};

use crate::{scoring, server_process::repository, support};

/// A scorer with the bundled models and data, and folders of its own that take uploads.
struct Place {
    folder: TempDir,
    scorer: Scorer,
}

impl Place {
    fn new() -> Place {
        Place::within(1 << 20, 4 << 20)
    }

    fn within(file_bytes: u64, space_bytes: u64) -> Place {
        let folder = tempfile::tempdir().unwrap();
        for part in ["models", "datasets"] {
            fs::create_dir(folder.path().join(part)).unwrap();
        }
        let scorer = open(folder.path(), file_bytes, space_bytes).unwrap();
        Place { folder, scorer }
    }

    fn models(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    fn datasets(&self) -> PathBuf {
        self.folder.path().join("datasets")
    }

    fn model(&self, upload: &Upload, bytes: &[u8]) -> Result<Uploaded<ModelDescription>> {
        self.scorer.upload_model(upload, &mut chunks(bytes), &Cancel::default())
    }

    fn dataset(&self, upload: &Upload, bytes: &[u8]) -> Result<Uploaded<DatasetDescription>> {
        self.scorer.upload_dataset(upload, &mut chunks(bytes), &Cancel::default())
    }

    /// Every file and folder below the folders that take uploads, but for their locks.
    fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            // A server may be at work there: what has gone meanwhile is not there.
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let Ok(path) = entry.map(|entry| entry.path()) else { continue };
                if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                    folders.push(path.clone());
                }
                found.push(path.strip_prefix(self.folder.path()).unwrap().display().to_string());
            }
        }
        let is_fixed = |path: &String| {
            ["models", "datasets"].contains(&path.as_str()) || path.ends_with(".uploads") || path.ends_with("s/lock")
        };
        found.retain(|path| !is_fixed(path));
        found.sort();
        found
    }
}

fn open(folder: &Path, file_bytes: u64, space_bytes: u64) -> Result<Scorer> {
    let (models, datasets) = (folder.join("models"), folder.join("datasets"));
    let folders = (vec![repository("models"), models.clone()], vec![repository("models/datasets"), datasets.clone()]);
    let uploads = Some(UploadConfig { models, datasets, file_bytes, space_bytes });
    let config = ScorerConfig { uploads, ..scoring::config(folders.0, folders.1, 64) };
    Scorer::open(config, support::runtime())
}

/// What a client says of some bytes.
pub fn upload(name: &str, bytes: &[u8]) -> Upload {
    Upload {
        name: name.to_owned(),
        sha256: Digest::of(bytes).to_string(),
        size_bytes: Some(bytes.len() as u64),
        ..Upload::default()
    }
}

fn overwriting(name: &str, bytes: &[u8]) -> Upload {
    Upload { overwrite: true, ..upload(name, bytes) }
}

/// The bytes in pieces.
fn chunks(bytes: &[u8]) -> impl FnMut() -> Result<Option<Bytes>> + Send + use<> {
    let mut left = Bytes::copy_from_slice(bytes);
    move || {
        let next = left.split_to(left.len().min(10_000));
        Ok(Some(next).filter(|next| !next.is_empty()))
    }
}

/// The bytes up to a number of them, then a break.
fn broken_chunks(bytes: &[u8]) -> impl FnMut() -> Result<Option<Bytes>> + Send + use<> {
    let mut whole = chunks(bytes);
    move || match whole()? {
        Some(chunk) => Ok(Some(chunk)),
        None => Err(Error::new(Reason::Cancelled, "the upload broke off before its end")),
    }
}

pub fn digits(name: &str) -> Vec<u8> {
    fs::read(repository("models").join(name).join("model.onnx")).unwrap()
}

#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T>, reason: Reason, field: Option<&str>, mend: &str) {
    let error = answer.unwrap_err();
    assert_eq!((error.reason, error.field.as_deref()), (reason, field), "{error}");
    assert!(error.message.contains(mend), "{:?} does not say {mend:?}", error.message);
}
