//! NumPy's array format, `.npy`, from a reader that is not trusted.
//!
//! Invariant: nothing is allocated by what the header declares before that was checked against a bound, and no header
//! makes the parser recurse. Pickled objects are never decoded.

use std::io::{self, Read};

use ndarray::{ArrayD, IxDyn, ShapeBuilder as _};

use crate::limits;

/// Why an array cannot be read. Displays as a clause that follows the array's name.
#[derive(Debug, thiserror::Error)]
pub enum NpyError {
    #[error("not a NumPy array: {0}; save it with numpy.savez")]
    Format(&'static str),
    #[error("holds Python objects, which are never unpickled; save numbers, with astype('float32') or such")]
    Pickled,
    #[error("has structured elements; save a plain array of numbers")]
    Structured,
    #[error("has elements of type {0}, which is not supported; save it with astype('float32') or as uint8")]
    ElementType(String),
    #[error("has shape {shape:?}, which takes more than the {limit} bytes allowed")]
    TooLarge { shape: Vec<u64>, limit: u64 },
    #[error("has {0} dimensions, more than the {max} allowed", max = limits::TENSOR_RANK)]
    Rank(usize),
    #[error("ends after {found} of {expected} elements: the file is truncated; save it again")]
    Truncated { found: usize, expected: usize },
    #[error("holds more data than its shape {0:?} says: the file is damaged; save it again")]
    Trailing(Vec<usize>),
    #[error("cannot be read: {0}; save it again with numpy.savez")]
    Io(#[from] io::Error),
}

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// One byte, 0 or 1.
    Bool,
    /// 1, 2, 4 or 8 bytes.
    Unsigned(usize),
    /// 1, 2, 4 or 8 bytes.
    Signed(usize),
    /// 2, 4 or 8 bytes.
    Float(usize),
}

/// What a file says of the array that follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub element: Element,
    pub big_endian: bool,
    /// First index fastest.
    pub fortran_order: bool,
    pub shape: Vec<usize>,
    /// Product of the shape.
    pub n_elements: usize,
}

impl Element {
    /// Size in bytes.
    pub fn width(self) -> usize {
        match self {
            Element::Bool => 1,
            Element::Unsigned(width) | Element::Signed(width) | Element::Float(width) => width,
        }
    }

    /// NumPy's word for it.
    pub fn name(self) -> String {
        match self {
            Element::Bool => "bool".to_owned(),
            Element::Unsigned(width) => format!("uint{}", 8 * width),
            Element::Signed(width) => format!("int{}", 8 * width),
            Element::Float(width) => format!("float{}", 8 * width),
        }
    }
}

impl Header {
    /// Reads a header; the reader then stands at the first element. `limit` bounds the size of the elements, in bytes.
    ///
    /// # Errors
    /// Anything but a plain array of numbers within the limit.
    pub fn read(reader: &mut impl Read, limit: u64) -> Result<Header, NpyError> {
        let mut magic = [0; 8];
        reader.read_exact(&mut magic).map_err(|_| NpyError::Format("it is too short"))?;
        let [b'\x93', b'N', b'U', b'M', b'P', b'Y', version, _] = magic else {
            return Err(NpyError::Format("it does not start with \\x93NUMPY"));
        };
        let length = match version {
            1 => {
                let mut length = [0; 2];
                reader.read_exact(&mut length)?;
                usize::from(u16::from_le_bytes(length))
            }
            2 | 3 => {
                let mut length = [0; 4];
                reader.read_exact(&mut length)?;
                usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX)
            }
            _ => return Err(NpyError::Format("its version is not 1, 2 or 3")),
        };
        if length > limits::ARRAY_HEADER_BYTES {
            return Err(NpyError::Format("its header is too long"));
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).map_err(|_| NpyError::Format("its header is cut off"))?;
        let text = std::str::from_utf8(&text).map_err(|_| NpyError::Format("its header is no text"))?;
        Header::parse(text, limit)
    }

    fn parse(text: &str, limit: u64) -> Result<Header, NpyError> {
        let mut cursor = Cursor(text);
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        cursor.expect("{")?;
        while !cursor.take("}") {
            let key = cursor.string()?;
            cursor.expect(":")?;
            match key {
                "descr" if cursor.peek("[") => return Err(NpyError::Structured),
                "descr" => descr = Some(cursor.string()?),
                "fortran_order" => fortran_order = Some(cursor.boolean()?),
                "shape" => shape = Some(cursor.tuple()?),
                _ => return Err(NpyError::Format("its header has an unknown key")),
            }
            if !cursor.take(",") {
                cursor.expect("}")?;
                break;
            }
        }
        let (Some(descr), Some(fortran_order), Some(shape)) = (descr, fortran_order, shape) else {
            return Err(NpyError::Format("its header lacks descr, fortran_order or shape"));
        };
        let (element, big_endian) = parse_descr(descr)?;
        if shape.len() > limits::TENSOR_RANK {
            return Err(NpyError::Rank(shape.len()));
        }
        // A zero makes the product zero however large the rest is: the rest must fit by itself.
        let mut nonzero = shape.iter().filter(|&&length| length != 0);
        let bytes = nonzero.try_fold(element.width() as u64, |product, &length| product.checked_mul(length));
        if bytes.is_none_or(|bytes| bytes > limit) {
            return Err(NpyError::TooLarge { shape, limit });
        }
        let lengths: Option<Vec<usize>> = shape.iter().map(|&length| usize::try_from(length).ok()).collect();
        let Some(lengths) = lengths else {
            return Err(NpyError::TooLarge { shape, limit });
        };
        let n_elements = lengths.iter().product();
        Ok(Header { element, big_endian, fortran_order, shape: lengths, n_elements })
    }

    /// Bytes of the elements.
    pub fn n_bytes(&self) -> u64 {
        (self.n_elements * self.element.width()) as u64
    }

    /// Reads the elements as float32: a float type's own values, rounded.
    ///
    /// # Errors
    /// A file that ends early, goes on, or is damaged; an element type that is no float.
    pub fn read_floats(&self, reader: &mut impl Read) -> Result<ArrayD<f32>, NpyError> {
        match self.element {
            Element::Float(2) => self.read_elements(reader, |bytes| half(u16::from_le_bytes(bytes))),
            Element::Float(4) => self.read_elements(reader, f32::from_le_bytes),
            Element::Float(8) => self.read_elements(reader, |bytes| f64::from_le_bytes(bytes) as f32),
            _ => Err(NpyError::ElementType(self.element.name())),
        }
    }

    /// Reads the elements as int64; a larger uint64 becomes the largest int64.
    ///
    /// # Errors
    /// As [`Header::read_floats`]; an element type that is no integer.
    pub fn read_integers(&self, reader: &mut impl Read) -> Result<ArrayD<i64>, NpyError> {
        match self.element {
            Element::Bool | Element::Unsigned(1) => self.read_elements(reader, |[byte]: [u8; 1]| i64::from(byte)),
            Element::Unsigned(2) => self.read_elements(reader, |bytes| i64::from(u16::from_le_bytes(bytes))),
            Element::Unsigned(4) => self.read_elements(reader, |bytes| i64::from(u32::from_le_bytes(bytes))),
            Element::Unsigned(8) => {
                self.read_elements(reader, |bytes| i64::try_from(u64::from_le_bytes(bytes)).unwrap_or(i64::MAX))
            }
            Element::Signed(1) => self.read_elements(reader, |bytes| i64::from(i8::from_le_bytes(bytes))),
            Element::Signed(2) => self.read_elements(reader, |bytes| i64::from(i16::from_le_bytes(bytes))),
            Element::Signed(4) => self.read_elements(reader, |bytes| i64::from(i32::from_le_bytes(bytes))),
            Element::Signed(8) => self.read_elements(reader, i64::from_le_bytes),
            _ => Err(NpyError::ElementType(self.element.name())),
        }
    }

    /// Reads the elements as bytes.
    ///
    /// # Errors
    /// As [`Header::read_floats`]; an element type that is not uint8.
    pub fn read_bytes(&self, reader: &mut impl Read) -> Result<ArrayD<u8>, NpyError> {
        match self.element {
            Element::Unsigned(1) => self.read_elements(reader, |[byte]: [u8; 1]| byte),
            _ => Err(NpyError::ElementType(self.element.name())),
        }
    }

    /// Reads elements of W bytes, which `decode` gets in little-endian order.
    fn read_elements<const W: usize, T>(
        &self,
        reader: &mut impl Read,
        decode: impl Fn([u8; W]) -> T,
    ) -> Result<ArrayD<T>, NpyError> {
        const BUFFER_BYTES: usize = 1 << 16;
        let mut values: Vec<T> = Vec::new();
        // Memory that is not there is an error, not an abort.
        values.try_reserve_exact(self.n_elements).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        while values.len() < self.n_elements {
            let wanted = ((self.n_elements - values.len()) * W).min(BUFFER_BYTES);
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            let found = fill(reader, part)?;
            let (elements, _) = part.get(..found).unwrap_or_default().as_chunks::<W>();
            values.extend(elements.iter().map(|&element| {
                let mut bytes = element;
                if self.big_endian {
                    bytes.reverse();
                }
                decode(bytes)
            }));
            if found < wanted {
                return Err(NpyError::Truncated { found: values.len(), expected: self.n_elements });
            }
        }
        // Reading on to the end is also what makes an archive verify its checksum.
        if fill(reader, &mut [0; 1])? != 0 {
            return Err(NpyError::Trailing(self.shape.clone()));
        }
        let shape = IxDyn(&self.shape).set_f(self.fortran_order);
        ArrayD::from_shape_vec(shape, values).map_err(|_| NpyError::Trailing(self.shape.clone()))
    }
}

/// Reads until the buffer is full or the reader ends; returns the bytes read.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut rest = buffer;
    let mut found = 0;
    while !rest.is_empty() {
        match reader.read(rest) {
            Ok(0) => break,
            Ok(n) => {
                found += n;
                rest = rest.get_mut(n..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// NumPy's type string: byte order, kind, size in bytes.
fn parse_descr(descr: &str) -> Result<(Element, bool), NpyError> {
    let unsupported = || NpyError::ElementType(descr.to_owned());
    let (order, rest) = descr.split_at_checked(1).ok_or_else(unsupported)?;
    let big_endian = match order {
        "<" | "|" => false,
        ">" => true,
        _ => return Err(unsupported()),
    };
    if rest.starts_with('O') {
        return Err(NpyError::Pickled);
    }
    let element = match rest {
        "b1" => Element::Bool,
        "u1" => Element::Unsigned(1),
        "u2" => Element::Unsigned(2),
        "u4" => Element::Unsigned(4),
        "u8" => Element::Unsigned(8),
        "i1" => Element::Signed(1),
        "i2" => Element::Signed(2),
        "i4" => Element::Signed(4),
        "i8" => Element::Signed(8),
        "f2" => Element::Float(2),
        "f4" => Element::Float(4),
        "f8" => Element::Float(8),
        _ => return Err(unsupported()),
    };
    Ok((element, big_endian))
}

/// IEEE 754 binary16 to float32, exactly.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x03ff);
    let magnitude = match (bits >> 10) & 0x1f {
        0 => fraction * 2.0f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        exponent => (1024.0 + fraction) * 2.0f32.powi(i32::from(exponent) - 25),
    };
    sign * magnitude
}

/// Reads the Python literal of a header from the left. Knows strings, booleans and tuples of integers, which is all
/// that a plain array's header contains.
struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    fn peek(&mut self, token: &str) -> bool {
        self.0 = self.0.trim_start();
        self.0.starts_with(token)
    }

    fn take(&mut self, token: &str) -> bool {
        self.0 = self.0.trim_start();
        match self.0.strip_prefix(token) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), NpyError> {
        if self.take(token) { Ok(()) } else { Err(NpyError::Format("its header is malformed")) }
    }

    fn string(&mut self) -> Result<&'a str, NpyError> {
        let quote = if self.take("'") { '\'' } else { self.expect("\"").map(|()| '"')? };
        let (text, rest) = self.0.split_once(quote).ok_or(NpyError::Format("its header is malformed"))?;
        self.0 = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, NpyError> {
        if self.take("True") { Ok(true) } else { self.expect("False").map(|()| false) }
    }

    fn tuple(&mut self) -> Result<Vec<u64>, NpyError> {
        let mut numbers = Vec::new();
        self.expect("(")?;
        while !self.take(")") {
            self.0 = self.0.trim_start();
            let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
            let (digits, rest) = self.0.split_at_checked(end).unwrap_or_default();
            numbers.push(digits.parse().map_err(|_| NpyError::Format("its shape is no tuple of integers"))?);
            // Python 2 wrote long integers with an L.
            self.0 = rest.strip_prefix('L').unwrap_or(rest);
            if !self.take(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(numbers)
    }
}
