//! Parquet files with image bytes and labels, as Hugging Face lays data sets out.
//!
//! One file, or a folder with several, which are read in order of path: `data/train-00000-of-00002.parquet`,
//! `plain_text/test/0000.parquet`. The part is in a folder's name or before the first dash of the file's. Pictures
//! are PNG or JPEG bytes in a column `image` (or `img`, `picture`), a struct of `bytes` and `path` or binary itself;
//! labels are whole numbers in `label` or `labels`, or in the column that the manifest names. The classes' names are
//! read from what Hugging Face writes into the file.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Seek as _},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Mutex, PoisonError},
};

use parquet::{
    basic::Type,
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::{ByteArray, ByteArrayType, DataType},
    errors::ParquetError,
    file::{
        metadata::ParquetMetaData,
        reader::{ChunkReader, FileReader as _, Length, SerializedFileReader},
    },
};

use super::{Wanted, thrift};
use crate::{
    dataset::{
        DatasetError,
        collection::{Content, Found, Raw, Stored},
        manifest::{Manifest, Part},
        picture::{self, Channels},
        place::{Place, Seen},
        samples::check_labels,
    },
    limits,
    registry::close_names,
};

const EXTENSION: &str = "parquet";
const PICTURES: [&str; 3] = ["image", "img", "picture"];
const LABELS: [&str; 2] = ["label", "labels"];
/// Labels that are decoded at a time.
const LABELS_TOGETHER: usize = 4_096;

/// Rows of a file that are stored together.
#[derive(Debug)]
struct Group {
    file: usize,
    index: usize,
    /// Row of the dataset that it begins with.
    first: usize,
    n: usize,
}

/// Where reading has come to.
struct Cursor {
    group: usize,
    /// Row of the group that comes next.
    next: usize,
    reader: ColumnReaderImpl<ByteArrayType>,
}

/// Rows of several files.
struct Rows {
    files: Vec<(Place, usize)>,
    groups: Vec<Group>,
    channels: Channels,
    cursor: Mutex<Option<Cursor>>,
}

/// A file whose descriptions of itself are walked through before the reader of foreign files sees them.
struct Contents(File);

impl Contents {
    /// The length of the last description, and `PAR1`.
    const TAIL: u64 = 8;

    fn open(file: File) -> Result<SerializedFileReader<Contents>, ParquetError> {
        let contents = Contents(file);
        if let Some(tail) = contents.len().checked_sub(Self::TAIL) {
            let mut length = [0; 4];
            contents.0.get_read(tail)?.read_exact(&mut length)?;
            if let Some(start) = tail.checked_sub(u64::from(u32::from_le_bytes(length))) {
                thrift::walk(&mut contents.0.get_read(start)?, thrift::FILE)?;
            }
        }
        SerializedFileReader::new(contents)
    }
}

/// What a page's description is read from, or the tail. It is walked through when it is read: a page whose description is
/// known already is opened here too, but not read.
struct Description {
    reader: BufReader<File>,
    /// Where it lies, until it was walked through.
    unseen: Option<u64>,
}

impl io::Read for Description {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if let Some(start) = self.unseen {
            thrift::walk(&mut self.reader, thrift::PAGE)?;
            self.reader.seek(io::SeekFrom::Start(start))?;
            self.unseen = None;
        }
        self.reader.read(bytes)
    }
}

impl Length for Contents {
    fn len(&self) -> u64 {
        Length::len(&self.0)
    }
}

impl ChunkReader for Contents {
    type T = Description;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let is_tail = start.saturating_add(Self::TAIL) == self.len();
        Ok(Description { reader: self.0.get_read(start)?, unseen: (!is_tail).then_some(start) })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes, ParquetError> {
        if start.saturating_add(length as u64) > self.len() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.0.get_bytes(start, length)
    }
}

/// A `.parquet` file, or a folder with some, in itself or up to two folders down.
pub fn recognises(place: &Place) -> bool {
    place.has_extension(EXTENSION) || has_files(place, 2)
}

fn has_files(place: &Place, nesting: usize) -> bool {
    let entries = place.glance();
    entries.iter().any(|entry| !entry.is_folder && entry.name.ends_with(".parquet"))
        || nesting > 0
            && entries.iter().any(|entry| entry.is_folder && has_files(&place.join(&entry.name), nesting - 1))
}

/// Reads what the files say of themselves, their labels, and the head of the first picture.
///
/// # Errors
/// A file that is damaged, columns that are missing or of another type, labels out of range.
pub fn open(wanted: &Wanted<'_>, seen: &mut Seen) -> Result<Found, DatasetError> {
    let (place, manifest) = (wanted.place, wanted.manifest);
    let mut all = Vec::new();
    if place.is_folder() {
        walk(place, None, limits::DATASET_NESTING, &mut all, seen)?;
    } else {
        all.push((part_of_file(&place.name()), place.clone()));
    }
    let parts = [Part::Train, Part::Validation, Part::Test];
    let known: Vec<Part> = parts.into_iter().filter(|part| all.iter().any(|(of, _)| *of == Some(*part))).collect();
    let part = manifest.part_of(&known)?;
    all.retain(|(of, _)| part == Part::All || *of == Some(part));
    all.sort_by_key(|(of, _)| parts.iter().position(|part| Some(*part) == *of));

    let mut rows = Rows { files: Vec::new(), groups: Vec::new(), channels: Channels::Three, cursor: Mutex::new(None) };
    let (mut labels, mut classes, mut is_labelled) = (Vec::new(), Vec::new(), true);
    for (_, file) in all {
        seen.note(&file)?;
        let (contents, _) = file.open(limits::DATASET_BYTES)?;
        let reader = guarded(&file, || Contents::open(contents))?;
        let column = picture_column(&file, reader.metadata())?;
        rows.add(&file, column, reader.metadata())?;
        match label_column(&file, manifest, reader.metadata())? {
            Some((label, name)) => {
                labels.extend(guarded_labels(&file, &reader, label, &name)?);
                if classes.is_empty() {
                    classes = class_names(reader.metadata(), &name);
                }
            }
            None => is_labelled = false,
        }
    }
    let n_samples = rows.groups.last().map_or(0, |last| last.first + last.n);
    if n_samples == 0 {
        return Err(place.wrong("has no rows; download it again"));
    }
    let (label, bytes) = rows.read(0)?;
    let head = picture::head(&bytes).map_err(|problem| DatasetError::File { file: label, problem })?;
    rows.channels = manifest.channels.unwrap_or(head.channels);
    Ok(Found {
        n_samples,
        shape: vec![rows.channels.count(), head.size[0], head.size[1]],
        labels: is_labelled.then_some(labels),
        classes: if is_labelled { classes } else { Vec::new() },
        target: None,
        content: Content::Files(Box::new(rows)),
    })
}

/// Adds the files below a folder, in order of path.
fn walk(
    here: &Place,
    part: Option<Part>,
    nesting: usize,
    files: &mut Vec<(Option<Part>, Place)>,
    seen: &mut Seen,
) -> Result<(), DatasetError> {
    if nesting == 0 {
        return Ok(());
    }
    for entry in here.entries(seen)? {
        let place = here.join(&entry.name);
        if entry.is_folder {
            walk(&place, Part::of_name(&entry.name).or(part), nesting - 1, files, seen)?;
        } else if entry.name.ends_with(".parquet") {
            files.push((part.or_else(|| part_of_file(&entry.name)), place));
        }
    }
    Ok(())
}

fn part_of_file(name: &str) -> Option<Part> {
    name.split(['-', '_', '.']).next().and_then(Part::of_name)
}

/// Runs the reader of a foreign file. It checks what it reads, but some of its checks are assertions, which must not
/// end a call.
fn guarded<T>(file: &Place, read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, DatasetError> {
    let broken = |what: String| file.wrong(format!("is no readable Parquet file: {what}; download it again"));
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(|error| broken(error.to_string())),
        Err(_) => Err(broken("its contents contradict each other".to_owned())),
    }
}

/// The column of image bytes.
fn picture_column(file: &Place, metadata: &ParquetMetaData) -> Result<usize, DatasetError> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let is_pictures = |name: &&str, parts: &[String]| match parts {
        [column] => column == name,
        [column, field] => column == name && field == "bytes",
        _ => false,
    };
    let found =
        PICTURES.iter().find_map(|name| columns.iter().position(|column| is_pictures(name, column.path().parts())));
    match found.and_then(|index| Some((index, columns.get(index)?))) {
        Some((index, column)) if column.physical_type() == Type::BYTE_ARRAY && column.max_rep_level() == 0 => Ok(index),
        Some((_, column)) => Err(file.wrong(format!("has a column {} that is no image bytes", column.path()))),
        None => {
            let names: Vec<String> = columns.iter().take(20).map(|column| column.path().string()).collect();
            Err(file.wrong(format!("has no column {} of image bytes, but {}", PICTURES.join(" or "), names.join(", "))))
        }
    }
}

/// The column of labels and its name.
fn label_column(
    file: &Place,
    manifest: &Manifest,
    metadata: &ParquetMetaData,
) -> Result<Option<(usize, String)>, DatasetError> {
    let columns = metadata.file_metadata().schema_descr().columns();
    let place = |name: &str| columns.iter().position(|column| column.path().string() == name);
    let found = match &manifest.label {
        Some(name) => match place(name) {
            Some(index) => Some((index, name.clone())),
            None => {
                let names: Vec<String> = columns.iter().map(|column| column.path().string()).collect();
                let close = close_names(name, names.iter().map(String::as_str));
                let mend =
                    if close.is_empty() { names.join(", ") } else { format!("did you mean {}?", close.join(", ")) };
                let problem = format!("is {name:?}, which is no column of {}; {mend}", file.label());
                return Err(manifest.wrong("label", problem).into());
            }
        },
        None => LABELS.iter().find_map(|name| Some((place(name)?, (*name).to_owned()))),
    };
    match found.as_ref().and_then(|(index, _)| columns.get(*index)) {
        Some(column) if !matches!(column.physical_type(), Type::INT32 | Type::INT64) || column.max_rep_level() > 0 => {
            Err(file.wrong(format!(
                "has a column {} that is no whole numbers; name another label in dataset.toml",
                column.path()
            )))
        }
        _ => Ok(found),
    }
}

fn guarded_labels(
    file: &Place,
    reader: &SerializedFileReader<Contents>,
    column: usize,
    name: &str,
) -> Result<Vec<u32>, DatasetError> {
    let numbers = guarded(file, || {
        let mut numbers = Vec::new();
        for group in 0..reader.num_row_groups() {
            let group = reader.get_row_group(group)?;
            match group.get_column_reader(column)? {
                ColumnReader::Int64ColumnReader(mut column) => read_all(&mut column, &mut numbers, |number| number)?,
                ColumnReader::Int32ColumnReader(mut column) => read_all(&mut column, &mut numbers, i64::from)?,
                _ => return Err(ParquetError::General("a label is no whole number".to_owned())),
            }
        }
        Ok(numbers)
    })?;
    let rows = reader.metadata().file_metadata().num_rows();
    if numbers.len() as i64 != rows {
        return Err(file.wrong(format!("has {} labels in {name} for {rows} rows; download it again", numbers.len())));
    }
    check_labels(numbers.into_iter()).map_err(|bad| file.wrong(format!("has a wrong {name}: {bad}")))
}

/// Reads a column of numbers; a missing one is −1, which is no label.
fn read_all<T: DataType>(
    column: &mut ColumnReaderImpl<T>,
    numbers: &mut Vec<i64>,
    number: impl Fn(T::T) -> i64,
) -> Result<(), ParquetError> {
    loop {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (n_rows, n_values, _) = column.read_records(LABELS_TOGETHER, Some(&mut levels), None, &mut values)?;
        if n_rows == 0 {
            return Ok(());
        }
        if numbers.len() + n_rows > limits::DATASET_FILES {
            return Err(ParquetError::General(format!("more than {} rows", limits::DATASET_FILES)));
        }
        let mut values = values.into_iter().map(&number);
        if n_values == n_rows {
            numbers.extend(values);
        } else {
            // Only what is there has a value; the highest level says that it is.
            let top = levels.iter().max().copied().unwrap_or(0);
            numbers.extend(levels.iter().map(|level| if *level == top { values.next().unwrap_or(-1) } else { -1 }));
        }
    }
}

/// Names of the classes in Hugging Face's description of the columns; none where there is no such thing.
fn class_names(metadata: &ParquetMetaData, label: &str) -> Vec<String> {
    let entries = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let description = entries.iter().find(|entry| entry.key == "huggingface").and_then(|entry| entry.value.as_ref());
    let description: Option<serde_json::Value> = description.and_then(|text| serde_json::from_str(text).ok());
    let feature = description.as_ref().and_then(|value| value.pointer("/info/features")?.get(label));
    let names = feature.and_then(|feature| feature.get("names")).and_then(serde_json::Value::as_array);
    let names: Option<Vec<String>> =
        names.map(|names| names.iter().filter_map(|name| Some(name.as_str()?.to_owned())).collect());
    names.filter(|names| names.len() <= limits::CLASSES).unwrap_or_default()
}

impl Rows {
    fn add(&mut self, place: &Place, column: usize, metadata: &ParquetMetaData) -> Result<(), DatasetError> {
        let file = self.files.len();
        for (index, group) in metadata.row_groups().iter().enumerate() {
            let first = self.groups.last().map_or(0, |last| last.first + last.n);
            let n = usize::try_from(group.num_rows()).ok().filter(|n| first + n <= limits::DATASET_FILES);
            let Some(n) = n else {
                let problem = format!("says it has {} rows; {} are allowed", group.num_rows(), limits::DATASET_FILES);
                return Err(place.wrong(problem));
            };
            self.groups.push(Group { file, index, first, n });
        }
        self.files.push((place.clone(), column));
        Ok(())
    }

    /// A name for messages, and the bytes of a picture.
    fn read(&self, row: usize) -> Result<(String, Vec<u8>), DatasetError> {
        let number = self.groups.partition_point(|group| group.first + group.n <= row);
        let group = self.groups.get(number);
        let Some((group, (place, column))) = group.and_then(|group| Some((group, self.files.get(group.file)?))) else {
            return Err(DatasetError::File { file: EXTENSION.to_owned(), problem: format!("has no row {row}") });
        };
        let label = format!("{} (row {row})", place.label());
        let within = row - group.first;
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = cursor.take().filter(|cursor| cursor.group == number && cursor.next <= within);
        let mut here = match kept {
            Some(kept) => kept,
            None => Cursor { group: number, next: 0, reader: open_column(place, group.index, *column)? },
        };
        let picture = guarded(place, || {
            let skipped = here.reader.skip_records(within - here.next)?;
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let read = here.reader.read_records(1, Some(&mut levels), None, &mut values)?;
            let is_there = skipped == within - here.next && read.0 == 1;
            Ok(values.pop().filter(|_| is_there))
        })?;
        here.next = within + 1;
        *cursor = Some(here);
        let wrong = |problem: String| DatasetError::File { file: label.clone(), problem };
        let picture: ByteArray = picture.ok_or_else(|| wrong("has no image bytes; download it again".to_owned()))?;
        if picture.len() as u64 > limits::IMAGE_FILE_BYTES {
            return Err(wrong(format!(
                "has {} bytes, more than the {} allowed",
                picture.len(),
                limits::IMAGE_FILE_BYTES
            )));
        }
        Ok((label.clone(), picture.data().to_vec()))
    }
}

fn open_column(place: &Place, group: usize, column: usize) -> Result<ColumnReaderImpl<ByteArrayType>, DatasetError> {
    let (contents, _) = place.open(limits::DATASET_BYTES)?;
    guarded(place, || {
        let reader = Contents::open(contents)?;
        match reader.get_row_group(group)?.get_column_reader(column)? {
            ColumnReader::ByteArrayColumnReader(reader) => Ok(reader),
            _ => Err(ParquetError::External(Box::new(io::Error::from(io::ErrorKind::InvalidData)))),
        }
    })
}

impl std::fmt::Debug for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("files", &self.files).field("groups", &self.groups).finish_non_exhaustive()
    }
}

impl Stored for Rows {
    fn sample(&self, row: usize) -> Result<Raw, DatasetError> {
        let (label, bytes) = self.read(row)?;
        Ok(Raw::Image { label, bytes, channels: self.channels })
    }

    fn bytes(&self) -> u64 {
        (self.groups.len() * size_of::<Group>()) as u64
    }
}
