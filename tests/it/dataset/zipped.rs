//! Zip archives whose lists of files are meant to fill the memory.

use std::io::{Cursor, Write as _};

use transferscore::limits;
use zip::{ZipWriter, write::FullFileOptions};

use super::{npy, read};

/// The end of an archive that says it lists so many files. It lacks the list, which a real attack would send.
pub fn listing(n_files: u64) -> Vec<u8> {
    let mut bytes = b"PK\x06\x06".to_vec();
    bytes.extend(44u64.to_le_bytes());
    bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [n_files, n_files, n_files * 46, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(b"PK\x06\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0");
    bytes.extend(b"PK\x05\x06\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0");
    bytes
}

/// An archive of empty files with long comments.
pub fn with_long_list() -> Vec<u8> {
    const COMMENT_BYTES: u64 = 60_000;
    let comment: Box<str> = "a".repeat(COMMENT_BYTES as usize).into();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..=limits::ARCHIVE_LIST_BYTES / COMMENT_BYTES {
        let options = FullFileOptions::default().with_file_comment(comment.clone());
        zip.start_file(format!("{index}.npy"), options).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn the_list_of_files_is_bounded() {
    for (bytes, expected) in [
        (listing(limits::ARCHIVE_FILES + 1), "lists 250001 files, more than the 250000 allowed"),
        // One less is merely no archive.
        (listing(limits::ARCHIVE_FILES), "no readable .npz archive"),
        (with_long_list(), "list of files takes more than the 33554432 bytes allowed"),
    ] {
        let error = read(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn as_many_files_as_the_format_for_large_archives_needs_are_listed() {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..=u32::from(u16::MAX) {
        zip.start_file(format!("{index}"), FullFileOptions::default()).unwrap();
    }
    zip.start_file("x.npy", FullFileOptions::default()).unwrap();
    zip.write_all(&npy(&[4, 2], &[0.5f32; 8])).unwrap();
    assert_eq!(read(&zip.finish().unwrap().into_inner()).unwrap().n_samples(), 4);
}
