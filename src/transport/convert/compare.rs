//! Comparisons of tasks.

use std::collections::HashSet;

use super::{
    attack::{attack, attack_used},
    confidence::confidence,
    field::{count, finite, known, name, out_of_range},
    probe,
    request::max_samples,
    scores::{estimate, model_reference},
};
use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::{ComparisonRequest, Estimate, Progress, TaskComparison, TaskGroup, TaskMatrix},
    stats::{AgainstChance, GroupAgreement, Merge},
    transport::proto::{self, compare_tasks_request, compare_tasks_response::Event},
};

/// A request for a comparison.
pub fn comparison_request(request: proto::CompareTasksRequest) -> Result<ComparisonRequest> {
    use compare_tasks_request::Probe;
    let models = models(request.models)?;
    let n_groups = request.n_groups as usize;
    if n_groups > models.len() {
        let allowed = format!("1 to {}, the number of models, or 0 for the default", models.len());
        return Err(out_of_range("n_groups", n_groups, &allowed));
    }
    Ok(ComparisonRequest {
        known_groups: known_groups(request.known_groups, &models)?,
        models,
        probe: match request.probe {
            Some(Probe::Dataset(dataset)) => probe::dataset(dataset)?,
            Some(Probe::InlineDataset(dataset)) => probe::inline(dataset, limits::MIN_SAMPLES)?,
            None => return Err(probe::missing()),
        },
        max_samples: max_samples(request.max_samples)?,
        attack: attack(request.attack)?,
        seed: request.seed,
        confidence: confidence(request.confidence)?,
        cluster_by: match known("cluster_by", request.cluster_by)? {
            proto::TaskMatrix::Unspecified | proto::TaskMatrix::Alpha1 => TaskMatrix::Alpha1,
            proto::TaskMatrix::Alpha2 => TaskMatrix::Alpha2,
            proto::TaskMatrix::Combined => TaskMatrix::Combined,
            proto::TaskMatrix::Affinity => TaskMatrix::Affinity,
        },
        n_groups,
    })
}

fn models(names: Vec<String>) -> Result<Vec<String>> {
    if names.len() < 2 {
        let message = format!("models has {} names; give 2 or more that ListModels lists", names.len());
        return Err(Error::new(Reason::FieldMissing, message).at("models"));
    }
    if names.len() > limits::COMPARED_TASKS {
        let message = format!("models has {} names; compare at most {} at once", names.len(), limits::COMPARED_TASKS);
        return Err(Error::new(Reason::LimitExceeded, message).at("models"));
    }
    let mut seen = HashSet::new();
    let mut models = Vec::with_capacity(names.len());
    for (index, model) in names.into_iter().enumerate() {
        let field = format!("models[{index}]");
        let model = name(&field, model, "ListModels")?;
        if !seen.insert(model.clone()) {
            let message = format!("{field} names {model} a second time; name each model once");
            return Err(Error::new(Reason::OptionUnsupported, message).at(field));
        }
        models.push(model);
    }
    Ok(models)
}

/// Groups that are the models shared out: each model once.
fn known_groups(groups: Vec<proto::TaskGroup>, models: &[String]) -> Result<Vec<TaskGroup>> {
    if groups.len() == 1 {
        return Err(out_of_range("known_groups", "one group", "two and more, or none"));
    }
    let mut names = HashSet::new();
    let mut left: HashSet<&str> = models.iter().map(String::as_str).collect();
    let mut known = Vec::with_capacity(groups.len());
    for (index, group) in groups.into_iter().enumerate() {
        let field = format!("known_groups[{index}]");
        let name = group_name(&format!("{field}.name"), group.name)?;
        if !names.insert(name.clone()) {
            let message = format!("{field} is named {name} as another is; name each group differently");
            return Err(Error::new(Reason::OptionUnsupported, message).at(format!("{field}.name")));
        }
        if group.models.is_empty() {
            let message = format!("{field} has no models; give one or more of those in models, or leave the group out");
            return Err(Error::new(Reason::FieldMissing, message).at(format!("{field}.models")));
        }
        for (place, model) in group.models.iter().enumerate() {
            if !left.remove(model.as_str()) {
                let field = format!("{field}.models[{place}]");
                let message = format!("{field} is {model}, which is not in models or is in a group already");
                return Err(Error::new(Reason::OptionUnsupported, message).at(field));
            }
        }
        known.push(TaskGroup { name, models: group.models });
    }
    match models.iter().find(|model| left.contains(model.as_str())) {
        Some(model) if !known.is_empty() => {
            let message = format!("{model} is in no group; put every model into one, or leave known_groups out");
            Err(Error::new(Reason::OptionUnsupported, message).at("known_groups"))
        }
        _ => Ok(known),
    }
}

fn group_name(field: &str, name: String) -> Result<String> {
    let wrong = match &name {
        name if name.is_empty() => "is empty".to_owned(),
        name if name.len() > limits::NAME_BYTES => format!("is {} bytes long", name.len()),
        name if name.contains(char::is_control) => "contains a control character".to_owned(),
        _ => return Ok(name),
    };
    let message = format!("{field} {wrong}; give 1 to {} bytes of text", limits::NAME_BYTES);
    Err(Error::new(Reason::OptionOutOfRange, message).at(field))
}

/// An event on the way.
pub fn comparison_progress(progress: Progress) -> proto::CompareTasksResponse {
    let Progress { done, total, stage } = progress;
    response(Event::Progress(proto::Progress { done, total, stage }))
}

/// The last event.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn comparison(comparison: TaskComparison) -> Result<proto::CompareTasksResponse> {
    let TaskComparison { models, alpha1, alpha2, combined, affinity, .. } = comparison;
    let estimates = |what: &str, row: Vec<Estimate>| -> Result<Vec<proto::Estimate>> {
        row.iter().map(|value| estimate(what, value)).collect()
    };
    let rows = models.into_iter().zip(alpha1).zip(alpha2).zip(combined).zip(affinity.rows());
    let rows = rows.map(|((((model, alpha1), alpha2), combined), affinity)| {
        Ok(proto::TaskRow {
            model: Some(model_reference(model)),
            alpha1: estimates("alpha1", alpha1)?,
            alpha2: estimates("alpha2", alpha2)?,
            combined: estimates("combined", combined)?,
            affinity: affinity.iter().map(|&value| finite("an affinity", value)).collect::<Result<_>>()?,
        })
    });
    Ok(response(Event::Comparison(proto::TaskComparison {
        rows: rows.collect::<Result<_>>()?,
        merges: comparison.merges.iter().map(merge).collect::<Result<_>>()?,
        groups: comparison.groups.into_iter().map(count).collect(),
        cluster_by: matrix(comparison.cluster_by).into(),
        dataset: comparison.dataset,
        probe_digest: comparison.probe_digest,
        n_samples: count(comparison.n_samples),
        dropped: comparison
            .dropped
            .into_iter()
            .map(|dropped| proto::DroppedSamples { reason: dropped.reason, count: count(dropped.count) })
            .collect(),
        seed: comparison.seed,
        attack: Some(attack_used(&comparison.attack)?),
        confidence: Some(proto::Confidence {
            level: Some(finite("confidence.level", comparison.confidence.level)?),
            resamples: count(comparison.confidence.resamples),
        }),
        provider: comparison.provider,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cophenetic_correlation: comparison
            .cophenetic_correlation
            .map(|value| finite("cophenetic_correlation", value))
            .transpose()?,
        group_agreement: comparison
            .group_agreement
            .map(|found| group_agreement(found, comparison.known_groups))
            .transpose()?,
    })))
}

fn merge(merge: &Merge) -> Result<proto::ClusterMerge> {
    Ok(proto::ClusterMerge {
        first: count(merge.first),
        second: count(merge.second),
        height: finite("the height of a merge", merge.height)?,
        size: count(merge.size),
    })
}

fn group_agreement(found: GroupAgreement, known_groups: Vec<TaskGroup>) -> Result<proto::GroupAgreement> {
    let group = |TaskGroup { name, models }| proto::TaskGroup { name, models };
    let index = against_chance("adjusted_rand_index", &found.adjusted_rand_index)?;
    let correlation = found.cophenetic_correlation;
    Ok(proto::GroupAgreement {
        known_groups: known_groups.into_iter().map(group).collect(),
        clusters: found.clusters.into_iter().map(count).collect(),
        adjusted_rand_index: Some(index),
        cophenetic_correlation: correlation
            .map(|found| against_chance("group_agreement.cophenetic_correlation", &found))
            .transpose()?,
        n_permutations: count(found.n_permutations),
    })
}

fn against_chance(what: &str, found: &AgainstChance) -> Result<proto::AgainstChance> {
    Ok(proto::AgainstChance {
        value: finite(what, found.value)?,
        chance_mean: finite(what, found.chance.mean)?,
        chance_upper: finite(what, found.chance.upper)?,
        p_value: finite(what, found.p_value)?,
    })
}

fn matrix(matrix: TaskMatrix) -> proto::TaskMatrix {
    match matrix {
        TaskMatrix::Alpha1 => proto::TaskMatrix::Alpha1,
        TaskMatrix::Alpha2 => proto::TaskMatrix::Alpha2,
        TaskMatrix::Combined => proto::TaskMatrix::Combined,
        TaskMatrix::Affinity => proto::TaskMatrix::Affinity,
    }
}

fn response(event: Event) -> proto::CompareTasksResponse {
    proto::CompareTasksResponse { event: Some(event) }
}
