//! Figures of a paper beside those that were found here.

use askama::Template;

use super::{ReportError, Section, words};

/// What is held against each other.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedReport {
    /// What the paper calls its figures.
    pub title: String,
    /// What ours are, in words.
    pub score: String,
    pub rows: Vec<PublishedRow>,
    /// Of the paper's figures with ours; `None` for fewer than two, or where either are all equal.
    pub spearman: Option<f64>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct PublishedRow {
    pub name: String,
    pub paper: f64,
    /// `None` where there is none.
    pub ours: Option<f64>,
}

#[derive(Template)]
#[template(path = "published.html")]
struct Body<'a> {
    score: &'a str,
    rows: Vec<(&'a str, String, String)>,
    spearman: String,
}

/// The section of a paper's figures.
///
/// # Errors
/// Only where the template fails, which no input makes it do.
pub fn published_section(report: &PublishedReport) -> Result<Section, ReportError> {
    let ours = |row: &PublishedRow| row.ours.map_or("–".to_owned(), words::number);
    let rows = report.rows.iter().map(|row| (row.name.as_str(), words::number(row.paper), ours(row)));
    let body = Body {
        score: &report.score,
        rows: rows.collect(),
        spearman: report.spearman.map(words::signed).unwrap_or_default(),
    };
    Ok(Section::new(format!("Beside the paper: {}", report.title), body.render()?))
}
