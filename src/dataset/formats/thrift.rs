//! A walk through a message of Thrift's compact protocol, in which Parquet files describe themselves.
//!
//! The reader of such files skips what it does not know: a list of truth values takes it time for each that the list
//! says it has, and not one byte of the file. No description has such lists, so files with one are refused first.
//! Source: Apache Thrift, "Thrift compact protocol encoding".

use std::io::{self, Read};

/// Structures in one another; descriptions have six.
const NESTING: usize = 32;

const TRUE: u8 = 1;
const FALSE: u8 = 2;

/// Walks through the structure that `input` begins with.
///
/// # Errors
/// `UnexpectedEof` where it ends too early, `InvalidData` where it is no structure or has a list of truth values.
pub fn walk(input: &mut impl Read) -> io::Result<()> {
    structure(input, NESTING)
}

fn structure(input: &mut impl Read, nesting: usize) -> io::Result<()> {
    loop {
        let head = byte(input)?;
        if head == 0 {
            return Ok(());
        }
        // The field's number, where it is not told as the distance from the one before.
        if head >> 4 == 0 {
            number(input)?;
        }
        value(input, head & 0x0f, nesting)?;
    }
}

fn value(input: &mut impl Read, kind: u8, nesting: usize) -> io::Result<()> {
    let Some(nesting) = nesting.checked_sub(1) else { return Err(io::ErrorKind::InvalidData.into()) };
    match kind {
        TRUE | FALSE => Ok(()),
        3 => skip(input, 1),
        4..=6 => number(input).map(drop),
        7 => skip(input, 8),
        8 => {
            let length = number(input)?;
            skip(input, length)
        }
        9 | 10 => {
            let head = byte(input)?;
            let n = if head >> 4 == 15 { number(input)? } else { u64::from(head >> 4) };
            elements(input, n, &[head & 0x0f], nesting)
        }
        11 => match number(input)? {
            0 => Ok(()),
            n => {
                let kinds = byte(input)?;
                elements(input, n, &[kinds >> 4, kinds & 0x0f], nesting)
            }
        },
        12 => structure(input, nesting),
        13 => skip(input, 16),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn elements(input: &mut impl Read, n: u64, kinds: &[u8], nesting: usize) -> io::Result<()> {
    if n > 0 && kinds.iter().any(|kind| [TRUE, FALSE].contains(kind)) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    (0..n).try_for_each(|_| kinds.iter().try_for_each(|kind| value(input, *kind, nesting)))
}

fn byte(input: &mut impl Read) -> io::Result<u8> {
    let mut byte = [0];
    input.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// Seven bits a byte, the lowest first.
fn number(input: &mut impl Read) -> io::Result<u64> {
    let mut number = 0;
    for place in 0..10 {
        let byte = byte(input)?;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

fn skip(input: &mut impl Read, n: u64) -> io::Result<()> {
    match io::copy(&mut input.take(n), &mut io::sink())? == n {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
