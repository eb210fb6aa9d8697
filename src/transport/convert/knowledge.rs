//! Knowledge settings.

use super::{
    field::{known, out_of_range},
    fine_tune::fine_tune_options,
};
use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::{Estimator, HeadInput, KnowledgeMeasure, KnowledgeOptions},
    transport::proto,
};

/// Every measure and its number on the wire.
const MEASURES: [(proto::KnowledgeMeasure, KnowledgeMeasure); 16] = [
    (proto::KnowledgeMeasure::FunctionMatching, KnowledgeMeasure::FunctionMatching),
    (proto::KnowledgeMeasure::AffineTransfer, KnowledgeMeasure::AffineTransfer),
    (proto::KnowledgeMeasure::LinearProbe, KnowledgeMeasure::LinearProbe),
    (proto::KnowledgeMeasure::Verification, KnowledgeMeasure::Verification),
    (proto::KnowledgeMeasure::Leep, KnowledgeMeasure::Estimator(Estimator::Leep)),
    (proto::KnowledgeMeasure::NLeep, KnowledgeMeasure::Estimator(Estimator::NLeep)),
    (proto::KnowledgeMeasure::Nce, KnowledgeMeasure::Estimator(Estimator::Nce)),
    (proto::KnowledgeMeasure::LogMe, KnowledgeMeasure::Estimator(Estimator::LogMe)),
    (proto::KnowledgeMeasure::HScore, KnowledgeMeasure::Estimator(Estimator::HScore)),
    (proto::KnowledgeMeasure::RegularizedHScore, KnowledgeMeasure::Estimator(Estimator::RegularizedHScore)),
    (proto::KnowledgeMeasure::TransRate, KnowledgeMeasure::Estimator(Estimator::TransRate)),
    (proto::KnowledgeMeasure::Gbc, KnowledgeMeasure::Estimator(Estimator::Gbc)),
    (proto::KnowledgeMeasure::Sfda, KnowledgeMeasure::Estimator(Estimator::Sfda)),
    (proto::KnowledgeMeasure::Parc, KnowledgeMeasure::Estimator(Estimator::Parc)),
    (proto::KnowledgeMeasure::Knn, KnowledgeMeasure::Estimator(Estimator::Knn)),
    (proto::KnowledgeMeasure::FineTune, KnowledgeMeasure::FineTune),
];

/// The knowledge measures, each once, in the order asked for, and their settings.
pub fn knowledge(options: Option<proto::KnowledgeOptions>) -> Result<KnowledgeOptions> {
    let options = options.unwrap_or_default();
    if let Some(ridge) = options.ridge.filter(|ridge| !(ridge.is_finite() && *ridge >= 0.0)) {
        return Err(out_of_range(
            "knowledge.ridge",
            ridge,
            "a finite number of 0 or more, or leave it out to have it chosen",
        ));
    }
    let folds = limits::MIN_FOLDS..=limits::FOLDS;
    let feature_tensor = options.feature_tensor;
    if feature_tensor.len() > limits::TENSOR_NAME_BYTES {
        let (length, most) = (feature_tensor.len(), limits::TENSOR_NAME_BYTES);
        let message = format!("the name is {length} bytes long, more than {most}; give a tensor of the sources");
        return Err(Error::new(Reason::OptionOutOfRange, message).at("knowledge.feature_tensor"));
    }
    Ok(KnowledgeOptions {
        measures: measures(&options.measures)?,
        ridge: options.ridge,
        ridge_folds: in_range("knowledge.ridge_folds", options.ridge_folds, folds.clone())?,
        folds: in_range("knowledge.folds", options.folds, folds)?,
        n_neighbors: in_range("knowledge.n_neighbors", options.n_neighbors, 1..=limits::NEIGHBORS)?,
        feature_tensor: (!feature_tensor.is_empty()).then_some(feature_tensor),
        function_matching_of: head_input("knowledge.function_matching_of", options.function_matching_of)?,
        affine_transfer_of: head_input("knowledge.affine_transfer_of", options.affine_transfer_of)?,
        fine_tune: fine_tune_options("knowledge.fine_tune", options.fine_tune)?,
    })
}

fn measures(numbers: &[i32]) -> Result<Vec<KnowledgeMeasure>> {
    let mut measures = Vec::new();
    for (index, &number) in numbers.iter().enumerate() {
        let field = format!("knowledge.measures[{index}]");
        let named: proto::KnowledgeMeasure = known(&field, number)?;
        let measure =
            MEASURES.iter().find(|(other, _)| *other == named).map(|(_, measure)| *measure).ok_or_else(|| {
                let message = format!("{field} is unspecified; name a measure, or leave the list empty for all");
                Error::new(Reason::OptionOutOfRange, message).at(field)
            })?;
        if !measures.contains(&measure) {
            measures.push(measure);
        }
    }
    Ok(measures)
}

/// A count, of which 0 stands for the default.
fn in_range(field: &str, number: u32, range: std::ops::RangeInclusive<u32>) -> Result<usize> {
    if number != 0 && !range.contains(&number) {
        let allowed = format!("{} to {}, or 0 for the default", range.start(), range.end());
        return Err(out_of_range(field, number, &allowed));
    }
    Ok(number as usize)
}

fn head_input(field: &str, number: i32) -> Result<Option<HeadInput>> {
    Ok(match known(field, number)? {
        proto::HeadInput::Unspecified => None,
        proto::HeadInput::Outputs => Some(HeadInput::Outputs),
        proto::HeadInput::Features => Some(HeadInput::Features),
    })
}

/// A measure's number on the wire.
pub fn measure(measure: KnowledgeMeasure) -> proto::KnowledgeMeasure {
    let number = MEASURES.iter().find(|(_, other)| *other == measure).map(|(number, _)| *number);
    number.unwrap_or(proto::KnowledgeMeasure::Unspecified)
}
