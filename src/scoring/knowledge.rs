//! The knowledge measures of a pair: which are possible, and each one's value.

use ndarray::{Array2, ArrayView2};

use crate::{
    dataset::Dataset,
    error::{Error, Reason, Result},
    knowledge::{
        AffineFit, Task, TaskOptions, affine_fit, affine_fit_by_folds, class_probabilities, linear_probe,
        stratified_folds, verification,
    },
    limits,
    registry::OutputKind,
    scoring::{
        fine_tune,
        fine_tune_plan::FineTunePlan,
        network::Network,
        pair::Call,
        passes::Meeting,
        types::{FineTuneOptions, HeadInput, KnowledgeMeasure, KnowledgeOptions, KnowledgeScores},
    },
};

/// Folds of the linear probe where the request names none.
const DEFAULT_FOLDS: usize = 5;
/// Neighbours of k-NN where the request names none.
const DEFAULT_NEIGHBORS: usize = 5;

/// Refuses options that the probe set cannot serve, before any work is done.
///
/// # Errors
/// [`Reason::OptionOutOfRange`], [`Reason::OptionUnsupported`].
pub fn check(options: &KnowledgeOptions, probe: &Dataset) -> Result<()> {
    if let Some(ridge) = options.ridge.filter(|ridge| !(ridge.is_finite() && *ridge >= 0.0)) {
        let message = format!("{ridge} is no strength; give 0 or more, or leave it out to have it chosen");
        return Err(Error::new(Reason::OptionOutOfRange, message).at("knowledge.ridge"));
    }
    let trains = options.measures.contains(&KnowledgeMeasure::FineTune);
    if options.fine_tune != FineTuneOptions::default() && !trains {
        let message =
            "fine-tuning is measured only where it is asked for; add KNOWLEDGE_MEASURE_FINE_TUNE to the measures";
        return Err(Error::new(Reason::OptionUnsupported, message).at("knowledge.fine_tune"));
    }
    for measure in &options.measures {
        if let Err(why) = possible(*measure, probe) {
            return Err(Error::new(Reason::OptionUnsupported, why).at("knowledge.measures"));
        }
    }
    Ok(())
}

/// The fine-tuning, where it was asked for.
///
/// # Errors
/// Those of [`FineTunePlan::new`].
pub fn fine_tune_plan(options: &KnowledgeOptions, probe: &Dataset, seed: u64) -> Result<Option<FineTunePlan>> {
    let asked = options.measures.contains(&KnowledgeMeasure::FineTune);
    asked.then(|| FineTunePlan::new(&options.fine_tune, probe, seed, "knowledge.fine_tune")).transpose()
}

/// Computes the measures that were asked for or, if none was named, those that the probe set allows.
///
/// A measure that was not named and whose mathematics has nothing to work on is skipped with the reason.
///
/// # Errors
/// [`Reason::ProbeMismatch`] when a measure that was named cannot be computed, [`Reason::Cancelled`].
pub fn scores(call: &Call<'_>, source: &Network, meeting: &Meeting) -> Result<KnowledgeScores> {
    let named = &call.options.knowledge.measures;
    let mut scores = KnowledgeScores {
        function_matching: None,
        affine_transfer: None,
        linear_probe: None,
        fine_tune: None,
        verification: None,
        estimators: Vec::new(),
        n_parameters: source.n_parameters(),
        clean_accuracy: source.clean_accuracy(),
        skipped: Vec::new(),
    };
    let features = features(meeting);
    let task = features.as_ref().map_err(Clone::clone).and_then(|features| task(call, source, meeting, features));
    let subject = Subject { call, source, meeting, features: &features, task: &task };
    for measure in KnowledgeMeasure::all() {
        let is_named = named.contains(&measure);
        if !is_named && (!named.is_empty() || measure == KnowledgeMeasure::FineTune) {
            continue;
        }
        call.setting.cancel.check()?;
        if measure == KnowledgeMeasure::FineTune {
            // Its errors have their own reasons.
            scores.fine_tune = Some(fine_tune::of_source(call, source, meeting)?);
            continue;
        }
        let outcome = possible(measure, call.setting.probe)
            .and_then(|()| if is_named { Ok(()) } else { subject.is_usual(measure) })
            .and_then(|()| subject.measure(measure, &mut scores));
        if let Err(why) = outcome {
            if is_named {
                let message = format!("source `{}`: {why}", source.name());
                return Err(Error::new(Reason::ProbeMismatch, message).at("knowledge.measures"));
            }
            scores.skipped.push((measure, why));
        }
    }
    Ok(scores)
}

/// Why a measure cannot be computed on a probe set.
fn possible(measure: KnowledgeMeasure, probe: &Dataset) -> Result<(), String> {
    let (has_labels, has_targets) = (probe.labels().is_some(), probe.targets().is_some());
    let lacks = |what: &str| Err(format!("{what}, and the probe set has none"));
    match measure {
        KnowledgeMeasure::FunctionMatching => Ok(()),
        KnowledgeMeasure::AffineTransfer if !(has_labels || has_targets) => {
            lacks("affine transfer needs labels or targets")
        }
        KnowledgeMeasure::FineTune if !(has_labels || has_targets) => lacks("fine-tuning needs labels or targets"),
        KnowledgeMeasure::Estimator(estimator) if estimator.takes_targets() && has_targets => Ok(()),
        KnowledgeMeasure::LinearProbe if !has_labels => lacks("the linear probe needs labels"),
        KnowledgeMeasure::Verification if !has_labels => lacks("verification needs labels, which are identities"),
        KnowledgeMeasure::Estimator(_) if !has_labels => lacks("the estimator needs labels"),
        _ => Ok(()),
    }
}

/// The source's features, where they fit.
fn features(meeting: &Meeting) -> Result<Array2<f64>, String> {
    let features = meeting.source.features.view();
    let (n, width) = features.dim();
    let most = limits::FEATURE_NUMBERS / n.max(1);
    if width > most {
        return Err(format!(
            "{width} features of {n} samples are too many; name a smaller feature_tensor, or use fewer samples"
        ));
    }
    Ok(features.mapv(f64::from))
}

/// What the estimators work on.
fn task<'a>(
    call: &Call<'a>,
    source: &Network,
    meeting: &Meeting,
    features: &'a Array2<f64>,
) -> Result<Task<'a>, String> {
    let options = &call.options.knowledge;
    let n_neighbors = if options.n_neighbors == 0 { DEFAULT_NEIGHBORS } else { options.n_neighbors };
    let probe = call.setting.probe;
    Task::new(
        features.view(),
        probe.labels(),
        probe.targets().map(|targets| targets.mapv(f64::from)),
        source_probabilities(source, meeting.source.outputs.view()),
        TaskOptions { seed: call.options.seed, n_neighbors },
        call.setting.resamples,
    )
    .map_err(|cause| cause.to_string())
}

/// The probabilities that a source gives its own classes: of logits their softmax, of other outputs themselves where they are
/// probabilities. `None` where the source is no classifier of two classes or more.
fn source_probabilities(source: &Network, outputs: ArrayView2<'_, f32>) -> Option<Array2<f64>> {
    let d = outputs.ncols();
    if !(2..=limits::CLASSES).contains(&d) {
        return None;
    }
    let are_probabilities =
        || outputs.rows().into_iter().all(|row| row.iter().all(|&x| x >= 0.0) && (row.sum() - 1.0).abs() < 1e-4);
    (source.output_kind() == OutputKind::Logits || are_probabilities())
        .then(|| class_probabilities(outputs.mapv(f64::from).view()))
}

/// What is measured: a source on the probe set of a call.
struct Subject<'a, 'b> {
    call: &'a Call<'b>,
    source: &'a Network,
    meeting: &'a Meeting,
    features: &'a Result<Array2<f64>, String>,
    task: &'a Result<Task<'b>, String>,
}

impl Subject<'_, '_> {
    /// Why a measure that was not named is left out although it could be computed.
    fn is_usual(&self, measure: KnowledgeMeasure) -> Result<(), String> {
        if measure == KnowledgeMeasure::Verification && self.source.output_kind() != OutputKind::Embedding {
            return Err(
                "verification is for embeddings; name the measure to verify by the source's features".to_owned()
            );
        }
        Ok(())
    }

    fn measure(&self, measure: KnowledgeMeasure, scores: &mut KnowledgeScores) -> Result<(), String> {
        let Call { options, setting, reference_record, .. } = self.call;
        let knowledge = &options.knowledge;
        let labels = setting.probe.labels().unwrap_or_default();
        match measure {
            KnowledgeMeasure::FunctionMatching => {
                let input = knowledge.function_matching_of.unwrap_or(HeadInput::Outputs);
                let outputs = reference_record.outputs.view().mapv(f64::from);
                scores.function_matching = Some(self.affine(input, &outputs)?);
            }
            KnowledgeMeasure::AffineTransfer => {
                let input = knowledge.affine_transfer_of.unwrap_or(HeadInput::Features);
                scores.affine_transfer = Some(self.affine(input, &targets(setting.probe))?);
            }
            KnowledgeMeasure::LinearProbe => {
                let folds = if knowledge.folds == 0 { DEFAULT_FOLDS } else { knowledge.folds };
                let found = linear_probe(self.features()?, labels, folds, options.seed, setting.resamples);
                scores.linear_probe = Some(found.map_err(|cause| cause.to_string())?);
            }
            KnowledgeMeasure::Verification => {
                let outputs = self.meeting.source.outputs.view().mapv(f64::from);
                let embeddings = match self.source.output_kind() {
                    OutputKind::Embedding => outputs.view(),
                    _ => self.features()?,
                };
                let found = verification(embeddings, labels, options.seed, setting.resamples);
                scores.verification = Some(found.map_err(|cause| cause.to_string())?);
            }
            KnowledgeMeasure::Estimator(estimator) => {
                let task = self.task.as_ref().map_err(Clone::clone)?;
                scores.estimators.push((estimator, estimator.score(task).map_err(|cause| cause.to_string())?));
            }
            KnowledgeMeasure::FineTune => {}
        }
        Ok(())
    }

    fn features(&self) -> Result<ArrayView2<'_, f64>, String> {
        self.features.as_ref().map(|features| features.view()).map_err(Clone::clone)
    }

    /// An affine head on the source's outputs or features.
    fn affine(&self, input: HeadInput, targets: &Array2<f64>) -> Result<AffineFit, String> {
        let Call { options, setting, .. } = self.call;
        let KnowledgeOptions { ridge, ridge_folds, .. } = options.knowledge;
        let outputs = match input {
            HeadInput::Outputs => Some(self.meeting.source.outputs.view().mapv(f64::from)),
            HeadInput::Features => None,
        };
        let inputs = match &outputs {
            Some(outputs) => outputs.view(),
            None => self.features()?,
        };
        let fit = if ridge_folds == 0 {
            affine_fit(inputs, targets.view(), ridge, setting.resamples)
        } else {
            // Of one class, so that the folds are drawn at random.
            stratified_folds(&vec![0; targets.nrows()], 1, ridge_folds, options.seed)
                .and_then(|fold_of| affine_fit_by_folds(inputs, targets.view(), ridge, &fold_of, setting.resamples))
        };
        fit.map_err(|cause| cause.to_string())
    }
}

/// What the task asks for: regression targets, or labels as one-hot rows.
pub fn targets(probe: &Dataset) -> Array2<f64> {
    if let Some(targets) = probe.targets() {
        return targets.mapv(f64::from);
    }
    let labels = probe.labels().unwrap_or_default();
    Array2::from_shape_fn((labels.len(), probe.n_classes()), |(row, class)| {
        let is_class = labels.get(row).is_some_and(|&label| label as usize == class);
        if is_class { 1.0 } else { 0.0 }
    })
}
