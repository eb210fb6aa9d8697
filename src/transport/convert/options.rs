//! Attack, knowledge and confidence settings.

use super::field::{finite, known, out_of_range, positive};
use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::{
        AttackLoss, AttackMethod, AttackOptions, Confidence, KnowledgeMeasure, KnowledgeOptions, Norm, RankingMetric,
    },
    transport::proto,
};

/// The attack as asked for; the domain fills in what depends on the models.
pub fn attack(options: Option<proto::AttackOptions>) -> Result<AttackOptions> {
    let options = options.unwrap_or_default();
    if options.steps > limits::ATTACK_STEPS {
        return Err(out_of_range(
            "attack.steps",
            options.steps,
            &format!("1 to {}, or 0 for the default", limits::ATTACK_STEPS),
        ));
    }
    Ok(AttackOptions {
        method: match known("attack.method", options.method)? {
            proto::AttackMethod::Unspecified | proto::AttackMethod::Virtual => AttackMethod::Virtual,
            proto::AttackMethod::Fgsm => AttackMethod::Fgsm,
            proto::AttackMethod::Pgd => AttackMethod::Pgd,
        },
        norm: match known("attack.norm", options.norm)? {
            proto::Norm::Unspecified => None,
            proto::Norm::L2 => Some(Norm::L2),
            proto::Norm::Linf => Some(Norm::Linf),
        },
        epsilon: positive("attack.epsilon", options.epsilon)?,
        steps: options.steps,
        step_size: positive("attack.step_size", options.step_size)?,
        random_start: options.random_start,
        loss: match known("attack.loss", options.loss)? {
            proto::AttackLoss::Unspecified => None,
            proto::AttackLoss::CrossEntropy => Some(AttackLoss::CrossEntropy),
            proto::AttackLoss::CrossEntropyLabels => Some(AttackLoss::CrossEntropyLabels),
            proto::AttackLoss::Kl => Some(AttackLoss::Kl),
            proto::AttackLoss::SquaredDeviation => Some(AttackLoss::SquaredDeviation),
        },
    })
}

/// The attack that was made, every default filled in.
pub fn attack_used(options: &AttackOptions) -> Result<proto::AttackOptions> {
    let method = match options.method {
        AttackMethod::Virtual => proto::AttackMethod::Virtual,
        AttackMethod::Fgsm => proto::AttackMethod::Fgsm,
        AttackMethod::Pgd => proto::AttackMethod::Pgd,
    };
    let norm = match options.norm {
        None => proto::Norm::Unspecified,
        Some(Norm::L2) => proto::Norm::L2,
        Some(Norm::Linf) => proto::Norm::Linf,
    };
    let loss = match options.loss {
        None => proto::AttackLoss::Unspecified,
        Some(AttackLoss::CrossEntropy) => proto::AttackLoss::CrossEntropy,
        Some(AttackLoss::CrossEntropyLabels) => proto::AttackLoss::CrossEntropyLabels,
        Some(AttackLoss::Kl) => proto::AttackLoss::Kl,
        Some(AttackLoss::SquaredDeviation) => proto::AttackLoss::SquaredDeviation,
    };
    Ok(proto::AttackOptions {
        method: method.into(),
        norm: norm.into(),
        epsilon: options.epsilon.map(|epsilon| finite("attack.epsilon", epsilon)).transpose()?,
        steps: options.steps,
        step_size: options.step_size.map(|step_size| finite("attack.step_size", step_size)).transpose()?,
        random_start: options.random_start,
        loss: loss.into(),
    })
}

/// The knowledge measures, each once, in the order asked for.
pub fn knowledge(options: Option<proto::KnowledgeOptions>) -> Result<KnowledgeOptions> {
    let options = options.unwrap_or_default();
    let mut measures = Vec::new();
    for (index, &number) in options.measures.iter().enumerate() {
        let field = format!("knowledge.measures[{index}]");
        let measure = match known(&field, number)? {
            proto::KnowledgeMeasure::Unspecified => {
                return Err(Error::new(
                    Reason::OptionOutOfRange,
                    format!("{field} is unspecified; name a measure, or leave the list empty for all"),
                )
                .at(field));
            }
            proto::KnowledgeMeasure::FunctionMatching => KnowledgeMeasure::FunctionMatching,
            proto::KnowledgeMeasure::AffineTransfer => KnowledgeMeasure::AffineTransfer,
            proto::KnowledgeMeasure::LinearProbe => KnowledgeMeasure::LinearProbe,
        };
        if !measures.contains(&measure) {
            measures.push(measure);
        }
    }
    if let Some(ridge) = options.ridge.filter(|ridge| !(ridge.is_finite() && *ridge >= 0.0)) {
        return Err(out_of_range(
            "knowledge.ridge",
            ridge,
            "a finite number of 0 or more, or leave it out to have it chosen",
        ));
    }
    if options.folds != 0 && !(limits::MIN_FOLDS..=limits::FOLDS).contains(&options.folds) {
        let allowed = format!("{} to {}, or 0 for the default", limits::MIN_FOLDS, limits::FOLDS);
        return Err(out_of_range("knowledge.folds", options.folds, &allowed));
    }
    Ok(KnowledgeOptions { measures, ridge: options.ridge, folds: options.folds as usize })
}

/// A measure's number on the wire.
pub fn measure(measure: KnowledgeMeasure) -> proto::KnowledgeMeasure {
    match measure {
        KnowledgeMeasure::FunctionMatching => proto::KnowledgeMeasure::FunctionMatching,
        KnowledgeMeasure::AffineTransfer => proto::KnowledgeMeasure::AffineTransfer,
        KnowledgeMeasure::LinearProbe => proto::KnowledgeMeasure::LinearProbe,
    }
}

/// How intervals are made, with the documented defaults.
pub fn confidence(confidence: Option<proto::Confidence>) -> Result<Confidence> {
    let confidence = confidence.unwrap_or_default();
    let level = confidence.level.unwrap_or(limits::DEFAULT_CONFIDENCE_LEVEL);
    if !(level > 0.0 && level < 1.0) {
        return Err(out_of_range("confidence.level", level, "a number between 0 and 1, such as 0.95"));
    }
    let resamples = match confidence.resamples as usize {
        0 => limits::DEFAULT_RESAMPLES,
        resamples => resamples,
    };
    if !(limits::MIN_RESAMPLES..=limits::RESAMPLES).contains(&resamples) {
        let allowed = format!("{} to {}, or 0 for the default", limits::MIN_RESAMPLES, limits::RESAMPLES);
        return Err(out_of_range("confidence.resamples", resamples, &allowed));
    }
    Ok(Confidence { level, resamples })
}

/// The metric to rank by.
pub fn ranking_metric(number: i32) -> Result<RankingMetric> {
    Ok(match known("rank_by", number)? {
        proto::RankingMetric::Unspecified | proto::RankingMetric::CombinedReferenceToSource => {
            RankingMetric::CombinedReferenceToSource
        }
        proto::RankingMetric::CombinedSourceToReference => RankingMetric::CombinedSourceToReference,
        proto::RankingMetric::Alpha1ReferenceToSource => RankingMetric::Alpha1ReferenceToSource,
        proto::RankingMetric::Alpha1SourceToReference => RankingMetric::Alpha1SourceToReference,
        proto::RankingMetric::Alpha2ReferenceToSource => RankingMetric::Alpha2ReferenceToSource,
        proto::RankingMetric::Alpha2SourceToReference => RankingMetric::Alpha2SourceToReference,
        proto::RankingMetric::Tau1 => RankingMetric::Tau1,
        proto::RankingMetric::Explained => RankingMetric::Explained,
        proto::RankingMetric::FunctionMatchingR2 => RankingMetric::FunctionMatchingR2,
        proto::RankingMetric::LinearProbeAccuracy => RankingMetric::LinearProbeAccuracy,
    })
}

/// A metric's number on the wire.
pub fn ranked_by(metric: RankingMetric) -> proto::RankingMetric {
    match metric {
        RankingMetric::CombinedReferenceToSource => proto::RankingMetric::CombinedReferenceToSource,
        RankingMetric::CombinedSourceToReference => proto::RankingMetric::CombinedSourceToReference,
        RankingMetric::Alpha1ReferenceToSource => proto::RankingMetric::Alpha1ReferenceToSource,
        RankingMetric::Alpha1SourceToReference => proto::RankingMetric::Alpha1SourceToReference,
        RankingMetric::Alpha2ReferenceToSource => proto::RankingMetric::Alpha2ReferenceToSource,
        RankingMetric::Alpha2SourceToReference => proto::RankingMetric::Alpha2SourceToReference,
        RankingMetric::Tau1 => proto::RankingMetric::Tau1,
        RankingMetric::Explained => proto::RankingMetric::Explained,
        RankingMetric::FunctionMatchingR2 => proto::RankingMetric::FunctionMatchingR2,
        RankingMetric::LinearProbeAccuracy => proto::RankingMetric::LinearProbeAccuracy,
    }
}
