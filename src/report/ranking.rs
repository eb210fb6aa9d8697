//! The sections of a ranking: what it says, its table, what is recommended, and what predicts transfer.

use askama::Template;

use super::{
    ExamplesReport, Page, Part, ReportError, ReportedRecommendation, ReportedTransfer, Section, agreement,
    bar::{Bar, BarAxis},
    examples_section, finding, recommendation,
    repeat::{Ingredient, Repeat, ReportedRequest},
    text, words,
};
use crate::stats::Estimate;

/// What a page needs to know of a ranking.
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
    /// Attacked samples to look at.
    pub examples: Option<ExamplesReport>,
    /// What was asked, where it is known.
    pub request: Option<ReportedRequest>,
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

#[derive(Template)]
#[template(path = "ranking.html")]
struct Body<'a> {
    level: String,
    rows: Vec<Row<'a>>,
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

/// The page of one ranking.
///
/// # Errors
/// Only where a template fails, which no input makes it do.
pub fn ranking_page(report: &RankingReport) -> Result<Page, ReportError> {
    let mut sections = ranking_sections(report)?;
    sections.push(text::caveats(finding::CAVEATS)?);
    sections.push(report.repeat().section()?);
    let summary = format!(
        "{} source models, ranked by {}, on {} samples of {}.",
        report.sources.len(),
        report.metric,
        report.n_samples,
        report.dataset_words()
    );
    let title = format!("Which source transfers to {}’s task?", report.reference_model.name);
    Ok(Page { title, summary, parts: vec![Part { title: String::new(), sections }] })
}

/// What a ranking found, in order of importance; for a page of one or of several rankings.
///
/// # Errors
/// Only where a template fails, which no input makes it do.
pub fn ranking_sections(report: &RankingReport) -> Result<Vec<Section>, ReportError> {
    let level = report.confidence_level;
    let mut sections = vec![text::finding(&finding::sentences(report))?];
    if !report.sources.is_empty() {
        let axis = BarAxis::of(report.sources.iter().map(|source| &source.value));
        let rows = report.sources.iter().map(|source| Row::new(source, &axis)).collect();
        sections.push(Section::new("Ranking", Body { level: words::percent(level), rows }.render()?));
    }
    sections.extend(recommendation::section(&report.recommendation, level)?);
    if !report.skipped.is_empty() {
        sections.push(text::definitions("Not ranked", &report.skipped)?);
    }
    sections.extend(agreement::sections(&report.transfers, &report.metric, level)?);
    sections.extend(report.examples.as_ref().map(examples_section).transpose()?);
    Ok(sections)
}

impl RankingReport {
    fn dataset_words(&self) -> &str {
        if self.dataset.is_empty() { "samples sent with the request" } else { &self.dataset }
    }

    /// What the ranking was made of.
    pub fn repeat(&self) -> Repeat {
        let mut ingredients = vec![
            Ingredient::model("Reference model", &self.reference_model),
            Ingredient {
                kind: "Samples".to_owned(),
                name: format!("{} of {}", self.n_samples, self.dataset_words()),
                digest: self.probe_digest.clone(),
            },
            Ingredient { kind: "Ranked by".to_owned(), name: self.metric.clone(), digest: String::new() },
        ];
        let sources = self.sources.iter().map(|source| (format!("Source {}", source.rank), &source.model));
        ingredients.extend(self.settings.iter().map(|(name, value)| Ingredient::setting(name, value)));
        ingredients.extend(sources.map(|(kind, model)| Ingredient::model(&kind, model)));
        Repeat { ingredients, requests: self.request.iter().cloned().collect() }
    }
}

impl<'a> Row<'a> {
    fn new(source: &'a ReportedSource, axis: &BarAxis) -> Row<'a> {
        let value = &source.value;
        let optional = |estimate: Option<&Estimate>| estimate.map_or("–".to_owned(), |e| words::number(e.value));
        Row {
            rank: source.rank,
            name: &source.model.name,
            short_digest: words::short_digest(&source.model.digest),
            value: words::number(value.value),
            interval: words::span(value.lower, value.upper),
            chance: finding::chance(value).map_or("–".to_owned(), words::number),
            best: source.probability_best.map_or("–".to_owned(), words::probability),
            bar: Bar::new(value, axis),
            linear_probe: optional(source.linear_probe_accuracy.as_ref()),
            function_matching: optional(source.function_matching_r2.as_ref()),
            n_parameters: words::count(source.n_parameters),
            clean_accuracy: source.clean_accuracy.map_or("–".to_owned(), words::number),
        }
    }
}
