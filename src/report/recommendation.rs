//! What several scores recommend together, and whether they say it clearly.

use super::{Bar, BarAxis, finding};
use crate::stats::Estimate;

/// The ranking that several scores make together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportedRecommendation {
    /// Best first; may be empty.
    pub places: Vec<RecommendedPlace>,
    /// The scores that have a say, in words, with their share of the whole.
    pub scores: Vec<(String, f64)>,
    /// Names of the sources among which the best is with the probability below.
    pub contenders: Vec<String>,
    pub probability: f64,
}

/// A source of the recommendation.
#[derive(Clone, Debug, PartialEq)]
pub struct RecommendedPlace {
    pub name: String,
    /// The mean share of the other sources that it is above, 0..1.
    pub value: Estimate,
    /// How probable it is that no other source is above it, 0..1.
    pub probability_best: Option<f64>,
}

/// The section of the page, as text.
pub(super) struct Section<'a> {
    pub scores: String,
    pub rows: Vec<Row<'a>>,
}

pub(super) struct Row<'a> {
    pub rank: usize,
    pub name: &'a str,
    pub is_contender: bool,
    pub value: String,
    pub interval: String,
    pub best: String,
    pub bar: Bar,
}

impl<'a> Section<'a> {
    /// `None` where there is nothing to recommend.
    pub fn new(recommendation: &'a ReportedRecommendation) -> Option<Section<'a>> {
        if recommendation.places.len() < 2 {
            return None;
        }
        let scores = recommendation.scores.iter();
        let scores: Vec<String> = scores
            .map(|(name, weight)| format!("{name} ({} %)", finding::percent((weight * 1e3).round() / 1e3)))
            .collect();
        let axis = BarAxis { low: 0.0, high: 1.0 };
        let rows = recommendation.places.iter().enumerate().map(|(index, place)| Row {
            rank: index + 1,
            name: &place.name,
            is_contender: recommendation.contenders.contains(&place.name),
            value: finding::number(place.value.value),
            interval: finding::span(place.value.lower, place.value.upper),
            best: place.probability_best.map_or("–".to_owned(), finding::probability),
            bar: Bar::new(&place.value, &axis),
        });
        Some(Section { scores: scores.join(", "), rows: rows.collect() })
    }
}

/// What is recommended, or that the scores do not say.
pub(super) fn sentence(recommendation: &ReportedRecommendation) -> Option<String> {
    let ReportedRecommendation { places, scores, contenders, probability } = recommendation;
    let first = places.first().filter(|_| places.len() > 1)?;
    let scores = match scores.len() {
        1 => "one score".to_owned(),
        n => format!("{n} scores together"),
    };
    if let [only] = contenders.as_slice() {
        let share = first
            .probability_best
            .map_or(String::new(), |best| format!(" in {} of resamples", finding::probability(best)));
        return Some(format!("Recommended: {only}. By {scores} it is the best{share}."));
    }
    let names: Vec<&str> = contenders.iter().map(String::as_str).collect();
    let probability = finding::percent(*probability);
    Some(if contenders.len() == places.len() {
        format!(
            "Recommended: none alone. {} comes first by {scores}, but they tell no source from the others.",
            first.name
        )
    } else {
        format!(
            "Recommended: {} first, but {scores} do not tell {} apart: the best by them is one of these {} with {probability} \
             % probability.",
            first.name,
            finding::list(&names),
            contenders.len()
        )
    })
}
