//! The scores of a pair.

use super::{
    attack::attack_used,
    field::{count, finite},
    knowledge_scores::knowledge,
    virtual_attack::solver_report,
};
use crate::{
    error::Result,
    scoring::types::{
        Confidence, DirectionalScores, Estimate, GradientMatching, ModelReference, PairScores, Provenance,
        TheoremCheck, TheoryScores, VariantScores,
    },
    transport::proto,
};

/// Everything measured about a pair.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn pair_scores(scores: PairScores) -> Result<proto::TransferScoreResponse> {
    Ok(proto::TransferScoreResponse {
        source_to_reference: Some(directional(&scores.source_to_reference)?),
        reference_to_source: Some(directional(&scores.reference_to_source)?),
        symmetric: Some(symmetric(&scores.tau1, scores.similarity.as_ref())?),
        gradient_matching: scores.gradient_matching.as_ref().map(gradient_matching).transpose()?,
        theory_checks: scores.theory.map(theory).transpose()?,
        knowledge: Some(knowledge(scores.knowledge)?),
        provenance: Some(provenance(scores.provenance)?),
        variants: scores.variants.iter().map(variant).collect::<Result<_>>()?,
        source_solver: scores.source_solver.as_ref().map(solver_report).transpose()?,
        reference_solver: scores.reference_solver.as_ref().map(solver_report).transpose()?,
    })
}

fn variant(scores: &VariantScores) -> Result<proto::VariantScores> {
    Ok(proto::VariantScores {
        epsilon: scores.variant.epsilon,
        level: count(scores.variant.level),
        source_to_reference: Some(directional(&scores.source_to_reference)?),
        reference_to_source: Some(directional(&scores.reference_to_source)?),
        symmetric: Some(symmetric(&scores.tau1, scores.similarity.as_ref())?),
    })
}

fn symmetric(tau1: &Estimate, similarity: Option<&Estimate>) -> Result<proto::SymmetricScores> {
    Ok(proto::SymmetricScores {
        tau1: Some(estimate("tau1", tau1)?),
        similarity: similarity.map(|similarity| estimate("similarity", similarity)).transpose()?,
    })
}

fn gradient_matching(matching: &GradientMatching) -> Result<proto::GradientMatching> {
    let of_probes =
        |error: Option<f64>| error.map(|error| finite("gradient_matching's standard error", error)).transpose();
    Ok(proto::GradientMatching {
        distance: Some(estimate("gradient_matching.distance", &matching.distance)?),
        explained: Some(estimate("gradient_matching.explained", &matching.explained)?),
        n_probes: matching.probes.map_or(0, |probes| count(probes.n_probes)),
        distance_standard_error: of_probes(matching.probes.map(|probes| probes.distance))?,
        explained_standard_error: of_probes(matching.probes.map(|probes| probes.explained))?,
    })
}

/// A number with its uncertainty.
pub fn estimate(what: &str, estimate: &Estimate) -> Result<proto::Estimate> {
    let optional = |value: Option<f64>| value.map(|value| finite(what, value)).transpose();
    Ok(proto::Estimate {
        value: finite(what, estimate.value)?,
        lower: finite(what, estimate.lower)?,
        upper: finite(what, estimate.upper)?,
        null_floor: optional(estimate.null_floor)?,
        shuffled_null: optional(estimate.shuffled.map(|null| null.mean))?,
        shuffled_null_upper: optional(estimate.shuffled.map(|null| null.upper))?,
    })
}

fn directional(scores: &DirectionalScores) -> Result<proto::DirectionalScores> {
    let loss = scores.loss.as_ref();
    let optional = |what, value: Option<&Estimate>| value.map(|value| estimate(what, value)).transpose();
    Ok(proto::DirectionalScores {
        alpha1: Some(estimate("alpha1", &scores.alpha1)?),
        alpha2: Some(estimate("alpha2", &scores.alpha2)?),
        combined: Some(estimate("combined", &scores.combined)?),
        alpha2_squared: finite("alpha2_squared", scores.alpha2.value.powi(2))?,
        combined_squared: finite("combined_squared", scores.combined.value.powi(2))?,
        tau2: optional("tau2", scores.tau2.as_ref())?,
        tau2_skipped: scores.tau2_skipped.clone(),
        n_dead_samples: count(scores.n_dead_samples),
        attack_loss: optional("attack_loss", loss.map(|loss| &loss.attack_loss))?,
        clean_loss: optional("clean_loss", loss.map(|loss| &loss.clean_loss))?,
        fooling_rate: optional("fooling_rate", loss.and_then(|loss| loss.fooling_rate.as_ref()))?,
        white_box_loss: optional("white_box_loss", loss.map(|loss| &loss.white_box_loss))?,
        loss_ratio: optional("loss_ratio", loss.and_then(|loss| loss.loss_ratio.as_ref()))?,
        conditional_fooling_rate: optional(
            "conditional_fooling_rate",
            loss.and_then(|loss| loss.conditional_fooling_rate.as_ref()),
        )?,
    })
}

fn theory(theory: TheoryScores) -> Result<proto::TheoryChecks> {
    let check = |check: TheoremCheck| -> Result<proto::TheoremCheck> {
        Ok(proto::TheoremCheck {
            left: finite("a theorem's left side", check.left)?,
            right: finite("a theorem's right side", check.right)?,
            slack: finite("a theorem's slack", check.slack())?,
        })
    };
    let checks = theory.checks.as_ref();
    Ok(proto::TheoryChecks {
        first: checks.and_then(|checks| checks.first).map(check).transpose()?,
        second: checks.map(|checks| check(checks.second)).transpose()?,
        third: checks.and_then(|checks| checks.third).map(check).transpose()?,
        skipped: theory.skipped,
    })
}

fn provenance(provenance: Provenance) -> Result<proto::Provenance> {
    let Confidence { level, resamples } = provenance.confidence;
    let dropped = provenance.dropped.into_iter();
    Ok(proto::Provenance {
        source_model: Some(model_reference(provenance.source_model)),
        reference_model: Some(model_reference(provenance.reference_model)),
        dataset: provenance.dataset,
        probe_digest: provenance.probe_digest,
        n_samples: count(provenance.n_samples),
        dropped: dropped
            .map(|dropped| proto::DroppedSamples { reason: dropped.reason, count: count(dropped.count) })
            .collect(),
        seed: provenance.seed,
        attack: Some(attack_used(&provenance.attack)?),
        confidence: Some(proto::Confidence {
            level: Some(finite("confidence.level", level)?),
            resamples: count(resamples),
        }),
        provider: provenance.provider,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

pub(super) fn model_reference(model: ModelReference) -> proto::ModelReference {
    proto::ModelReference { name: model.name, digest: model.digest }
}
