//! Adversarial examples: asked for, and answered.

use ndarray::Array2;

use super::{AttackOptions, DroppedSamples, ModelReference, Pooling, Probe, Progress};

/// Models to attack together, and others to try the examples on.
#[derive(Clone, Debug, PartialEq)]
pub struct AdversarialRequest {
    /// At least one.
    pub models: Vec<String>,
    pub pooling: Pooling,
    pub evaluated_models: Vec<String>,
    pub probe: Probe,
    /// 0 means all.
    pub max_samples: usize,
    pub attack: AttackOptions,
    pub seed: u64,
    pub with_clean_samples: bool,
}

/// One event of an attack.
#[derive(Clone, Debug, PartialEq)]
pub enum AdversarialEvent {
    Progress(Progress),
    Examples(Box<AdversarialExamples>),
}

/// Some attacked samples within one radius. Lists have an entry for each.
#[derive(Clone, Debug, PartialEq)]
pub struct AdversarialExamples {
    /// `None` for a minimum-norm attack without one.
    pub radius: Option<f64>,
    /// Shape of one sample.
    pub shape: Vec<usize>,
    /// Places in the dataset.
    pub indices: Vec<usize>,
    /// Rows of pixels.
    pub samples: Array2<f32>,
    /// The same before the attack; `None` unless asked for.
    pub clean_samples: Option<Array2<f32>>,
    pub l2_norms: Vec<f64>,
    pub linf_norms: Vec<f64>,
    pub losses: Vec<f64>,
    /// Empty where the probe set has none.
    pub labels: Vec<u32>,
    /// `None` without logits.
    pub attacked: Option<ModelReading>,
    pub evaluated: Vec<ModelReading>,
}

/// What a model makes of samples before and after the attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelReading {
    /// Empty for the attacked models together.
    pub model: String,
    pub clean_classes: Vec<usize>,
    pub adversarial_classes: Vec<usize>,
    pub successes: Vec<bool>,
    /// Whether the clean samples already are what the attack wants.
    pub clean_successes: Vec<bool>,
}

/// The end of an attack.
#[derive(Clone, Debug, PartialEq)]
pub struct AdversarialSummary {
    pub radii: Vec<RadiusSummary>,
    pub models: Vec<ModelReference>,
    pub evaluated_models: Vec<ModelReference>,
    /// Empty for inline samples.
    pub dataset: String,
    pub probe_digest: String,
    pub n_samples: usize,
    pub dropped: Vec<DroppedSamples>,
    pub seed: u64,
    /// With every default filled in.
    pub attack: AttackOptions,
    pub pooling: Pooling,
    pub provider: String,
}

/// Means over all samples within one radius.
#[derive(Clone, Debug, PartialEq)]
pub struct RadiusSummary {
    pub radius: Option<f64>,
    pub mean_l2_norm: f64,
    pub mean_linf_norm: f64,
    pub mean_loss: f64,
    pub attacked: Option<SuccessRate>,
    pub evaluated: Vec<SuccessRate>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SuccessRate {
    /// Empty for the attacked models together.
    pub model: String,
    pub rate: f64,
    pub clean_rate: f64,
}
