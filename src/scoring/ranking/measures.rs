//! Every number of a pair by which sources can be ranked or judged, by the path of its field in the answer. Larger is
//! better for each.

use crate::scoring::types::{Estimate, Estimator, MeasureKind, PairScores, RankingMetric};

/// A number of a pair's scores.
#[derive(Clone, Copy)]
pub struct Measure {
    pub path: &'static str,
    pub kind: MeasureKind,
}

type Adversarial = (&'static str, fn(&PairScores) -> Option<Estimate>);

/// How attacks and gradients carry over.
const ADVERSARIAL: [Adversarial; 15] = [
    ("reference_to_source.combined", |scores| Some(scores.reference_to_source.combined.clone())),
    ("reference_to_source.alpha1", |scores| Some(scores.reference_to_source.alpha1.clone())),
    ("reference_to_source.alpha2", |scores| Some(scores.reference_to_source.alpha2.clone())),
    ("reference_to_source.tau2", |scores| scores.reference_to_source.tau2.clone()),
    ("source_to_reference.combined", |scores| Some(scores.source_to_reference.combined.clone())),
    ("source_to_reference.alpha1", |scores| Some(scores.source_to_reference.alpha1.clone())),
    ("source_to_reference.alpha2", |scores| Some(scores.source_to_reference.alpha2.clone())),
    ("source_to_reference.tau2", |scores| scores.source_to_reference.tau2.clone()),
    ("source_to_reference.attack_loss", |scores| Some(scores.source_to_reference.loss.as_ref()?.attack_loss.clone())),
    ("source_to_reference.fooling_rate", |scores| scores.source_to_reference.loss.as_ref()?.fooling_rate.clone()),
    ("reference_to_source.attack_loss", |scores| Some(scores.reference_to_source.loss.as_ref()?.attack_loss.clone())),
    ("reference_to_source.fooling_rate", |scores| scores.reference_to_source.loss.as_ref()?.fooling_rate.clone()),
    ("symmetric.tau1", |scores| Some(scores.tau1.clone())),
    ("symmetric.similarity", |scores| scores.similarity.clone()),
    ("gradient_matching.explained", |scores| Some(scores.gradient_matching.as_ref()?.explained.clone())),
];

/// What [`crate::scoring::types::KnowledgeScores::values`] tells that is no estimate; measured transfers in the order in which
/// they are believed.
const FITTED: [(&str, MeasureKind); 8] = [
    ("knowledge.fine_tune.accuracy", MeasureKind::Transfer),
    ("knowledge.fine_tune.r2", MeasureKind::Transfer),
    ("knowledge.linear_probe.accuracy", MeasureKind::Transfer),
    ("knowledge.affine_transfer.held_out_r2", MeasureKind::Transfer),
    ("knowledge.verification.accuracy", MeasureKind::Transfer),
    ("knowledge.verification.roc_auc", MeasureKind::Transfer),
    ("knowledge.function_matching.r2", MeasureKind::Estimate),
    ("knowledge.function_matching.held_out_r2", MeasureKind::Estimate),
];

const BASELINES: [(&str, MeasureKind); 2] =
    [("knowledge.n_parameters", MeasureKind::Baseline), ("knowledge.clean_accuracy", MeasureKind::Baseline)];

impl Measure {
    /// All of them: adversarial metrics, estimates, measured transfers, baselines.
    pub fn all() -> impl Iterator<Item = Measure> {
        let adversarial = ADVERSARIAL.iter().map(|&(path, _)| (path, MeasureKind::Adversarial));
        let estimators = Estimator::all().map(|estimator| (estimator.path(), MeasureKind::Estimate));
        adversarial.chain(FITTED).chain(estimators).chain(BASELINES).map(|(path, kind)| Measure { path, kind })
    }

    pub fn at(path: &str) -> Option<Measure> {
        Measure::all().find(|measure| measure.path == path)
    }

    /// `None` where it was not computed.
    pub fn of(self, scores: &PairScores) -> Option<Estimate> {
        if let Some((_, read)) = ADVERSARIAL.iter().find(|(path, _)| *path == self.path) {
            return read(scores);
        }
        let found = scores.knowledge.values().into_iter().find(|found| found.path == self.path)?;
        Some(found.estimate.cloned().unwrap_or_else(|| Estimate::exact(found.value)))
    }
}

/// The path of the measure that a metric ranks by; `None` for the recommendation, which is made of several.
pub fn path(metric: RankingMetric) -> Option<&'static str> {
    Some(match metric {
        RankingMetric::Recommended => return None,
        RankingMetric::CombinedReferenceToSource => "reference_to_source.combined",
        RankingMetric::CombinedSourceToReference => "source_to_reference.combined",
        RankingMetric::Alpha1ReferenceToSource => "reference_to_source.alpha1",
        RankingMetric::Alpha1SourceToReference => "source_to_reference.alpha1",
        RankingMetric::Alpha2ReferenceToSource => "reference_to_source.alpha2",
        RankingMetric::Alpha2SourceToReference => "source_to_reference.alpha2",
        RankingMetric::Tau1 => "symmetric.tau1",
        RankingMetric::Explained => "gradient_matching.explained",
        RankingMetric::FunctionMatchingR2 => "knowledge.function_matching.r2",
        RankingMetric::LinearProbeAccuracy => "knowledge.linear_probe.accuracy",
        RankingMetric::AffineTransferR2 => "knowledge.affine_transfer.held_out_r2",
        RankingMetric::VerificationAccuracy => "knowledge.verification.accuracy",
        RankingMetric::FineTuneAccuracy => "knowledge.fine_tune.accuracy",
        RankingMetric::Leep => Estimator::Leep.path(),
        RankingMetric::NLeep => Estimator::NLeep.path(),
        RankingMetric::Nce => Estimator::Nce.path(),
        RankingMetric::LogMe => Estimator::LogMe.path(),
        RankingMetric::HScore => Estimator::HScore.path(),
        RankingMetric::RegularizedHScore => Estimator::RegularizedHScore.path(),
        RankingMetric::TransRate => Estimator::TransRate.path(),
        RankingMetric::Gbc => Estimator::Gbc.path(),
        RankingMetric::Sfda => Estimator::Sfda.path(),
        RankingMetric::Parc => Estimator::Parc.path(),
        RankingMetric::Knn => Estimator::Knn.path(),
        RankingMetric::NParameters => "knowledge.n_parameters",
        RankingMetric::CleanAccuracy => "knowledge.clean_accuracy",
    })
}
