//! The page of an attack: how often it succeeds within each radius, and what it looks like.

use super::{
    ExamplesReport, LineChart, LinesReport, Page, Part, Repeat, ReportError, Series, SeriesKind, examples_section,
    lines_section, text, words,
};
use crate::stats::Estimate;

/// What a page needs to know of an attack.
#[derive(Clone, Debug, PartialEq)]
pub struct AttackReport {
    /// The attacked models, in words.
    pub models: String,
    /// In words: "PGD, L∞".
    pub attack: String,
    /// In words: "182 samples of digits".
    pub samples: String,
    /// By radius.
    pub rates: Vec<ReportedRate>,
    pub examples: Option<ExamplesReport>,
    pub repeat: Repeat,
}

/// How often an attack succeeds within a radius, on each model that reads it, the attacked ones together first.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedRate {
    /// `None` for a minimum-norm attack without one.
    pub radius: Option<f64>,
    /// Name, share of the attacked samples on which it succeeds, and share of the clean ones that are so already.
    pub models: Vec<(String, f64, f64)>,
}

/// The page of an attack.
///
/// # Errors
/// Only where a template fails, which no input makes it do.
pub fn attack_page(report: &AttackReport) -> Result<Page, ReportError> {
    let mut sections = vec![text::finding(&sentences(report))?];
    if report.rates.len() > 1 && report.rates.iter().all(|rate| rate.radius.is_some()) {
        sections.push(lines_section(&over_radius(report))?);
    }
    sections.extend(report.examples.as_ref().map(examples_section).transpose()?);
    sections.push(report.repeat.section()?);
    let title = format!("What does it take to fool {}?", report.models);
    let summary = format!("{} of {}, on {}.", report.attack, report.models, report.samples);
    Ok(Page { title, summary, parts: vec![Part { title: String::new(), sections }] })
}

fn sentences(report: &AttackReport) -> Vec<String> {
    let share = |share: f64| format!("{} %", words::percent((share * 1e3).round() / 1e3));
    let sentence = |rate: &ReportedRate| {
        let within = rate.radius.map_or("With the smallest changes it finds".to_owned(), |radius| {
            format!("Within a radius of {}", words::number(radius))
        });
        let on = |(name, attacked, clean): &(String, f64, f64)| {
            let clean = if *clean > 0.0 { format!(" ({} when clean)", share(*clean)) } else { String::new() };
            format!("on {name} in {} of samples{clean}", share(*attacked))
        };
        let models: Vec<String> = rate.models.iter().map(on).collect();
        format!("{within} the attack succeeds {}.", models.join("; "))
    };
    let told = report.rates.iter().filter(|rate| !rate.models.is_empty());
    let sentences: Vec<String> = told.map(sentence).collect();
    if sentences.is_empty() {
        return vec!["These models give no classes, so success is not told.".to_owned()];
    }
    sentences
}

fn over_radius(report: &AttackReport) -> LinesReport {
    let names = report.rates.first().map(|rate| rate.models.as_slice()).unwrap_or_default();
    let series = names.iter().enumerate().map(|(index, (name, ..))| Series {
        name: name.clone(),
        kind: SeriesKind::Measured,
        points: report
            .rates
            .iter()
            .filter_map(|rate| Some((rate.radius?, Estimate::exact(rate.models.get(index)?.1))))
            .collect(),
    });
    LinesReport {
        title: "Success over the radius".to_owned(),
        summary: "The share of attacked samples on which the attack succeeds.".to_owned(),
        charts: vec![LineChart {
            title: "Success".to_owned(),
            caption: "On the attacked models and on those that the examples are tried on.".to_owned(),
            x_label: "radius".to_owned(),
            y_label: "share of samples".to_owned(),
            is_logarithmic: false,
            series: series.collect(),
        }],
    }
}
