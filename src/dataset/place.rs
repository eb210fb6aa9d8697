//! Files and folders that a dataset is read from.
//!
//! Invariant: no read is longer than its bound, no list longer than its, and nothing outside the root is read where
//! there is one. What was looked at is noted in [`Seen`], so that a later call knows whether it still holds.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::DatasetError;
use crate::{
    limits,
    registry::{Located, ShelfError, Stamp},
};

/// A file or a folder, there or not.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    /// For messages: the path from where the dataset's name or its manifest stands.
    label: String,
    /// Real path that no link may lead out of; `None` where a manifest has led here, which may lead anywhere.
    root: Option<Arc<Path>>,
}

/// The versions of what a dataset was read from.
#[derive(Debug, Default)]
pub struct Seen(Vec<Stamp>);

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub name: String,
    pub is_folder: bool,
}

impl Place {
    /// Where a dataset's name leads.
    pub fn named(located: &Located) -> Place {
        let root = Some(Arc::from(located.folder()));
        Place { path: located.path.clone(), label: located.label.clone(), root }
    }

    /// A path that is only looked at, to recognise what is there.
    pub fn unnamed(path: &Path) -> Place {
        Place { path: path.to_owned(), label: path.display().to_string(), root: None }
    }

    /// What a text leads to, from this folder: anywhere that the process may read.
    pub fn led_to(&self, text: &str) -> Place {
        Place { path: self.path.join(text), label: text.trim_end_matches('/').to_owned(), root: None }
    }

    /// A path below this folder.
    pub fn join(&self, path: &str) -> Place {
        let label = format!("{}/{path}", self.label);
        Place { path: self.path.join(path), label, root: self.root.clone() }
    }

    pub fn label(&self) -> &str {
        &self.label
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anything is there, a link that leads nowhere included.
    pub fn exists(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok()
    }

    pub fn is_folder(&self) -> bool {
        self.path.is_dir()
    }

    pub fn is_file(&self) -> bool {
        self.path.is_file()
    }

    /// The last part of the path.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// Whether this is a file of an extension, without its dot, in any case.
    pub fn has_extension(&self, extension: &str) -> bool {
        has_extension(&self.name(), extension) && self.is_file()
    }

    /// The first of some paths below this folder that is there; `.` is the folder itself.
    pub fn first_of(&self, paths: &[&str], is_there: impl Fn(&Place) -> bool) -> Option<Place> {
        let place = |path: &&str| if *path == "." { self.clone() } else { self.join(path) };
        paths.iter().map(place).find(is_there)
    }

    /// What is in the folder, in order of name, hidden entries left out.
    ///
    /// # Errors
    /// A folder that cannot be read, or has too many entries.
    pub fn entries(&self, seen: &mut Seen) -> Result<Vec<Entry>, DatasetError> {
        self.confine()?;
        seen.note(self)?;
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(|source| self.unreadable(source))? {
            let entry = entry.map_err(|source| self.unreadable(source))?;
            if entries.len() >= limits::DATASET_FILES {
                return Err(self.wrong(format!("has more than {} entries; split it", limits::DATASET_FILES)));
            }
            let Ok(name) = entry.file_name().into_string() else {
                let name = entry.file_name().to_string_lossy().into_owned();
                return Err(self.wrong(format!("holds {name:?}, whose name is no UTF-8; rename that file")));
            };
            if !name.starts_with('.') {
                let kind = entry.file_type().map_err(|source| self.unreadable(source))?;
                let is_folder = kind.is_dir() || (kind.is_symlink() && entry.path().is_dir());
                entries.push(Entry { name, is_folder });
            }
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// Some of the folder's entries, in no order, for a first look; none where it cannot be read.
    pub fn glance(&self) -> Vec<Entry> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        entries
            .take(limits::GLANCED_ENTRIES)
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                let kind = entry.file_type().ok()?;
                Some(Entry { name, is_folder: kind.is_dir() || (kind.is_symlink() && entry.path().is_dir()) })
            })
            .filter(|entry| !entry.name.starts_with('.'))
            .collect()
    }

    /// Opens the file; gives its size, too.
    ///
    /// # Errors
    /// A file that cannot be read, lies outside the root, or has more than `limit` bytes.
    pub fn open(&self, limit: u64) -> Result<(File, u64), DatasetError> {
        self.confine()?;
        let regular = |metadata: fs::Metadata| {
            let wrong = || self.wrong("is no file; put the file itself there".to_owned());
            if metadata.is_file() { Ok(metadata) } else { Err(wrong()) }
        };
        let unreadable = |source| self.unreadable(source);
        // Looked at before it is opened: opening a pipe would wait for somebody who writes into it.
        regular(fs::metadata(&self.path).map_err(unreadable)?)?;
        let file = File::open(&self.path).map_err(unreadable)?;
        let metadata = regular(file.metadata().map_err(unreadable)?)?;
        let bytes = metadata.len();
        if bytes > limit {
            return Err(ShelfError::TooLarge { file: self.label.clone(), bytes, limit }.into());
        }
        Ok((file, bytes))
    }

    /// All bytes of the file, at most `limit`.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, DatasetError> {
        let (file, size) = self.open(limit)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        file.take(limit).read_to_end(&mut bytes).map_err(|source| self.unreadable(source))?;
        Ok(bytes)
    }

    /// All text of the file, and its version.
    ///
    /// # Errors
    /// As [`Place::open`], and bytes that are no UTF-8.
    pub fn text(&self, seen: &mut Seen) -> Result<String, DatasetError> {
        seen.note(self)?;
        String::from_utf8(self.read(limits::LABEL_FILE_BYTES)?)
            .map_err(|_| self.wrong("is no UTF-8 text; download it again".to_owned()))
    }

    /// An error at this place.
    pub fn wrong(&self, problem: impl Into<String>) -> DatasetError {
        DatasetError::File { file: self.label.clone(), problem: problem.into() }
    }

    /// An error of the file system at this place.
    pub fn unreadable(&self, source: io::Error) -> DatasetError {
        ShelfError::Unreadable { file: self.label.clone(), source }.into()
    }

    fn confine(&self) -> Result<(), DatasetError> {
        let Some(root) = &self.root else { return Ok(()) };
        let real = fs::canonicalize(&self.path).map_err(|source| self.unreadable(source))?;
        if real.starts_with(root) { Ok(()) } else { Err(ShelfError::Escapes { file: self.label.clone() }.into()) }
    }
}

impl Seen {
    /// Notes the version of a file or folder. To be called before it is read.
    ///
    /// # Errors
    /// A place that cannot be looked at.
    pub fn note(&mut self, place: &Place) -> Result<(), DatasetError> {
        self.0.push(Stamp::of(&place.path).map_err(|source| place.unreadable(source))?);
        Ok(())
    }

    /// Whether everything is still as it was.
    pub fn is_current(&self) -> bool {
        self.0.iter().all(Stamp::is_current)
    }
}

/// Whether a file's name ends in an extension, without its dot, in any case.
pub fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}

/// A file, or what an archive held in its place.
#[derive(Clone, Debug)]
pub enum Blob {
    File { place: Place, bytes: u64 },
    Memory { label: String, bytes: bytes::Bytes },
}

impl Blob {
    /// A file on disk, which is not yet read.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub fn file(place: Place, seen: &mut Seen) -> Result<Blob, DatasetError> {
        seen.note(&place)?;
        let (_, bytes) = place.open(limits::DATASET_BYTES)?;
        Ok(Blob::File { place, bytes })
    }

    pub fn label(&self) -> &str {
        match self {
            Blob::File { place, .. } => place.label(),
            Blob::Memory { label, .. } => label,
        }
    }

    /// Size.
    pub fn len(&self) -> u64 {
        match self {
            Blob::File { bytes, .. } => *bytes,
            Blob::Memory { bytes, .. } => bytes.len() as u64,
        }
    }

    /// Memory that it takes.
    pub fn held(&self) -> u64 {
        match self {
            Blob::File { .. } => 0,
            Blob::Memory { bytes, .. } => bytes.len() as u64,
        }
    }

    /// `length` bytes from `offset` on.
    ///
    /// # Errors
    /// A file that cannot be read or ends before.
    pub fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, DatasetError> {
        let ends = || self.wrong(format!("ends before byte {}; download it again", offset + length as u64));
        match self {
            Blob::File { place, .. } => {
                let (mut file, size) = place.open(limits::DATASET_BYTES)?;
                if offset.saturating_add(length as u64) > size {
                    return Err(ends());
                }
                file.seek(SeekFrom::Start(offset)).map_err(|source| place.unreadable(source))?;
                let mut bytes = vec![0; length];
                file.read_exact(&mut bytes).map_err(|source| place.unreadable(source))?;
                Ok(bytes)
            }
            Blob::Memory { bytes, .. } => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                bytes.get(start..start.saturating_add(length)).map(<[u8]>::to_vec).ok_or_else(ends)
            }
        }
    }

    /// Reads from the start.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub fn reader(&self) -> Result<Box<dyn io::Read + '_>, DatasetError> {
        Ok(match self {
            Blob::File { place, .. } => Box::new(io::BufReader::new(place.open(limits::DATASET_BYTES)?.0)),
            Blob::Memory { bytes, .. } => Box::new(bytes.as_ref()),
        })
    }

    /// All text.
    ///
    /// # Errors
    /// As [`Place::open`], and bytes that are no UTF-8.
    pub fn text(&self) -> Result<String, DatasetError> {
        let length = usize::try_from(self.len().min(limits::LABEL_FILE_BYTES)).unwrap_or(usize::MAX);
        String::from_utf8(self.read_at(0, length)?)
            .map_err(|_| self.wrong("is no UTF-8 text; download it again".to_owned()))
    }

    /// An error in this file.
    pub fn wrong(&self, problem: impl Into<String>) -> DatasetError {
        DatasetError::File { file: self.label().to_owned(), problem: problem.into() }
    }
}
