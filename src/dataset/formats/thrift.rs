//! A walk through what Parquet files say of themselves, which are messages of Thrift's compact protocol.
//!
//! The reader of such files reads a field that it knows as what it should be, whatever the message says that it is, and
//! skips those that it does not know: there a list of truth values takes it time for each that the list says it has, and
//! not one byte of the file. So files with such lists, or with a known field of another kind, are refused first.
//! Sources: Apache Thrift, "Thrift compact protocol encoding"; Apache Parquet, `parquet.thrift`.

use std::io::{self, Read};

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Bool,
    Byte,
    Short,
    Int,
    Long,
    Double,
    Bytes,
    List(&'static Kind),
    /// Its fields by number, from one.
    Structure(&'static [Kind]),
    /// One that Parquet does not know.
    Unknown,
}

use Kind::{Bool, Byte, Bytes, Double, Int, List, Long, Short, Structure, Unknown};

/// `PageHeader`, before each page.
pub const PAGE: &[Kind] = &[
    Int,
    Int,
    Int,
    Int,
    Structure(&[Int, Int, Int, Int, STATISTICS]),
    Structure(&[]),
    Structure(&[Int, Int, Bool]),
    Structure(&[Int, Int, Int, Int, Int, Int, Bool, STATISTICS]),
];

/// `FileMetaData`, at the end of a file.
pub const FILE: &[Kind] = &[
    Int,
    List(&Structure(&[Int, Int, Int, Bytes, Int, Int, Int, Int, Int, LOGICAL_TYPE])),
    Long,
    List(&ROW_GROUP),
    List(&KEY_VALUE),
    Bytes,
    List(&Structure(&[NOTHING, NOTHING, NOTHING])),
    Unknown,
    Bytes,
];

const STATISTICS: Kind = Structure(&[Bytes, Bytes, Long, Long, Bytes, Bytes, Bool, Bool, Long]);
const KEY_VALUE: Kind = Structure(&[Bytes, Bytes]);
const NOTHING: Kind = Structure(&[]);
const TIME: Kind = Structure(&[Bool, Structure(&[NOTHING, NOTHING, NOTHING])]);

const LOGICAL_TYPE: Kind = Structure(&[
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    Structure(&[Int, Int]),
    NOTHING,
    TIME,
    TIME,
    Unknown,
    Structure(&[Byte, Bool]),
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    NOTHING,
    Structure(&[Byte]),
    Structure(&[Bytes]),
    Structure(&[Bytes, Int]),
    NOTHING,
]);

const ROW_GROUP: Kind =
    Structure(&[List(&COLUMN_CHUNK), Long, Long, List(&Structure(&[Int, Bool, Bool])), Long, Long, Short]);

const COLUMN_CHUNK: Kind = Structure(&[Bytes, Long, COLUMN, Long, Int, Long, Int, Unknown, Bytes]);

const COLUMN: Kind = Structure(&[
    Int,
    List(&Int),
    List(&Bytes),
    Int,
    Long,
    Long,
    Long,
    List(&KEY_VALUE),
    Long,
    Long,
    Long,
    STATISTICS,
    List(&Structure(&[Int, Int, Int])),
    Long,
    Int,
    Structure(&[Long, List(&Long), List(&Long)]),
    Structure(&[Structure(&[Double; 8]), List(&Int)]),
]);

/// Structures and lists in one another; Parquet's have ten.
const NESTING: usize = 32;

// How the protocol tells kinds.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
const STRUCTURE: u8 = 12;

/// Walks through the structure of these fields that `input` begins with.
///
/// # Errors
/// `UnexpectedEof` where it ends too early; `InvalidData` where it is no structure, has a field of another kind, or a list
/// of truth values.
pub fn walk(input: &mut impl Read, fields: &[Kind]) -> io::Result<()> {
    structure(input, fields, NESTING)
}

fn structure(input: &mut impl Read, fields: &[Kind], nesting: usize) -> io::Result<()> {
    let mut field = 0_i16;
    loop {
        let head = byte(input)?;
        if head == 0 {
            return Ok(());
        }
        // The field's number, or how far it is from the one before.
        field = match head >> 4 {
            0 => {
                let number = number(input)?;
                i16::try_from((number >> 1).cast_signed() ^ -(number & 1).cast_signed()).map_err(|_| wrong())?
            }
            further => field.checked_add(i16::from(further)).ok_or_else(wrong)?,
        };
        let known = usize::try_from(field).ok().and_then(|field| fields.get(field.checked_sub(1)?));
        value(input, head & 0x0f, *known.unwrap_or(&Unknown), nesting)?;
    }
}

/// Walks through a value whose kind the message tells, and which should be of another.
fn value(input: &mut impl Read, told: u8, kind: Kind, nesting: usize) -> io::Result<()> {
    let nesting = nesting.checked_sub(1).ok_or_else(wrong)?;
    if !fits(told, kind) {
        return Err(wrong());
    }
    match told {
        TRUE | FALSE => Ok(()),
        3 => skip(input, 1),
        4..=6 => number(input).map(drop),
        7 => skip(input, 8),
        8 => {
            let length = number(input)?;
            skip(input, length)
        }
        LIST | SET => {
            let head = byte(input)?;
            let n = if head >> 4 == 15 { number(input)? } else { u64::from(head >> 4) };
            let kind = if let List(kind) = kind { *kind } else { Unknown };
            elements(input, n, &[head & 0x0f], kind, nesting)
        }
        MAP => match number(input)? {
            0 => Ok(()),
            n => {
                let told = byte(input)?;
                elements(input, n, &[told >> 4, told & 0x0f], Unknown, nesting)
            }
        },
        STRUCTURE => structure(input, if let Structure(fields) = kind { fields } else { &[] }, nesting),
        13 => skip(input, 16),
        _ => Err(wrong()),
    }
}

fn fits(told: u8, kind: Kind) -> bool {
    match kind {
        Unknown => true,
        Bool => told == TRUE || told == FALSE,
        Byte => told == 3,
        // All are written alike, and some writers tell a shorter one to be a longer one.
        Short | Int | Long => (4..=6).contains(&told),
        Double => told == 7,
        Bytes => told == 8,
        List(_) => told == LIST,
        Structure(_) => told == STRUCTURE,
    }
}

/// Walks through the elements of a list, or those of a map, each a key and a value.
fn elements(input: &mut impl Read, n: u64, told: &[u8], kind: Kind, nesting: usize) -> io::Result<()> {
    if n > 0 && told.iter().any(|told| [TRUE, FALSE].contains(told)) {
        return Err(wrong());
    }
    (0..n).try_for_each(|_| told.iter().try_for_each(|told| value(input, *told, kind, nesting)))
}

fn wrong() -> io::Error {
    io::ErrorKind::InvalidData.into()
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
    Err(wrong())
}

fn skip(input: &mut impl Read, n: u64) -> io::Result<()> {
    match io::copy(&mut input.take(n), &mut io::sink())? == n {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}
