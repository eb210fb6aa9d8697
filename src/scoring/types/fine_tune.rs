//! Fine-tunings: asked for, and answered.

use serde::{Deserialize, Serialize};

use super::{DroppedSamples, ModelReference, Probe};
use crate::{
    stats::{Confidence, Estimate},
    training::{Augmentation, ScheduleShape},
};

/// What is trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FineTuneMode {
    /// The head on features that stay as they are.
    #[default]
    Head,
    /// Every weight.
    Whole,
}

/// How weights follow their gradients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FineTuneOptimizer {
    #[default]
    Sgd,
    AdamW,
}

/// A fine-tuning as the client asked for it; `None` and 0 stand for defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FineTuneOptions {
    pub mode: FineTuneMode,
    /// Starts from the model's own last layer, whose outputs must be as many as the task's.
    pub keep_head: bool,
    pub optimizer: FineTuneOptimizer,
    pub epochs: usize,
    pub batch_size: usize,
    pub learning_rate: Option<f64>,
    pub weight_decay: Option<f64>,
    /// Of SGD.
    pub momentum: Option<f64>,
    /// Of SGD.
    pub nesterov: bool,
    pub schedule: ScheduleShape,
    /// Share of the steps.
    pub warm_up: Option<f64>,
    /// Share of the samples; not together with `folds`.
    pub held_out: Option<f64>,
    pub folds: usize,
    /// 0 trains to the end.
    pub patience: usize,
    pub augmentation: Augmentation,
}

/// How well a fine-tuned model does on samples that it was not trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FineTuneScores {
    /// With labels.
    pub accuracy: Option<Estimate>,
    /// With labels, in nats.
    pub cross_entropy: Option<Estimate>,
    /// With targets: 1 − Σ‖y − ŷ‖²/Σ‖y − ȳ‖² over the held-out samples, ȳ their mean; can be negative.
    pub r2: Option<Estimate>,
    /// With targets: over samples and target values.
    pub mean_squared_error: Option<Estimate>,
    /// Accuracy of always answering the most frequent class of the held-out samples.
    pub majority_accuracy: Option<f64>,
    /// An entry for each run: the epochs whose weights were judged, those run.
    pub runs: Vec<RunLength>,
    /// Means over the runs that came as far.
    pub curve: Vec<Epoch>,
    /// Numbers that were trained.
    pub n_trained: u64,
    /// Of a run; the largest of several.
    pub n_training_samples: usize,
    pub n_held_out_samples: usize,
    /// With every default filled in.
    pub options: FineTuneOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunLength {
    /// Epochs after which the weights were taken.
    pub best: usize,
    pub run: usize,
}

/// A point of the learning curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub number: usize,
    /// Of the epoch's last step.
    pub learning_rate: f64,
    /// Mean over the epoch's batches, each before its step.
    pub training_loss: f64,
    /// After the epoch.
    pub held_out_loss: f64,
    /// `None` without labels.
    pub held_out_accuracy: Option<f64>,
}

/// A model to fine-tune and to give back.
#[derive(Clone, Debug, PartialEq)]
pub struct FineTuneRequest {
    pub model: String,
    pub probe: Probe,
    /// 0 means all.
    pub max_samples: usize,
    pub options: FineTuneOptions,
    pub seed: u64,
    pub confidence: Confidence,
}

/// The end of a fine-tuning.
#[derive(Clone, Debug, PartialEq)]
pub struct FineTuned {
    pub scores: FineTuneScores,
    /// The fine-tuned model's file.
    pub onnx: Vec<u8>,
    /// Its `model.toml`.
    pub manifest: String,
    pub model: ModelReference,
    /// Empty for inline samples.
    pub dataset: String,
    pub probe_digest: String,
    pub n_samples: usize,
    pub dropped: Vec<DroppedSamples>,
    pub seed: u64,
    pub confidence: Confidence,
    pub provider: String,
}
