//! Random changes of images that leave their class.

use serde::{Deserialize, Serialize};

use crate::stats::{Purpose, below, stream};

/// A horizontal flip and a shift, drawn anew for each sample and epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Augmentation {
    /// Whether an image is mirrored, left to right, half of the time.
    pub flip: bool,
    /// Most pixels that an image is shifted by, in each direction; what comes in is 0, as in a crop of the padded image.
    pub shift: usize,
}

impl Augmentation {
    /// Whether anything is changed at all.
    pub fn is_on(self) -> bool {
        self.flip || self.shift > 0
    }

    /// Changes one sample, `[channels, height, width]` row by row. Other shapes stay as they are.
    pub fn apply(self, sample: &mut [f32], shape: &[usize], seed: u64, epoch: usize, index: usize) {
        let &[_, height, width] = shape else { return };
        let mut rng = stream(seed, Purpose::Augmentation, ((epoch as u64) << 32) | index as u64);
        let flipped = self.flip && below(&mut rng, 2) == 1;
        let mut offset = || below(&mut rng, 2 * self.shift + 1) as i64 - self.shift as i64;
        let (down, right) = (offset(), offset());
        if !flipped && down == 0 && right == 0 {
            return;
        }
        for plane in sample.chunks_exact_mut((height * width).max(1)) {
            let before = plane.to_vec();
            for (row, line) in plane.chunks_exact_mut(width.max(1)).enumerate() {
                for (column, pixel) in line.iter_mut().enumerate() {
                    let column = if flipped { width - 1 - column } else { column } as i64;
                    let from = [(row as i64 - down, height), (column - right, width)];
                    let inside = |(at, size): (i64, usize)| usize::try_from(at).ok().filter(|&at| at < size);
                    let [from_row, from_column] = from.map(inside);
                    let value = from_row.zip(from_column).and_then(|(row, column)| before.get(row * width + column));
                    *pixel = value.copied().unwrap_or(0.0);
                }
            }
        }
    }
}
