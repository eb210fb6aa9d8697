//! Targets in units of their own spread, so that a learning rate means the same whatever they are measured in.

use ndarray::{Array1, Array2, ArrayD, ArrayView2, Axis, IxDyn};

/// What targets are counted from, and in.
#[derive(Clone, Debug, PartialEq)]
pub struct Units {
    /// The mean of each target, (d).
    mean: Array1<f32>,
    /// The root of the mean variance of the targets; 1 where they do not vary. One for all, so that the squared error stays the
    /// same function but for its unit.
    scale: f32,
}

impl Units {
    /// Units of targets (N, d): those that are trained on.
    pub fn of(targets: ArrayView2<'_, f32>) -> Self {
        let targets = targets.mapv(f64::from);
        let mean = targets.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(targets.ncols()));
        let deviations = &targets - &mean;
        let variance = deviations.iter().map(|x| x * x).sum::<f64>() / deviations.len().max(1) as f64;
        let scale = variance.sqrt() as f32;
        let scale = if scale.is_normal() { scale } else { 1.0 };
        Units { mean: mean.mapv(|mean| mean as f32), scale }
    }

    /// Targets (N, d) in these units.
    pub fn counted(&self, targets: &Array2<f32>) -> Array2<f32> {
        (targets - &self.mean) / self.scale
    }

    /// A squared error in these units in those of the targets.
    pub fn squared(&self, error: f64) -> f64 {
        error * f64::from(self.scale).powi(2)
    }

    /// Makes a linear layer that predicts in these units one that predicts the targets: weight (d, width), bias (d).
    pub fn fold_into(&self, weight: &mut ArrayD<f32>, bias: &mut ArrayD<f32>) {
        *weight *= self.scale;
        *bias *= self.scale;
        if let Ok(mean) = self.mean.to_shape(IxDyn(bias.shape())) {
            *bias += &mean;
        }
    }
}
