//! The ball that bounds a perturbation, and what attacks do with it: step, project, start at random, clip.
//!
//! Conventions are those of Foolbox and torchattacks. A sample is a slice of its flattened pixels.

use serde::{Deserialize, Serialize};

use super::Error;
use crate::stats::{Purpose, standard_normal, stream, unit_interval};

/// Samples of a probe set are fewer than 2 to this power, so that restarts draw from streams of their own.
const RESTART_SHIFT: u32 = 40;

/// A norm on pixel space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Norm {
    /// Euclidean.
    L2,
    /// Largest absolute change of a pixel.
    Linf,
}

/// The perturbations allowed around a sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ball {
    norm: Norm,
    epsilon: f32,
}

/// The values that pixels may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelRange {
    /// 0..1, for images.
    Unit,
    /// Any, for plain vectors.
    Unbounded,
}

impl Ball {
    /// The ball of radius `epsilon`, in pixel units.
    ///
    /// # Errors
    /// When the radius is not a positive finite f32.
    pub fn new<E>(norm: Norm, epsilon: f64) -> Result<Self, Error<E>> {
        let narrow = epsilon as f32;
        if narrow > 0.0 && narrow.is_finite() {
            Ok(Ball { norm, epsilon: narrow })
        } else {
            Err(Error::Epsilon(epsilon))
        }
    }

    pub fn norm(&self) -> Norm {
        self.norm
    }

    pub fn epsilon(&self) -> f32 {
        self.epsilon
    }

    /// Scales `delta` down to the ball (L2), or clips it (L∞); inside it stays.
    pub fn project(&self, delta: &mut [f32]) {
        self.norm.project(delta, f64::from(self.epsilon));
    }

    /// A uniform point of the ball. It depends on the seed, on the sample's index in the probe set and on the restart
    /// alone.
    pub fn random_start(&self, n_pixels: usize, seed: u64, sample: usize, restart: u32) -> Vec<f32> {
        let index = (u64::from(restart) << RESTART_SHIFT) | sample as u64;
        let mut rng = stream(seed, Purpose::RandomStart, index);
        let epsilon = f64::from(self.epsilon);
        match self.norm {
            Norm::Linf => (0..n_pixels).map(|_| ((2.0 * unit_interval(&mut rng) - 1.0) * epsilon) as f32).collect(),
            Norm::L2 => {
                let direction: Vec<f64> = (0..n_pixels).map(|_| standard_normal(&mut rng)).collect();
                let length = direction.iter().map(|d| d * d).sum::<f64>().sqrt();
                // The share of the volume within radius r grows as r to the n.
                let radius = epsilon * unit_interval(&mut rng).powf(1.0 / n_pixels.max(1) as f64);
                let factor = if length > 0.0 { radius / length } else { 0.0 };
                direction.iter().map(|d| (d * factor) as f32).collect()
            }
        }
    }
}

impl Norm {
    /// The length of a vector, in f64.
    pub fn length(self, vector: &[f32]) -> f64 {
        match self {
            Norm::L2 => euclidean(vector),
            Norm::Linf => vector.iter().fold(0.0, |largest, &x| f64::from(x).abs().max(largest)),
        }
    }

    /// The dual norm: the largest product of a gradient with a step of length 1.
    pub fn dual_length(self, gradient: &[f32]) -> f64 {
        match self {
            Norm::L2 => euclidean(gradient),
            Norm::Linf => gradient.iter().map(|&g| f64::from(g).abs()).sum(),
        }
    }

    /// Scales `delta` down to a length (L2), or clips it (L∞); a shorter one stays.
    pub fn project(self, delta: &mut [f32], radius: f64) {
        match self {
            Norm::L2 => {
                let length = euclidean(delta);
                if length > radius {
                    let factor = radius / length;
                    delta.iter_mut().for_each(|d| *d = (f64::from(*d) * factor) as f32);
                }
            }
            Norm::Linf => {
                let radius = radius.max(0.0) as f32;
                delta.iter_mut().for_each(|d| *d = d.clamp(-radius, radius));
            }
        }
    }

    /// Turns a gradient into the step of unit norm that ascends fastest: the sign for L∞, the unit gradient for L2. A zero
    /// gradient stays zero.
    pub fn steepest_ascent(self, gradient: &mut [f32]) {
        match self {
            Norm::Linf => gradient.iter_mut().for_each(|g| *g = if *g == 0.0 { 0.0 } else { g.signum() }),
            Norm::L2 => {
                let length = euclidean(gradient);
                if length > 0.0 {
                    gradient.iter_mut().for_each(|g| *g = (f64::from(*g) / length) as f32);
                }
            }
        }
    }
}

impl PixelRange {
    /// The least and the largest value.
    pub fn bounds(self) -> [f32; 2] {
        match self {
            PixelRange::Unit => [0.0, 1.0],
            PixelRange::Unbounded => [f32::NEG_INFINITY, f32::INFINITY],
        }
    }

    /// The length of the longest perturbation that leaves a sample in the range; infinite where there is no range.
    pub fn farthest(self, norm: Norm, sample: &[f32]) -> f64 {
        match self {
            PixelRange::Unit => norm.length(&sample.iter().map(|&pixel| pixel.max(1.0 - pixel)).collect::<Vec<f32>>()),
            PixelRange::Unbounded => f64::INFINITY,
        }
    }

    /// Moves a pixel into the range.
    pub fn clip(self, pixel: f32) -> f32 {
        match self {
            PixelRange::Unit => pixel.clamp(0.0, 1.0),
            PixelRange::Unbounded => pixel,
        }
    }
}

/// Euclidean length, in f64.
pub(super) fn euclidean(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}
