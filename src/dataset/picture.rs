//! Pictures: one sample's pixels, and how image files become them.
//!
//! Invariant: `pixels` has as many elements as `shape` says. Image files are decoded within bounds.

use std::io::Cursor;

use image::{DynamicImage, ImageReader};

use super::resize::{nearest, resize};
use crate::limits;

/// Extensions of the image files that are read.
pub const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "bmp", "ppm", "pgm"];

/// One picture: channels, height, width.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    pub shape: [usize; 3],
    pub pixels: Pixels,
}

/// Row-major, channel by channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// 0..255 standing for 0..1.
    Bytes(Vec<u8>),
    Floats(Vec<f32>),
}

/// How many channels the pictures of a dataset have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    One,
    Three,
}

impl Channels {
    pub fn count(self) -> usize {
        match self {
            Channels::One => 1,
            Channels::Three => 3,
        }
    }
}

/// What the head of an image file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub channels: Channels,
    /// Height, width.
    pub size: [usize; 2],
}

impl Picture {
    /// Height, width.
    pub fn size(&self) -> [usize; 2] {
        [self.shape[1], self.shape[2]]
    }

    /// The picture at another size. Bytes are rounded to bytes, halves to even.
    pub fn at_size(self, size: [usize; 2]) -> Picture {
        if self.size() == size {
            return self;
        }
        let (from, shape) = (self.size(), [self.shape[0], size[0], size[1]]);
        let pixels = match self.pixels {
            Pixels::Bytes(bytes) => {
                let pixels: Vec<f64> = bytes.into_iter().map(f64::from).collect();
                Pixels::Bytes(resize(&pixels, from, size).into_iter().map(|p| p.round_ties_even() as u8).collect())
            }
            Pixels::Floats(floats) => {
                let pixels: Vec<f64> = floats.into_iter().map(f64::from).collect();
                Pixels::Floats(resize(&pixels, from, size).into_iter().map(|p| p as f32).collect())
            }
        };
        Picture { shape, pixels }
    }

    /// Values 0..1 at a size, as a dense target; `is_names` where they are not to be mixed.
    pub fn into_target(self, size: [usize; 2], is_names: bool) -> Vec<f32> {
        let from = self.size();
        let values: Vec<f64> = match self.pixels {
            Pixels::Bytes(bytes) => bytes.into_iter().map(|byte| f64::from(byte) / 255.0).collect(),
            Pixels::Floats(floats) => floats.into_iter().map(f64::from).collect(),
        };
        let resized = match (from == size, is_names) {
            (true, _) => values,
            (false, true) => nearest(&values, from, size),
            (false, false) => resize(&values, from, size),
        };
        resized.into_iter().map(|value| value as f32).collect()
    }
}

/// Reads the head of an image file.
///
/// # Errors
/// A clause that says what is wrong with the file.
pub fn head(bytes: &[u8]) -> Result<Head, String> {
    let decoder = reader(bytes)?.into_decoder().map_err(|error| unreadable(&error))?;
    let (width, height) = image::ImageDecoder::dimensions(&decoder);
    let channels = if image::ImageDecoder::color_type(&decoder).has_color() { Channels::Three } else { Channels::One };
    let size = [height, width].map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    if size.contains(&0) {
        return Err("has no pixels; remove it".to_owned());
    }
    Ok(Head { channels, size })
}

/// Decodes an image file to 8 bits a channel. Transparency is left out, grey is spread over three channels where three
/// are asked for.
///
/// # Errors
/// A clause that says what is wrong with the file.
pub fn decode(bytes: &[u8], channels: Channels) -> Result<Picture, String> {
    let decoded = decoded(bytes)?;
    let size = [decoded.height(), decoded.width()].map(|length| length as usize);
    let interleaved = match channels {
        Channels::One if decoded.color().has_color() => {
            return Err("has colours, the first image has none; set channels = 3 in dataset.toml".to_owned());
        }
        Channels::One => decoded.into_luma8().into_raw(),
        Channels::Three => decoded.into_rgb8().into_raw(),
    };
    Ok(Picture {
        shape: [channels.count(), size[0], size[1]],
        pixels: Pixels::Bytes(planes(&interleaved, channels.count())),
    })
}

/// Decodes an image file to floats 0..1 of its own depth: 16 bits stay 16 bits.
///
/// # Errors
/// A clause that says what is wrong with the file.
pub fn decode_exactly(bytes: &[u8]) -> Result<Picture, String> {
    let decoded = decoded(bytes)?;
    let size = [decoded.height(), decoded.width()].map(|length| length as usize);
    let (channels, values) = if decoded.color().has_color() {
        (3, decoded.into_rgb16().into_raw())
    } else {
        (1, decoded.into_luma16().into_raw())
    };
    // 8 bits become 16 by multiplying with 257, so that dividing by 65535 gives what dividing by 255 would.
    let floats = planes(&values, channels).into_iter().map(|value| f32::from(value) / 65_535.0).collect();
    Ok(Picture { shape: [channels, size[0], size[1]], pixels: Pixels::Floats(floats) })
}

/// Pixels with their channels side by side, channel by channel.
pub fn planes<T: Copy>(interleaved: &[T], channels: usize) -> Vec<T> {
    (0..channels).flat_map(|channel| interleaved.iter().skip(channel).step_by(channels.max(1)).copied()).collect()
}

fn decoded(bytes: &[u8]) -> Result<DynamicImage, String> {
    reader(bytes)?.decode().map_err(|error| unreadable(&error))
}

fn reader(bytes: &[u8]) -> Result<ImageReader<Cursor<&[u8]>>, String> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .map_err(|error| format!("cannot be read: {error}; save it as PNG or JPEG"))?;
    if reader.format().is_none() {
        return Err("is no image of a known kind; save it as PNG or JPEG".to_owned());
    }
    let mut bounds = image::Limits::default();
    bounds.max_image_width = Some(limits::IMAGE_SIDE);
    bounds.max_image_height = Some(limits::IMAGE_SIDE);
    bounds.max_alloc = Some(limits::IMAGE_BYTES);
    reader.limits(bounds);
    Ok(reader)
}

fn unreadable(error: &image::ImageError) -> String {
    match error {
        image::ImageError::Limits(_) => {
            format!(
                "is larger than {0} by {0} pixels or {1} bytes; save it smaller",
                limits::IMAGE_SIDE,
                limits::IMAGE_BYTES
            )
        }
        image::ImageError::Unsupported(kind) => format!("is not read: {kind}; save it as PNG or JPEG"),
        error => format!("is no readable image: {error}; replace or remove it"),
    }
}
