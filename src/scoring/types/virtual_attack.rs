//! The virtual attack's settings, and how well its directions were found.

use serde::{Deserialize, Serialize};

use crate::stats::Estimate;

use super::DirectionalScores;

/// How singular directions are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Solver {
    /// Exact where whole Jacobians are small enough, else Lanczos.
    #[default]
    Auto,
    /// Through the Gram matrix of the whole Jacobian.
    Exact,
    /// Golub-Kahan-Lanczos, from products with the Jacobian.
    Lanczos,
}

/// Settings of the virtual attack as the client gave them; 0 and `None` stand for defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VirtualAttackOptions {
    pub solver: Solver,
    pub levels: u32,
    pub tolerance: Option<f64>,
    pub max_steps: u32,
}

/// How well a model's singular directions were found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SolverReport {
    /// Never [`Solver::Auto`].
    pub solver: Solver,
    /// Samples whose residual is within the tolerance.
    pub n_converged: usize,
    /// ‖Jᵀu − σv‖/σ₁, over samples; 0 for the exact solver.
    pub mean_residual: f64,
    pub max_residual: f64,
    /// Lanczos steps a sample; 0 for the exact solver.
    pub mean_steps: f64,
}

/// Which of a call's attacks: a radius, a singular level.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variant {
    /// `None` for first-order deviations.
    pub epsilon: Option<f64>,
    /// 0 is the strongest singular direction; 0 for empirical attacks.
    pub level: usize,
}

/// The scores of one variant of an attack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VariantScores {
    pub variant: Variant,
    pub source_to_reference: DirectionalScores,
    pub reference_to_source: DirectionalScores,
    pub tau1: Estimate,
    /// As in [`PairScores`](super::PairScores).
    pub similarity: Option<Estimate>,
}
