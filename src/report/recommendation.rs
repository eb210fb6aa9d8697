//! What several scores recommend together, and whether they say it clearly.

use askama::Template;

use super::{
    ReportError, Section,
    bar::{Bar, BarAxis},
    words,
};
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

#[derive(Template)]
#[template(path = "recommendation.html")]
struct Body {
    level: String,
    scores: String,
    rows: Vec<Row>,
}

struct Row {
    rank: usize,
    name: String,
    is_contender: bool,
    value: String,
    interval: String,
    best: String,
    bar: Bar,
}

/// `None` where there is nothing to recommend.
///
/// # Errors
/// Where the template fails.
pub(super) fn section(recommendation: &ReportedRecommendation, level: f64) -> Result<Option<Section>, ReportError> {
    if recommendation.places.len() < 2 {
        return Ok(None);
    }
    let scores = recommendation.scores.iter();
    let scores: Vec<String> =
        scores.map(|(name, weight)| format!("{name} ({} %)", words::percent((weight * 1e3).round() / 1e3))).collect();
    let axis = BarAxis::between(0.0, 1.0);
    let rows = recommendation.places.iter().enumerate().map(|(index, place)| Row {
        rank: index + 1,
        name: place.name.clone(),
        is_contender: recommendation.contenders.contains(&place.name),
        value: words::number(place.value.value),
        interval: words::span(place.value.lower, place.value.upper),
        best: place.probability_best.map_or("–".to_owned(), words::probability),
        bar: Bar::new(&place.value, &axis),
    });
    let body = Body { level: words::percent(level), scores: scores.join(", "), rows: rows.collect() };
    Ok(Some(Section::new("Recommended", body.render()?)))
}

/// What is recommended, or that the scores do not say, in plain words; `None` where nothing is.
pub fn recommendation_sentence(recommendation: &ReportedRecommendation) -> Option<String> {
    let ReportedRecommendation { places, scores, contenders, probability } = recommendation;
    let first = places.first().filter(|_| places.len() > 1)?;
    let scores = match scores.len() {
        1 => "one score".to_owned(),
        n => format!("{n} scores together"),
    };
    if let [only] = contenders.as_slice() {
        let share = first
            .probability_best
            .map_or(String::new(), |best| format!(" in {} of resamples", words::probability(best)));
        return Some(format!("Recommended: {only}. By {scores} it is the best{share}."));
    }
    let names: Vec<&str> = contenders.iter().map(String::as_str).collect();
    let probability = words::percent(*probability);
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
            words::list(&names),
            contenders.len()
        )
    })
}
