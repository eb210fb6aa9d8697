//! Sections that are nothing but text.

use askama::Template;

use super::{ReportError, Section};

#[derive(Template)]
#[template(path = "finding.html")]
struct Finding<'a> {
    sentences: &'a [String],
}

/// What was found, in plain words, the most important sentence first.
///
/// # Errors
/// Only where the template fails, which no input makes it do.
pub fn finding(sentences: &[String]) -> Result<Section, ReportError> {
    Ok(Section::finding(Finding { sentences }.render()?))
}

#[derive(Template)]
#[template(path = "caveats.html")]
struct Caveats<'a> {
    sentences: &'a [&'a str],
}

/// What a reader should know, whatever was found.
///
/// # Errors
/// As [`finding`].
pub fn caveats(sentences: &[&str]) -> Result<Section, ReportError> {
    Ok(Section::new("Read with care", Caveats { sentences }.render()?))
}

#[derive(Template)]
#[template(path = "definitions.html")]
struct Definitions<'a> {
    entries: &'a [(String, String)],
}

/// Names, and what is to be said of each.
///
/// # Errors
/// As [`finding`].
pub fn definitions(title: &str, entries: &[(String, String)]) -> Result<Section, ReportError> {
    Ok(Section::new(title, Definitions { entries }.render()?))
}
