//! Fine-tunings and their events.

use super::{
    confidence,
    field::{count, finite, known, name},
    probe,
    request::max_samples,
    scores::{estimate, model_reference},
};
use crate::{
    error::Result,
    limits,
    scoring::types::{
        Augmentation, Confidence, Epoch, Estimate, FineTuneMode, FineTuneOptimizer, FineTuneOptions, FineTuneRequest,
        FineTuneScores, FineTuned, Progress, ScheduleShape,
    },
    transport::proto::{self, fine_tune_request, fine_tune_response::Event},
};

/// A request for a fine-tuned model.
pub fn fine_tune_request(request: proto::FineTuneRequest) -> Result<FineTuneRequest> {
    use fine_tune_request::Probe;
    Ok(FineTuneRequest {
        model: name("model", request.model, "ListModels")?,
        probe: match request.probe {
            Some(Probe::Dataset(dataset)) => probe::dataset(dataset)?,
            Some(Probe::InlineDataset(dataset)) => probe::inline(dataset, limits::MIN_SAMPLES)?,
            None => return Err(probe::missing()),
        },
        max_samples: max_samples(request.max_samples)?,
        options: fine_tune_options("options", request.options)?,
        seed: request.seed,
        confidence: confidence::confidence(request.confidence)?,
    })
}

/// The fine-tuning as asked for; the domain knows the ranges and the defaults.
pub(super) fn fine_tune_options(field: &str, options: Option<proto::FineTuneOptions>) -> Result<FineTuneOptions> {
    let options = options.unwrap_or_default();
    Ok(FineTuneOptions {
        mode: match known(&format!("{field}.mode"), options.mode)? {
            proto::FineTuneMode::Unspecified | proto::FineTuneMode::Head => FineTuneMode::Head,
            proto::FineTuneMode::Whole => FineTuneMode::Whole,
        },
        keep_head: options.keep_head,
        optimizer: match known(&format!("{field}.optimizer"), options.optimizer)? {
            proto::FineTuneOptimizer::Unspecified | proto::FineTuneOptimizer::Sgd => FineTuneOptimizer::Sgd,
            proto::FineTuneOptimizer::Adamw => FineTuneOptimizer::AdamW,
        },
        epochs: options.epochs as usize,
        batch_size: options.batch_size as usize,
        learning_rate: options.learning_rate,
        weight_decay: options.weight_decay,
        momentum: options.momentum,
        nesterov: options.nesterov,
        schedule: match known(&format!("{field}.schedule"), options.schedule)? {
            proto::FineTuneSchedule::Unspecified | proto::FineTuneSchedule::Cosine => ScheduleShape::Cosine,
            proto::FineTuneSchedule::Constant => ScheduleShape::Constant,
        },
        warm_up: options.warm_up,
        held_out: options.held_out,
        folds: options.folds as usize,
        patience: options.patience as usize,
        augmentation: Augmentation { flip: options.flip, shift: options.shift as usize },
    })
}

/// The fine-tuning that was made, every default filled in.
fn options_used(options: &FineTuneOptions) -> Result<proto::FineTuneOptions> {
    let number = |value: Option<f64>| value.map(|value| finite("fine_tune.options", value)).transpose();
    Ok(proto::FineTuneOptions {
        mode: match options.mode {
            FineTuneMode::Head => proto::FineTuneMode::Head,
            FineTuneMode::Whole => proto::FineTuneMode::Whole,
        }
        .into(),
        keep_head: options.keep_head,
        optimizer: match options.optimizer {
            FineTuneOptimizer::Sgd => proto::FineTuneOptimizer::Sgd,
            FineTuneOptimizer::AdamW => proto::FineTuneOptimizer::Adamw,
        }
        .into(),
        epochs: count(options.epochs),
        batch_size: count(options.batch_size),
        learning_rate: number(options.learning_rate)?,
        weight_decay: number(options.weight_decay)?,
        momentum: number(options.momentum)?,
        nesterov: options.nesterov,
        schedule: match options.schedule {
            ScheduleShape::Cosine => proto::FineTuneSchedule::Cosine,
            ScheduleShape::Constant => proto::FineTuneSchedule::Constant,
        }
        .into(),
        warm_up: number(options.warm_up)?,
        held_out: number(options.held_out)?,
        folds: count(options.folds),
        patience: count(options.patience),
        flip: options.augmentation.flip,
        shift: count(options.augmentation.shift),
    })
}

/// How well a fine-tuned model does.
///
/// # Errors
/// Internal, when a number is not finite.
pub(super) fn fine_tune_scores(scores: &FineTuneScores) -> Result<proto::FineTuneScores> {
    let number = |name: &str, value: &Option<Estimate>| value.as_ref().map(|value| estimate(name, value)).transpose();
    let run = |length: &crate::scoring::types::RunLength| proto::FineTuneRun {
        best_epoch: count(length.best),
        epochs: count(length.run),
    };
    let majority = scores.majority_accuracy.map(|share| finite("fine_tune.majority_accuracy", share));
    Ok(proto::FineTuneScores {
        accuracy: number("fine_tune.accuracy", &scores.accuracy)?,
        cross_entropy: number("fine_tune.cross_entropy", &scores.cross_entropy)?,
        r2: number("fine_tune.r2", &scores.r2)?,
        mean_squared_error: number("fine_tune.mean_squared_error", &scores.mean_squared_error)?,
        majority_accuracy: majority.transpose()?,
        runs: scores.runs.iter().map(run).collect(),
        curve: scores.curve.iter().map(epoch).collect::<Result<_>>()?,
        n_trained: scores.n_trained,
        n_training_samples: count(scores.n_training_samples),
        n_held_out_samples: count(scores.n_held_out_samples),
        options: Some(options_used(&scores.options)?),
    })
}

fn epoch(epoch: &Epoch) -> Result<proto::FineTuneEpoch> {
    let what = "fine_tune.curve";
    Ok(proto::FineTuneEpoch {
        epoch: count(epoch.number),
        learning_rate: finite(what, epoch.learning_rate)?,
        training_loss: finite(what, epoch.training_loss)?,
        held_out_loss: finite(what, epoch.held_out_loss)?,
        held_out_accuracy: epoch.held_out_accuracy.map(|accuracy| finite(what, accuracy)).transpose()?,
    })
}

/// An event on the way.
pub fn fine_tune_progress(progress: Progress) -> proto::FineTuneResponse {
    let Progress { done, total, stage } = progress;
    response(Event::Progress(proto::Progress { done, total, stage }))
}

/// The last events: what came of it, and the model in pieces.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn fine_tuned(tuned: FineTuned) -> Result<Vec<proto::FineTuneResponse>> {
    let Confidence { level, resamples } = tuned.confidence;
    let dropped = tuned.dropped.into_iter();
    let summary = proto::FineTuneSummary {
        scores: Some(fine_tune_scores(&tuned.scores)?),
        manifest: tuned.manifest,
        size_bytes: tuned.onnx.len() as u64,
        model: Some(model_reference(tuned.model)),
        dataset: tuned.dataset,
        probe_digest: tuned.probe_digest,
        n_samples: count(tuned.n_samples),
        dropped: dropped
            .map(|dropped| proto::DroppedSamples { reason: dropped.reason, count: count(dropped.count) })
            .collect(),
        seed: tuned.seed,
        confidence: Some(proto::Confidence {
            level: Some(finite("confidence.level", level)?),
            resamples: count(resamples),
        }),
        provider: tuned.provider,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let pieces = tuned.onnx.chunks(limits::CHUNK_BYTES).map(|piece| response(Event::Model(piece.to_vec())));
    Ok(std::iter::once(response(Event::Summary(summary))).chain(pieces).collect())
}

fn response(event: Event) -> proto::FineTuneResponse {
    proto::FineTuneResponse { event: Some(event) }
}
