//! Samples as pictures: PNG in base 64, small enough for a page.

/// A picture of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// 1 for grey, 3 for colours.
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// 0..1, a channel after another, each row by row. What is outside is cut off.
    pub pixels: Vec<f32>,
}

/// Longer sides are made smaller, by averaging.
const MOST_PIXELS: usize = 256;

impl Picture {
    /// `None` for what is no picture: another number of channels, or not as many pixels as its sides say.
    pub fn new(shape: &[usize], pixels: Vec<f32>) -> Option<Picture> {
        let &[channels, height, width] = shape else { return None };
        let n_pixels = channels.checked_mul(height)?.checked_mul(width)?;
        let is_picture = [1, 3].contains(&channels) && n_pixels > 0 && pixels.len() == n_pixels;
        is_picture.then_some(Picture { channels, height, width, pixels })
    }

    /// Each pixel by two of the same place.
    pub fn with(&self, other: &Picture, of: impl Fn(f32, f32) -> f32) -> Picture {
        let pixels = self.pixels.iter().zip(&other.pixels).map(|(a, b)| of(*a, *b)).collect();
        Picture { pixels, ..self.clone() }
    }

    /// As PNG in base 64; empty where the encoder fails, which no picture makes it do.
    pub fn png(&self) -> String {
        let small = self.smaller();
        let mut bytes = Vec::new();
        let (Ok(width), Ok(height)) = (u32::try_from(small.width), u32::try_from(small.height)) else {
            return String::new();
        };
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(if small.channels == 1 { png::ColorType::Grayscale } else { png::ColorType::Rgb });
        encoder.set_depth(png::BitDepth::Eight);
        let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&small.interleaved()));
        written.map_or(String::new(), |()| base64(&bytes))
    }

    /// Bytes, the channels of a pixel side by side.
    fn interleaved(&self) -> Vec<u8> {
        let plane = self.height * self.width;
        let byte = |pixel: f32| (255.0 * pixel.clamp(0.0, 1.0)).round() as u8;
        let places = (0..plane).flat_map(|place| (0..self.channels).map(move |channel| channel * plane + place));
        places.map(|place| self.pixels.get(place).copied().map_or(0, byte)).collect()
    }

    /// The means of squares of pixels, where a side is too long.
    fn smaller(&self) -> Picture {
        let factor = self.height.max(self.width).div_ceil(MOST_PIXELS);
        if factor <= 1 {
            return self.clone();
        }
        let (height, width) = (self.height.div_ceil(factor), self.width.div_ceil(factor));
        let mean = |channel: usize, row: usize, column: usize| {
            let rows = row * factor..((row + 1) * factor).min(self.height);
            let columns = column * factor..((column + 1) * factor).min(self.width);
            let places = rows.flat_map(|row| columns.clone().map(move |column| (row, column)));
            let pixels =
                places.filter_map(|(row, column)| self.pixels.get((channel * self.height + row) * self.width + column));
            let (sum, n) = pixels.fold((0.0, 0.0_f32), |(sum, n), pixel| (sum + pixel, n + 1.0));
            sum / n.max(1.0)
        };
        let places = (0..self.channels).flat_map(|channel| (0..height).map(move |row| (channel, row)));
        let pixels = places.flat_map(|(channel, row)| (0..width).map(move |column| (channel, row, column)));
        let pixels = pixels.map(|(channel, row, column)| mean(channel, row, column)).collect();
        Picture { channels: self.channels, height, width, pixels }
    }
}

/// The standard alphabet, padded (RFC 4648).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for triple in bytes.chunks(3) {
        let word =
            triple.iter().enumerate().fold(0_u32, |word, (index, &byte)| word | u32::from(byte) << (16 - 8 * index));
        for index in 0..4 {
            let letter = ALPHABET.get((word >> (18 - 6 * index)) as usize & 63).copied().map_or('=', char::from);
            text.push(if index <= triple.len() { letter } else { '=' });
        }
    }
    text
}
