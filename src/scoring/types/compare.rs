//! Comparisons of tasks: asked for, and answered.

use ndarray::Array2;

use super::{AttackOptions, DroppedSamples, ModelReference, Probe};
use crate::stats::{Confidence, Estimate, GroupAgreement, Merge};

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
    /// None, or two and more with each model in exactly one.
    pub known_groups: Vec<TaskGroup>,
}

/// A group of tasks that is known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskGroup {
    pub name: String,
    /// At least one.
    pub models: Vec<String>,
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
    /// How faithfully the merges keep the distances between the rows; `None` where there is nothing to keep.
    pub cophenetic_correlation: Option<f64>,
    /// As requested.
    pub known_groups: Vec<TaskGroup>,
    /// How the merges agree with the known groups; `None` without them.
    pub group_agreement: Option<GroupAgreement>,
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
