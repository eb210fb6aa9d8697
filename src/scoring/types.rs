//! What is asked and what is answered, in the domain's own terms. The transport converts from and to these.

pub use crate::{
    attack::Norm,
    knowledge::{AffineFit, LinearProbe},
    metric::GradientMatching,
    registry::OutputKind,
    stats::{Confidence, Estimate, ShuffledNull},
};

/// Samples to measure on.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// A dataset of the server, by name.
    Dataset(String),
    /// Samples that came with the request.
    Inline(InlineDataset),
}

/// Samples that came with the request, not yet validated.
#[derive(Clone, Debug, PartialEq)]
pub struct InlineDataset {
    /// `[channels, height, width]` or `[features]`.
    pub shape: Vec<u32>,
    /// Row-major samples, one after another.
    pub samples: Vec<f32>,
    /// A class for each sample, or none.
    pub labels: Vec<u32>,
}

/// Settings that a pair and a ranking share.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreOptions {
    /// 0 means all.
    pub max_samples: usize,
    pub attack: AttackOptions,
    pub knowledge: KnowledgeOptions,
    pub seed: u64,
    pub confidence: Confidence,
}

/// One source against one reference.
#[derive(Clone, Debug, PartialEq)]
pub struct PairRequest {
    pub source_model: String,
    pub reference_model: String,
    pub probe: Probe,
    pub options: ScoreOptions,
}

/// Many sources against one reference.
#[derive(Clone, Debug, PartialEq)]
pub struct RankingRequest {
    /// Empty means every model that fits the probe set, except the reference.
    pub source_models: Vec<String>,
    pub reference_model: String,
    pub probe: Probe,
    pub options: ScoreOptions,
    pub rank_by: RankingMetric,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttackMethod {
    Virtual,
    Fgsm,
    Pgd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttackLoss {
    CrossEntropy,
    CrossEntropyLabels,
    Kl,
    SquaredDeviation,
}

/// The attack as the client asked for it; `None` and 0 stand for defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttackOptions {
    pub method: AttackMethod,
    pub norm: Option<Norm>,
    pub epsilon: Option<f64>,
    pub steps: u32,
    pub step_size: Option<f64>,
    pub random_start: bool,
    pub loss: Option<AttackLoss>,
}

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

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RankingMetric {
    CombinedReferenceToSource,
    CombinedSourceToReference,
    Alpha1ReferenceToSource,
    Alpha1SourceToReference,
    Alpha2ReferenceToSource,
    Alpha2SourceToReference,
    Tau1,
    Explained,
    FunctionMatchingR2,
    LinearProbeAccuracy,
}

/// Everything measured about a pair.
#[derive(Clone, Debug, PartialEq)]
pub struct PairScores {
    pub source_to_reference: DirectionalScores,
    pub reference_to_source: DirectionalScores,
    pub tau1: Estimate,
    pub gradient_matching: GradientMatching,
    pub knowledge: KnowledgeScores,
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
pub struct KnowledgeScores {
    pub function_matching: Option<AffineFit>,
    pub affine_transfer: Option<AffineFit>,
    pub linear_probe: Option<LinearProbe>,
    pub n_parameters: u64,
    pub skipped: Vec<(KnowledgeMeasure, String)>,
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

/// One event of a ranking.
#[derive(Clone, Debug, PartialEq)]
pub enum RankingEvent {
    Progress(Progress),
    Row { source_model: String, scores: Box<PairScores> },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
    pub stage: String,
}

/// The end of a ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    pub rank_by: RankingMetric,
    /// Best first.
    pub sources: Vec<RankedSource>,
    pub correlations: Vec<MeasureCorrelation>,
    pub skipped: Vec<SkippedSource>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct RankedSource {
    pub source_model: String,
    pub rank: usize,
    pub value: Estimate,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SkippedSource {
    pub source_model: String,
    pub reason: String,
}

/// How an adversarial metric and a knowledge measure agree over the sources.
#[derive(Clone, Debug, PartialEq)]
pub struct MeasureCorrelation {
    pub adversarial_metric: String,
    pub knowledge_measure: String,
    pub n_sources: usize,
    pub pearson: Option<f64>,
    pub spearman: Option<f64>,
    pub kendall: Option<f64>,
}

/// A model as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDescription {
    pub name: String,
    pub summary: String,
    pub digest: String,
    pub n_parameters: u64,
    pub output_kind: Option<OutputKind>,
    pub classes: Vec<String>,
    pub inputs: Vec<TensorDescription>,
    pub outputs: Vec<TensorDescription>,
    pub features: String,
    pub size_bytes: u64,
    /// Empty for a usable model.
    pub problem: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorDescription {
    pub name: String,
    pub element_type: String,
    pub shape: Vec<String>,
}

/// Whether and where a model resists differentiation.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCheck {
    pub model: ModelDescription,
    pub opset: i64,
    pub obstacles: Vec<Obstacle>,
    /// Most frequent first.
    pub operators: Vec<(String, usize)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub node: String,
    pub operator: String,
    pub reason: String,
    pub inputs: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GradientMode {
    Vjp,
    Jvp,
}

/// A gradient graph to derive.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientRequest {
    pub name: String,
    pub mode: GradientMode,
    /// Empty means every float input.
    pub inputs: Vec<String>,
    /// Empty means every float output.
    pub outputs: Vec<String>,
    /// In float32, inputs and outputs too, whatever float types the model has.
    pub float32: bool,
}

/// A dataset as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatasetDescription {
    pub name: String,
    pub n_samples: usize,
    pub shape: Vec<usize>,
    pub n_classes: usize,
    pub target_size: usize,
    /// Empty for a usable dataset.
    pub problem: String,
}
