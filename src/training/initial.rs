//! What a new head starts from.

use crate::stats::{Purpose, stream, unit_interval};

/// The weight (`outputs · width`, row by row) and the bias of a linear layer, uniform in ±1/√width: what PyTorch's
/// `nn.Linear` starts from.
pub fn initial_head(outputs: usize, width: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut rng = stream(seed, Purpose::InitialHead, 0);
    let bound = (width.max(1) as f64).sqrt().recip();
    let mut draw = || bound * (2.0 * unit_interval(&mut rng) - 1.0);
    let weight = (0..outputs * width).map(|_| draw()).collect();
    let bias = (0..outputs).map(|_| draw()).collect();
    (weight, bias)
}
