//! The few files that a dataset in `.tar.gz` has, unpacked in memory.
//!
//! Invariant: only files that are asked for take memory, within the bound; reading stops at the last of them. Links and
//! paths mean nothing here: a file is known by the last part of its name.

use std::io::{self, BufReader, Read};

use flate2::read::GzDecoder;

use super::{
    DatasetError,
    place::{Blob, Place, Seen},
};
use crate::limits;

/// Bytes of a header, and the multiple that files fill.
const BLOCK: u64 = 512;

/// Files of a dataset by their names, in a folder or unpacked.
#[derive(Debug)]
pub struct Members {
    label: String,
    files: Vec<(String, Blob)>,
}

/// A file in an archive.
struct Header {
    name: String,
    bytes: u64,
    is_file: bool,
}

impl Members {
    /// Those of the wanted files that are in a folder or a `.tar.gz`.
    ///
    /// # Errors
    /// A file that cannot be read; an archive that is damaged or unpacks to too much.
    pub fn of(place: &Place, wanted: &[&str], seen: &mut Seen) -> Result<Members, DatasetError> {
        let mut files = Vec::new();
        if place.is_folder() {
            for &name in wanted {
                let file = place.join(name);
                if file.exists() {
                    files.push((name.to_owned(), Blob::file(file, seen)?));
                }
            }
        } else {
            seen.note(place)?;
            files = unpack(place, wanted)?;
        }
        Ok(Members { label: place.label().to_owned(), files })
    }

    /// A file, where it is there.
    pub fn get(&self, name: &str) -> Option<&Blob> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, blob)| blob)
    }

    /// A file.
    ///
    /// # Errors
    /// Where it is missing.
    pub fn need(&self, name: &str) -> Result<&Blob, DatasetError> {
        self.get(name).ok_or_else(|| DatasetError::File {
            file: format!("{}/{name}", self.label),
            problem: "is missing; unpack the whole archive there".to_owned(),
        })
    }
}

/// The folder that an archive begins with, for a first look.
pub fn first_folder(place: &Place) -> Option<String> {
    if !place.name().ends_with(".tar.gz") && !place.name().ends_with(".tgz") {
        return None;
    }
    let (file, _) = place.open(limits::DATASET_BYTES).ok()?;
    let header = header(&mut GzDecoder::new(BufReader::new(file))).ok()??;
    let name = header.name.trim_start_matches("./");
    name.split('/').next().map(str::to_owned)
}

fn unpack(place: &Place, wanted: &[&str]) -> Result<Vec<(String, Blob)>, DatasetError> {
    let broken = |error: io::Error| place.wrong(format!("is no readable .tar.gz: {error}; download it again"));
    let (file, _) = place.open(limits::DATASET_BYTES)?;
    let mut reader = GzDecoder::new(BufReader::new(file)).take(limits::DATASET_UNPACKED_BYTES);
    let mut files: Vec<(String, Blob)> = Vec::new();
    while files.len() < wanted.len() {
        let Some(header) = header(&mut reader).map_err(broken)? else { break };
        let name = header.name.rsplit('/').next().unwrap_or_default().to_owned();
        let padded = header.bytes.next_multiple_of(BLOCK);
        let is_wanted = header.is_file && wanted.contains(&name.as_str());
        if is_wanted && files.iter().any(|(known, _)| *known == name) {
            return Err(place.wrong(format!("holds two files named {name:?}; download it again")));
        }
        let mut bytes = Vec::new();
        let mut contents = reader.by_ref().take(padded);
        let read = if is_wanted {
            contents.read_to_end(&mut bytes)
        } else {
            io::copy(&mut contents, &mut io::sink()).map(|n| n as usize)
        };
        if read.map_err(broken)? as u64 != padded {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        if is_wanted {
            bytes.truncate(usize::try_from(header.bytes).unwrap_or(0));
            files
                .push((name.clone(), Blob::Memory { label: format!("{}/{name}", place.label()), bytes: bytes.into() }));
        }
    }
    Ok(files)
}

/// The next file's header (POSIX ustar); `None` at the end.
fn header(reader: &mut impl Read) -> io::Result<Option<Header>> {
    let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut block = [0; BLOCK as usize];
    reader.read_exact(&mut block)?;
    if block.iter().all(|&byte| byte == 0) {
        return Ok(None);
    }
    let (name, rest) = block.split_at(100);
    let (_, rest) = rest.split_at(24);
    let (size, rest) = rest.split_at(12);
    let (_, rest) = rest.split_at(12);
    let (sum, rest) = rest.split_at(8);
    let kind = rest.first().copied().unwrap_or_default();
    // The sum is taken with its own field as blanks.
    let expected: u64 = block.iter().map(|&byte| u64::from(byte)).sum::<u64>() + 8 * u64::from(b' ')
        - sum.iter().map(|&byte| u64::from(byte)).sum::<u64>();
    if octal(sum) != Some(expected) {
        return Err(invalid("a header's checksum is wrong"));
    }
    let bytes = octal(size).ok_or_else(|| invalid("a file's size is no number"))?;
    if bytes > limits::DATASET_UNPACKED_BYTES {
        return Err(invalid("a file is larger than allowed"));
    }
    let name = String::from_utf8_lossy(name.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned();
    Ok(Some(Header { name, bytes, is_file: matches!(kind, b'0' | 0) }))
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(|c: char| c == '\0' || c == ' ');
    u64::from_str_radix(text, 8).ok()
}
