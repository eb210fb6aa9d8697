//! Values over a level, such as the noise added to a model, and the bounds that a theory sets them.

use askama::Template;

use super::{
    ReportError, Section,
    axis::{Axis, Scale},
    colour::Colour,
    svg::{Anchor, Drawing, Figure, Lettering, Place, Stroke, segment, shortened, through, width_of},
};
use crate::stats::Estimate;

/// A section of charts that share a title, a figure each.
#[derive(Clone, Debug, PartialEq)]
pub struct LinesReport {
    pub title: String,
    /// What the charts show, in a sentence or two.
    pub summary: String,
    pub charts: Vec<LineChart>,
}

/// Values over a level.
#[derive(Clone, Debug, PartialEq)]
pub struct LineChart {
    /// Names the figure's file, too.
    pub title: String,
    /// What is said below the chart; may be empty.
    pub caption: String,
    /// In words, with its unit: "share of animals, %".
    pub x_label: String,
    pub y_label: String,
    /// Whether each decade takes the same room. Then values that are not above 0 are left out.
    pub is_logarithmic: bool,
    pub series: Vec<Series>,
}

/// A line of a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub kind: SeriesKind,
    /// The level and the value there, in any order. Several of one level, such as of several seeds, are dots, and the line goes
    /// through their mean.
    pub points: Vec<(f64, Estimate)>,
}

/// What a line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeriesKind {
    /// Dots and a line, with intervals.
    Measured,
    /// A dashed line without dots: what a theory says of the measured value of the same colour.
    Bound {
        /// The number of the series that is bounded, from 0.
        of: usize,
    },
}

const SIZE: Place = (480.0, 330.0);
const LEFT: f64 = 48.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 44.0;
const FONT: f64 = 12.5;
/// Longer names are cut in the figure.
const LABEL_LETTERS: usize = 24;
/// Levels this close are one.
const SAME_LEVEL: f64 = 1e-9;

#[derive(Template)]
#[template(path = "lines.html")]
struct Body<'a> {
    summary: &'a str,
    charts: Vec<(Figure, &'a str, &'a str)>,
}

/// Charts of values over a level, for a page of any result.
///
/// # Errors
/// Only where the template fails, which no input makes it do.
pub fn lines_section(report: &LinesReport) -> Result<Section, ReportError> {
    let charts =
        report.charts.iter().map(|chart| (draw(chart), chart.title.as_str(), chart.caption.as_str())).collect();
    let body = Body { summary: &report.summary, charts };
    let html = body.render()?;
    let figures = body.charts.into_iter().map(|(figure, ..)| figure).collect();
    Ok(Section::new(&report.title, html).with_figures(figures))
}

/// A series as it is drawn: what can be, by level.
struct Line<'a> {
    series: &'a Series,
    colour: Colour,
    points: Vec<(f64, &'a Estimate)>,
    /// Level and mean value.
    means: Vec<Place>,
}

impl<'a> Line<'a> {
    fn new(index: usize, series: &'a Series, scale: Scale) -> Line<'a> {
        let colour = match series.kind {
            SeriesKind::Measured => Colour::Group(index),
            SeriesKind::Bound { of } => Colour::Group(of),
        };
        let is_drawn = |x: f64, y: f64| x.is_finite() && y.is_finite() && (scale == Scale::Linear || y > 0.0);
        let points = series.points.iter().map(|(level, value)| (*level, value));
        let mut points: Vec<(f64, &Estimate)> = points.filter(|(level, e)| is_drawn(*level, e.value)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let of_level =
            |a: &(f64, &Estimate), b: &(f64, &Estimate)| (a.0 - b.0).abs() <= SAME_LEVEL * a.0.abs().max(1.0);
        let mean = |level: &[(f64, &Estimate)]| {
            let sum: f64 = level.iter().map(|(_, e)| e.value).sum();
            (level.first().map_or(0.0, |(x, _)| *x), sum / level.len() as f64)
        };
        let means = points.chunk_by(of_level).map(mean).collect();
        Line { series, colour, points, means }
    }

    /// Whether there is one value at each level, so that intervals can be a band.
    fn is_single(&self) -> bool {
        self.means.len() == self.points.len()
    }
}

fn draw(chart: &LineChart) -> Figure {
    let scale = if chart.is_logarithmic { Scale::Logarithmic } else { Scale::Linear };
    let lines: Vec<Line<'_>> =
        chart.series.iter().enumerate().map(|(index, series)| Line::new(index, series, scale)).collect();
    let longest = chart.series.iter().map(|series| width_of(&shortened(&series.name, LABEL_LETTERS), FONT));
    let right = SIZE.0 - longest.fold(40.0, f64::max) - 18.0;
    let ends = |e: &Estimate| [e.lower, e.value, e.upper];
    let points = || lines.iter().flat_map(|line| &line.points);
    let x = Axis::around(points().map(|(level, _)| *level), Scale::Linear, LEFT, right);
    let y = Axis::around(points().flat_map(|(_, e)| ends(e)), scale, SIZE.1 - BOTTOM, TOP);
    let mut drawing = Drawing::new(SIZE.0, SIZE.1);
    draw_frame(&mut drawing, chart, &x, &y, right);
    for line in &lines {
        draw_line(&mut drawing, line, &x, &y);
    }
    draw_names(&mut drawing, &lines, &y, right);
    drawing.finish(&chart.title, &format!("{}: {} over {}", chart.title, chart.y_label, chart.x_label))
}

fn draw_frame(drawing: &mut Drawing, chart: &LineChart, x: &Axis, y: &Axis, right: f64) {
    let bottom = SIZE.1 - BOTTOM;
    let muted = Lettering::new(FONT - 1.0, Colour::Muted);
    let mut grid = String::new();
    for (value, text) in y.ticks(5) {
        let at = y.at(value);
        grid.push_str(&segment((LEFT, at), (right, at)));
        drawing.text((LEFT - 7.0, at + 4.0), &text, muted.anchored(Anchor::End));
    }
    drawing.path(&grid, Stroke::new(Colour::Line, 1.0));
    let mut marks = segment((LEFT, bottom), (right, bottom));
    for (value, text) in x.ticks(6) {
        let at = x.at(value);
        marks.push_str(&segment((at, bottom), (at, bottom + 4.0)));
        drawing.text((at, bottom + 17.0), &text, muted.anchored(Anchor::Middle));
    }
    drawing.path(&marks, Stroke::new(Colour::Muted, 1.0));
    let title = Lettering::new(FONT, Colour::Ink);
    drawing.text((6.0, 16.0), &chart.y_label, title);
    drawing.text((right, SIZE.1 - 8.0), &format!("{} →", chart.x_label), title.anchored(Anchor::End));
}

fn draw_line(drawing: &mut Drawing, line: &Line<'_>, x: &Axis, y: &Axis) {
    let places = line.means.iter().map(|(level, mean)| (x.at(*level), y.at(*mean)));
    if let SeriesKind::Bound { .. } = line.series.kind {
        drawing.path(&through(places), Stroke::dashed(line.colour, 1.6));
        return;
    }
    let has_interval = |e: &Estimate| e.lower < e.upper && e.lower.is_finite() && e.upper.is_finite();
    if line.is_single() && line.points.len() > 1 && line.points.iter().all(|(_, e)| has_interval(e)) {
        let upper = line.points.iter().map(|(level, e)| (x.at(*level), y.at(e.upper)));
        let lower = line.points.iter().rev().map(|(level, e)| (x.at(*level), y.at(e.lower)));
        drawing.area(&format!("{}Z", through(upper.chain(lower))), line.colour, 0.16);
    } else {
        let whiskers = line.points.iter().filter(|(_, e)| has_interval(e));
        let whiskers = whiskers.map(|(level, e)| segment((x.at(*level), y.at(e.lower)), (x.at(*level), y.at(e.upper))));
        drawing.path(&whiskers.collect::<String>(), Stroke::new(line.colour, 1.0));
    }
    drawing.path(&through(places), Stroke::new(line.colour, 2.0));
    for (level, e) in &line.points {
        drawing.circle((x.at(*level), y.at(e.value)), 3.5, line.colour, "");
    }
}

/// Writes each line's name at its end, moved apart where ends are close.
fn draw_names(drawing: &mut Drawing, lines: &[Line<'_>], y: &Axis, right: f64) {
    let mut names: Vec<(f64, &Line<'_>)> =
        lines.iter().filter_map(|line| Some((y.at(line.means.last()?.1), line))).collect();
    names.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (step, lowest) = (FONT + 3.0, SIZE.1 - BOTTOM + 4.0);
    let mut free = TOP - step;
    for (at, _) in &mut names {
        *at = at.max(free + step);
        free = *at;
    }
    let mut free = lowest + step;
    for (at, _) in names.iter_mut().rev() {
        *at = at.min(free - step);
        free = *at;
    }
    for (at, line) in names {
        let name = shortened(&line.series.name, LABEL_LETTERS);
        drawing.text((right + 8.0, at + 4.0), &name, Lettering::new(FONT, line.colour));
    }
}
