//! What is answered about a pair.

use serde::{Deserialize, Serialize};

use super::{AttackOptions, KnowledgeScores, SolverReport, VariantScores};
use crate::{
    metric::{GradientMatching, LossScores, TheoryChecks},
    stats::{Confidence, Estimate},
};

/// Everything measured about a pair.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairScores {
    pub source_to_reference: DirectionalScores,
    pub reference_to_source: DirectionalScores,
    pub tau1: Estimate,
    /// Similarity by attack transferability, with labels that both models know.
    pub similarity: Option<Estimate>,
    /// Every variant where the call asked for several; the fields above are the first's.
    pub variants: Vec<VariantScores>,
    pub gradient_matching: Option<GradientMatching>,
    /// Where the call asked for it.
    pub theory: Option<TheoryScores>,
    pub knowledge: KnowledgeScores,
    /// Of the virtual attack.
    pub source_solver: Option<SolverReport>,
    pub reference_solver: Option<SolverReport>,
    pub provenance: Provenance,
}

/// Both sides of the theorems, in the direction from source to reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TheoryScores {
    pub checks: Option<TheoryChecks>,
    /// What could not be checked, and why.
    pub skipped: Vec<String>,
}

/// The attack made on model 1, read on model 2.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DirectionalScores {
    pub alpha1: Estimate,
    pub alpha2: Estimate,
    pub combined: Estimate,
    /// `None` where there are too many outputs and samples to fit a map between them.
    pub tau2: Option<Estimate>,
    /// Why there is no tau2.
    pub tau2_skipped: String,
    pub n_dead_samples: usize,
    /// With labels or targets that model 2 knows.
    pub loss: Option<LossScores>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    pub source_model: ModelReference,
    pub reference_model: ModelReference,
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelReference {
    pub name: String,
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DroppedSamples {
    pub reason: String,
    pub count: usize,
}
