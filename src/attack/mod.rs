//! Attacks: small composable pieces over arrays. Pure: gradients come in through functions, randomness through seeds.

/// A norm on pixel space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Euclidean.
    L2,
    /// Largest absolute change of a pixel.
    Linf,
}
