//! Pictures of another size: area averaging where they shrink, bilinear interpolation where they grow.
//!
//! Each axis by itself. Shrinking, a new pixel is the mean of what it covers, pixels that it covers in part counting
//! by their part; so nothing is skipped and nothing aliases beyond what a box filter lets through. Growing, pixels
//! stand at their centres and the rim continues. Weights are whole numbers over one denominator for each axis, so that
//! sums over bytes are exact and a picture of equal pixels keeps its value.

/// What one new pixel takes of an axis: weights from `start` on, over a denominator that all pixels share.
struct Taps {
    start: usize,
    weights: Vec<f64>,
}

/// Resizes channels of `from` = [height, width] pixels to `to`. `pixels` is row-major, channel by channel. All lengths
/// must be at least 1.
pub fn resize(pixels: &[f64], from: [usize; 2], to: [usize; 2]) -> Vec<f64> {
    let ([height, width], [_, new_width]) = (from, to);
    let ((rows, row_weight), (columns, column_weight)) = (axis(from[0], to[0]), axis(from[1], to[1]));
    let weight = row_weight * column_weight;
    let n_channels = pixels.len() / (height * width).max(1);
    let mut resized = Vec::with_capacity(n_channels * to[0] * new_width);
    for channel in pixels.chunks_exact((height * width).max(1)) {
        let narrowed: Vec<f64> = channel
            .chunks_exact(width)
            .flat_map(|row| {
                columns.iter().map(|taps| taps.weights.iter().zip(taps.of(row)).map(|(w, p)| w * p).sum::<f64>())
            })
            .collect();
        for taps in &rows {
            let mut sum = vec![0.0; new_width];
            let covered = narrowed.chunks_exact(new_width).skip(taps.start);
            for (weight, row) in taps.weights.iter().zip(covered) {
                sum.iter_mut().zip(row).for_each(|(sum, pixel)| *sum += weight * pixel);
            }
            resized.extend(sum.into_iter().map(|sum| sum / weight));
        }
    }
    resized
}

/// For maps whose numbers are names, such as segments: each new pixel is the one at its centre.
pub fn nearest(pixels: &[f64], from: [usize; 2], to: [usize; 2]) -> Vec<f64> {
    let ([height, width], [new_height, new_width]) = (from, to);
    let centre = |i: usize, from: usize, to: usize| (2 * i + 1) * from / (2 * to);
    pixels
        .chunks_exact((height * width).max(1))
        .flat_map(|channel| {
            (0..new_height * new_width).filter_map(move |i| {
                let (row, column) =
                    (centre(i / new_width, height, new_height), centre(i % new_width, width, new_width));
                channel.get(row * width + column).copied()
            })
        })
        .collect()
}

impl Taps {
    fn of<'a>(&self, row: &'a [f64]) -> &'a [f64] {
        row.get(self.start..).unwrap_or_default()
    }
}

/// What the pixels of an axis of length `to` take of one of length `from`, and the denominator of the weights.
fn axis(from: usize, to: usize) -> (Vec<Taps>, f64) {
    if to < from {
        // In units of 1/to: old pixel j covers [j·to, (j + 1)·to), new pixel i covers [i·from, (i + 1)·from).
        let taps = |i: usize| {
            let (start, end) = (i * from / to, ((i + 1) * from).div_ceil(to));
            let overlap = |j: usize| ((j + 1) * to).min((i + 1) * from) - (j * to).max(i * from);
            Taps { start, weights: (start..end).map(|j| overlap(j) as f64).collect() }
        };
        ((0..to).map(taps).collect(), from as f64)
    } else {
        // New pixel i has its centre at (i + ½)·from/to − ½: in units of 1/(2·to), (2i + 1)·from − to.
        let unit = 2 * to;
        let taps = |i: usize| {
            let centre = ((2 * i + 1) * from).saturating_sub(to);
            let (start, part) = (centre / unit, centre % unit);
            if start + 1 >= from {
                return Taps { start: from - 1, weights: vec![unit as f64] };
            }
            Taps { start, weights: vec![(unit - part) as f64, part as f64] }
        };
        ((0..to).map(taps).collect(), unit as f64)
    }
}
