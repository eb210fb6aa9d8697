//! What a ranking says, in plain words.

use super::{
    RankingReport, ReportedSource, ReportedTransfer, recommendation_sentence,
    words::{list, number, percent, probability, span},
};
use crate::stats::{Coefficient, Estimate};

/// What every reader of a ranking should know, whatever it says.
pub const CAVEATS: &[&str] = &[
    "No single metric finds the best source everywhere. Read the columns side by side, and prefer a source that several \
     of them favour.",
    "Intervals tell how much the numbers depend on which samples were drawn. They do not cover how the models happened \
     to be trained, nor the choice of the reference.",
    "Smooth models make small attack effects: adversarial metrics reflect smoothness as well as shared knowledge.",
    "The number of parameters and the accuracy on the source's own task are shown because a ranking by them alone beats many \
     scores.",
    "A recommendation combines scores; it is as good as they are. That they agree does not make them right.",
    "Of many scores some agree with the measured transfer by chance. Which one does here says little about which one will for \
     other sources or another task.",
    "Chance is the larger of two levels: what unrelated models give at this number of samples, and what is left when the \
     pairing of samples is shuffled. A value whose interval reaches down to it shows nothing.",
];

/// Fewer sources than this give a rank correlation that chance alone often makes perfect.
const FEW_SOURCES: usize = 5;

/// A share of resamples from which on a lead counts as certain.
const SURE: f64 = 0.95;
/// The largest share of permutations that count as more than chance.
const BY_CHANCE: f64 = 0.05;

/// The finding, most important sentence first.
pub fn sentences(report: &RankingReport) -> Vec<String> {
    let Some((best, others)) = report.sources.split_first() else {
        return vec!["No source could be ranked; the reasons are listed below.".to_owned()];
    };
    let mut sentences = vec![leader(report, best, others.len() + 1)];
    let rivals: Vec<&str> = others
        .iter()
        .filter(|other| other.value.upper >= best.value.lower)
        .map(|other| other.model.name.as_str())
        .collect();
    if let Some(sentence) = lead(best, others.first(), report.n_samples) {
        sentences.push(sentence);
    } else if !rivals.is_empty() {
        let (verb, noun) = if rivals.len() == 1 { ("overlaps", "The interval") } else { ("overlap", "The intervals") };
        sentences.push(format!(
            "{noun} of {} {verb} with that of {}: these {} samples do not tell them apart for certain.",
            list(&rivals),
            best.model.name,
            report.n_samples
        ));
    }
    sentences.extend(above_chance(&report.sources));
    sentences.extend(recommendation_sentence(&report.recommendation));
    sentences.extend(report.transfers.first().and_then(|transfer| prediction(&report.metric, transfer)));
    sentences
}

fn leader(report: &RankingReport, best: &ReportedSource, n_sources: usize) -> String {
    let among =
        if n_sources == 1 { "is the only source ranked".to_owned() } else { format!("leads {n_sources} sources") };
    format!(
        "{} {among} by {}: {} ({} % interval {}).",
        best.model.name,
        report.metric,
        number(best.value.value),
        percent(report.confidence_level),
        span(best.value.lower, best.value.upper)
    )
}

/// How sure the lead is, by resamples on which all sources are measured alike; `None` where they were not.
fn lead(best: &ReportedSource, next: Option<&ReportedSource>, n_samples: usize) -> Option<String> {
    let (next, first, above) = (next?, best.probability_best?, best.probability_above_next?);
    let verdict = if first >= SURE { "tell the sources apart" } else { "do not tell the sources apart for certain" };
    Some(format!(
        "Resampled, these {n_samples} samples {verdict}: {} is above {} in {} of resamples and best of all in {}.",
        best.model.name,
        next.model.name,
        probability(above),
        probability(first)
    ))
}

/// How many sources chance explains, where the level of chance is known.
fn above_chance(sources: &[ReportedSource]) -> Option<String> {
    let judged: Vec<(bool, f64)> = sources
        .iter()
        .filter_map(|source| Some((&source.value, chance(&source.value)?)))
        .map(|(value, chance)| (value.lower > chance, chance))
        .collect();
    let n_judged = judged.len();
    let ends = judged.iter().map(|(_, chance)| *chance);
    let (low, high) = (ends.clone().fold(f64::INFINITY, f64::min), ends.fold(f64::NEG_INFINITY, f64::max));
    let level = match (number(low), number(high)) {
        (low, high) if low == high => low,
        (low, high) => format!("{low} to {high}"),
    };
    let verdict = match judged.iter().filter(|(above, _)| *above).count() {
        _ if n_judged == 0 => return None,
        0 => "No source is clearly above chance, so the order is not to be relied on".to_owned(),
        above if above == n_judged => "Every source is clearly above chance".to_owned(),
        above => format!("{above} of {n_judged} sources are clearly above chance"),
    };
    Some(format!("{verdict}: models that share nothing reach {level} here."))
}

/// How well the score that the sources are ranked by predicts a measured transfer, and whether a baseline does as well.
fn prediction(metric: &str, transfer: &ReportedTransfer) -> Option<String> {
    let score = transfer.scores.iter().find(|score| score.name == metric)?;
    let Coefficient { value, p_value, .. } = score.spearman()?;
    let (name, n_sources) = (&transfer.name, score.n_sources);
    let numbers = format!("Spearman {value:.2} over {n_sources} sources");
    if n_sources < FEW_SOURCES {
        return Some(format!("Whether {metric} predicts {name} cannot be told from so few sources ({numbers})."));
    }
    if p_value > BY_CHANCE {
        let share = probability(p_value);
        return Some(format!(
            "Whether {metric} predicts {name} cannot be told from these sources: {numbers}, and chance alone is as far \
             from 0 in {share} of their orders."
        ));
    }
    let verdict = match value {
        rho if rho >= 0.7 => "goes well together with",
        rho if rho >= 0.3 => "partly goes together with",
        rho if rho > -0.3 => "says little about",
        _ => "runs against",
    };
    let baselines = transfer.scores.iter().filter(|score| score.is_baseline);
    let baselines = baselines.filter_map(|score| Some((score.spearman()?.value, &score.name)));
    let best = baselines.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(found, _)| value > 0.0 && *found >= value);
    let baseline = best.map_or(String::new(), |(found, name)| {
        format!(" So does what knows nothing of the task: {name} (Spearman {found:.2}).")
    });
    Some(format!("Over these sources {metric} {verdict} {name} ({numbers}).{baseline}"))
}

/// Why coefficients over so few sources are not to be believed; `None` where there are enough.
pub fn too_few(n_sources: usize) -> Option<&'static str> {
    (n_sources < FEW_SOURCES).then_some(
        "So few sources agree perfectly with many a score by chance alone: these numbers are shown, and mean next to nothing.",
    )
}

/// The level that a value must exceed to mean anything.
pub fn chance(estimate: &Estimate) -> Option<f64> {
    let shuffled = estimate.shuffled.map(|null| null.upper);
    match (estimate.null_floor, shuffled) {
        (Some(floor), Some(shuffled)) => Some(floor.max(shuffled)),
        (floor, shuffled) => floor.or(shuffled),
    }
}
