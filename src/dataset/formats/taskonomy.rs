//! Taskonomy's folders: views `point_<p>_view_<v>_domain_<domain>.png`, in a folder for each domain (`rgb/`,
//! `depth_zbuffer/`, with or without folders of buildings in it) or for each building and domain (`<building>_rgb/`,
//! `<building>_depth_zbuffer/`).
//!
//! Samples are the views of `rgb`, in order of building, point and view. The label is a domain, whose picture of the
//! same view is the dense target: its values over the largest of its depth (255 or 65535), so 0..1; what Taskonomy
//! marks as missing (65535 in depths) stays 1. Segments are names, not amounts: resized, they take the nearest value.

use super::Wanted;
use crate::{
    dataset::{
        DatasetError,
        collection::{Content, Found, Raw, Stored, Target},
        picture::{self, Channels},
        place::{Place, Seen},
    },
    limits,
};

const RGB: &str = "rgb";
/// Domains whose numbers are names begin so.
const NAMES: &str = "segment_";
const MARK: &str = "_domain_rgb.png";

#[derive(Debug)]
struct View {
    /// Of the folder of its domain: `rgb` or `<building>_rgb`.
    folder: String,
    /// Below that folder, without the ending.
    stem: String,
    /// Building, point, view: how views are ordered.
    order: (String, u64, u64),
}

#[derive(Debug)]
struct Views {
    place: Place,
    views: Vec<View>,
    channels: Channels,
    domain: Option<String>,
}

/// A folder with an `rgb/` or `<building>_rgb/` that has such views, in itself or in a folder of a building.
pub fn recognises(place: &Place) -> bool {
    let has_views = |place: &Place| place.glance().iter().any(|entry| entry.name.ends_with(MARK));
    place.glance().iter().filter(|entry| entry.is_folder && is_rgb(&entry.name)).any(|entry| {
        let folder = place.join(&entry.name);
        has_views(&folder)
            || folder.glance().iter().filter(|entry| entry.is_folder).any(|entry| has_views(&folder.join(&entry.name)))
    })
}

fn is_rgb(folder: &str) -> bool {
    folder == RGB || folder.ends_with("_rgb")
}

/// Lists the views, and reads the heads of the first and of its target.
///
/// # Errors
/// No view; a domain that is not there; a first picture that is damaged.
pub fn open(wanted: &Wanted<'_>, seen: &mut Seen) -> Result<Found, DatasetError> {
    let (place, manifest) = (wanted.place, wanted.manifest);
    manifest.part_of(&[])?;
    let mut views = Vec::new();
    let entries = place.entries(seen)?;
    for folder in entries.iter().filter(|entry| entry.is_folder && is_rgb(&entry.name)) {
        walk(&place.join(&folder.name), &folder.name, "", limits::DATASET_NESTING, &mut views, seen)?;
    }
    views.sort_by(|a, b| a.order.cmp(&b.order));
    let domain = manifest.label.clone().filter(|label| label != RGB);
    if let Some(domain) = &domain {
        let is_there = |name: &str| name == domain || name.ends_with(&format!("_{domain}"));
        if domain.contains(['/', '\\', '.']) || !entries.iter().any(|entry| entry.is_folder && is_there(&entry.name)) {
            return Err(manifest
                .wrong("label", format!("is {domain:?}, a domain that has no folder there; correct it"))
                .into());
        }
    }
    let mut found = Views { place: place.clone(), views, channels: Channels::Three, domain };
    let Some(first) = found.views.first() else {
        return Err(place.wrong(format!("has no views (point_…_view_…{MARK}) in {RGB}/ or …_{RGB}/; put them there")));
    };
    let head = found.head(&found.file(first, RGB), 0)?;
    let target = match &found.domain {
        None => None,
        Some(domain) => {
            let head = found.head(&found.file(first, domain), 0)?;
            Some(Target::Map([head.channels.count(), head.size[0], head.size[1]]))
        }
    };
    found.channels = manifest.channels.unwrap_or(head.channels);
    Ok(Found {
        n_samples: found.views.len(),
        shape: vec![found.channels.count(), head.size[0], head.size[1]],
        labels: None,
        classes: Vec::new(),
        target,
        content: Content::Files(Box::new(found)),
    })
}

fn walk(
    here: &Place,
    folder: &str,
    below: &str,
    nesting: usize,
    views: &mut Vec<View>,
    seen: &mut Seen,
) -> Result<(), DatasetError> {
    if nesting == 0 {
        return Err(here.wrong(format!("lies more than {} folders deep; move it up", limits::DATASET_NESTING)));
    }
    for entry in here.entries(seen)? {
        let path = if below.is_empty() { entry.name.clone() } else { format!("{below}/{}", entry.name) };
        if entry.is_folder {
            walk(&here.join(&entry.name), folder, &path, nesting - 1, views, seen)?;
        } else if let Some((point, view)) = numbers(&entry.name) {
            if views.len() >= limits::DATASET_FILES {
                return Err(here.wrong(format!("has more than {} views; split it", limits::DATASET_FILES)));
            }
            let building = if below.is_empty() { folder.trim_end_matches(RGB) } else { below };
            let stem = path.strip_suffix(MARK).unwrap_or(&path).to_owned();
            views.push(View { folder: folder.to_owned(), stem, order: (building.to_owned(), point, view) });
        }
    }
    Ok(())
}

/// Point and view of a file's name.
fn numbers(name: &str) -> Option<(u64, u64)> {
    let (point, view) = name.strip_suffix(MARK)?.strip_prefix("point_")?.split_once("_view_")?;
    Some((point.parse().ok()?, view.parse().ok()?))
}

impl Views {
    /// A view's picture in a domain.
    fn file(&self, view: &View, domain: &str) -> Place {
        let folder = view.folder.strip_suffix(RGB).unwrap_or_default();
        self.place.join(&format!("{folder}{domain}/{}_domain_{domain}.png", view.stem))
    }

    fn head(&self, file: &Place, row: usize) -> Result<picture::Head, DatasetError> {
        picture::head(&self.read(file, row)?).map_err(|problem| file.wrong(problem))
    }

    fn read(&self, file: &Place, row: usize) -> Result<Vec<u8>, DatasetError> {
        if !file.exists() {
            return Err(file.wrong(format!("(row {row}) is missing; unpack the domain's archive there")));
        }
        file.read(limits::IMAGE_FILE_BYTES)
    }

    fn lacks(&self, row: usize) -> DatasetError {
        self.place.wrong(format!("has no row {row}"))
    }
}

impl Stored for Views {
    fn sample(&self, row: usize) -> Result<Raw, DatasetError> {
        let file = self.file(self.views.get(row).ok_or_else(|| self.lacks(row))?, RGB);
        let bytes = self.read(&file, row)?;
        Ok(Raw::Image { label: format!("{} (row {row})", file.label()), bytes, channels: self.channels })
    }

    fn target(&self, row: usize) -> Result<Option<Raw>, DatasetError> {
        let Some(domain) = &self.domain else { return Ok(None) };
        let file = self.file(self.views.get(row).ok_or_else(|| self.lacks(row))?, domain);
        let bytes = self.read(&file, row)?;
        let label = format!("{} (row {row})", file.label());
        Ok(Some(Raw::Map { label, bytes, is_names: domain.starts_with(NAMES) }))
    }

    fn files(&self, row: usize) -> Vec<Place> {
        let Some(view) = self.views.get(row) else { return Vec::new() };
        let domains = [Some(RGB), self.domain.as_deref()];
        domains.into_iter().flatten().map(|domain| self.file(view, domain)).collect()
    }

    fn bytes(&self) -> u64 {
        let of_view = |view: &View| size_of::<View>() + view.folder.len() + view.stem.len() + view.order.0.len();
        self.views.iter().map(of_view).sum::<usize>() as u64
    }
}
