//! How well each score predicts a measured transfer: a table, and a scatter plot for each score.

use super::{ReportError, finding, scatter};
use crate::stats::{Agreement, Coefficient, Estimate};

/// What was measured of transfer, and the scores that may predict it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedTransfer {
    /// In words: "linear probe accuracy".
    pub name: String,
    /// Baselines last.
    pub scores: Vec<ReportedScore>,
}

/// How well a score predicts a measured transfer.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedScore {
    /// In words, as [`super::RankingReport::metric`].
    pub name: String,
    /// Whether it knows nothing of the task.
    pub is_baseline: bool,
    pub n_sources: usize,
    /// `None` where one side is constant.
    pub coefficients: Option<Agreement>,
    /// In units of the measured transfer.
    pub regret_at_1: Option<f64>,
    pub regret_at_3: Option<f64>,
    pub regret_at_random: Option<f64>,
    /// How probable it is that the source with the largest score is the best.
    pub probability_top_is_best: Option<f64>,
    /// Those sources whose numbers are known.
    pub points: Vec<ReportedPoint>,
}

impl ReportedScore {
    pub(super) fn spearman(&self) -> Option<Coefficient> {
        self.coefficients.map(|found| found.spearman)
    }
}

/// A source in a scatter plot.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportedPoint {
    /// Its place in the page's ranking, from 1.
    pub rank: usize,
    pub name: String,
    pub score: Estimate,
    pub transfer: Estimate,
}

/// Charts that are shown at once; the others unfold.
const SHOWN_CHARTS: usize = 4;
/// Points of all charts that unfold: with very many sources a page of them all is too large to read.
const FOLDED_POINTS: usize = 5_000;

/// The section of the page, as text.
pub(super) struct Section<'a> {
    pub name: &'a str,
    pub is_open: bool,
    pub warning: Option<&'static str>,
    /// What choosing at random costs.
    pub random: Option<String>,
    pub rows: Vec<Row<'a>>,
    pub shown: Vec<Chart>,
    pub folded: Vec<Chart>,
}

pub(super) struct Row<'a> {
    pub name: &'a str,
    pub is_baseline: bool,
    pub spearman: String,
    pub spearman_interval: String,
    pub p_value: String,
    pub weighted_kendall: String,
    pub weighted_kendall_interval: String,
    pub regret_at_1: String,
    pub regret_at_3: String,
    pub best: String,
}

pub(super) struct Chart {
    pub svg: String,
    pub title: String,
    pub caption: String,
}

impl<'a> Section<'a> {
    pub fn new(transfer: &'a ReportedTransfer, level: f64, is_open: bool) -> Result<Section<'a>, ReportError> {
        let fewest = transfer.scores.iter().map(|score| score.n_sources).min().unwrap_or(0);
        let (mut shown, mut folded) = (Vec::new(), Vec::new());
        let mut n_points = 0;
        for score in transfer.scores.iter().filter(|_| is_open) {
            n_points += score.points.len();
            let group = if shown.len() < SHOWN_CHARTS { &mut shown } else { &mut folded };
            if group.len() < SHOWN_CHARTS || n_points <= FOLDED_POINTS {
                group.extend(Chart::draw(score, &transfer.name, level)?);
            }
        }
        Ok(Section {
            name: &transfer.name,
            is_open,
            warning: finding::too_few(fewest),
            random: transfer.scores.first().and_then(|score| score.regret_at_random).map(finding::number),
            rows: transfer.scores.iter().map(Row::new).collect(),
            shown,
            folded,
        })
    }
}

impl<'a> Row<'a> {
    fn new(score: &'a ReportedScore) -> Row<'a> {
        let number = |value: Option<f64>| value.map_or("–".to_owned(), finding::number);
        let coefficient = |read: fn(&Agreement) -> Coefficient| score.coefficients.as_ref().map(read);
        let value = |found: Option<Coefficient>| found.map_or("–".to_owned(), |found| format!("{:.2}", found.value));
        let interval = |found: Option<Coefficient>| {
            let ends = found.and_then(|found| found.interval);
            ends.map_or(String::new(), |(lower, upper)| format!("{lower:.2} to {upper:.2}"))
        };
        let (spearman, weighted) = (coefficient(|found| found.spearman), coefficient(|found| found.weighted_kendall));
        Row {
            name: &score.name,
            is_baseline: score.is_baseline,
            spearman: value(spearman),
            spearman_interval: interval(spearman),
            p_value: spearman.map_or("–".to_owned(), |found| finding::probability(found.p_value)),
            weighted_kendall: value(weighted),
            weighted_kendall_interval: interval(weighted),
            regret_at_1: number(score.regret_at_1),
            regret_at_3: number(score.regret_at_3),
            best: score.probability_top_is_best.map_or("–".to_owned(), finding::probability),
        }
    }
}

impl Chart {
    /// `None` where fewer than two sources have both numbers: there is nothing to compare.
    fn draw(score: &ReportedScore, transfer: &str, level: f64) -> Result<Option<Chart>, ReportError> {
        let point = |point: &ReportedPoint| scatter::Point {
            rank: point.rank,
            name: point.name.clone(),
            x: point.score.clone(),
            y: point.transfer.clone(),
        };
        let points: Vec<scatter::Point> = score.points.iter().map(point).filter(scatter::Point::is_finite).collect();
        if points.len() < 2 {
            return Ok(None);
        }
        let svg = scatter::draw(&points, &score.name, transfer)?;
        let agreement = score.coefficients.map_or(String::new(), |found| {
            format!(" Spearman {:.2}, Pearson {:.2}.", found.spearman.value, found.pearson.value)
        });
        let caption = format!(
            "{}, of each of {} sources, against {transfer}. Lines are {} % intervals, numbers are ranks.{agreement}",
            capitalised(&score.name),
            points.len(),
            finding::percent(level),
        );
        Ok(Some(Chart { svg, title: format!("{} and {transfer}", score.name), caption }))
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
