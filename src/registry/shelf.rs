//! Folders whose files and sub-folders are reached by name: the common ground of models and datasets.
//!
//! Invariants: a name reaches only files whose real path, links resolved, lies in one of the folders; no read is longer
//! than its bound; no name stands for two files.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::name::{Name, NameError, close_names};
use crate::limits;

/// Where a named thing's file lies in a folder.
#[derive(Clone, Copy, Debug)]
pub enum Placement {
    /// `<name>/<file>`.
    InFolder(&'static str),
    /// `<name>.<extension>`.
    Bare(&'static str),
    /// `<name>/`, where the function says that the folder is one of these things.
    Folder(fn(&Path) -> bool),
}

impl Placement {
    /// The path of `name` inside a folder.
    fn path(self, name: &Name) -> PathBuf {
        match self {
            Placement::InFolder(file) => Path::new(name.as_str()).join(file),
            Placement::Bare(extension) => PathBuf::from(format!("{name}.{extension}")),
            Placement::Folder(_) => PathBuf::from(name.as_str()),
        }
    }

    /// The entry of a folder that `name` has under this placement.
    fn entry(self, name: &Name) -> PathBuf {
        match self {
            Placement::InFolder(_) | Placement::Folder(_) => PathBuf::from(name.as_str()),
            Placement::Bare(_) => self.path(name),
        }
    }

    /// Whether such a thing lies at its path.
    fn is_at(self, path: &Path) -> bool {
        match self {
            // `symlink_metadata`, so that a link that leads nowhere or outside is told with its problem; and so is anything
            // in a file's place.
            Placement::InFolder(_) => fs::symlink_metadata(path).is_ok(),
            Placement::Bare(_) => fs::symlink_metadata(path).is_ok_and(|m| !m.is_dir()),
            Placement::Folder(is_one) => path.is_dir() && is_one(path),
        }
    }

    /// The name that an entry of a folder has under this placement.
    fn name_of(self, entry: &Path) -> Option<String> {
        match self {
            Placement::InFolder(file) => {
                // `symlink_metadata`, so that a link that leads nowhere or outside is listed with its problem.
                fs::symlink_metadata(entry.join(file)).ok()?;
                Some(entry.file_name()?.to_string_lossy().into_owned())
            }
            Placement::Bare(extension) => {
                let name = entry.file_name()?.to_string_lossy();
                let stem = name.strip_suffix(extension)?.strip_suffix('.').filter(|stem| !stem.is_empty())?;
                (!entry.is_dir()).then(|| stem.to_owned())
            }
            Placement::Folder(_) => {
                let name = entry.file_name()?.to_string_lossy();
                // Hidden folders are not even looked into.
                (!name.starts_with('.') && self.is_at(entry)).then(|| name.into_owned())
            }
        }
    }
}

/// Why a name leads to no readable file.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    #[error("cannot open the {what} folder {}: {source}", .folder.display())]
    Folder { what: &'static str, folder: PathBuf, source: io::Error },
    #[error("the {what} folder {} has more than {} entries; spread them over several folders", .folder.display(), limits::FOLDER_ENTRIES)]
    FolderTooLarge { what: &'static str, folder: PathBuf },
    #[error("two {what}s are named {name:?}: {} and {}; rename one", .first.display(), .second.display())]
    Ambiguous { what: &'static str, name: String, first: PathBuf, second: PathBuf },
    #[error("{name:?} is no {what} name: {source}")]
    BadName { what: &'static str, name: String, source: NameError },
    #[error("no {what} is named {name:?}{}", did_you_mean(.close))]
    NotFound { what: &'static str, name: String, close: Vec<String> },
    #[error("{file} leads out of its folder; replace the link by the file itself")]
    Escapes { file: String },
    #[error("{file} has {bytes} bytes, more than the {limit} allowed")]
    TooLarge { file: String, bytes: u64, limit: u64 },
    #[error("{file} changed while it was read; try again")]
    Changed { file: String },
    #[error("cannot read {file}: {source}")]
    Unreadable { file: String, source: io::Error },
}

fn did_you_mean(close: &[String]) -> String {
    if close.is_empty() { String::new() } else { format!("; did you mean {}?", close.join(", ")) }
}

/// An entry of a folder as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    /// Why the name cannot be used, as far as the folder itself tells.
    pub problem: Option<String>,
}

/// What tells one version of a file from the next without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
    /// Replacing a file by renaming another over it changes this even where the time does not.
    inode: u64,
}

impl Stamp {
    /// The version of the file or folder that is at a real path now. A folder's changes when entries come or go.
    ///
    /// # Errors
    /// A file that cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Stamp> {
        Ok(Stamp::from(path, &fs::metadata(path)?))
    }

    /// Whether the file is still as it was.
    pub fn is_current(&self) -> bool {
        Stamp::of(&self.path).is_ok_and(|now| now == *self)
    }

    fn from(path: &Path, metadata: &fs::Metadata) -> Stamp {
        let modified = metadata.modified().ok();
        Stamp { path: path.to_owned(), bytes: metadata.len(), modified, inode: inode(metadata) }
    }
}

/// A named file or folder, found and confined to its folder.
#[derive(Clone, Debug)]
pub struct Located {
    pub name: Name,
    /// Real path, links resolved.
    pub path: PathBuf,
    /// Path within its folder, for messages: it tells nothing about the rest of the machine.
    pub label: String,
    /// Index of the placement that matched.
    pub placement: usize,
    folder: PathBuf,
}

/// Folders with named things of one sort.
#[derive(Clone, Debug)]
pub struct Shelf {
    what: &'static str,
    placements: Vec<Placement>,
    folders: Vec<PathBuf>,
}

impl Shelf {
    /// Opens folders and checks that no name occurs twice. `what` is the word for messages: "model".
    ///
    /// # Errors
    /// A folder that cannot be read or has too many entries; a name that occurs twice.
    pub fn open(what: &'static str, placements: Vec<Placement>, folders: &[PathBuf]) -> Result<Shelf, ShelfError> {
        let mut real = Vec::with_capacity(folders.len());
        for folder in folders {
            let path = fs::canonicalize(folder).map_err(|source| ShelfError::Folder {
                what,
                folder: folder.clone(),
                source,
            })?;
            if !real.contains(&path) {
                real.push(path);
            }
        }
        let shelf = Shelf { what, placements, folders: real };
        for paths in shelf.scan()?.into_iter() {
            shelf.unambiguous(paths.0, &paths.1)?;
        }
        Ok(shelf)
    }

    /// Everything that has a name, in order of name, the unusable included. A folder that can no longer be read counts
    /// as empty.
    pub fn list(&self) -> Vec<Listed> {
        let found = self.scan().unwrap_or_default();
        found
            .into_iter()
            .map(|(name, paths)| {
                let problem = match self.unambiguous(name.clone(), &paths) {
                    Err(error) => Some(error.to_string()),
                    Ok(()) => self.locate(&name).err().map(|error| error.to_string()),
                };
                Listed { name, problem }
            })
            .collect()
    }

    /// Finds the file of a name, as the folders are now.
    ///
    /// # Errors
    /// A text that is no name, a name that nothing or more than one file has, a file outside the folders.
    pub fn locate(&self, text: &str) -> Result<Located, ShelfError> {
        let what = self.what;
        let name = match Name::parse(text) {
            Ok(name) => name,
            Err(source) => {
                // The text may be long and is echoed: cut it.
                let name = text.chars().take(limits::NAME_BYTES).collect();
                return Err(ShelfError::BadName { what, name, source });
            }
        };
        let mut matches = self.folders.iter().flat_map(|folder| {
            let name = &name;
            self.placements.iter().enumerate().filter_map(move |(placement, rule)| {
                let relative = rule.path(name);
                let path = folder.join(&relative);
                rule.is_at(&path).then_some((folder, placement, relative, path))
            })
        });
        let Some((folder, placement, relative, path)) = matches.next() else {
            return Err(self.not_found(text));
        };
        if let Some((.., second)) = matches.next() {
            return Err(ShelfError::Ambiguous { what, name: text.to_owned(), first: path, second });
        }
        let label = relative.display().to_string();
        let path = confine(folder, &path, &label)?;
        Ok(Located { name, path, label, placement, folder: folder.clone() })
    }

    /// Whatever lies where a thing of this name would, usable or not, in order of folder.
    pub fn bearers(&self, name: &Name) -> Vec<PathBuf> {
        let entries = |folder: &PathBuf| self.placements.iter().map(|rule| folder.join(rule.entry(name))).collect();
        let mut paths: Vec<PathBuf> = self.folders.iter().flat_map::<Vec<_>, _>(entries).collect();
        paths.dedup();
        paths.retain(|path| fs::symlink_metadata(path).is_ok());
        paths
    }

    /// The word for one of its things.
    pub fn what(&self) -> &'static str {
        self.what
    }

    /// The error of a name that nothing has, with those near to it.
    pub(super) fn not_found(&self, name: &str) -> ShelfError {
        let known = self.scan().unwrap_or_default();
        let close = close_names(name, known.keys().map(String::as_str));
        ShelfError::NotFound { what: self.what, name: name.to_owned(), close }
    }

    /// Every name and the paths that have it.
    fn scan(&self) -> Result<BTreeMap<String, Vec<PathBuf>>, ShelfError> {
        let mut found: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for folder in &self.folders {
            let wrap = |source| ShelfError::Folder { what: self.what, folder: folder.clone(), source };
            for (i, entry) in fs::read_dir(folder).map_err(wrap)?.enumerate() {
                if i >= limits::FOLDER_ENTRIES {
                    return Err(ShelfError::FolderTooLarge { what: self.what, folder: folder.clone() });
                }
                let path = entry.map_err(wrap)?.path();
                for name in self.placements.iter().filter_map(|placement| placement.name_of(&path)) {
                    // Hidden entries are the operator's own business.
                    if !name.starts_with('.') {
                        found.entry(name).or_default().push(path.clone());
                    }
                }
            }
        }
        // The order in which a folder gives its entries is not fixed; messages should be.
        found.values_mut().for_each(|paths| paths.sort());
        Ok(found)
    }

    fn unambiguous(&self, name: String, paths: &[PathBuf]) -> Result<(), ShelfError> {
        match paths {
            [first, second, ..] => {
                Err(ShelfError::Ambiguous { what: self.what, name, first: first.clone(), second: second.clone() })
            }
            _ => Ok(()),
        }
    }
}

impl Located {
    /// Real path of the folder that the name was found in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file beside this one, or `None` where there is none.
    ///
    /// # Errors
    /// A link out of the folder.
    pub fn beside(&self, file: &str) -> Result<Option<Located>, ShelfError> {
        // Beside the name, not beside what a link there leads to.
        let path = self.folder.join(&self.label).with_file_name(file);
        if fs::symlink_metadata(&path).is_err() {
            return Ok(None);
        }
        let label = Path::new(&self.label).with_file_name(file).display().to_string();
        let path = confine(&self.folder, &path, &label)?;
        Ok(Some(Located { path, label, ..self.clone() }))
    }

    /// The version of the file that is there now.
    ///
    /// # Errors
    /// A file that cannot be looked at.
    pub fn stamp(&self) -> Result<Stamp, ShelfError> {
        Stamp::of(&self.path).map_err(|source| self.unreadable(source))
    }

    /// Opens the file for reading.
    ///
    /// # Errors
    /// A file that cannot be read, is no regular file, or is larger than `limit` bytes.
    pub fn open(&self, limit: u64) -> Result<(File, Stamp), ShelfError> {
        let regular = |metadata: fs::Metadata| {
            let source = || io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
            if metadata.is_file() { Ok(metadata) } else { Err(source()) }
        };
        // Looked at before it is opened: opening a pipe would wait for somebody who writes into it.
        fs::metadata(&self.path).and_then(regular).map_err(|source| self.unreadable(source))?;
        let file = File::open(&self.path).map_err(|source| self.unreadable(source))?;
        let metadata = file.metadata().and_then(regular).map_err(|source| self.unreadable(source))?;
        if metadata.len() > limit {
            return Err(ShelfError::TooLarge { file: self.label.clone(), bytes: metadata.len(), limit });
        }
        Ok((file, Stamp::from(&self.path, &metadata)))
    }

    /// Reads the whole file, at most `limit` bytes.
    ///
    /// # Errors
    /// As [`Located::open`], and a file that changed meanwhile.
    pub fn read(&self, limit: u64) -> Result<(Vec<u8>, Stamp), ShelfError> {
        let (file, stamp) = self.open(limit)?;
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.bytes).unwrap_or(0));
        // One byte past the stamped size shows that the file grew.
        file.take(stamp.bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|source| self.unreadable(source))?;
        if bytes.len() as u64 != stamp.bytes || self.stamp()? != stamp {
            return Err(ShelfError::Changed { file: self.label.clone() });
        }
        Ok((bytes, stamp))
    }

    fn unreadable(&self, source: io::Error) -> ShelfError {
        ShelfError::Unreadable { file: self.label.clone(), source }
    }
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_metadata: &fs::Metadata) -> u64 {
    0
}

/// The real path of a file, refused outside its folder.
fn confine(folder: &Path, path: &Path, label: &str) -> Result<PathBuf, ShelfError> {
    let real = fs::canonicalize(path).map_err(|source| ShelfError::Unreadable { file: label.to_owned(), source })?;
    if real.starts_with(folder) { Ok(real) } else { Err(ShelfError::Escapes { file: label.to_owned() }) }
}
