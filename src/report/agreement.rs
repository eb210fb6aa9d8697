//! How well each score predicts a measured transfer: a table, a large scatter plot, and a small one for each score.

use askama::Template;

use super::{
    ReportError, Section,
    bar::{Bar, BarAxis},
    finding, scatter,
    svg::Figure,
    words,
};
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

    /// The points that can be drawn; none where fewer than two sources have both numbers: there is nothing to compare.
    fn drawn(&self) -> Vec<scatter::Point> {
        let point = |point: &ReportedPoint| scatter::Point {
            rank: point.rank,
            name: point.name.clone(),
            x: point.score.clone(),
            y: point.transfer.clone(),
        };
        let points: Vec<scatter::Point> = self.points.iter().map(point).filter(scatter::Point::is_finite).collect();
        if points.len() < 2 { Vec::new() } else { points }
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

/// Points that the small plots of a ranking may have together: with very many sources a page of them all is too large to
/// read. The plots are in the order of the answer, the most believed transfer first.
const SMALL_POINTS: usize = 6_000;

#[derive(Template)]
#[template(path = "agreement.html")]
struct Body<'a> {
    transfer: &'a str,
    level: String,
    warning: Option<&'static str>,
    /// What choosing at random costs.
    random: Option<String>,
    rows: Vec<Row<'a>>,
    large: Option<Large>,
    small: &'a [Figure],
    n_left_out: usize,
}

struct Row<'a> {
    name: &'a str,
    is_baseline: bool,
    bar: Option<Bar>,
    spearman: String,
    spearman_interval: String,
    p_value: String,
    weighted_kendall: String,
    weighted_kendall_interval: String,
    regret_at_1: String,
    regret_at_3: String,
    best: String,
}

struct Large {
    figure: Figure,
    caption: String,
}

/// A section for each measured transfer, the first unfolded.
///
/// # Errors
/// Where the template fails.
pub(super) fn sections(transfers: &[ReportedTransfer], metric: &str, level: f64) -> Result<Vec<Section>, ReportError> {
    let mut n_points = 0;
    let transfers = transfers.iter().filter(|transfer| !transfer.scores.is_empty()).enumerate();
    transfers.map(|(index, transfer)| section(transfer, metric, level, &mut n_points, index == 0)).collect()
}

fn section(
    transfer: &ReportedTransfer,
    metric: &str,
    level: f64,
    n_points: &mut usize,
    is_open: bool,
) -> Result<Section, ReportError> {
    let fewest = transfer.scores.iter().map(|score| score.n_sources).min().unwrap_or(0);
    let ranked_by = transfer.scores.iter().find(|score| score.name == metric).or(transfer.scores.first());
    let large = ranked_by.and_then(|score| Large::draw(score, &transfer.name, level));
    let (mut small, mut n_left_out) = (Vec::new(), 0);
    for score in &transfer.scores {
        let points = score.drawn();
        if points.is_empty() {
            continue;
        }
        *n_points += points.len();
        if *n_points <= SMALL_POINTS {
            small.push(scatter::draw_small(&points, &score.name, &transfer.name, score.spearman()));
        } else {
            n_left_out += 1;
        }
    }
    // Alone it would repeat the large one.
    if small.len() == 1 {
        small.clear();
    }
    let body = Body {
        transfer: &transfer.name,
        level: words::percent(level),
        warning: finding::too_few(fewest),
        random: transfer.scores.first().and_then(|score| score.regret_at_random).map(words::number),
        rows: transfer.scores.iter().map(Row::new).collect(),
        large,
        small: &small,
        n_left_out,
    };
    let html = body.render()?;
    let figures = body.large.into_iter().map(|large| large.figure).chain(small.iter().cloned()).collect();
    Ok(Section::new(format!("What predicts {}?", transfer.name), html).folding(is_open).with_figures(figures))
}

impl<'a> Row<'a> {
    fn new(score: &'a ReportedScore) -> Row<'a> {
        let number = |value: Option<f64>| value.map_or("–".to_owned(), words::number);
        let coefficient = |read: fn(&Agreement) -> Coefficient| score.coefficients.as_ref().map(read);
        let value = |found: Option<Coefficient>| found.map_or("–".to_owned(), |found| words::signed(found.value));
        let interval = |found: Option<Coefficient>| {
            let ends = found.and_then(|found| found.interval);
            ends.map_or(String::new(), |(lower, upper)| format!("{} to {}", words::signed(lower), words::signed(upper)))
        };
        let (spearman, weighted) = (coefficient(|found| found.spearman), coefficient(|found| found.weighted_kendall));
        let estimate = spearman.map(|found| {
            let (lower, upper) = found.interval.unwrap_or((found.value, found.value));
            Estimate::of(found.value, lower, upper)
        });
        Row {
            name: &score.name,
            is_baseline: score.is_baseline,
            bar: estimate.map(|estimate| Bar::new(&estimate, &BarAxis::between(-1.0, 1.0))),
            spearman: value(spearman),
            spearman_interval: interval(spearman),
            p_value: spearman.map_or("–".to_owned(), |found| words::probability(found.p_value)),
            weighted_kendall: value(weighted),
            weighted_kendall_interval: interval(weighted),
            regret_at_1: number(score.regret_at_1),
            regret_at_3: number(score.regret_at_3),
            best: score.probability_top_is_best.map_or("–".to_owned(), words::probability),
        }
    }
}

impl Large {
    fn draw(score: &ReportedScore, transfer: &str, level: f64) -> Option<Large> {
        let points = score.drawn();
        let agreement = score.coefficients.map_or(String::new(), |found| {
            let (spearman, pearson) = (words::signed(found.spearman.value), words::signed(found.pearson.value));
            format!(" Spearman {spearman}, Pearson {pearson}.")
        });
        let caption = format!(
            "{}, of each of {} sources, against {transfer}. Lines are {} % intervals, numbers are ranks.{agreement}",
            words::capitalised(&score.name),
            points.len(),
            words::percent(level),
        );
        (!points.is_empty()).then(|| Large { figure: scatter::draw(&points, &score.name, transfer), caption })
    }
}
