//! What becomes of an uploaded file: a folder in one of the layouts that formats recognise.
//!
//! Invariant: of an archive only plain files are written, at paths whose every part was checked, within the bounds on
//! number, depth and size.

use std::{
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};

use zip::{read::ZipFile, result::ZipError};

use super::{
    DatasetError, MANIFEST,
    manifest::Manifest,
    zipped::{self, Metered, Zip, ZipOpenError},
};
use crate::{
    error::{Error, Reason, Result},
    limits,
    registry::{IntakeError, Staging},
};

/// First bytes of a Parquet file, and of a zip archive.
const PARQUET: &[u8] = b"PAR1";
const ZIP: &[u8] = b"PK";

/// What a client says in place of a `dataset.toml`; may be empty.
///
/// # Errors
/// A manifest that makes no sense, or one with a path: an upload is read from its own folder only.
pub fn check_manifest(text: &str) -> Result<()> {
    let at_fault = |error: Error| error.at("header.manifest");
    if text.len() as u64 > limits::MANIFEST_BYTES {
        let message = format!("{MANIFEST} has more than {} bytes; shorten it", limits::MANIFEST_BYTES);
        return Err(at_fault(Error::new(Reason::LimitExceeded, message)));
    }
    let manifest =
        Manifest::parse(MANIFEST, text.as_bytes()).map_err(|error| at_fault(Error::from(DatasetError::from(error))))?;
    if manifest.path.is_some() {
        let problem = "leads elsewhere, but an upload is read from its own folder; leave it out";
        return Err(at_fault(DatasetError::from(manifest.wrong("path", problem)).into()));
    }
    Ok(())
}

/// Puts what was received where formats look for it, with the manifest beside it. Gives the bytes that it takes.
///
/// # Errors
/// A file that is neither an `.npz` nor a Parquet file nor a zip archive; an archive with what has no place in a
/// folder; no room.
pub fn settle(staging: &mut Staging<'_>, received: u64, manifest: &str) -> Result<u64> {
    let unreadable = |error: std::io::Error| Error::new(Reason::Internal, format!("cannot read an upload: {error}"));
    let mut head = Vec::new();
    let file = File::open(staging.received()).map_err(unreadable)?;
    file.take(PARQUET.len() as u64).read_to_end(&mut head).map_err(unreadable)?;
    let mut bytes = received;
    if head.starts_with(PARQUET) {
        staging.keep_as("data.parquet")?;
    } else if head.starts_with(ZIP) {
        let mut archive = open(&staging.received())?;
        if is_npz(&archive) {
            staging.keep_as("data.npz")?;
        } else {
            bytes = unpack(&mut archive, staging)?;
            drop(archive);
            staging.discard_received()?;
        }
    } else {
        return Err(invalid("the file is no .npz, no Parquet file and no .zip; send one of these"));
    }
    if !manifest.is_empty() {
        bytes += staging.add(Path::new(MANIFEST), &mut manifest.as_bytes(), limits::MANIFEST_BYTES)?;
    }
    Ok(bytes)
}

fn open(path: &Path) -> Result<Zip> {
    let file = File::open(path).map_err(|error| invalid(&format!("the archive cannot be read: {error}")))?;
    let archive = zipped::open(file).map_err(|error| match error {
        ZipOpenError::Broken(error) => broken(&error),
        error => Error::new(Reason::LimitExceeded, format!("the archive: {error}; send a Parquet file")),
    })?;
    if archive.has_duplicate_names() {
        return Err(invalid("the archive has two files of one name; pack it anew"));
    }
    Ok(archive)
}

/// Whether an archive is one that numpy wrote.
fn is_npz(archive: &Zip) -> bool {
    let mut names = archive.file_names().filter_map(|name| name.ok());
    names.any(|name| name.ends_with(".npy") && !name.contains('/'))
}

fn unpack(archive: &mut Zip, staging: &mut Staging<'_>) -> Result<u64> {
    if archive.len() > limits::UPLOADED_FILES {
        let message = format!(
            "the archive has {} files, more than the {} allowed; send a Parquet file",
            archive.len(),
            limits::UPLOADED_FILES
        );
        return Err(Error::new(Reason::LimitExceeded, message));
    }
    let mut left = limits::DATASET_UNPACKED_BYTES;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|error| broken(&error))?;
        let Some(path) = path_of(&entry)? else { continue };
        let size = entry.size();
        if size > left {
            let message = format!("the archive unpacks to more than {} bytes", limits::DATASET_UNPACKED_BYTES);
            return Err(Error::new(Reason::LimitExceeded, message));
        }
        // What the archive declares is not trusted: no more than that is written.
        let unpackable = |why: String| invalid(&format!("{} cannot be unpacked: {why}; pack it anew", path.display()));
        left -= staging.add(&path, &mut entry, size).map_err(|error| match error {
            IntakeError::TooLarge { .. } => unpackable("it is larger than the archive says".to_owned()),
            IntakeError::Write { source } => unpackable(source.to_string()),
            error => error.into(),
        })?;
    }
    Ok(limits::DATASET_UNPACKED_BYTES - left)
}

/// Where a file of an archive goes; `None` for folders and what is hidden.
fn path_of(entry: &ZipFile<'_, Metered>) -> Result<Option<PathBuf>> {
    let name = entry.name().map_err(|error| broken(&error))?.into_owned();
    let told: String = name.chars().take(limits::NAME_BYTES).collect();
    let refused = |why: &str| Err(invalid(&format!("the archive holds {told:?}, which {why}")));
    if entry.is_symlink() {
        return refused("is a link; put the file itself there");
    }
    if entry.encrypted() {
        return refused("is encrypted; pack it without a password");
    }
    if entry.is_dir() {
        return Ok(None);
    }
    let path = PathBuf::from(&name);
    if name.len() > limits::UPLOADED_PATH_BYTES || name.contains(['\\', ':']) || name.contains(char::is_control) {
        return refused("is no plain path; use folders and names of usual characters");
    }
    let parts: Option<Vec<&str>> = path
        .components()
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect();
    let Some(parts) = parts.filter(|parts| !parts.is_empty()) else {
        return refused("leads out of its folder; pack the folder's contents by relative paths");
    };
    // What systems leave in archives beside the files.
    if parts.iter().any(|part| part.starts_with('.') || *part == "__MACOSX") {
        return Ok(None);
    }
    if parts.len() > limits::DATASET_NESTING + 2 {
        return refused("lies too many folders deep; move it up");
    }
    if parts == [MANIFEST] {
        return refused("belongs in the upload's header; send it as header.manifest");
    }
    Ok(Some(path))
}

fn broken(error: &ZipError) -> Error {
    invalid(&format!("the archive cannot be unpacked: {error}; pack it anew"))
}

fn invalid(message: &str) -> Error {
    Error::new(Reason::DatasetInvalid, message)
}
