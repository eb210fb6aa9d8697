//! A comparison from the server as a [`MatrixReport`].

use super::reported::{Settings, estimate, model, request};
use crate::{
    limits,
    report::{MatrixReport, ReportedAgreement, ReportedGroup, ReportedMatrix},
    stats::{AgainstChance, Estimate, Merge, ShuffledNull},
    transport::proto::{self, CompareTasksRequest, TaskComparison, TaskMatrix, TaskRow},
};

/// What the page tells of a comparison.
pub fn of(comparison: &TaskComparison, asked: &CompareTasksRequest) -> MatrixReport {
    let level = comparison.confidence.as_ref().and_then(|used| used.level);
    let settings = Settings {
        attack: comparison.attack.as_ref(),
        seed: comparison.seed,
        confidence: comparison.confidence.as_ref(),
        dropped: &comparison.dropped,
        provider: &comparison.provider,
        version: &comparison.version,
    };
    MatrixReport {
        models: comparison.rows.iter().map(|row| model(row.model.as_ref())).collect(),
        dataset: comparison.dataset.clone(),
        n_samples: comparison.n_samples as usize,
        probe_digest: comparison.probe_digest.clone(),
        confidence_level: level.unwrap_or(limits::DEFAULT_CONFIDENCE_LEVEL),
        matrices: matrices(comparison),
        affinity: comparison.rows.iter().map(|row| row.affinity.clone()).collect(),
        merges: comparison.merges.iter().map(merge).collect(),
        clusters: comparison.groups.iter().map(|&group| group as usize).collect(),
        cophenetic_correlation: comparison.cophenetic_correlation,
        agreement: comparison.group_agreement.as_ref().and_then(agreement),
        settings: settings.list(),
        request: request("CompareTasks", "CompareTasksRequest", asked),
    }
}

/// What a matrix is called, what it means, and how it is read from a row.
type Reader = (TaskMatrix, &'static str, &'static str, fn(&TaskRow) -> Vec<Estimate>);

const MATRICES: [Reader; 4] = [
    (
        TaskMatrix::Alpha1,
        "alpha1",
        "How far the attack on one model moves another, as a share of what that model's own attack does.",
        |row| row.alpha1.iter().map(estimate).collect(),
    ),
    (TaskMatrix::Alpha2, "alpha2", "How coherently one model moves when another does, from 0 to 1.", |row| {
        row.alpha2.iter().map(estimate).collect()
    }),
    (TaskMatrix::Combined, "combined", "How far and how coherently at once.", |row| {
        row.combined.iter().map(estimate).collect()
    }),
    (
        TaskMatrix::Affinity,
        "affinity",
        "How each attack fares in the tournament for each model read; a column adds up to 1.",
        |row| row.affinity.iter().map(|&value| Estimate::exact(value)).collect(),
    ),
];

/// The clustered one first.
fn matrices(comparison: &TaskComparison) -> Vec<ReportedMatrix> {
    let clustered = match comparison.cluster_by() {
        TaskMatrix::Unspecified => TaskMatrix::Alpha1,
        matrix => matrix,
    };
    let mut readers = MATRICES;
    readers.sort_by_key(|(matrix, ..)| *matrix != clustered);
    let matrix = |(_, name, meaning, read): Reader| ReportedMatrix {
        name: name.to_owned(),
        meaning: meaning.to_owned(),
        rows: comparison.rows.iter().map(read).collect(),
    };
    readers.into_iter().map(matrix).collect()
}

fn merge(merge: &proto::ClusterMerge) -> Merge {
    Merge {
        first: merge.first as usize,
        second: merge.second as usize,
        height: merge.height,
        size: merge.size as usize,
    }
}

fn agreement(found: &proto::GroupAgreement) -> Option<ReportedAgreement> {
    let group = |group: &proto::TaskGroup| ReportedGroup { name: group.name.clone(), models: group.models.clone() };
    Some(ReportedAgreement {
        groups: found.known_groups.iter().map(group).collect(),
        clusters: found.clusters.iter().map(|&cluster| cluster as usize).collect(),
        adjusted_rand_index: against(found.adjusted_rand_index.as_ref()?),
        cophenetic_correlation: found.cophenetic_correlation.as_ref().map(against),
        n_permutations: found.n_permutations as usize,
    })
}

fn against(found: &proto::AgainstChance) -> AgainstChance {
    let proto::AgainstChance { value, chance_mean, chance_upper, p_value } = *found;
    AgainstChance { value, chance: ShuffledNull { mean: chance_mean, upper: chance_upper }, p_value }
}
