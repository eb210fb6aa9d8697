//! Comparisons of tasks: asked for, and answered.

use ndarray::Array2;

use super::{AttackOptions, DroppedSamples, ModelReference, Probe};
use crate::stats::{Confidence, Estimate, Merge};

/// The matrix whose rows are clustered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskMatrix {
    Alpha1,
    Alpha2,
    Combined,
    Affinity,
}

/// Models of several tasks, each to be attacked and read under every attack.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparisonRequest {
    /// At least two.
    pub models: Vec<String>,
    pub probe: Probe,
    /// 0 means all.
    pub max_samples: usize,
    pub attack: AttackOptions,
    pub seed: u64,
    pub confidence: Confidence,
    pub cluster_by: TaskMatrix,
    /// 0 means the default.
    pub n_groups: usize,
}

/// The end of a comparison. Matrices have a row for each attacked model and a column for each model read.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskComparison {
    pub models: Vec<ModelReference>,
    pub alpha1: Vec<Vec<Estimate>>,
    pub alpha2: Vec<Vec<Estimate>>,
    pub combined: Vec<Vec<Estimate>>,
    /// Columns add up to 1.
    pub affinity: Array2<f64>,
    pub merges: Vec<Merge>,
    /// The group of each model.
    pub groups: Vec<usize>,
    pub cluster_by: TaskMatrix,
    /// Empty for inline samples.
    pub dataset: String,
    pub probe_digest: String,
    pub n_samples: usize,
    pub dropped: Vec<DroppedSamples>,
    pub seed: u64,
    /// With every default filled in.
    pub attack: AttackOptions,
    pub confidence: Confidence,
    pub provider: String,
}
