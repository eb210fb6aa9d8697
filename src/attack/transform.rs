//! Input transformations that make gradients transfer: the attack follows the mean gradient over transformed views.
//!
//! The views differ in scale (SI), each is resized and padded at random (DI), and their mean gradient is smoothed (TI);
//! the order is that of Lin et al.'s SI-NI-TI-DIM. Each sample draws for itself, from the seed and its index.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, s};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::stats::{Purpose, below, stream, unit_interval};

/// Diverse inputs (Xie et al. 2019): with a probability the image is resized, bilinearly, to a random smaller size and
/// padded with zeros at a random place. The authors enlarge a 299-pixel image into a frame of 330; models of one input size
/// need the frame to stay, so the image is made smaller instead, as in torchattacks. Upper ends of random sizes and places
/// are exclusive, as in both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputDiversity {
    /// That a view is changed at all, 0..1; the authors take 0.5.
    pub probability: f64,
    /// Least size as a share of the image's, above 0 and below 1; torchattacks takes 0.9.
    pub least_size: f64,
}

/// Translation invariance (Dong et al. 2019): the gradient is convolved, channel by channel and with zeros around, with a
/// Gaussian kernel; the authors take 15 pixels that reach over 3 standard deviations to each side.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TranslationKernel {
    /// Odd.
    pub size: usize,
    /// Standard deviations from the middle of the kernel to its last pixel, above 0.
    pub reach: f64,
}

/// What is done to inputs and gradients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transforms {
    pub diversity: Option<InputDiversity>,
    pub translation: Option<TranslationKernel>,
    /// Scale invariance (Lin et al. 2020, equation 7): views x/2ⁱ for i from 0 to below this; 1 is the image alone. The
    /// gradient is by the image, so that of view i has the factor 2⁻ⁱ.
    pub scales: u32,
}

impl Transforms {
    /// None at all.
    pub const NONE: Transforms = Transforms { diversity: None, translation: None, scales: 1 };
}

/// The transformations of some rows, with their random state.
pub(super) struct Views {
    transforms: Transforms,
    shape: [usize; 3],
    /// One a row.
    draws: Vec<ChaCha8Rng>,
    /// Smooth along height and width.
    kernels: Option<[Array2<f32>; 2]>,
}

/// One view of each row.
pub(super) struct View {
    scale: f32,
    /// One a row; empty where no row is resized.
    frames: Vec<Option<Frame>>,
}

/// An image made smaller inside its old frame.
struct Frame {
    top: usize,
    left: usize,
    /// New height x height.
    rows: Array2<f32>,
    /// New width x width.
    columns: Array2<f32>,
}

impl Views {
    pub fn new(transforms: &Transforms, shape: &[usize], seed: u64, samples: &[usize]) -> Self {
        // What is no image has one row of pixels; plans ask for neither DI nor TI on it.
        let shape = <[usize; 3]>::try_from(shape).unwrap_or([1, 1, shape.iter().product()]);
        let [_, height, width] = shape;
        let draws = match transforms.diversity {
            Some(_) => samples.iter().map(|&sample| stream(seed, Purpose::InputDiversity, sample as u64)).collect(),
            None => Vec::new(),
        };
        let kernels = transforms.translation.map(|kernel| [convolution(kernel, height), convolution(kernel, width)]);
        Views { transforms: *transforms, shape, draws, kernels }
    }

    /// Whether samples are seen as they are.
    pub fn is_plain(&self) -> bool {
        self.transforms == Transforms::NONE
    }

    pub fn count(&self) -> usize {
        self.transforms.scales.max(1) as usize
    }

    /// View `index`, with what is random in it drawn anew.
    pub fn draw(&mut self, index: usize) -> View {
        let [_, height, width] = self.shape;
        let frames = match self.transforms.diversity {
            Some(diversity) => self.draws.iter_mut().map(|rng| Frame::draw(diversity, height, width, rng)).collect(),
            None => Vec::new(),
        };
        View { scale: 0.5_f32.powi(index as i32), frames }
    }

    pub fn seen(&self, view: &View, samples: ArrayView2<'_, f32>) -> Array2<f32> {
        let scaled = &samples * view.scale;
        self.each_plane(view, scaled.view(), |frame, from, mut to| {
            let small = frame.rows.dot(&from).dot(&frame.columns.t());
            let (height, width) = small.dim();
            to.slice_mut(s![frame.top..frame.top + height, frame.left..frame.left + width]).assign(&small);
        })
    }

    /// Gradients by the samples, from those by what was seen of them: the transpose of [`Views::seen`].
    pub fn pulled_back(&self, view: &View, gradients: ArrayView2<'_, f32>) -> Array2<f32> {
        let pulled = self.each_plane(view, gradients, |frame, from, mut to| {
            let (height, width) = (frame.rows.nrows(), frame.columns.nrows());
            let inner = from.slice(s![frame.top..frame.top + height, frame.left..frame.left + width]);
            to.assign(&frame.rows.t().dot(&inner).dot(&frame.columns));
        });
        pulled * view.scale
    }

    /// Gradients convolved with the kernel.
    pub fn smoothed(&self, gradients: Array2<f32>) -> Array2<f32> {
        let Some([rows, columns]) = &self.kernels else { return gradients };
        let [_, height, width] = self.shape;
        let mut smoothed = gradients;
        for mut row in smoothed.rows_mut() {
            for mut plane in row.exact_chunks_mut(height * width) {
                if let Ok(mut plane) = plane.view_mut().into_shape_with_order((height, width)) {
                    // The kernel is symmetric, so the matrix is its own transpose.
                    let result = rows.dot(&plane).dot(columns);
                    plane.assign(&result);
                }
            }
        }
        smoothed
    }

    /// Applies `change` to each channel of the rows that have a frame, into zeros; other rows stay.
    fn each_plane(
        &self,
        view: &View,
        from: ArrayView2<'_, f32>,
        change: impl Fn(&Frame, ArrayView2<'_, f32>, ArrayViewMut2<'_, f32>),
    ) -> Array2<f32> {
        let [_, height, width] = self.shape;
        let mut result = from.as_standard_layout().into_owned();
        for ((frame, mut to), from) in view.frames.iter().zip(result.rows_mut()).zip(from.rows()) {
            let Some(frame) = frame else { continue };
            to.fill(0.0);
            let planes = height * width;
            for (from, mut to) in from.exact_chunks(planes).into_iter().zip(to.exact_chunks_mut(planes)) {
                let shape = (height, width);
                let views = (from.into_shape_with_order(shape), to.view_mut().into_shape_with_order(shape));
                if let (Ok(from), Ok(to)) = views {
                    change(frame, from, to);
                }
            }
        }
        result
    }
}

impl Frame {
    /// `None` where chance leaves the image as it is. The same number of draws either way.
    fn draw(diversity: InputDiversity, height: usize, width: usize, rng: &mut ChaCha8Rng) -> Option<Frame> {
        let is_changed = unit_interval(rng) < diversity.probability;
        let least = ((width as f64 * diversity.least_size) as usize).clamp(1, width);
        let new_width = least + below(rng, width - least);
        let new_height = (new_width * height + width / 2).checked_div(width).unwrap_or(0).clamp(1, height);
        let (top, left) = (below(rng, height - new_height), below(rng, width - new_width));
        is_changed.then(|| Frame {
            top,
            left,
            rows: interpolation(height, new_height),
            columns: interpolation(width, new_width),
        })
    }
}

/// Bilinear resizing of a line of pixels: new size x size. Pixel centres lie at halves, as in PyTorch's `interpolate` with
/// `align_corners=False`; nothing is smoothed first.
fn interpolation(size: usize, new_size: usize) -> Array2<f32> {
    let mut matrix = Array2::zeros((new_size, size));
    for (index, mut row) in matrix.rows_mut().into_iter().enumerate() {
        let at = ((index as f64 + 0.5) * size as f64 / new_size as f64 - 0.5).max(0.0);
        let left = at as usize;
        for (place, weight) in [(left, 1.0 - at.fract()), (left + 1, at.fract())] {
            if let Some(entry) = row.get_mut(place.min(size.saturating_sub(1))) {
                *entry += weight as f32;
            }
        }
    }
    matrix
}

/// Convolution of a line of pixels with a Gaussian of sum 1 and zeros around: size x size, symmetric.
fn convolution(kernel: TranslationKernel, size: usize) -> Array2<f32> {
    let half = kernel.size / 2;
    let unit = if half > 0 { kernel.reach / half as f64 } else { 0.0 };
    let weight = |distance: usize| (-0.5 * (distance as f64 * unit).powi(2)).exp();
    let sum: f64 = weight(0) + 2.0 * (1..=half).map(weight).sum::<f64>();
    Array2::from_shape_fn((size, size), |(i, j)| {
        let distance = i.abs_diff(j);
        if distance <= half { (weight(distance) / sum) as f32 } else { 0.0 }
    })
}
