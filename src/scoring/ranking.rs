//! From the rows of a ranking to its order and its correlations.

use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::*,
    stats::{kendall, pearson, probabilities_above, probability_above, probability_best, spearman},
};

/// Reads one number from a pair's scores; `None` where it was not computed.
type Measure = (&'static str, fn(&PairScores) -> Option<f64>);

/// Adversarial metrics, by the path of their field in the response.
const ADVERSARIAL: [Measure; 10] = [
    ("source_to_reference.alpha1", |scores| Some(scores.source_to_reference.alpha1.value)),
    ("source_to_reference.alpha2", |scores| Some(scores.source_to_reference.alpha2.value)),
    ("source_to_reference.combined", |scores| Some(scores.source_to_reference.combined.value)),
    ("source_to_reference.tau2", |scores| Some(scores.source_to_reference.tau2.as_ref()?.value)),
    ("reference_to_source.alpha1", |scores| Some(scores.reference_to_source.alpha1.value)),
    ("reference_to_source.alpha2", |scores| Some(scores.reference_to_source.alpha2.value)),
    ("reference_to_source.combined", |scores| Some(scores.reference_to_source.combined.value)),
    ("reference_to_source.tau2", |scores| Some(scores.reference_to_source.tau2.as_ref()?.value)),
    ("symmetric.tau1", |scores| Some(scores.tau1.value)),
    ("gradient_matching.explained", |scores| Some(scores.gradient_matching.as_ref()?.explained.value)),
];

/// Knowledge measures, larger is better, and the size baseline.
const KNOWLEDGE: [Measure; 4] = [
    ("knowledge.linear_probe.accuracy", |scores| Some(scores.knowledge.linear_probe.as_ref()?.accuracy.value)),
    ("knowledge.affine_transfer.held_out_r2", |scores| {
        Some(scores.knowledge.affine_transfer.as_ref()?.held_out_r2.value)
    }),
    ("knowledge.function_matching.r2", |scores| Some(scores.knowledge.function_matching.as_ref()?.r2.value)),
    ("knowledge.n_parameters", |scores| Some(scores.knowledge.n_parameters as f64)),
];

/// Fewest sources of which a correlation says anything.
const FEWEST_SOURCES: usize = 3;

/// The estimate that a metric ranks by; `None` where it was not computed.
pub fn ranked_value(metric: RankingMetric, scores: &PairScores) -> Option<Estimate> {
    let knowledge = &scores.knowledge;
    match metric {
        RankingMetric::CombinedReferenceToSource => Some(scores.reference_to_source.combined.clone()),
        RankingMetric::CombinedSourceToReference => Some(scores.source_to_reference.combined.clone()),
        RankingMetric::Alpha1ReferenceToSource => Some(scores.reference_to_source.alpha1.clone()),
        RankingMetric::Alpha1SourceToReference => Some(scores.source_to_reference.alpha1.clone()),
        RankingMetric::Alpha2ReferenceToSource => Some(scores.reference_to_source.alpha2.clone()),
        RankingMetric::Alpha2SourceToReference => Some(scores.source_to_reference.alpha2.clone()),
        RankingMetric::Tau1 => Some(scores.tau1.clone()),
        RankingMetric::Explained => Some(scores.gradient_matching.as_ref()?.explained.clone()),
        RankingMetric::FunctionMatchingR2 => Some(knowledge.function_matching.as_ref()?.r2.clone()),
        RankingMetric::LinearProbeAccuracy => Some(knowledge.linear_probe.as_ref()?.accuracy.clone()),
    }
}

/// Orders sources by a metric, best first; ties keep the order of the rows.
///
/// # Errors
/// [`Reason::OptionUnsupported`] when the metric was not computed for a source.
pub fn ranked(rows: &[(String, PairScores)], rank_by: RankingMetric) -> Result<Vec<RankedSource>> {
    let mut valued = Vec::with_capacity(rows.len());
    for (name, scores) in rows {
        let value = ranked_value(rank_by, scores).ok_or_else(|| {
            let message = format!("the metric to rank by was not computed for `{name}`; ask for its measure");
            Error::new(Reason::OptionUnsupported, message).at("rank_by")
        })?;
        valued.push((name, value));
    }
    valued.sort_by(|(_, left), (_, right)| right.value.total_cmp(&left.value));
    let (names, values): (Vec<&String>, Vec<Estimate>) = valued.into_iter().unzip();
    let best = probability_best(&values);
    let above_next: Vec<Option<f64>> =
        values.windows(2).map(|pair| if let [a, b] = pair { probability_above(a, b) } else { None }).collect();
    let sources = names.into_iter().zip(values).enumerate().map(|(index, (name, value))| RankedSource {
        source_model: name.clone(),
        rank: index + 1,
        value,
        probability_best: best.as_ref().and_then(|best| best.get(index).copied()),
        probability_above_next: above_next.get(index).copied().flatten(),
    });
    Ok(sources.collect())
}

/// How surely each ranked source is above each other, in their order; empty for more than [`limits::COMPARED_SOURCES`].
pub fn probabilities(ranked: &[RankedSource]) -> Vec<Vec<f64>> {
    if ranked.len() > limits::COMPARED_SOURCES {
        return Vec::new();
    }
    let values: Vec<Estimate> = ranked.iter().map(|source| source.value.clone()).collect();
    probabilities_above(&values).unwrap_or_default()
}

/// Relates every adversarial metric to every knowledge measure over the sources that have both.
pub fn correlations(rows: &[(String, PairScores)]) -> Vec<MeasureCorrelation> {
    let mut correlations = Vec::new();
    for (adversarial_metric, adversarial) in ADVERSARIAL {
        for (knowledge_measure, knowledge) in KNOWLEDGE {
            let (x, y): (Vec<f64>, Vec<f64>) =
                rows.iter().filter_map(|(_, scores)| Some((adversarial(scores)?, knowledge(scores)?))).unzip();
            if x.len() < FEWEST_SOURCES {
                continue;
            }
            correlations.push(MeasureCorrelation {
                adversarial_metric: adversarial_metric.to_owned(),
                knowledge_measure: knowledge_measure.to_owned(),
                n_sources: x.len(),
                pearson: pearson(&x, &y),
                spearman: spearman(&x, &y),
                kendall: kendall(&x, &y),
            });
        }
    }
    correlations
}
