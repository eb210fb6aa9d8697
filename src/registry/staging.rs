//! One upload on its way into a folder.
//!
//! Invariant: dropping a [`Staging`] leaves nothing of it, and gives its name and its room back.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::{
    intake::{Intake, IntakeError, MARK, Mark, REPLACED},
    name::Name,
    snapshot::Digest,
};
use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result},
    limits,
};

/// The file as it comes.
const RECEIVED: &str = "received";
/// What becomes of it.
const NEW: &str = "new";

/// Gives the next bytes of a file; `None` once it has ended as it should.
pub type NextChunk<'a> = dyn FnMut() -> Result<Option<Bytes>> + Send + 'a;

/// What a client said of a file before sending it.
#[derive(Clone, Copy, Debug)]
pub struct Announced {
    pub digest: Digest,
    /// `None`: not said.
    pub bytes: Option<u64>,
}

/// An upload in progress.
#[derive(Debug)]
pub struct Staging<'a> {
    intake: &'a Intake,
    name: Name,
    overwrite: bool,
    folder: PathBuf,
    /// Set where clearing away would lose what was to be replaced.
    keep: bool,
}

impl<'a> Staging<'a> {
    pub(super) fn new(intake: &'a Intake, name: Name, overwrite: bool, folder: PathBuf) -> Self {
        Staging { intake, name, overwrite, folder, keep: false }
    }

    pub(super) fn make_folders(&self) -> io::Result<()> {
        fs::create_dir_all(self.place_of_new())
    }

    pub fn name(&self) -> &Name {
        &self.name
    }

    /// A folder with the new thing in it under its name, and nothing else.
    pub fn root(&self) -> PathBuf {
        self.folder.join(NEW)
    }

    /// The file that was received, until it is kept or discarded.
    pub fn received(&self) -> PathBuf {
        self.folder.join(RECEIVED)
    }

    /// Writes what comes, and holds it against what was announced.
    ///
    /// # Errors
    /// More than the bounds allow, no room, bytes that are not the announced ones, those of `next`, cancellation.
    pub fn receive(&mut self, announced: Announced, next: &mut NextChunk<'_>, cancel: &Cancel) -> Result<u64> {
        let limit = self.intake.bounds.file_bytes;
        if announced.bytes.is_some_and(|bytes| bytes > limit) {
            return Err(Error::from(IntakeError::TooLarge { limit }).at("header.size_bytes"));
        }
        let mut file = File::create_new(self.received()).map_err(IntakeError::from)?;
        let (mut hasher, mut bytes) = (Sha256::new(), 0);
        while let Some(chunk) = next()? {
            cancel.check()?;
            bytes += chunk.len() as u64;
            if announced.bytes.is_some_and(|announced| bytes > announced) {
                return Err(mismatch("header.size_bytes", "more bytes came than the header announced"));
            }
            if bytes > limit {
                return Err(IntakeError::TooLarge { limit }.into());
            }
            self.intake.reserve(&self.name, chunk.len() as u64)?;
            file.write_all(&chunk).map_err(IntakeError::from)?;
            hasher.update(&chunk);
        }
        if let Some(announced) = announced.bytes.filter(|&announced| announced != bytes) {
            let message = format!("{bytes} bytes came, the header announced {announced}");
            return Err(mismatch("header.size_bytes", &message));
        }
        let digest = Digest::finish(hasher);
        if digest != announced.digest {
            return Err(mismatch("header.sha256", &format!("what came has the SHA-256 {digest}")));
        }
        file.sync_all().map_err(IntakeError::from)?;
        Ok(bytes)
    }

    /// Makes what was received a file of the new thing.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn keep_as(&mut self, file: &str) -> Result<(), IntakeError> {
        Ok(fs::rename(self.received(), self.place_of_new().join(file))?)
    }

    /// Removes what was received, where something else was made of it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn discard_received(&mut self) -> Result<(), IntakeError> {
        let bytes = fs::metadata(self.received())?.len();
        fs::remove_file(self.received())?;
        self.intake.release(&self.name, bytes);
        Ok(())
    }

    /// Writes a file of the new thing, at most `limit` bytes of it, and gives its size. The path's parts are the
    /// caller's to check.
    ///
    /// # Errors
    /// A file that is there already, no room, those of the reader and of the file system.
    pub fn add(&mut self, path: &Path, contents: &mut dyn Read, limit: u64) -> Result<u64, IntakeError> {
        let path = self.place_of_new().join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create_new(path)?;
        let (mut buffer, mut bytes) = (vec![0; 64 << 10], 0);
        loop {
            let n = contents.read(&mut buffer)?;
            let Some(read) = buffer.get(..n).filter(|read| !read.is_empty()) else { break };
            bytes += n as u64;
            if bytes > limit {
                return Err(IntakeError::TooLarge { limit });
            }
            self.intake.reserve(&self.name, n as u64)?;
            file.write_all(read)?;
        }
        file.sync_all()?;
        Ok(bytes)
    }

    /// Renames the new thing into its place, once nobody reads what it replaces. Tells whether it replaced anything.
    ///
    /// # Errors
    /// A name that was taken meanwhile, cancellation, those of the file system. What was in the place is there then.
    pub fn place(mut self, digest: Digest, bytes: u64, cancel: &Cancel) -> Result<bool> {
        let mark = toml::to_string(&Mark::new(digest, bytes))
            .map_err(|error| Error::new(Reason::Internal, format!("cannot mark an upload: {error}")))?;
        self.add(Path::new(MARK), &mut mark.as_bytes(), limits::MANIFEST_BYTES)?;
        sync(&self.place_of_new()).map_err(IntakeError::from)?;
        let intake = self.intake;
        let name = self.name.to_string();
        let replaced = intake.uses.alone(&name, cancel, || self.exchange())??;
        sync(&intake.folder).map_err(IntakeError::from)?;
        Ok(replaced)
    }

    /// Takes the thing out of its place and deletes it.
    pub(super) fn take_away(self, cancel: &Cancel) -> Result<()> {
        let home = self.intake.folder.join(self.name.as_str());
        fs::create_dir_all(&self.folder).map_err(IntakeError::from)?;
        let away = || fs::rename(&home, self.folder.join("removed"));
        self.intake.uses.alone(self.name.as_str(), cancel, away)?.map_err(IntakeError::from)?;
        Ok(sync(&self.intake.folder).map_err(IntakeError::from)?)
    }

    fn exchange(&mut self) -> Result<bool, IntakeError> {
        // The folder may have changed since the upload began.
        self.intake.check_free(&self.name, self.overwrite)?;
        let home = self.intake.folder.join(self.name.as_str());
        let replaced = self.folder.join(REPLACED).join(self.name.as_str());
        let is_there = fs::symlink_metadata(&home).is_ok();
        if is_there {
            fs::create_dir(self.folder.join(REPLACED))?;
            fs::rename(&home, &replaced)?;
        }
        if let Err(error) = fs::rename(self.place_of_new(), &home) {
            if is_there && fs::rename(&replaced, &home).is_err() {
                // The next start puts it back.
                self.keep = true;
            }
            return Err(error.into());
        }
        Ok(is_there)
    }

    fn place_of_new(&self) -> PathBuf {
        self.folder.join(NEW).join(self.name.as_str())
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %self.folder.display(), %error, "an upload's files stay until the next start");
        }
        self.intake.end(&self.name);
    }
}

fn mismatch(field: &str, message: &str) -> Error {
    let message = format!("{message}; send the whole file, with its own size and SHA-256 in the header");
    Error::new(Reason::UploadMismatch, message).at(field)
}

/// Makes the entries of a folder last through a power cut.
fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
