//! A ranking as one HTML page that a browser shows without network and without scripts.
//!
//! Not a transport: it knows nothing of messages; who has a ranking fills in a [`RankingReport`]. The same report gives
//! the same bytes: nothing here reads a clock. Every text is escaped.

mod agreement;
mod finding;
mod recommendation;
mod scatter;

use askama::Template;

pub use agreement::{ReportedPoint, ReportedScore, ReportedTransfer};
pub use recommendation::{RecommendedPlace, ReportedRecommendation};

use crate::stats::Estimate;

/// What a recommendation says, in plain words; `None` where there is none.
pub fn recommendation_sentence(recommendation: &ReportedRecommendation) -> Option<String> {
    recommendation::sentence(recommendation)
}

/// What the page needs to know of a ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct RankingReport {
    pub reference_model: ReportedModel,
    /// Empty for inline samples.
    pub dataset: String,
    pub n_samples: usize,
    /// SHA-256 of the probe set, in hexadecimal.
    pub probe_digest: String,
    /// What the sources are ranked by, in words: "combined (reference → source)". Higher is better.
    pub metric: String,
    /// Coverage of the intervals, in (0, 1).
    pub confidence_level: f64,
    /// Best first.
    pub sources: Vec<ReportedSource>,
    /// Sources that could not be ranked, and why.
    pub skipped: Vec<(String, String)>,
    pub recommendation: ReportedRecommendation,
    /// What was measured of transfer, and how well each score predicts it; the most believed first.
    pub transfers: Vec<ReportedTransfer>,
    /// What else is needed to repeat the ranking, as name and value: attack, seed, provider, version.
    pub settings: Vec<(String, String)>,
}

/// A model's exact content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedModel {
    pub name: String,
    /// SHA-256 of the file, in hexadecimal.
    pub digest: String,
}

/// One row of the ranking.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedSource {
    /// From 1.
    pub rank: usize,
    pub model: ReportedModel,
    /// The metric that the sources are ranked by.
    pub value: Estimate,
    /// How probable it is that no other source is above it, 0..1.
    pub probability_best: Option<f64>,
    /// How probable it is that it is above the next source, 0..1.
    pub probability_above_next: Option<f64>,
    /// 0..1.
    pub linear_probe_accuracy: Option<Estimate>,
    /// At most 1.
    pub function_matching_r2: Option<Estimate>,
    pub n_parameters: u64,
    /// On the source's own task, 0..1.
    pub clean_accuracy: Option<f64>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("cannot write the report: {0}")]
    Template(#[from] askama::Error),
    #[error("cannot draw the report's chart: {0}")]
    Chart(String),
}

/// The page, as HTML.
///
/// # Errors
/// Only where a template or a chart fails, which no input makes them do.
pub fn ranking_html(report: &RankingReport) -> Result<String, ReportError> {
    let axis = BarAxis::of(report.sources.iter().map(|source| &source.value));
    let page = Page {
        report,
        dataset: if report.dataset.is_empty() { "samples sent with the request" } else { &report.dataset },
        level: finding::percent(report.confidence_level),
        finding: finding::sentences(report),
        rows: report.sources.iter().map(|source| Row::new(source, &axis)).collect(),
        recommended: recommendation::Section::new(&report.recommendation),
        transfers: report
            .transfers
            .iter()
            .filter(|transfer| !transfer.scores.is_empty())
            .enumerate()
            .map(|(index, transfer)| agreement::Section::new(transfer, report.confidence_level, index == 0))
            .collect::<Result<_, _>>()?,
        caveats: finding::CAVEATS,
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "ranking.html")]
struct Page<'a> {
    report: &'a RankingReport,
    dataset: &'a str,
    level: String,
    finding: Vec<String>,
    rows: Vec<Row<'a>>,
    recommended: Option<recommendation::Section<'a>>,
    transfers: Vec<agreement::Section<'a>>,
    caveats: &'static [&'static str],
}

/// A row of the table, as text.
struct Row<'a> {
    rank: usize,
    name: &'a str,
    short_digest: &'a str,
    value: String,
    interval: String,
    chance: String,
    best: String,
    bar: Bar,
    linear_probe: String,
    function_matching: String,
    n_parameters: String,
    clean_accuracy: String,
}

/// Places along a bar, in percent of its length.
struct Bar {
    lower: String,
    width: String,
    value: String,
    chance: Option<String>,
    zero: String,
}

/// The range of values that the bars of all rows share.
struct BarAxis {
    low: f64,
    high: f64,
}

impl<'a> Row<'a> {
    fn new(source: &'a ReportedSource, axis: &BarAxis) -> Row<'a> {
        let value = &source.value;
        let digest = source.model.digest.as_str();
        let optional = |estimate: Option<&Estimate>| estimate.map_or("–".to_owned(), |e| finding::number(e.value));
        Row {
            rank: source.rank,
            name: &source.model.name,
            short_digest: digest.get(..12).unwrap_or(digest),
            value: finding::number(value.value),
            interval: finding::span(value.lower, value.upper),
            chance: finding::chance(value).map_or("–".to_owned(), finding::number),
            best: source.probability_best.map_or("–".to_owned(), finding::probability),
            bar: Bar::new(value, axis),
            linear_probe: optional(source.linear_probe_accuracy.as_ref()),
            function_matching: optional(source.function_matching_r2.as_ref()),
            n_parameters: finding::count(source.n_parameters),
            clean_accuracy: source.clean_accuracy.map_or("–".to_owned(), finding::number),
        }
    }
}

impl Bar {
    fn new(value: &Estimate, axis: &BarAxis) -> Bar {
        Bar {
            lower: axis.percent(value.lower),
            width: axis.width(value.lower, value.upper),
            value: axis.percent(value.value),
            chance: finding::chance(value).map(|chance| axis.percent(chance)),
            zero: axis.percent(0.0),
        }
    }
}

impl BarAxis {
    fn of<'a>(values: impl Iterator<Item = &'a Estimate>) -> BarAxis {
        let ends = values.flat_map(|e| [e.lower, e.value, e.upper, finding::chance(e).unwrap_or(0.0)]);
        // Zero belongs to every axis: a bar that starts elsewhere overstates differences.
        let (low, high) =
            ends.filter(|end| end.is_finite()).fold((0.0f64, 0.0f64), |(low, high), end| (low.min(end), high.max(end)));
        BarAxis { low, high: if high > low { high } else { low + 1.0 } }
    }

    /// Place of a value, leaving 2 % at both ends so that no mark is cut off.
    fn place(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        2.0 + 96.0 * if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    fn percent(&self, value: f64) -> String {
        format!("{:.2}%", self.place(value))
    }

    fn width(&self, lower: f64, upper: f64) -> String {
        format!("{:.2}%", (self.place(upper) - self.place(lower)).max(0.0))
    }
}
