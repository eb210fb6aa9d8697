//! Arrays in NumPy's `.npz` form: an archive of `.npy` files, version 1.0, row-major, little-endian.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// The elements of an array.
pub enum Elements<'a> {
    Float32(&'a [f32]),
    Float64(&'a [f64]),
    Int64(&'a [i64]),
    Bool(&'a [bool]),
}

/// An array by name, with its shape.
pub struct Array<'a> {
    pub name: &'a str,
    pub shape: Vec<usize>,
    pub elements: Elements<'a>,
}

/// Bytes that a header is padded to a multiple of.
const ALIGNMENT: usize = 64;
/// Bytes before a header's text: magic, version, length.
const PREFIX: usize = 10;

/// Writes arrays to a new file, in place of one that is there.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, arrays: &[Array<'_>]) -> io::Result<()> {
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path)?));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored).large_file(true);
    for array in arrays {
        archive.start_file(format!("{}.npy", array.name), options).map_err(io::Error::other)?;
        archive.write_all(&header(array))?;
        match array.elements {
            Elements::Float32(values) => write_each(&mut archive, values, |value| value.to_le_bytes())?,
            Elements::Float64(values) => write_each(&mut archive, values, |value| value.to_le_bytes())?,
            Elements::Int64(values) => write_each(&mut archive, values, |value| value.to_le_bytes())?,
            Elements::Bool(values) => write_each(&mut archive, values, |value| [u8::from(*value)])?,
        }
    }
    archive.finish().map_err(io::Error::other)?.flush()
}

fn header(array: &Array<'_>) -> Vec<u8> {
    let kind = match array.elements {
        Elements::Float32(_) => "<f4",
        Elements::Float64(_) => "<f8",
        Elements::Int64(_) => "<i8",
        Elements::Bool(_) => "|b1",
    };
    let shape: String = array.shape.iter().map(|length| format!("{length}, ")).collect();
    // A tuple of one needs its comma; Python allows it after more.
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    // The text ends in a newline.
    let padded = (PREFIX + text.len() + 1).next_multiple_of(ALIGNMENT);
    text.push_str(&" ".repeat(padded - PREFIX - text.len() - 1));
    text.push('\n');
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [b"\x93NUMPY\x01\x00".as_slice(), &length.to_le_bytes(), text.as_bytes()].concat()
}

fn write_each<T, const N: usize>(out: &mut impl Write, values: &[T], bytes: impl Fn(&T) -> [u8; N]) -> io::Result<()> {
    // In blocks, as each write of the archive updates its checksum.
    for block in values.chunks(1 << 14) {
        let block: Vec<u8> = block.iter().flat_map(&bytes).collect();
        out.write_all(&block)?;
    }
    Ok(())
}
