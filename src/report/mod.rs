//! A ranking as one HTML page that a browser shows without network and without scripts.
//!
//! Not a transport: it knows nothing of messages; who has a ranking fills in a [`RankingReport`]. The same report gives
//! the same bytes: nothing here reads a clock. Every text is escaped.

mod finding;
mod scatter;

use askama::Template;

use crate::stats::Estimate;

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
    /// How the sources' `combined` agrees in order with linear-probe accuracy.
    pub spearman_linear_probe: Option<f64>,
    /// How the sources' `combined` agrees in order with function-matching R².
    pub spearman_function_matching: Option<f64>,
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
    /// Adversarial transferability, combined, reference → source.
    pub combined: Estimate,
    /// 0..1.
    pub linear_probe_accuracy: Option<Estimate>,
    /// At most 1.
    pub function_matching_r2: Option<Estimate>,
    pub n_parameters: u64,
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
    let axis = BarAxis::of(&report.sources);
    let accuracy = |source: &ReportedSource| source.linear_probe_accuracy.clone();
    let r2 = |source: &ReportedSource| source.function_matching_r2.clone();
    let charts = [
        Chart::draw(report, "linear-probe accuracy", accuracy, report.spearman_linear_probe)?,
        Chart::draw(report, "function-matching R²", r2, report.spearman_function_matching)?,
    ];
    let page = Page {
        report,
        dataset: if report.dataset.is_empty() { "samples sent with the request" } else { &report.dataset },
        level: finding::percent(report.confidence_level),
        finding: finding::sentences(report),
        rows: report.sources.iter().map(|source| Row::new(source, &axis)).collect(),
        charts: charts.into_iter().flatten().collect(),
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
    charts: Vec<Chart>,
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

struct Chart {
    svg: String,
    title: String,
    caption: String,
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
            interval: format!("{} to {}", finding::number(value.lower), finding::number(value.upper)),
            chance: finding::chance(value).map_or("–".to_owned(), finding::number),
            best: source.probability_best.map_or("–".to_owned(), finding::probability),
            bar: Bar {
                lower: axis.percent(value.lower),
                width: axis.width(value.lower, value.upper),
                value: axis.percent(value.value),
                chance: finding::chance(value).map(|chance| axis.percent(chance)),
                zero: axis.percent(0.0),
            },
            linear_probe: optional(source.linear_probe_accuracy.as_ref()),
            function_matching: optional(source.function_matching_r2.as_ref()),
            n_parameters: finding::count(source.n_parameters),
        }
    }
}

impl BarAxis {
    fn of(sources: &[ReportedSource]) -> BarAxis {
        let ends = sources.iter().flat_map(|source| {
            let e = &source.value;
            [e.lower, e.value, e.upper, finding::chance(e).unwrap_or(0.0)]
        });
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

impl Chart {
    /// `None` where fewer than two sources have the measure: there is nothing to compare.
    fn draw(
        report: &RankingReport,
        measure: &str,
        knowledge: impl Fn(&ReportedSource) -> Option<Estimate>,
        spearman: Option<f64>,
    ) -> Result<Option<Chart>, ReportError> {
        let points: Vec<scatter::Point<'_>> = report
            .sources
            .iter()
            .filter_map(|source| {
                let point = scatter::Point {
                    rank: source.rank,
                    name: &source.model.name,
                    x: source.combined.clone(),
                    y: knowledge(source)?,
                };
                point.is_finite().then_some(point)
            })
            .collect();
        if points.len() < 2 {
            return Ok(None);
        }
        let svg = scatter::draw(&points, "adversarial transferability (combined)", measure)?;
        let agreement = spearman.map_or(String::new(), |rho| format!(" Spearman correlation {rho:.2}."));
        let caption = format!(
            "Each of {} sources: how well the reference's attacks carry over to it, against its {measure}. Lines are \
             {} % intervals, numbers are ranks.{agreement}",
            points.len(),
            finding::percent(report.confidence_level),
        );
        Ok(Some(Chart { svg, title: format!("Adversarial transferability and {measure}"), caption }))
    }
}
