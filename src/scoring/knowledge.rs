//! The knowledge measures of a pair: which are possible, and each one's value.

use ndarray::{Array2, ArrayView2};

use crate::{
    dataset::Dataset,
    error::{Error, Reason, Result},
    knowledge::{affine_fit, linear_probe},
    scoring::{
        fine_tune,
        fine_tune_plan::FineTunePlan,
        network::Network,
        pair::Call,
        passes::Meeting,
        types::{KnowledgeMeasure, KnowledgeOptions, KnowledgeScores},
    },
};

/// Folds of the linear probe where the request names none.
const DEFAULT_FOLDS: usize = 5;

/// Every measure, in the order of the answer.
const MEASURES: [KnowledgeMeasure; 4] = [
    KnowledgeMeasure::FunctionMatching,
    KnowledgeMeasure::AffineTransfer,
    KnowledgeMeasure::LinearProbe,
    KnowledgeMeasure::FineTune,
];

/// Refuses options that the probe set cannot serve, before any work is done.
///
/// # Errors
/// [`Reason::OptionOutOfRange`], [`Reason::OptionUnsupported`].
pub fn check(options: &KnowledgeOptions, probe: &Dataset) -> Result<()> {
    if let Some(ridge) = options.ridge.filter(|ridge| !(ridge.is_finite() && *ridge >= 0.0)) {
        let message = format!("{ridge} is no strength; give 0 or more, or leave it out to have it chosen");
        return Err(Error::new(Reason::OptionOutOfRange, message).at("knowledge.ridge"));
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
/// [`Reason::ProbeMismatch`] when a measure that was named cannot be computed.
pub fn scores(call: &Call<'_>, source: &Network, meeting: &Meeting) -> Result<KnowledgeScores> {
    let options = &call.options.knowledge;
    let mut scores = KnowledgeScores {
        function_matching: None,
        affine_transfer: None,
        linear_probe: None,
        fine_tune: None,
        n_parameters: source.n_parameters(),
        clean_accuracy: source.clean_accuracy(),
        skipped: Vec::new(),
    };
    for measure in MEASURES {
        let named = options.measures.contains(&measure);
        if !named && (!options.measures.is_empty() || measure == KnowledgeMeasure::FineTune) {
            continue;
        }
        if measure == KnowledgeMeasure::FineTune {
            // Its errors have their own reasons.
            scores.fine_tune = Some(fine_tune::of_source(call, source, meeting)?);
            continue;
        }
        let outcome = possible(measure, call.setting.probe).and_then(|()| compute(measure, call, meeting, &mut scores));
        if let Err(why) = outcome {
            if named {
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
    match measure {
        KnowledgeMeasure::AffineTransfer if !(has_labels || has_targets) => {
            Err("affine transfer needs labels or targets, and the probe set has none".to_owned())
        }
        KnowledgeMeasure::LinearProbe if !has_labels => {
            Err("the linear probe needs labels, and the probe set has none".to_owned())
        }
        KnowledgeMeasure::FineTune if !(has_labels || has_targets) => {
            Err("fine-tuning needs labels or targets, and the probe set has none".to_owned())
        }
        _ => Ok(()),
    }
}

fn compute(
    measure: KnowledgeMeasure,
    call: &Call<'_>,
    meeting: &Meeting,
    scores: &mut KnowledgeScores,
) -> Result<(), String> {
    let options = &call.options.knowledge;
    let probe = call.setting.probe;
    let fit = |features: ArrayView2<'_, f32>, targets: Array2<f64>| {
        affine_fit(features.mapv(f64::from).view(), targets.view(), options.ridge, call.setting.resamples)
            .map_err(|cause| cause.to_string())
    };
    match measure {
        KnowledgeMeasure::FunctionMatching => {
            scores.function_matching =
                Some(fit(meeting.source.outputs.view(), call.reference_record.outputs.view().mapv(f64::from))?);
        }
        KnowledgeMeasure::AffineTransfer => {
            scores.affine_transfer = Some(fit(meeting.source.features.view(), targets(probe))?);
        }
        KnowledgeMeasure::LinearProbe => {
            let folds = if options.folds == 0 { DEFAULT_FOLDS } else { options.folds };
            let labels = probe.labels().unwrap_or_default();
            let features = meeting.source.features.view().mapv(f64::from);
            scores.linear_probe = Some(
                linear_probe(features.view(), labels, folds, call.options.seed, call.setting.resamples)
                    .map_err(|cause| cause.to_string())?,
            );
        }
        KnowledgeMeasure::FineTune => {}
    }
    Ok(())
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
