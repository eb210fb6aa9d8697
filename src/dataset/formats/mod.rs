//! The layouts in which datasets are published, each a file of its own.
//!
//! A new format is one file and one line of [`FORMATS`].

mod celeba;
mod cifar10;
mod images;
mod npy;
pub mod npz;
mod parquet;
mod pickle;
mod stl10;
mod taskonomy;
mod thrift;

use super::{
    DatasetError,
    archive::Members,
    collection::Found,
    manifest::Manifest,
    place::{Place, Seen},
};

/// A way to store a dataset.
pub struct Format {
    /// The word for it in a manifest.
    pub name: &'static str,
    /// Whether a file or folder looks like one, by names alone.
    pub recognises: fn(&Place) -> bool,
    /// Everything but the samples of a dataset of files; the whole of others.
    pub open: fn(&Wanted<'_>, &mut Seen) -> Result<Found, DatasetError>,
}

/// What is to be opened.
pub struct Wanted<'a> {
    /// The dataset's name.
    pub name: &'a str,
    pub place: &'a Place,
    /// What it says of parts, labels and channels is the format's business, the rest is not.
    pub manifest: &'a Manifest,
}

/// Every format, in the order in which they are tried.
pub const FORMATS: &[Format] = &[
    Format { name: "npz", recognises: npz::recognises, open: npz::open },
    Format { name: "cifar10", recognises: cifar10::recognises, open: cifar10::open },
    Format { name: "stl10", recognises: stl10::recognises, open: stl10::open },
    Format { name: "celeba", recognises: celeba::recognises, open: celeba::open },
    Format { name: "taskonomy", recognises: taskonomy::recognises, open: taskonomy::open },
    Format { name: "parquet", recognises: parquet::recognises, open: parquet::open },
    // Last: pictures in folders are also found in what is laid out otherwise.
    Format { name: "images", recognises: images::recognises, open: images::open },
];

/// Extensions of files that are datasets by themselves.
pub const BARE: [&str; 4] = ["npz", "parquet", "tar.gz", "tgz"];

/// The format that a manifest names, or else the one that recognises a place.
///
/// # Errors
/// A name that no format has, a place that none recognises.
pub fn format_of(place: &Place, manifest: &Manifest) -> Result<&'static Format, DatasetError> {
    let names = || FORMATS.iter().map(|format| format.name).collect::<Vec<_>>().join(", ");
    match &manifest.format {
        Some(name) => FORMATS.iter().find(|format| format.name == name).ok_or_else(|| {
            manifest.wrong("format", format!("is {name:?}; give one of {}, or leave it out", names())).into()
        }),
        None => FORMATS.iter().find(|format| (format.recognises)(place)).ok_or_else(|| {
            place.wrong(format!("is laid out as no known dataset ({}); docs/datasets.md shows how each looks", names()))
        }),
    }
}

/// Refuses a file of class names that has some, but not as many as there are classes.
fn check_classes(classes: &[String], count: usize, members: &Members, file: &str) -> Result<(), DatasetError> {
    if classes.is_empty() || classes.len() == count {
        return Ok(());
    }
    let problem = format!("names {} classes, not {count}; download it again", classes.len());
    Err(members.need(file)?.wrong(problem))
}
