//! Models and datasets as they are listed, checked and exported.

use crate::registry::OutputKind;

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

/// A dataset as it is listed. The default knows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatasetDescription {
    pub name: String,
    pub n_samples: usize,
    pub shape: Vec<usize>,
    pub n_classes: usize,
    pub target_size: usize,
    /// How it is stored: "npz", "images", …
    pub format: String,
    /// Names in order of their numbers; may be empty.
    pub classes: Vec<String>,
    pub summary: String,
    pub licence: String,
    /// Empty for a usable dataset.
    pub problem: String,
}

/// A model that is ready to run.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedModel {
    pub description: ModelDescription,
    /// Of the samples that it was made ready for.
    pub sample_shape: Vec<usize>,
    pub output_shape: Vec<usize>,
}

/// What was dropped of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnloadedModel {
    /// Whether anything of it was in memory.
    pub was_loaded: bool,
    /// Whether calls in progress still use it; its memory goes with the last of them.
    pub in_use: bool,
}
