//! Knowledge measures: asked for, and answered.

use crate::knowledge::{AffineFit, LinearProbe};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KnowledgeMeasure {
    FunctionMatching,
    AffineTransfer,
    LinearProbe,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KnowledgeOptions {
    /// Empty means all that the probe set allows.
    pub measures: Vec<KnowledgeMeasure>,
    /// `None`: chosen by leave-one-out.
    pub ridge: Option<f64>,
    /// 0 means the default.
    pub folds: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KnowledgeScores {
    pub function_matching: Option<AffineFit>,
    pub affine_transfer: Option<AffineFit>,
    pub linear_probe: Option<LinearProbe>,
    pub n_parameters: u64,
    pub skipped: Vec<(KnowledgeMeasure, String)>,
}
