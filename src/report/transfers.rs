//! A score of every pair of models as a heat map, rows transferred to columns: what one ranking for each reference gives
//! together.

use super::{
    ReportError, Section,
    heat_map::{self, HeatMap},
    matrix::{MatrixReport, map_section},
    words,
};
use crate::stats::Estimate;

/// A score of pairs of models.
#[derive(Clone, Debug, PartialEq)]
pub struct TransfersReport {
    pub title: String,
    /// What the numbers are, in words.
    pub score: String,
    /// Of all rows and columns.
    pub models: Vec<String>,
    /// A row for each source, a column for each reference, in the order of the models; `None` where the pair has none.
    pub values: Vec<Vec<Option<Estimate>>>,
}

/// The section of a score of pairs; in the order and with the groups of a comparison of the same models where there is one.
///
/// # Errors
/// Only where the template fails, which no input makes it do.
pub fn transfers_section(
    report: &TransfersReport,
    beside: Option<&MatrixReport>,
) -> Result<Option<Section>, ReportError> {
    if report.models.is_empty() {
        return Ok(None);
    }
    let of_same = |other: &&MatrixReport| {
        other.models.len() == report.models.len() && other.models.iter().zip(&report.models).all(|(a, b)| a.name == *b)
    };
    let beside = beside.filter(of_same);
    let order = beside.map_or_else(|| (0..report.models.len()).collect(), MatrixReport::order);
    let title = |source: &str, reference: &str, value: &Option<Estimate>| match value {
        Some(e) => format!("{source} to {reference}: {} ({})", words::number(e.value), words::span(e.lower, e.upper)),
        None => String::new(),
    };
    let titles = report.models.iter().zip(&report.values).map(|(source, row)| {
        report.models.iter().zip(row).map(|(reference, value)| title(source, reference, value)).collect()
    });
    let values = report.values.iter().map(|row| row.iter().map(|e| e.as_ref().map_or(f64::NAN, |e| e.value)).collect());
    let map = heat_map::draw(&HeatMap {
        name: &report.score,
        axes: ["from", "to"],
        names: &report.models,
        values: &values.collect::<Vec<_>>(),
        titles: &titles.collect::<Vec<_>>(),
        is_chance: &[],
        order: &order,
        clusters: beside.map_or(&[], |beside| &beside.clusters),
        groups: &beside.map(MatrixReport::group_numbers).unwrap_or_default(),
        group_names: &beside.map(MatrixReport::group_names).unwrap_or_default(),
        tree: None,
    });
    let caption = format!("{}, of what is in a row for what is in a column.", words::capitalised(&report.score));
    map_section(&report.title, vec![(map, caption)])
}
