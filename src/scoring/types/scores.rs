//! What is answered about a pair.

use super::{AttackOptions, KnowledgeScores, SolverReport, VariantScores};
use crate::{
    metric::GradientMatching,
    stats::{Confidence, Estimate},
};

/// Everything measured about a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairScores {
    pub source_to_reference: DirectionalScores,
    pub reference_to_source: DirectionalScores,
    pub tau1: Estimate,
    /// Every variant where the call asked for several; the fields above are the first's.
    pub variants: Vec<VariantScores>,
    pub gradient_matching: Option<GradientMatching>,
    pub knowledge: KnowledgeScores,
    /// Of the virtual attack.
    pub source_solver: Option<SolverReport>,
    pub reference_solver: Option<SolverReport>,
    pub provenance: Provenance,
}

/// The attack made on model 1, read on model 2.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectionalScores {
    pub alpha1: Estimate,
    pub alpha2: Estimate,
    pub combined: Estimate,
    pub tau2: Estimate,
    pub n_dead_samples: usize,
    /// With labels that model 2 knows.
    pub loss: Option<LossScores>,
}

/// What the attack does to model 2's classification.
#[derive(Clone, Debug, PartialEq)]
pub struct LossScores {
    pub attack_loss: Estimate,
    pub clean_loss: Estimate,
    /// `None` where model 2 classifies no sample rightly.
    pub fooling_rate: Option<Estimate>,
}

#[derive(Clone, Debug, PartialEq)]
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

#[derive(Clone, Debug, PartialEq)]
pub struct ModelReference {
    pub name: String,
    pub digest: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DroppedSamples {
    pub reason: String,
    pub count: usize,
}
