//! The sections of a comparison of tasks: what it says, the matrices as heat maps, the tree, the tournament, the known groups.

use askama::Template;

use super::{
    Page, Part, ReportError, ReportedModel, Section,
    bar::{Bar, BarAxis},
    dendrogram::{self, Tree},
    finding,
    heat_map::{self, HeatMap},
    matrix_finding,
    repeat::{Ingredient, Repeat, ReportedRequest},
    svg::Figure,
    text, words,
};
use crate::stats::{AgainstChance, Estimate, Merge};

/// What a page needs to know of a comparison of tasks. Every matrix has a row for each attacked model and a column for each
/// model read, in the order of the models.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixReport {
    pub models: Vec<ReportedModel>,
    /// Empty for inline samples.
    pub dataset: String,
    pub n_samples: usize,
    /// SHA-256 of the probe set, in hexadecimal.
    pub probe_digest: String,
    /// Coverage of the intervals, in (0, 1).
    pub confidence_level: f64,
    /// The one whose rows are clustered first.
    pub matrices: Vec<ReportedMatrix>,
    /// How each attack fares on each model against the attacks on all others; columns add up to 1.
    pub affinity: Vec<Vec<f64>>,
    pub merges: Vec<Merge>,
    /// The cluster of each model.
    pub clusters: Vec<usize>,
    pub cophenetic_correlation: Option<f64>,
    /// `None` without known groups.
    pub agreement: Option<ReportedAgreement>,
    /// What else is needed to repeat the comparison, as name and value.
    pub settings: Vec<(String, String)>,
    /// What was asked, where it is known.
    pub request: Option<ReportedRequest>,
}

/// A matrix, and how it is called.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedMatrix {
    /// In words: "alpha1".
    pub name: String,
    /// What its numbers are, in a sentence.
    pub meaning: String,
    pub rows: Vec<Vec<Estimate>>,
}

/// How a clustering agrees with known groups.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedAgreement {
    pub groups: Vec<ReportedGroup>,
    /// The cluster of each model once the clustering is cut into as many as there are groups.
    pub clusters: Vec<usize>,
    pub adjusted_rand_index: AgainstChance,
    pub cophenetic_correlation: Option<AgainstChance>,
    pub n_permutations: usize,
}

/// A known group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedGroup {
    pub name: String,
    /// Names of its models.
    pub models: Vec<String>,
}

/// With more models the cells have no numbers for a pointer over them: there would be too many.
const MOST_TITLES: usize = 24;

#[derive(Template)]
#[template(path = "matrix.html")]
struct Maps {
    maps: Vec<(Figure, String)>,
}

#[derive(Template)]
#[template(path = "tournament.html")]
struct Tournament {
    has_groups: bool,
    rows: Vec<Standing>,
    even: String,
}

/// A model in the tournament.
struct Standing {
    name: String,
    group: String,
    mean: f64,
    value: String,
    bar: Option<Bar>,
    first_on: usize,
    moved_by: String,
}

#[derive(Template)]
#[template(path = "groups.html")]
struct Groups {
    n_permutations: usize,
    level: String,
    rows: Vec<AgreementRow>,
    clusters: Vec<(usize, String)>,
}

struct AgreementRow {
    name: &'static str,
    value: String,
    bar: Bar,
    mean: String,
    upper: String,
    p_value: String,
}

/// The page of one comparison.
///
/// # Errors
/// Only where a template fails, which no input makes it do.
pub fn matrix_page(report: &MatrixReport) -> Result<Page, ReportError> {
    let mut sections = matrix_sections(report)?;
    sections.push(text::caveats(matrix_finding::CAVEATS)?);
    sections.push(report.repeat().section()?);
    let samples = report.samples();
    let summary =
        format!("{} models, each attacked and all read under every attack, on {samples}.", report.models.len());
    let title = "How do these tasks relate?".to_owned();
    Ok(Page { title, summary, parts: vec![Part { title: String::new(), sections }] })
}

/// What a comparison found, in order of importance; for a page of one or of several.
///
/// # Errors
/// As [`matrix_page`].
pub fn matrix_sections(report: &MatrixReport) -> Result<Vec<Section>, ReportError> {
    let mut sections = vec![text::finding(&matrix_finding::sentences(report))?];
    let order = report.order();
    let mut maps = report.matrices.iter().enumerate().map(|(index, matrix)| {
        let chance = matrix.rows.iter().flatten().any(|e| finding::chance(e).is_some());
        let mut caption = matrix.meaning.clone();
        if index == 0 && !report.merges.is_empty() {
            caption.push_str(" The tree joins rows that are alike, by Ward's criterion; it is cut at the dashed line.");
        }
        if chance {
            caption.push_str(" A marked corner: may be chance.");
        }
        (report.heat_map(matrix, &order, index == 0), caption)
    });
    let first: Vec<(Figure, String)> = maps.next().into_iter().collect();
    let others: Vec<(Figure, String)> = maps.collect();
    sections.extend(map_section("Who moves whom, and who is alike", first)?);
    if let Some(agreement) = &report.agreement {
        sections.push(report.groups(agreement)?);
    }
    if report.models.len() > 2 {
        sections.push(report.tournament()?);
    }
    sections.extend(map_section("The other matrices", others)?);
    Ok(sections)
}

pub(super) fn map_section(title: &str, maps: Vec<(Figure, String)>) -> Result<Option<Section>, ReportError> {
    if maps.is_empty() {
        return Ok(None);
    }
    let body = Maps { maps };
    let html = body.render()?;
    Ok(Some(Section::new(title, html).with_figures(body.maps.into_iter().map(|(figure, _)| figure).collect())))
}

impl MatrixReport {
    fn samples(&self) -> String {
        let dataset = if self.dataset.is_empty() { "the samples sent with the request" } else { &self.dataset };
        format!("{} samples of {dataset}", self.n_samples)
    }

    pub(super) fn name(&self, model: usize) -> &str {
        self.models.get(model).map_or("", |model| &model.name)
    }

    /// The known group of each model; empty without groups.
    pub(super) fn group_numbers(&self) -> Vec<usize> {
        let Some(agreement) = &self.agreement else { return Vec::new() };
        let of = |model: &ReportedModel| agreement.groups.iter().position(|group| group.models.contains(&model.name));
        self.models.iter().map(|model| of(model).unwrap_or_default()).collect()
    }

    pub(super) fn group_names(&self) -> Vec<String> {
        let groups = self.agreement.iter().flat_map(|agreement| &agreement.groups);
        groups.map(|group| group.name.clone()).collect()
    }

    /// The order of the tree's leaves.
    pub fn order(&self) -> Vec<usize> {
        let rows: Vec<Vec<f64>> = self.matrices.first().map(values).unwrap_or_default();
        dendrogram::order(&self.merges, self.models.len(), |a, b| {
            let pairs = rows.get(a).into_iter().flatten().zip(rows.get(b).into_iter().flatten());
            pairs.map(|(a, b)| (a - b).powi(2)).sum()
        })
    }

    fn heat_map(&self, matrix: &ReportedMatrix, order: &[usize], with_tree: bool) -> Figure {
        let values = values(matrix);
        let names: Vec<String> = self.models.iter().map(|model| model.name.clone()).collect();
        let title = |row: usize, column: usize, e: &Estimate| {
            let interval =
                if e.lower < e.upper { format!(" ({})", words::span(e.lower, e.upper)) } else { String::new() };
            let number = words::number(e.value);
            format!("attack on {}, read on {}: {number}{interval}", self.name(row), self.name(column))
        };
        let titles = |(row, cells): (usize, &Vec<Estimate>)| -> Vec<String> {
            cells.iter().enumerate().map(|(column, e)| title(row, column, e)).collect()
        };
        let titles: Vec<Vec<String>> = match names.len() {
            ..=MOST_TITLES => matrix.rows.iter().enumerate().map(titles).collect(),
            _ => Vec::new(),
        };
        let is_chance = |e: &Estimate| finding::chance(e).is_some_and(|chance| e.lower <= chance);
        let groups = self.group_numbers();
        let n_clusters = self.clusters.iter().max().map_or(1, |last| last + 1);
        heat_map::draw(&HeatMap {
            name: &matrix.name,
            axes: ["attacked", "read on"],
            names: &names,
            values: &values,
            titles: &titles,
            is_chance: &matrix.rows.iter().map(|row| row.iter().map(is_chance).collect()).collect::<Vec<_>>(),
            order,
            clusters: &self.clusters,
            groups: &groups,
            group_names: &self.group_names(),
            tree: with_tree.then_some(Tree { merges: &self.merges, order, groups: &groups, n_clusters }),
        })
    }

    fn tournament(&self) -> Result<Section, ReportError> {
        let k = self.models.len();
        let even = 1.0 / (k - 1).max(1) as f64;
        let at = |row: usize, column: usize| self.affinity.get(row).and_then(|row| row.get(column)).copied();
        let winner = |column: usize| {
            let attacks = (0..k).filter(|row| *row != column).filter_map(|row| Some((row, at(row, column)?)));
            attacks.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(row, _)| row)
        };
        let winners: Vec<Option<usize>> = (0..k).map(winner).collect();
        let (groups, group_names) = (self.group_numbers(), self.group_names());
        let standing = |row: usize| {
            let shares = (0..k).filter(|column| *column != row).filter_map(|column| at(row, column));
            let mean = shares.sum::<f64>() / (k - 1).max(1) as f64;
            let group = groups.get(row).and_then(|group| group_names.get(*group));
            Standing {
                name: self.name(row).to_owned(),
                group: group.cloned().unwrap_or_default(),
                mean,
                value: words::number(mean),
                bar: None,
                first_on: winners.iter().filter(|winner| **winner == Some(row)).count(),
                moved_by: winners
                    .get(row)
                    .copied()
                    .flatten()
                    .map_or(String::new(), |winner| self.name(winner).to_owned()),
            }
        };
        let mut rows: Vec<Standing> = (0..k).map(standing).collect();
        rows.sort_by(|a, b| b.mean.total_cmp(&a.mean));
        let estimate = |row: &Standing| Estimate { null_floor: Some(even), ..Estimate::exact(row.mean) };
        let estimates: Vec<Estimate> = rows.iter().map(estimate).collect();
        let axis = BarAxis::of(estimates.iter());
        for (row, estimate) in rows.iter_mut().zip(&estimates) {
            row.bar = Some(Bar::new(estimate, &axis));
        }
        let body = Tournament { has_groups: !groups.is_empty(), rows, even: words::number(even) };
        Ok(Section::new("Tournament of the attacks", body.render()?))
    }

    fn groups(&self, agreement: &ReportedAgreement) -> Result<Section, ReportError> {
        let row = |name: &'static str, found: &AgainstChance| AgreementRow {
            name,
            value: words::signed(found.value),
            bar: Bar::new(&against(found), &BarAxis::between(found.value.min(-0.25), 1.0)),
            mean: words::signed(found.chance.mean),
            upper: words::signed(found.chance.upper),
            p_value: words::probability(found.p_value),
        };
        let mut rows = vec![row("Adjusted Rand index", &agreement.adjusted_rand_index)];
        rows.extend(agreement.cophenetic_correlation.iter().map(|found| row("Cophenetic correlation", found)));
        let (groups, names) = (self.group_numbers(), self.group_names());
        let n_clusters = agreement.clusters.iter().max().map_or(0, |last| last + 1);
        let members = |cluster: usize| -> String {
            let members = self.models.iter().zip(&agreement.clusters).zip(&groups);
            let members = members.filter(|((_, other), _)| **other == cluster);
            let members = members.map(|((model, _), group)| {
                format!("{} ({})", model.name, names.get(*group).map_or("", String::as_str))
            });
            members.collect::<Vec<_>>().join(", ")
        };
        let body = Groups {
            n_permutations: agreement.n_permutations,
            level: words::percent(self.confidence_level),
            rows,
            clusters: (0..n_clusters).map(|cluster| (cluster + 1, members(cluster))).collect(),
        };
        Ok(Section::new("Do the clusters find the known groups?", body.render()?))
    }

    /// What the comparison was made of.
    pub fn repeat(&self) -> Repeat {
        let mut ingredients =
            vec![Ingredient { kind: "Samples".to_owned(), name: self.samples(), digest: self.probe_digest.clone() }];
        if let Some(matrix) = self.matrices.first() {
            ingredients
                .push(Ingredient::setting("clustered by", &format!("rows of {}, Ward's criterion", matrix.name)));
        }
        ingredients.extend(self.settings.iter().map(|(name, value)| Ingredient::setting(name, value)));
        ingredients.extend(self.models.iter().map(|model| Ingredient::model("Model", model)));
        Repeat { ingredients, requests: self.request.iter().cloned().collect() }
    }
}

fn values(matrix: &ReportedMatrix) -> Vec<Vec<f64>> {
    matrix.rows.iter().map(|row| row.iter().map(|e| e.value).collect()).collect()
}

fn against(found: &AgainstChance) -> Estimate {
    Estimate { shuffled: Some(found.chance), ..Estimate::exact(found.value) }
}
