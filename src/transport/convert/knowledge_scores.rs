//! The knowledge measures of a pair.

use super::{
    field::{count, finite},
    fine_tune::fine_tune_scores,
    knowledge::measure,
    scores::estimate,
};
use crate::{
    error::Result,
    scoring::types::{AffineFit, Estimator, KnowledgeScores, LinearProbe, Score, Verification},
    transport::proto,
};

/// Everything that was measured of a source's knowledge.
///
/// # Errors
/// Internal, when a number is not finite.
pub fn knowledge(scores: KnowledgeScores) -> Result<proto::KnowledgeScores> {
    let fit = |what, fit: Option<AffineFit>| fit.map(|fit| affine_fit(what, &fit)).transpose();
    let skipped = scores.skipped.into_iter();
    let mut answer = proto::KnowledgeScores {
        function_matching: fit("knowledge.function_matching", scores.function_matching)?,
        affine_transfer: fit("knowledge.affine_transfer", scores.affine_transfer)?,
        linear_probe: scores.linear_probe.map(|probe| linear_probe(&probe)).transpose()?,
        verification: scores.verification.map(|found| verification(&found)).transpose()?,
        fine_tune: scores.fine_tune.as_ref().map(fine_tune_scores).transpose()?,
        n_parameters: scores.n_parameters,
        clean_accuracy: scores
            .clean_accuracy
            .map(|accuracy| finite("knowledge.clean_accuracy", accuracy))
            .transpose()?,
        skipped: skipped
            .map(|(skipped, reason)| proto::SkippedMeasure { measure: measure(skipped).into(), reason })
            .collect(),
        ..proto::KnowledgeScores::default()
    };
    for (estimator, score) in &scores.estimators {
        *place(&mut answer, *estimator) = Some(estimator_score(estimator.path(), score)?);
    }
    Ok(answer)
}

/// An estimator's field in the answer.
fn place(answer: &mut proto::KnowledgeScores, estimator: Estimator) -> &mut Option<proto::EstimatorScore> {
    match estimator {
        Estimator::Leep => &mut answer.leep,
        Estimator::NLeep => &mut answer.n_leep,
        Estimator::Nce => &mut answer.nce,
        Estimator::LogMe => &mut answer.log_me,
        Estimator::HScore => &mut answer.h_score,
        Estimator::RegularizedHScore => &mut answer.regularized_h_score,
        Estimator::TransRate => &mut answer.trans_rate,
        Estimator::Gbc => &mut answer.gbc,
        Estimator::Sfda => &mut answer.sfda,
        Estimator::Parc => &mut answer.parc,
        Estimator::Knn => &mut answer.knn,
    }
}

fn estimator_score(what: &str, score: &Score) -> Result<proto::EstimatorScore> {
    let optional = |value: Option<f64>| value.map(|value| finite(what, value)).transpose();
    Ok(proto::EstimatorScore {
        value: finite(what, score.value())?,
        lower: optional(score.estimate().map(|estimate| estimate.lower))?,
        upper: optional(score.estimate().map(|estimate| estimate.upper))?,
        null_floor: optional(score.null_floor())?,
        shuffled_null: optional(score.shuffled().map(|null| null.mean))?,
        shuffled_null_upper: optional(score.shuffled().map(|null| null.upper))?,
    })
}

fn affine_fit(what: &str, fit: &AffineFit) -> Result<proto::AffineFit> {
    Ok(proto::AffineFit {
        distance: Some(estimate(what, &fit.distance)?),
        r2: Some(estimate(what, &fit.r2)?),
        held_out_distance: Some(estimate(what, &fit.held_out_distance)?),
        held_out_r2: Some(estimate(what, &fit.held_out_r2)?),
        ridge: finite(what, fit.ridge)?,
        n_features: count(fit.n_features),
    })
}

fn linear_probe(probe: &LinearProbe) -> Result<proto::LinearProbe> {
    let what = "knowledge.linear_probe";
    let classes = probe.classes.iter().map(|class| {
        Ok(proto::ClassFigures {
            label: class.label,
            n_samples: count(class.n_samples),
            accuracy: finite(what, class.accuracy)?,
            cross_entropy: finite(what, class.cross_entropy)?,
        })
    });
    Ok(proto::LinearProbe {
        accuracy: Some(estimate(what, &probe.accuracy)?),
        cross_entropy: Some(estimate(what, &probe.cross_entropy)?),
        l2: finite(what, probe.l2)?,
        folds: count(probe.folds),
        n_features: count(probe.n_features),
        majority_accuracy: finite(what, probe.majority_accuracy)?,
        classes: classes.collect::<Result<_>>()?,
    })
}

fn verification(found: &Verification) -> Result<proto::Verification> {
    let what = "knowledge.verification";
    let [at_1e2, at_1e3] = found.true_accept_rates.each_ref();
    let optional = |rate: &Option<_>| rate.as_ref().map(|rate| estimate(what, rate)).transpose();
    Ok(proto::Verification {
        accuracy: Some(estimate(what, &found.accuracy)?),
        roc_auc: Some(estimate(what, &found.roc_auc)?),
        true_accept_rate_at_1e2: optional(at_1e2)?,
        true_accept_rate_at_1e3: optional(at_1e3)?,
        threshold: finite(what, found.threshold)?,
        n_pairs: count(found.n_pairs),
    })
}
