//! Python's pickles, as far as a dictionary of numbers, texts and uint8 arrays needs them.
//!
//! Invariant: nothing is ever executed or imported. Of what a pickle may call, this reader knows NumPy's array and its
//! element type, as facts; any other name is refused. Values live in one list and operations are counted, so that no
//! pickle recurses, loops or grows; long byte strings stay in the file and are known by their place.

use std::{
    collections::HashMap,
    io::{self, Read},
};

use crate::{
    dataset::{DatasetError, place::Blob},
    limits,
};

/// Byte strings longer than this stay in the file.
const SHORT_BYTES: u64 = 1_024;

/// A pickled dictionary.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    top: usize,
}

/// An array of bytes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BytesArray {
    pub shape: Vec<u64>,
    /// Of its first element in the file.
    pub offset: u64,
}

/// A value; others in it are known by their places in the list.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    None,
    Integer(i64),
    Text(Vec<u8>),
    /// A long byte string, by its place in the file.
    Long {
        offset: u64,
        length: u64,
    },
    Sequence(Vec<usize>),
    Dictionary(Vec<(usize, usize)>),
    Known(Known),
    /// What calling a known thing gave, with the state that it was given after.
    Made {
        by: Known,
        arguments: usize,
        state: Option<usize>,
    },
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// `numpy.core.multiarray._reconstruct`: an empty array, to be given its state.
    Reconstruct,
    /// `numpy.core.numeric._frombuffer`: an array of bytes, element type, shape and order.
    FromBuffer,
    Array,
    ElementType,
}

/// Reads a pickle.
///
/// # Errors
/// Anything but a pickled dictionary of numbers, texts and arrays.
pub fn read(blob: &Blob) -> Result<Pickle, DatasetError> {
    let mut machine = Machine {
        reader: blob.reader()?,
        offset: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    let top = machine.run().map_err(|problem| {
        let at = machine.offset;
        blob.wrong(format!("is no readable pickle, at byte {at}: {problem}; download it again"))
    })?;
    Ok(Pickle { values: machine.values, top })
}

impl Pickle {
    /// The integers of a list in the dictionary.
    ///
    /// # Errors
    /// A clause that says what is missing.
    pub fn integers(&self, key: &str) -> Result<Vec<i64>, String> {
        let integer = |(row, &item): (usize, &usize)| match self.values.get(item) {
            Some(Value::Integer(number)) => Ok(*number),
            _ => Err(format!("(row {row}) has an entry of {key:?} that is no integer; download it again")),
        };
        self.sequence(key)?.iter().enumerate().map(integer).collect()
    }

    /// The texts of a list in the dictionary.
    ///
    /// # Errors
    /// A clause that says what is missing.
    pub fn texts(&self, key: &str) -> Result<Vec<String>, String> {
        let text = |&item: &usize| match self.values.get(item) {
            Some(Value::Text(bytes)) => Ok(String::from_utf8_lossy(bytes).into_owned()),
            _ => Err(format!("has an entry of {key:?} that is no text; download it again")),
        };
        self.sequence(key)?.iter().map(text).collect()
    }

    /// An array of bytes in the dictionary, first index slowest.
    ///
    /// # Errors
    /// A clause that says what it is instead.
    pub fn bytes_array(&self, key: &str) -> Result<BytesArray, String> {
        let wrong = |what: &str| format!("has {key:?}, which {what}; download it again");
        let Some(Value::Made { by, arguments, state }) = self.item(key).and_then(|item| self.values.get(item)) else {
            return Err(wrong("is missing or no array"));
        };
        // (version, shape, element type, Fortran order, bytes), or (bytes, element type, shape, order).
        let (shape, element, is_fortran, bytes) =
            match (by, state.map(|state| self.items(state)), self.items(*arguments)) {
                (Known::Reconstruct, Some([_, shape, element, order, bytes]), _) => {
                    (*shape, *element, self.values.get(*order) != Some(&Value::Integer(0)), *bytes)
                }
                (Known::FromBuffer, None, [bytes, element, shape, order]) => {
                    (*shape, *element, self.text(*order) != Some(b"C"), *bytes)
                }
                _ => return Err(wrong("is no array")),
            };
        match self.values.get(element) {
            Some(Value::Made { by: Known::ElementType, arguments, .. })
                if self.items(*arguments).first().and_then(|&name| self.text(name)) == Some(b"u1") => {}
            _ => return Err(wrong("has elements that are no uint8")),
        }
        if is_fortran {
            return Err(wrong("is in Fortran order"));
        }
        let lengths = self.items(shape).iter().map(|&length| match self.values.get(length) {
            Some(&Value::Integer(length)) => u64::try_from(length).ok(),
            _ => None,
        });
        let shape: Vec<u64> = lengths.collect::<Option<_>>().ok_or_else(|| wrong("has no shape"))?;
        let size = shape.iter().try_fold(1_u64, |product, &length| product.checked_mul(length));
        match self.values.get(bytes) {
            Some(&Value::Long { offset, length }) if size == Some(length) => Ok(BytesArray { shape, offset }),
            Some(Value::Long { .. }) => Err(wrong("has another number of bytes than its shape says")),
            _ => Err(wrong("is too short for pictures")),
        }
    }

    fn sequence(&self, key: &str) -> Result<&[usize], String> {
        match self.item(key).and_then(|item| self.values.get(item)) {
            Some(Value::Sequence(items)) => Ok(items),
            _ => Err(format!("has no list {key:?}; download it again")),
        }
    }

    fn item(&self, key: &str) -> Option<usize> {
        let Some(Value::Dictionary(entries)) = self.values.get(self.top) else { return None };
        // Of two equal keys Python keeps the later.
        entries.iter().rev().find(|(name, _)| self.text(*name) == Some(key.as_bytes())).map(|&(_, item)| item)
    }

    fn items(&self, sequence: usize) -> &[usize] {
        match self.values.get(sequence) {
            Some(Value::Sequence(items)) => items,
            _ => &[],
        }
    }

    fn text(&self, value: usize) -> Option<&[u8]> {
        match self.values.get(value) {
            Some(Value::Text(bytes)) => Some(bytes),
            _ => None,
        }
    }
}

/// Python's pickle machine without its calls.
struct Machine<'a> {
    reader: Box<dyn Read + 'a>,
    offset: u64,
    values: Vec<Value>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

impl Machine<'_> {
    /// Runs to the end; gives the place of the value that is left.
    fn run(&mut self) -> Result<usize, String> {
        // No operation adds more than one thing anywhere, so that their number bounds everything.
        for _ in 0..limits::PICKLE_OPERATIONS {
            let [code] = self.array()?;
            match code {
                // STOP
                b'.' => return self.pop(),
                // PROTO, FRAME
                b'\x80' => drop(self.array::<1>()?),
                b'\x95' => drop(self.array::<8>()?),
                b'(' => self.marks.push(self.stack.len()),
                b'N' => self.push(Value::None)?,
                b'\x88' => self.push(Value::Integer(1))?,
                b'\x89' => self.push(Value::Integer(0))?,
                b'}' => self.push(Value::Dictionary(Vec::new()))?,
                b']' | b')' => self.push(Value::Sequence(Vec::new()))?,
                b'K' | b'M' | b'J' | b'\x8a' => self.integer(code)?,
                b'U' | b'T' | b'X' | b'B' | b'C' | b'\x8c' | b'\x8d' | b'\x8e' | b'\x96' => self.bytes(code)?,
                b'q' | b'r' | b'\x94' | b'h' | b'j' => self.remember(code)?,
                b'a' | b'e' | b's' | b'u' => self.extend(code)?,
                b't' | b'\x85' | b'\x86' | b'\x87' => self.tuple(code)?,
                b'c' | b'\x93' => self.global(code)?,
                b'R' => {
                    let (arguments, callee) = (self.pop()?, self.pop()?);
                    let Some(&Value::Known(by)) = self.values.get(callee) else {
                        return Err("it calls what is no array".to_owned());
                    };
                    self.push(Value::Made { by, arguments, state: None })?;
                }
                b'b' => {
                    let given = self.pop()?;
                    let object = self.stack.last().and_then(|&top| self.values.get_mut(top));
                    let Some(Value::Made { state, .. }) = object else {
                        return Err("it gives state to what is no array".to_owned());
                    };
                    *state = Some(given);
                }
                other => return Err(format!("it uses operation {other:#04x}, which data needs not")),
            }
        }
        Err(format!("it has more than {} operations", limits::PICKLE_OPERATIONS))
    }

    fn integer(&mut self, code: u8) -> Result<(), String> {
        let number = match code {
            b'K' => i64::from(u8::from_le_bytes(self.array()?)),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            // LONG1: so many bytes, little-endian, two's complement.
            _ => {
                let [length] = self.array()?;
                let bytes = self.take(u64::from(length))?;
                let sign = if bytes.last().is_some_and(|&byte| byte & 0x80 != 0) { 0xff } else { 0 };
                let mut wide = [sign; 8];
                if bytes.len() > wide.len() {
                    return Err("it holds a number of more than 64 bits".to_owned());
                }
                wide.iter_mut().zip(&bytes).for_each(|(wide, &byte)| *wide = byte);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Value::Integer(number))
    }

    fn bytes(&mut self, code: u8) -> Result<(), String> {
        let length = match code {
            b'U' | b'C' | b'\x8c' => u64::from(u8::from_le_bytes(self.array()?)),
            b'T' | b'X' | b'B' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => u64::from_le_bytes(self.array()?),
        };
        if length <= SHORT_BYTES {
            let text = self.take(length)?;
            return self.push(Value::Text(text));
        }
        let offset = self.offset;
        let skipped =
            io::copy(&mut self.reader.by_ref().take(length), &mut io::sink()).map_err(|error| error.to_string())?;
        self.offset += skipped;
        if skipped < length {
            return Err("it ends here".to_owned());
        }
        self.push(Value::Long { offset, length })
    }

    fn remember(&mut self, code: u8) -> Result<(), String> {
        let key = match code {
            b'q' | b'h' => u64::from(u8::from_le_bytes(self.array()?)),
            b'r' | b'j' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => self.memo.len() as u64,
        };
        if matches!(code, b'h' | b'j') {
            let known = self.memo.get(&key).copied().ok_or("it refers to what it has not remembered")?;
            self.stack.push(known);
            return Ok(());
        }
        let top = self.stack.last().copied().ok_or_else(short)?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn extend(&mut self, code: u8) -> Result<(), String> {
        let count = match code {
            b'a' => 1,
            b's' => 2,
            _ => {
                let mark = self.marks.pop().ok_or_else(short)?;
                self.stack.len().checked_sub(mark).ok_or_else(short)?
            }
        };
        let items = self.pop_many(count)?;
        let container = self.stack.last().and_then(|&top| self.values.get_mut(top));
        match (container, code) {
            (Some(Value::Sequence(sequence)), b'a' | b'e') => sequence.extend(items),
            (Some(Value::Dictionary(entries)), b's' | b'u') if items.len() % 2 == 0 => {
                let (pairs, _) = items.as_chunks::<2>();
                entries.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            _ => return Err("it adds to what is no list or dictionary".to_owned()),
        }
        Ok(())
    }

    fn tuple(&mut self, code: u8) -> Result<(), String> {
        let count = match code {
            b'\x85' => 1,
            b'\x86' => 2,
            b'\x87' => 3,
            _ => {
                let mark = self.marks.pop().ok_or_else(short)?;
                self.stack.len().checked_sub(mark).ok_or_else(short)?
            }
        };
        let items = self.pop_many(count)?;
        self.push(Value::Sequence(items))
    }

    fn global(&mut self, code: u8) -> Result<(), String> {
        let (module, name) = if code == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            let text = |value: usize| match self.values.get(value) {
                Some(Value::Text(bytes)) => Ok(String::from_utf8_lossy(bytes).into_owned()),
                _ => Err("it names a thing by what is no text".to_owned()),
            };
            (text(module)?, text(name)?)
        };
        let known = match (module.as_str(), name.as_str()) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Known::Reconstruct,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Known::FromBuffer,
            ("numpy", "ndarray") => Known::Array,
            ("numpy", "dtype") => Known::ElementType,
            _ => return Err(format!("it names {module}.{name}, which is part of no array and never executed")),
        };
        self.push(Value::Known(known))
    }

    fn push(&mut self, value: Value) -> Result<(), String> {
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    fn pop(&mut self) -> Result<usize, String> {
        self.stack.pop().ok_or_else(short)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<usize>, String> {
        let start = self.stack.len().checked_sub(count).ok_or_else(short)?;
        Ok(self.stack.split_off(start))
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = Vec::new();
        loop {
            match self.array()? {
                [b'\n'] => return Ok(String::from_utf8_lossy(&line).into_owned()),
                [byte] if line.len() < limits::NAME_BYTES => line.push(byte),
                _ => return Err("it has a name that is too long".to_owned()),
            }
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).map_err(|_| "it ends here".to_owned())?;
        self.offset += N as u64;
        Ok(bytes)
    }

    /// At most [`SHORT_BYTES`].
    fn take(&mut self, length: u64) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(length.min(SHORT_BYTES)).read_to_end(&mut bytes);
        self.offset += read.map_err(|error| error.to_string())? as u64;
        if bytes.len() as u64 == length { Ok(bytes) } else { Err("it ends here".to_owned()) }
    }
}

fn short() -> String {
    "it takes more than it has put there".to_owned()
}
