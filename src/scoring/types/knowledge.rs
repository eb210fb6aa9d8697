//! Knowledge measures: asked for, and answered.

use serde::{Deserialize, Serialize};

use super::{FineTuneOptions, FineTuneScores};
use crate::{
    knowledge::{AffineFit, Estimator, LinearProbe, Score, Verification},
    stats::Estimate,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KnowledgeMeasure {
    FunctionMatching,
    AffineTransfer,
    LinearProbe,
    Verification,
    Estimator(Estimator),
    /// Computed only where it is named.
    FineTune,
}

impl KnowledgeMeasure {
    /// Every measure, in the order of the answer.
    pub fn all() -> impl Iterator<Item = Self> {
        let fitted = [Self::FunctionMatching, Self::AffineTransfer, Self::LinearProbe, Self::Verification];
        fitted.into_iter().chain(Estimator::all().map(Self::Estimator)).chain([Self::FineTune])
    }
}

/// What of a source an affine head is fitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HeadInput {
    Outputs,
    Features,
}

#[derive(Clone, Debug, PartialEq)]
pub struct KnowledgeOptions {
    /// Empty means all that the probe set allows.
    pub measures: Vec<KnowledgeMeasure>,
    /// `None`: chosen by leave-one-out, or by folds where `ridge_folds` is not 0.
    pub ridge: Option<f64>,
    /// Folds by which the ridge strength is chosen and held-out figures are made; 0 means leave-one-out.
    pub ridge_folds: usize,
    /// Folds of the linear probe; 0 means the default.
    pub folds: usize,
    /// Neighbours of k-NN; 0 means the default.
    pub n_neighbors: usize,
    /// Tensor of the sources that is read as their features; `None`: what each model's manifest says.
    pub feature_tensor: Option<String>,
    /// `None` means the source's outputs.
    pub function_matching_of: Option<HeadInput>,
    /// `None` means the source's features.
    pub affine_transfer_of: Option<HeadInput>,
    pub fine_tune: FineTuneOptions,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnowledgeScores {
    pub function_matching: Option<AffineFit>,
    pub affine_transfer: Option<AffineFit>,
    pub linear_probe: Option<LinearProbe>,
    pub verification: Option<Verification>,
    /// In the order of the answer.
    pub estimators: Vec<(Estimator, Score)>,
    pub fine_tune: Option<FineTuneScores>,
    pub n_parameters: u64,
    /// On the source's own task, 0..1, as its manifest tells.
    pub clean_accuracy: Option<f64>,
    pub skipped: Vec<(KnowledgeMeasure, String)>,
}

/// A knowledge measure as a number; larger is better.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnowledgeValue<'a> {
    /// Path of the field in the answer, such as `knowledge.linear_probe.accuracy`.
    pub path: &'static str,
    pub value: f64,
    /// The value with its interval, where it has one.
    pub estimate: Option<&'a Estimate>,
}

impl KnowledgeScores {
    /// Every measure that was computed, as the number by which sources are ranked and correlated; the baselines last.
    pub fn values(&self) -> Vec<KnowledgeValue<'_>> {
        let (tuned, verification) = (self.fine_tune.as_ref(), self.verification.as_ref());
        let fitted = [
            ("knowledge.fine_tune.accuracy", tuned.and_then(|tuned| tuned.accuracy.as_ref())),
            ("knowledge.fine_tune.r2", tuned.and_then(|tuned| tuned.r2.as_ref())),
            ("knowledge.linear_probe.accuracy", self.linear_probe.as_ref().map(|probe| &probe.accuracy)),
            ("knowledge.affine_transfer.held_out_r2", self.affine_transfer.as_ref().map(|fit| &fit.held_out_r2)),
            ("knowledge.verification.accuracy", verification.map(|found| &found.accuracy)),
            ("knowledge.verification.roc_auc", verification.map(|found| &found.roc_auc)),
            ("knowledge.function_matching.r2", self.function_matching.as_ref().map(|fit| &fit.r2)),
            ("knowledge.function_matching.held_out_r2", self.function_matching.as_ref().map(|fit| &fit.held_out_r2)),
        ];
        let fitted = fitted.into_iter().filter_map(|(path, estimate)| Some((path, estimate?.value, estimate)));
        let estimators =
            self.estimators.iter().map(|(estimator, score)| (estimator.path(), score.value(), score.estimate()));
        let baselines = [
            ("knowledge.n_parameters", Some(self.n_parameters as f64)),
            ("knowledge.clean_accuracy", self.clean_accuracy),
        ];
        let baselines = baselines.into_iter().filter_map(|(path, value)| Some((path, value?, None)));
        let all = fitted.chain(estimators).chain(baselines);
        all.map(|(path, value, estimate)| KnowledgeValue { path, value, estimate }).collect()
    }

    /// The score of one estimator, where it was computed.
    pub fn estimator(&self, estimator: Estimator) -> Option<&Score> {
        self.estimators.iter().find(|(other, _)| *other == estimator).map(|(_, score)| score)
    }
}
