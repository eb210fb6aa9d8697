//! The folder that takes uploads: each is written beside its place, checked there, and renamed into it.
//!
//! Invariants: a name leads to a whole upload or to none, also after the process was killed; an upload that breaks off
//! leaves nothing; what was not uploaded is neither replaced nor deleted; files and bytes stay within the bounds; no
//! path is made of anything but a [`Name`] and what this module and the dataset's unpacking check part by part.
//!
//! Everything in progress lies in `.uploads/` of the folder, which listings do not show:
//!
//! | path | is |
//! |---|---|
//! | `lock` | held by the one process that takes uploads into this folder |
//! | `<number>/received` | the file as it comes |
//! | `<number>/new/<name>/` | what it becomes |
//! | `<number>/replaced/<name>/` | what it takes the place of, for the moment between two renames |

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    name::{Name, NameError},
    shelf::{Shelf, ShelfError},
    snapshot::Digest,
    staging::Staging,
    uses::Uses,
};
use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result},
    limits,
};

/// Where uploads are while they are in progress.
const HIDDEN: &str = ".uploads";
/// Names the file in an uploaded folder that says so.
pub(super) const MARK: &str = ".upload";
/// What was replaced, in a staging folder.
pub(super) const REPLACED: &str = "replaced";
/// Largest [`MARK`], in bytes.
const MARK_BYTES: u64 = 1_024;

/// What uploads may take.
#[derive(Clone, Copy, Debug)]
pub struct IntakeBounds {
    /// Largest file that is uploaded, in bytes.
    pub file_bytes: u64,
    /// What all uploads in the folder take on disk, those in progress included, in bytes.
    pub space_bytes: u64,
}

/// A folder that takes uploads. Shared by all calls.
#[derive(Debug)]
pub struct Intake {
    pub(super) shelf: Shelf,
    pub(super) uses: Uses,
    /// Real path.
    pub(super) folder: PathBuf,
    pub(super) bounds: IntakeBounds,
    state: Mutex<State>,
    count: AtomicU64,
    checking: Mutex<()>,
    _lock: File,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes of each upload in progress.
    writing: BTreeMap<Name, u64>,
    /// Bytes of the uploads that are in place.
    placed: u64,
}

/// What an uploaded folder says of itself.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Mark {
    /// SHA-256 of the file that was sent.
    pub sha256: String,
    /// Bytes of the folder's files.
    pub bytes: u64,
}

/// Why an upload cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("{name:?} is no name for a {what}: {source}")]
    Name { what: &'static str, name: String, source: NameError },
    #[error("a {what} is named {name:?} already; choose another name, or set overwrite to replace it")]
    Taken { what: &'static str, name: Name },
    #[error("{name:?} is being uploaded by another call; wait for its end, or choose another name")]
    InProgress { name: Name },
    #[error("the {what} {name:?} was not uploaded, so no upload replaces it; choose another name")]
    Foreign { what: &'static str, name: Name },
    #[error("the {what} {name:?} was not uploaded, so it cannot be deleted here; have the operator remove it")]
    Undeletable { what: &'static str, name: Name },
    #[error(transparent)]
    Unknown(ShelfError),
    #[error(
        "{count} uploads of {what}s are there, as many as the server keeps; delete some, or have the operator do so"
    )]
    TooMany { what: &'static str, count: usize },
    #[error(
        "uploads may take {limit} bytes on the server's disk, and this one needs more than is left; delete some, or have the operator raise --upload-space"
    )]
    NoSpace { limit: u64 },
    #[error("the server's disk takes no more: {source}; have the operator make room")]
    DiskFull { source: io::Error },
    #[error(
        "the upload has more than the {limit} bytes allowed; send a smaller file, or have the operator raise --upload-limit"
    )]
    TooLarge { limit: u64 },
    #[error("cannot write an upload: {source}")]
    Write { source: io::Error },
}

impl From<io::Error> for IntakeError {
    fn from(source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                IntakeError::DiskFull { source }
            }
            _ => IntakeError::Write { source },
        }
    }
}

impl From<IntakeError> for Error {
    fn from(error: IntakeError) -> Error {
        let (reason, field) = match &error {
            IntakeError::Name { source: NameError::Empty, .. } => (Reason::FieldMissing, Some("header.name")),
            IntakeError::Name { .. } => (Reason::OptionOutOfRange, Some("header.name")),
            IntakeError::Taken { .. } | IntakeError::InProgress { .. } => (Reason::NameTaken, Some("header.name")),
            IntakeError::Foreign { .. } => (Reason::NotUploaded, Some("header.name")),
            IntakeError::Undeletable { .. } => (Reason::NotUploaded, Some("name")),
            IntakeError::Unknown(_) => (Reason::DatasetNotFound, Some("name")),
            IntakeError::TooMany { .. } | IntakeError::NoSpace { .. } | IntakeError::DiskFull { .. } => {
                (Reason::StorageFull, None)
            }
            IntakeError::TooLarge { .. } => (Reason::LimitExceeded, None),
            IntakeError::Write { .. } => (Reason::Internal, None),
        };
        let told = Error::new(reason, error.to_string());
        match field {
            Some(field) => told.at(field),
            None => told,
        }
    }
}

impl Intake {
    /// Makes a folder of a shelf the one that takes uploads, and clears away what broken ones left.
    ///
    /// # Errors
    /// A folder that cannot be written to, or that another process takes uploads into.
    pub fn open(shelf: &Shelf, uses: &Uses, folder: &Path, bounds: IntakeBounds) -> Result<Intake> {
        let what = shelf.what();
        let refused = |cause: String| {
            let message = format!("cannot take uploads into the {what} folder {}: {cause}", folder.display());
            Error::new(Reason::UploadsNotAllowed, message)
        };
        let failed = |error: io::Error| refused(error.to_string());
        let folder = fs::canonicalize(folder).map_err(failed)?;
        let hidden = folder.join(HIDDEN);
        if let Err(error) = fs::create_dir(&hidden)
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            return Err(failed(error));
        }
        if !fs::symlink_metadata(&hidden).is_ok_and(|metadata| metadata.is_dir()) {
            return Err(refused(format!("{HIDDEN} there is no folder; remove it")));
        }
        let lock = File::options().create(true).append(true).open(hidden.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(refused("another server does; give each a folder of its own".to_owned()));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        recover(&folder, &hidden).map_err(failed)?;
        Ok(Intake {
            shelf: shelf.clone(),
            uses: uses.clone(),
            folder,
            bounds,
            state: Mutex::default(),
            count: AtomicU64::new(0),
            checking: Mutex::default(),
            _lock: lock,
        })
    }

    /// Begins an upload under a name that no other one has meanwhile.
    ///
    /// # Errors
    /// A text that is no name, a name that is taken, no room.
    pub fn begin(&self, name: &str, overwrite: bool) -> Result<Staging<'_>, IntakeError> {
        let what = self.shelf.what();
        let name = Name::parse(name).map_err(|source| {
            // The text may be long and is echoed: cut it.
            IntakeError::Name { what, name: name.chars().take(limits::NAME_BYTES).collect(), source }
        })?;
        let mut state = self.state();
        if state.writing.contains_key(&name) {
            return Err(IntakeError::InProgress { name });
        }
        self.check_free(&name, overwrite)?;
        let placed = self.placed()?;
        if placed.len() + state.writing.len() >= limits::UPLOADS && !placed.contains_key(name.as_str()) {
            return Err(IntakeError::TooMany { what, count: placed.len() });
        }
        state.placed = placed.values().sum();
        state.writing.insert(name.clone(), 0);
        drop(state);
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        // Made first, so that whatever fails from here on is cleared away.
        let staging = Staging::new(self, name, overwrite, self.folder.join(HIDDEN).join(number.to_string()));
        staging.make_folders()?;
        Ok(staging)
    }

    /// Deletes what was uploaded under a name, once nobody reads it, and gives the bytes that it took.
    ///
    /// # Errors
    /// No such name, what was not uploaded, or is being uploaded; [`Reason::Cancelled`].
    pub fn remove(&self, name: &str, cancel: &Cancel) -> Result<u64> {
        let at_fault = |error: IntakeError| Error::from(error).at("name");
        let name = Name::parse(name).map_err(|_| at_fault(self.unknown(name)))?;
        let mut state = self.state();
        if state.writing.contains_key(&name) {
            return Err(at_fault(IntakeError::InProgress { name }));
        }
        let Some(mark) = mark(&self.folder.join(name.as_str())) else {
            if self.shelf.bearers(&name).is_empty() {
                return Err(at_fault(self.unknown(name.as_str())));
            }
            return Err(at_fault(IntakeError::Undeletable { what: self.shelf.what(), name }));
        };
        // Nobody uploads under this name until it is gone.
        state.writing.insert(name.clone(), 0);
        drop(state);
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let staging = Staging::new(self, name, true, self.folder.join(HIDDEN).join(number.to_string()));
        staging.take_away(cancel)?;
        Ok(mark.bytes)
    }

    fn unknown(&self, name: &str) -> IntakeError {
        IntakeError::Unknown(self.shelf.not_found(name))
    }

    /// Waits until no other upload is checked: a check may take as much memory as the largest of them.
    pub fn check_alone(&self) -> MutexGuard<'_, ()> {
        self.checking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a name that something else has, or an upload that is not to be replaced.
    pub(super) fn check_free(&self, name: &Name, overwrite: bool) -> Result<(), IntakeError> {
        let what = self.shelf.what();
        let bearers = self.shelf.bearers(name);
        let home = self.folder.join(name.as_str());
        let is_uploaded = bearers == [home.clone()] && mark(&home).is_some();
        match (bearers.is_empty(), is_uploaded, overwrite) {
            (true, ..) | (_, true, true) => Ok(()),
            (_, _, false) => Err(IntakeError::Taken { what, name: name.clone() }),
            (_, false, true) => Err(IntakeError::Foreign { what, name: name.clone() }),
        }
    }

    /// Takes room for more bytes of an upload.
    pub(super) fn reserve(&self, name: &Name, bytes: u64) -> Result<(), IntakeError> {
        let mut state = self.state();
        let writing: u64 = state.writing.values().sum();
        if state.placed.saturating_add(writing).saturating_add(bytes) > self.bounds.space_bytes {
            return Err(IntakeError::NoSpace { limit: self.bounds.space_bytes });
        }
        if let Some(taken) = state.writing.get_mut(name) {
            *taken += bytes;
        }
        Ok(())
    }

    /// Gives room back.
    pub(super) fn release(&self, name: &Name, bytes: u64) {
        if let Some(taken) = self.state().writing.get_mut(name) {
            *taken = taken.saturating_sub(bytes);
        }
    }

    /// Ends an upload, well or not.
    pub(super) fn end(&self, name: &Name) {
        let mut state = self.state();
        state.writing.remove(name);
        if let Ok(placed) = self.placed() {
            state.placed = placed.values().sum();
        }
    }

    /// Every upload that is in place, with its bytes.
    fn placed(&self) -> io::Result<BTreeMap<String, u64>> {
        let entries = fs::read_dir(&self.folder)?.take(limits::FOLDER_ENTRIES);
        let marked = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
            Some((name, mark(&entry.path())?.bytes))
        };
        entries.filter_map(|entry| entry.map(marked).transpose()).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mark {
    pub fn new(digest: Digest, bytes: u64) -> Mark {
        Mark { sha256: digest.to_string(), bytes }
    }
}

/// The mark of an uploaded folder; `None` for anything else, links included.
fn mark(path: &Path) -> Option<Mark> {
    let file = path.join(MARK);
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let is_file = fs::symlink_metadata(&file).is_ok_and(|found| found.is_file() && found.len() <= MARK_BYTES);
    if !(is_folder && is_file) {
        return None;
    }
    toml::from_str(&fs::read_to_string(file).ok()?).ok()
}

/// Puts back what a killed process had taken away to replace it, and clears away the rest of what it left.
fn recover(folder: &Path, hidden: &Path) -> io::Result<()> {
    for entry in fs::read_dir(hidden)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            continue;
        }
        for replaced in fs::read_dir(entry.path().join(REPLACED)).into_iter().flatten() {
            let replaced = replaced?;
            let home = folder.join(replaced.file_name());
            if fs::symlink_metadata(&home).is_err() {
                tracing::warn!(name = ?replaced.file_name(), "put back what an upload was about to replace");
                fs::rename(replaced.path(), home)?;
            }
        }
        tracing::warn!(folder = %entry.path().display(), "cleared away what an upload left that broke off");
        fs::remove_dir_all(entry.path())?;
    }
    Ok(())
}
