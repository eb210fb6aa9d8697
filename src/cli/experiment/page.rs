//! An experiment as one page: a part for each call.

use super::{
    checkpoint::{Answer, Finished},
    definition::{Call, Definition, Lines},
    together::Together,
};
use crate::{
    cli::{Failure, compare_report, rank::Ranked, ranking_report, reported},
    report::{
        LineChart, LinesReport, Page, Part, Section, Series, SeriesKind, lines_section, matrix_sections,
        published_section, ranking_sections, transfers_section,
    },
    stats::Estimate,
    transport::proto::{self, TransferScoreResponse},
};

/// The page of what is finished.
///
/// # Errors
/// Only where a template fails, which no input makes it do.
pub fn of(definition: &Definition, finished: &[(&Call, Finished)], together: &Together) -> Result<Page, Failure> {
    let mut parts = Vec::new();
    let mut compared = None;
    for (call, done) in finished {
        let mut sections = Vec::new();
        match &done.answer {
            Answer::Ranked(ranked) => {
                if let Some(lines) = &call.lines {
                    sections.extend(charts(lines, ranked).map(|report| lines_section(&report)).transpose()?);
                }
                if let Some(report) = ranking_report::of(ranked) {
                    sections.extend(ranking_sections(&report)?);
                }
            }
            Answer::Compared { comparison, request } => {
                let report = compare_report::of(comparison, request);
                sections.extend::<Vec<Section>>(matrix_sections(&report)?);
                compared = Some(report);
            }
        }
        parts.push(Part { title: call.title.clone(), sections });
    }
    let mut sections = Vec::new();
    for report in &together.transfers {
        sections.extend(transfers_section(report, compared.as_ref())?);
    }
    for report in &together.published {
        sections.push(published_section(report)?);
    }
    if !sections.is_empty() {
        parts.push(Part { title: "All calls together".to_owned(), sections });
    }
    let summary = match definition.paper.as_str() {
        "" => definition.question.clone(),
        paper => format!("{} After {paper}.", definition.question),
    };
    Ok(Page { title: definition.title.clone(), summary, parts })
}

/// A number of a source's scores.
type Read = fn(&TransferScoreResponse) -> Option<Estimate>;

/// What is drawn over the level, all in one chart: numbers without a unit, up to 1.
const MEASURED: [(&str, Read); 5] = [
    ("alpha1", |scores| direction(scores)?.alpha1.as_ref().map(reported::estimate)),
    ("combined", |scores| direction(scores)?.combined.as_ref().map(reported::estimate)),
    ("explained", |scores| scores.gradient_matching.as_ref()?.explained.as_ref().map(reported::estimate)),
    ("function matching R²", |scores| {
        scores.knowledge.as_ref()?.function_matching.as_ref()?.r2.as_ref().map(reported::estimate)
    }),
    ("linear probe", |scores| {
        scores.knowledge.as_ref()?.linear_probe.as_ref()?.accuracy.as_ref().map(reported::estimate)
    }),
];

/// A theorem of a source.
type Check = fn(&proto::TheoryChecks) -> Option<proto::TheoremCheck>;

/// The theorems that are bounds, and what each bounds, in words.
const BOUNDS: [(&str, &str, Check); 2] = [
    ("Theorem 2: mismatch of gradients", "expected squared difference of Jacobians", |checks| checks.second),
    ("Theorem 3: loss of the transferred knowledge", "squared error of the best affine head", |checks| checks.third),
];

fn direction(scores: &TransferScoreResponse) -> Option<&proto::DirectionalScores> {
    scores.reference_to_source.as_ref()
}

/// Values over the level of the sources; `None` where no source has any.
fn charts(lines: &Lines, ranked: &Ranked) -> Option<LinesReport> {
    let level_of = |name: &str| {
        let place = ranked.request.source_models.iter().position(|source| source == name);
        place.and_then(|place| lines.levels.get(place)).copied()
    };
    let rows: Vec<(f64, &TransferScoreResponse)> =
        ranked.rows.iter().filter_map(|row| Some((level_of(&row.source_model)?, row.scores.as_ref()?))).collect();
    let points = |read: &dyn Fn(&TransferScoreResponse) -> Option<Estimate>| -> Vec<(f64, Estimate)> {
        rows.iter().filter_map(|(level, scores)| Some((*level, read(scores)?))).collect()
    };
    let chart = |title: &str, y_label: &str, is_logarithmic, series| LineChart {
        title: title.to_owned(),
        caption: String::new(),
        x_label: lines.axis.clone(),
        y_label: y_label.to_owned(),
        is_logarithmic,
        series,
    };
    let measured = MEASURED.iter().map(|(name, read)| Series {
        name: (*name).to_owned(),
        kind: SeriesKind::Measured,
        points: points(&|scores| read(scores)),
    });
    let measured: Vec<Series> = measured.filter(|series| !series.points.is_empty()).collect();
    let mut charts = vec![chart("Scores", "score", false, measured)];
    for (title, y_label, check) in BOUNDS {
        let side = |side: fn(&proto::TheoremCheck) -> f64| {
            points(&|scores| Some(Estimate::exact(side(&check(scores.theory_checks.as_ref()?)?))))
        };
        let series = |name: &str, kind, points| Series { name: name.to_owned(), kind, points };
        let left = side(|check| check.left);
        if !left.is_empty() {
            let both = vec![
                series("measured", SeriesKind::Measured, left),
                series("bound", SeriesKind::Bound { of: 0 }, side(|check| check.right)),
            ];
            charts.push(chart(title, y_label, true, both));
        }
    }
    charts.retain(|chart| !chart.series.is_empty());
    let summary = format!("Each source over its {}; the reference is attacked, the source is read.", lines.axis);
    (!charts.is_empty()).then(|| LinesReport { title: format!("Over the {}", lines.axis), summary, charts })
}
