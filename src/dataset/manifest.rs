//! `dataset.toml`: where a dataset lies and which of its samples are meant.
//!
//! Invariant: a [`Manifest`] is consistent by itself. Whether the dataset has such a part, label or class is for those
//! who read it.

use serde::Deserialize;

use super::picture::Channels;
use crate::{
    limits,
    registry::{ManifestError, one_line, parse_toml, picture_size},
};

/// What a manifest says. Everything may be left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// Name of the manifest's file, for messages; empty where there is none.
    pub file: String,
    /// Name of a format; `None`: the one that recognises what is there.
    pub format: Option<String>,
    /// Where the dataset lies, from the manifest's folder; `None`: in that folder.
    pub path: Option<String>,
    pub part: Option<Part>,
    /// Which label or dense target: an attribute, "identity", a column, a domain.
    pub label: Option<String>,
    /// The classes that are kept, in their new order.
    pub classes: Option<Vec<Class>>,
    /// Positions within each class, in the order of the dataset: from the first up to, not with, the second.
    pub per_class: Option<[usize; 2]>,
    /// Height and width that pictures are resized to.
    pub size: Option<[usize; 2]>,
    /// `None`: as the first picture has.
    pub channels: Option<Channels>,
    pub summary: String,
    pub licence: String,
}

/// A part of a dataset as it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    Train,
    Test,
    Validation,
    All,
}

/// A class in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Class {
    Number(i64),
    Name(String),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawManifest {
    format: Option<String>,
    path: Option<String>,
    part: Option<Part>,
    label: Option<String>,
    classes: Option<Vec<Class>>,
    per_class: Option<Vec<i64>>,
    size: Option<Vec<i64>>,
    channels: Option<i64>,
    summary: String,
    licence: String,
}

impl Part {
    /// The word for it in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Test => "test",
            Part::Validation => "validation",
            Part::All => "all",
        }
    }

    /// The part that a folder or file of this name belongs to, by the words that are usual.
    pub fn of_name(name: &str) -> Option<Part> {
        Some(match name.to_ascii_lowercase().as_str() {
            "train" | "training" => Part::Train,
            "test" | "testing" => Part::Test,
            "validation" | "valid" | "val" | "dev" => Part::Validation,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Class::Number(number) => write!(f, "{number}"),
            Class::Name(name) => write!(f, "{name:?}"),
        }
    }
}

impl Manifest {
    /// Reads a manifest. `file` names it in messages.
    ///
    /// # Errors
    /// Text that is no TOML, keys that are not known, values out of range.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let raw: RawManifest = parse_toml(file, bytes)?;
        let wrong = |key, problem: String| ManifestError::Value { file: file.to_owned(), key, problem };
        let word = |key, text: Option<String>| match text {
            Some(text) if text.trim().is_empty() || text.len() > limits::LABEL_NAME_BYTES => {
                let mend =
                    format!("is empty or longer than {} bytes; correct it, or leave it out", limits::LABEL_NAME_BYTES);
                Err(wrong(key, mend))
            }
            text => Ok(text),
        };
        Ok(Manifest {
            file: file.to_owned(),
            format: word("format", raw.format)?,
            path: word("path", raw.path)?,
            part: raw.part,
            label: word("label", raw.label)?,
            classes: raw.classes.map(classes).transpose().map_err(|problem| wrong("classes", problem))?,
            per_class: raw.per_class.map(positions).transpose().map_err(|problem| wrong("per_class", problem))?,
            size: raw.size.map(picture_size).transpose().map_err(|problem| wrong("size", problem))?,
            channels: raw.channels.map(channels).transpose().map_err(|problem| wrong("channels", problem))?,
            summary: one_line(raw.summary).map_err(|problem| wrong("summary", problem))?,
            licence: one_line(raw.licence).map_err(|problem| wrong("licence", problem))?,
        })
    }

    /// An error at a key, which is the manifest's to mend.
    pub fn wrong(&self, key: &'static str, problem: impl Into<String>) -> ManifestError {
        ManifestError::Value { file: self.file.clone(), key, problem: problem.into() }
    }

    /// The part, where the dataset has these.
    ///
    /// # Errors
    /// A part that it lacks.
    pub fn part_of(&self, parts: &[Part]) -> Result<Part, ManifestError> {
        match self.part {
            None | Some(Part::All) => Ok(Part::All),
            Some(part) if parts.contains(&part) => Ok(part),
            Some(part) if parts.is_empty() => {
                Err(self.wrong("part", format!("is {:?}, but the dataset has no parts; leave it out", part.name())))
            }
            Some(part) => {
                let known: Vec<&str> = parts.iter().map(|part| part.name()).collect();
                let problem =
                    format!("is {:?}, but the dataset has {}; name one, or all", part.name(), known.join(", "));
                Err(self.wrong("part", problem))
            }
        }
    }

    /// Refuses a label where there is nothing to choose.
    ///
    /// # Errors
    /// A label that is named.
    pub fn no_label(&self) -> Result<(), ManifestError> {
        match &self.label {
            None => Ok(()),
            Some(label) => {
                Err(self.wrong("label", format!("is {label:?}, but the dataset has one label only; leave it out")))
            }
        }
    }
}

fn classes(classes: Vec<Class>) -> Result<Vec<Class>, String> {
    if classes.is_empty() || classes.len() > limits::CLASSES {
        return Err(format!("names {} classes; name 1 to {}, or leave it out", classes.len(), limits::CLASSES));
    }
    Ok(classes)
}

fn positions(positions: Vec<i64>) -> Result<[usize; 2], String> {
    let lengths: Vec<usize> = positions.iter().filter_map(|&position| usize::try_from(position).ok()).collect();
    match lengths.as_slice() {
        &[from, to] if positions.len() == 2 && from < to => Ok([from, to]),
        _ => Err(format!("is {positions:?}; give [from, to], positions in each class with 0 <= from < to")),
    }
}

fn channels(channels: i64) -> Result<Channels, String> {
    match channels {
        1 => Ok(Channels::One),
        3 => Ok(Channels::Three),
        _ => Err(format!("is {channels}; give 1 for grey pictures, 3 for coloured ones")),
    }
}
