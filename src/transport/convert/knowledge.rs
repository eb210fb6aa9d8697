//! Knowledge settings.

use super::{
    field::{known, out_of_range},
    fine_tune::fine_tune_options,
};
use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::{KnowledgeMeasure, KnowledgeOptions},
    transport::proto,
};

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
            proto::KnowledgeMeasure::FineTune => KnowledgeMeasure::FineTune,
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
    let fine_tune = fine_tune_options("knowledge.fine_tune", options.fine_tune)?;
    Ok(KnowledgeOptions { measures, ridge: options.ridge, folds: options.folds as usize, fine_tune })
}

/// A measure's number on the wire.
pub fn measure(measure: KnowledgeMeasure) -> proto::KnowledgeMeasure {
    match measure {
        KnowledgeMeasure::FunctionMatching => proto::KnowledgeMeasure::FunctionMatching,
        KnowledgeMeasure::AffineTransfer => proto::KnowledgeMeasure::AffineTransfer,
        KnowledgeMeasure::LinearProbe => proto::KnowledgeMeasure::LinearProbe,
        KnowledgeMeasure::FineTune => proto::KnowledgeMeasure::FineTune,
    }
}
