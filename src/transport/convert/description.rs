//! Descriptions of models and datasets.

use super::field::{count, known};
use crate::{
    error::Result,
    scoring::types::{
        DatasetDescription, GradientMode, LoadedModel, ModelCheck, ModelDescription, OutputKind, TensorDescription,
    },
    transport::proto,
};

/// A model as it is listed.
pub fn model(model: ModelDescription) -> proto::Model {
    let output_kind = match model.output_kind {
        None => proto::OutputKind::Unspecified,
        Some(OutputKind::Logits) => proto::OutputKind::Logits,
        Some(OutputKind::Embedding) => proto::OutputKind::Embedding,
        Some(OutputKind::Dense) => proto::OutputKind::Dense,
    };
    proto::Model {
        name: model.name,
        summary: model.summary,
        digest: model.digest,
        n_parameters: model.n_parameters,
        output_kind: output_kind.into(),
        classes: model.classes,
        inputs: model.inputs.into_iter().map(tensor).collect(),
        outputs: model.outputs.into_iter().map(tensor).collect(),
        features: model.features,
        size_bytes: model.size_bytes,
        problem: model.problem,
    }
}

fn tensor(tensor: TensorDescription) -> proto::TensorInfo {
    proto::TensorInfo { name: tensor.name, element_type: tensor.element_type, shape: tensor.shape }
}

/// Whether and where a model resists differentiation.
pub fn check(check: ModelCheck) -> proto::CheckModelResponse {
    let obstacles = check.obstacles.into_iter();
    let operators = check.operators.into_iter();
    proto::CheckModelResponse {
        differentiable: obstacles.len() == 0 && check.model.problem.is_empty(),
        model: Some(model(check.model)),
        opset: check.opset,
        obstacles: obstacles
            .map(|obstacle| proto::Obstacle {
                node: obstacle.node,
                operator: obstacle.operator,
                reason: obstacle.reason,
                inputs: obstacle.inputs,
            })
            .collect(),
        operators: operators.map(|(operator, nodes)| proto::OperatorCount { operator, count: count(nodes) }).collect(),
    }
}

/// The kind of gradient graph asked for.
pub fn gradient_mode(number: i32) -> Result<GradientMode> {
    Ok(match known("mode", number)? {
        proto::GradientMode::Unspecified | proto::GradientMode::Vjp => GradientMode::Vjp,
        proto::GradientMode::Jvp => GradientMode::Jvp,
    })
}

/// A dataset as it is listed.
pub fn dataset(dataset: DatasetDescription) -> proto::Dataset {
    proto::Dataset {
        name: dataset.name,
        n_samples: count(dataset.n_samples),
        shape: dataset.shape.into_iter().map(count).collect(),
        n_classes: count(dataset.n_classes),
        target_size: count(dataset.target_size),
        problem: dataset.problem,
        format: dataset.format,
        classes: dataset.classes,
        summary: dataset.summary,
        licence: dataset.licence,
    }
}

/// A model that is ready.
pub fn loaded(loaded: LoadedModel) -> proto::LoadModelResponse {
    proto::LoadModelResponse {
        model: Some(model(loaded.description)),
        sample_shape: loaded.sample_shape.into_iter().map(count).collect(),
        output_shape: loaded.output_shape.into_iter().map(count).collect(),
    }
}
