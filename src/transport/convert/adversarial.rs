//! Attacks that give adversarial examples, and their events.

use super::{
    attack::{attack, attack_used},
    field::{count, finite, known, name},
    probe,
    scores::model_reference,
};
use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::{
        AdversarialEvent, AdversarialExamples, AdversarialRequest, AdversarialSummary, ModelReading, Pooling,
        RadiusSummary, SuccessRate,
    },
    transport::proto::{self, attack_request, attack_response::Event},
};

/// A request for adversarial examples. Where it names no attack it means PGD.
pub fn adversarial_request(request: proto::AttackRequest) -> Result<AdversarialRequest> {
    use attack_request::Probe;
    let mut options = request.attack.unwrap_or_default();
    if options.method == 0 {
        options.set_method(proto::AttackMethod::Pgd);
    }
    if request.models.is_empty() {
        let message = "models is empty; give a name that ListModels lists";
        return Err(Error::new(Reason::FieldMissing, message).at("models"));
    }
    Ok(AdversarialRequest {
        models: names("models", request.models)?,
        pooling: match known("pooling", request.pooling)? {
            proto::Pooling::Unspecified | proto::Pooling::Losses => Pooling::Losses,
            proto::Pooling::Outputs => Pooling::Outputs,
        },
        evaluated_models: names("evaluated_models", request.evaluated_models)?,
        probe: match request.probe {
            Some(Probe::Dataset(dataset)) => probe::dataset(dataset)?,
            Some(Probe::InlineDataset(dataset)) => probe::inline(dataset, 1)?,
            None => return Err(probe::missing()),
        },
        max_samples: request.max_samples as usize,
        attack: attack(Some(options))?,
        seed: request.seed,
        with_clean_samples: request.with_clean_samples,
    })
}

fn names(field: &str, models: Vec<String>) -> Result<Vec<String>> {
    if models.len() > limits::ENSEMBLE_MODELS {
        let message = format!("{field} has {} names; give {} at most", models.len(), limits::ENSEMBLE_MODELS);
        return Err(Error::new(Reason::LimitExceeded, message).at(field));
    }
    let named = |(index, model)| name(&format!("{field}[{index}]"), model, "ListModels");
    models.into_iter().enumerate().map(named).collect()
}

/// An event on the way.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn attack_event(event: AdversarialEvent) -> Result<proto::AttackResponse> {
    Ok(response(match event {
        AdversarialEvent::Progress(progress) => {
            Event::Progress(proto::Progress { done: progress.done, total: progress.total, stage: progress.stage })
        }
        AdversarialEvent::Examples(found) => Event::Examples(examples(*found)?),
    }))
}

/// The last event.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn attack_summary(summary: AdversarialSummary) -> Result<proto::AttackResponse> {
    let dropped = summary.dropped.into_iter();
    Ok(response(Event::Summary(proto::AttackSummary {
        radii: summary.radii.into_iter().map(radius).collect::<Result<_>>()?,
        models: summary.models.into_iter().map(model_reference).collect(),
        evaluated_models: summary.evaluated_models.into_iter().map(model_reference).collect(),
        dataset: summary.dataset,
        probe_digest: summary.probe_digest,
        n_samples: count(summary.n_samples),
        dropped: dropped
            .map(|dropped| proto::DroppedSamples { reason: dropped.reason, count: count(dropped.count) })
            .collect(),
        seed: summary.seed,
        attack: Some(attack_used(&summary.attack)?),
        pooling: match summary.pooling {
            Pooling::Losses => proto::Pooling::Losses,
            Pooling::Outputs => proto::Pooling::Outputs,
        }
        .into(),
        provider: summary.provider,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })))
}

fn examples(found: AdversarialExamples) -> Result<proto::AdversarialExamples> {
    let numbers = |what: &str, values: Vec<f64>| -> Result<Vec<f64>> {
        values.into_iter().map(|value| finite(what, value)).collect()
    };
    let clean = found.clean_samples.iter().flatten();
    if found.samples.iter().chain(clean).any(|pixel| !pixel.is_finite()) {
        return Err(Error::new(Reason::Internal, "a sample is not finite; it was not sent"));
    }
    Ok(proto::AdversarialExamples {
        epsilon: found.radius.map(|radius| finite("epsilon", radius)).transpose()?,
        shape: found.shape.into_iter().map(count).collect(),
        sample_indices: found.indices.into_iter().map(count).collect(),
        samples: found.samples.into_iter().collect(),
        clean_samples: found.clean_samples.into_iter().flatten().collect(),
        l2_norms: numbers("an L2 norm", found.l2_norms)?,
        linf_norms: numbers("an L-infinity norm", found.linf_norms)?,
        losses: numbers("a loss", found.losses)?,
        labels: found.labels,
        attacked: found.attacked.map(reading),
        evaluated: found.evaluated.into_iter().map(reading).collect(),
    })
}

fn reading(reading: ModelReading) -> proto::ModelReading {
    proto::ModelReading {
        model: reading.model,
        clean_classes: reading.clean_classes.into_iter().map(count).collect(),
        adversarial_classes: reading.adversarial_classes.into_iter().map(count).collect(),
        successes: reading.successes,
    }
}

fn radius(summary: RadiusSummary) -> Result<proto::RadiusSummary> {
    Ok(proto::RadiusSummary {
        epsilon: summary.radius.map(|radius| finite("epsilon", radius)).transpose()?,
        mean_l2_norm: finite("mean_l2_norm", summary.mean_l2_norm)?,
        mean_linf_norm: finite("mean_linf_norm", summary.mean_linf_norm)?,
        mean_loss: finite("mean_loss", summary.mean_loss)?,
        attacked: summary.attacked.map(success_rate).transpose()?,
        evaluated: summary.evaluated.into_iter().map(success_rate).collect::<Result<_>>()?,
    })
}

fn success_rate(rate: SuccessRate) -> Result<proto::SuccessRate> {
    let (clean_rate, value) = (finite("clean_rate", rate.clean_rate)?, finite("rate", rate.rate)?);
    Ok(proto::SuccessRate { model: rate.model, rate: value, clean_rate })
}

fn response(event: Event) -> proto::AttackResponse {
    proto::AttackResponse { event: Some(event) }
}
