//! Zip archives, opened within bounds.
//!
//! Invariant: a list of files that is longer than the bounds is refused before memory is taken for it, whatever the
//! archive says of its length.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use zip::{
    ZipArchive,
    read::{ArchiveOffset, Config},
    result::ZipError,
};

use crate::limits;

/// An open archive.
pub type Zip = ZipArchive<Metered>;

/// Bytes at an archive's end that may tell where its list is: a comment of the greatest length, and the records.
const TAIL_BYTES: u64 = (1 << 16) + 64;
/// Tells where the list of a large archive is described, and in its ninth to sixteenth byte, where.
const LOCATOR: &[u8] = b"PK\x06\x07";
/// Describes the list of a large archive; its bytes 32 to 40 are the number of files.
const LARGE_END: &[u8] = b"PK\x06\x06";

/// Why an archive cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ZipOpenError {
    #[error("it lists {n_files} files, more than the {} allowed", limits::ARCHIVE_FILES)]
    TooManyFiles { n_files: u64 },
    #[error("its list of files takes more than the {} bytes allowed", limits::ARCHIVE_LIST_BYTES)]
    LongList,
    #[error(transparent)]
    Broken(#[from] ZipError),
}

impl From<io::Error> for ZipOpenError {
    fn from(error: io::Error) -> Self {
        ZipOpenError::Broken(error.into())
    }
}

/// A file of which so many bytes may be read, until the list has been.
#[derive(Debug)]
pub struct Metered {
    file: BufReader<File>,
    left: Arc<AtomicU64>,
}

/// Reads an archive's list of files.
///
/// # Errors
/// A list beyond the bounds, or no archive. Archives behind other data, such as programs that unpack themselves, are none.
pub fn open(mut file: File) -> Result<Zip, ZipOpenError> {
    check_count(&mut file)?;
    let left = Arc::new(AtomicU64::new(limits::ARCHIVE_LIST_BYTES + TAIL_BYTES));
    let metered = Metered { file: BufReader::new(file), left: Arc::clone(&left) };
    // No search for archives in the middle of a file: the list is where the check saw it.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let zip = ZipArchive::with_config(config, metered).map_err(|error| match left.load(Ordering::Relaxed) {
        0 => ZipOpenError::LongList,
        _ => error.into(),
    })?;
    left.store(u64::MAX, Ordering::Relaxed);
    Ok(zip)
}

/// Refuses an archive that says it has too many files: room is taken for all of them at once. Only the format of large
/// archives has numbers that are too great.
fn check_count(file: &mut File) -> Result<(), ZipOpenError> {
    let length = file.seek(SeekFrom::End(0))?;
    let tail = read_at(file, length.saturating_sub(TAIL_BYTES), TAIL_BYTES)?;
    for (at, window) in tail.windows(LOCATOR.len()).enumerate() {
        if window != LOCATOR {
            continue;
        }
        let Some(end_at) = number_at(&tail, at + 8) else { continue };
        let end = read_at(file, end_at.min(length), 40)?;
        if !end.starts_with(LARGE_END) {
            continue;
        }
        let n_files = number_at(&end, 32).unwrap_or(0);
        if n_files > limits::ARCHIVE_FILES {
            return Err(ZipOpenError::TooManyFiles { n_files });
        }
    }
    Ok(())
}

fn read_at(file: &mut File, start: u64, n_bytes: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(n_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn number_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().copied().map(u64::from_le_bytes)
}

impl Read for Metered {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let allowed = buffer.get_mut(..wanted).unwrap_or_default();
        let n = self.file.read(allowed)?;
        if left != u64::MAX {
            self.left.store(left - n as u64, Ordering::Relaxed);
        }
        Ok(n)
    }
}

impl Seek for Metered {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
