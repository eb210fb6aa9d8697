//! A scatter plot with intervals in both directions, as inline SVG.
//!
//! Colours are variables of the page, so that the chart follows its light or dark scheme.

use std::ops::Range;

use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, ChartContext, Circle, DrawingArea, DrawingBackend, IntoDrawingArea as _, PathElement, RGBColor,
        SVGBackend, Text,
    },
    style::{Color as _, IntoFont as _, TextStyle},
};

use super::ReportError;
use crate::stats::Estimate;

/// A source in the plot.
pub struct Point {
    pub rank: usize,
    pub name: String,
    pub x: Estimate,
    pub y: Estimate,
}

impl Point {
    /// Whether it can be drawn.
    pub fn is_finite(&self) -> bool {
        [&self.x, &self.y].into_iter().all(|e| e.value.is_finite() && e.lower.is_finite() && e.upper.is_finite())
    }
}

/// Narrow enough that text stays legible on a phone.
const SIZE: (u32, u32) = (420, 340);
const FONT_PIXELS: u32 = 12;
/// The SVG backend divides sizes by this.
const FONT_SCALE: f64 = 1.24;
/// Rough width of a letter; the plot needs only not to let labels touch.
const LETTER_PIXELS: i32 = 7;
/// Longer names are cut in the plot; the table has them whole.
const LABEL_LETTERS: usize = 18;
/// With more sources only ranks are written.
const MOST_NAMES: usize = 12;

/// Stand-ins that become the page's own colours.
const INK: RGBColor = RGBColor(1, 1, 1);
const MUTED: RGBColor = RGBColor(2, 2, 2);
const GRID: RGBColor = RGBColor(3, 3, 3);
const ACCENT: RGBColor = RGBColor(4, 4, 4);
const COLOURS: [(&str, &str); 4] = [
    ("\"#010101\"", "\"var(--ink)\""),
    ("\"#020202\"", "\"var(--muted)\""),
    ("\"#030303\"", "\"var(--line)\""),
    ("\"#040404\"", "\"var(--accent)\""),
];

/// A rectangle in pixels: left, top, right, bottom.
type Rectangle = (i32, i32, i32, i32);
type Plane<'a> = ChartContext<
    'a,
    SVGBackend<'a>,
    plotters::coord::cartesian::Cartesian2d<
        plotters::coord::types::RangedCoordf64,
        plotters::coord::types::RangedCoordf64,
    >,
>;

/// Draws points, all finite.
///
/// # Errors
/// Only where the drawing library fails.
pub fn draw(points: &[Point], x_label: &str, y_label: &str) -> Result<String, ReportError> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        draw_plot(&area, points, x_label, y_label).map_err(|error| ReportError::Chart(error.to_string()))?;
        area.present().map_err(|error| ReportError::Chart(error.to_string()))?;
    }
    // Texts are escaped, so that a quoted colour can only be an attribute.
    Ok(COLOURS.iter().fold(svg, |svg, (stand_in, colour)| svg.replace(stand_in, colour)))
}

type DrawResult =
    Result<(), plotters::drawing::DrawingAreaErrorKind<<SVGBackend<'static> as DrawingBackend>::ErrorType>>;

fn draw_plot<'a>(
    area: &DrawingArea<SVGBackend<'a>, Shift>,
    points: &[Point],
    x_label: &str,
    y_label: &str,
) -> DrawResult {
    let mut plane = ChartBuilder::on(area)
        .margin(8)
        .margin_right(14)
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d(range(points.iter().map(|point| &point.x)), range(points.iter().map(|point| &point.y)))?;
    plane
        .configure_mesh()
        .x_labels(6)
        .y_labels(6)
        .x_desc(x_label)
        .y_desc(y_label)
        .axis_style(MUTED)
        .bold_line_style(GRID)
        .light_line_style(RGBColor(0, 0, 0).mix(0.0))
        .label_style(style(&MUTED))
        .axis_desc_style(style(&INK))
        .draw()?;
    for Point { x, y, .. } in points {
        plane.draw_series([
            PathElement::new([(x.lower, y.value), (x.upper, y.value)], MUTED),
            PathElement::new([(x.value, y.lower), (x.value, y.upper)], MUTED),
        ])?;
    }
    plane.draw_series(points.iter().map(|point| Circle::new((point.x.value, point.y.value), 4, ACCENT.filled())))?;
    draw_labels(area, &plane, points)
}

/// Writes each point's label where it touches no point, interval or other label; where no place is free, the rank alone.
fn draw_labels<'a>(area: &DrawingArea<SVGBackend<'a>, Shift>, plane: &Plane<'a>, points: &[Point]) -> DrawResult {
    let dots: Vec<(i32, i32)> =
        points.iter().map(|point| plane.backend_coord(&(point.x.value, point.y.value))).collect();
    let mut taken: Vec<Rectangle> = Vec::with_capacity(4 * points.len());
    for (Point { x, y, .. }, &dot) in points.iter().zip(&dots) {
        let (left, bottom) = plane.backend_coord(&(x.lower, y.lower));
        let (right, top) = plane.backend_coord(&(x.upper, y.upper));
        taken.push((dot.0 - 5, dot.1 - 5, dot.0 + 5, dot.1 + 5));
        taken.push((left, dot.1 - 1, right, dot.1 + 1));
        taken.push((dot.0 - 1, top, dot.0 + 1, bottom));
    }
    for (point, &dot) in points.iter().zip(&dots) {
        let rank = point.rank.to_string();
        let full = format!("{rank} {}", shorten(&point.name));
        let texts = if points.len() <= MOST_NAMES { vec![full, rank.clone()] } else { vec![rank.clone()] };
        let free = texts.into_iter().find_map(|text| {
            let places = places(dot, &text);
            let place = places.into_iter().find(|&place| fits(place) && !taken.iter().any(|t| overlap(*t, place)))?;
            Some((text, place))
        });
        let (text, place) = free.unwrap_or_else(|| {
            let place = beside(dot, &rank);
            (rank, place)
        });
        taken.push(place);
        area.draw(&Text::new(text, (place.0, place.1), style(&INK)))?;
    }
    Ok(())
}

fn style(colour: &'static RGBColor) -> TextStyle<'static> {
    ("sans-serif", f64::from(FONT_PIXELS) * FONT_SCALE).into_font().color(colour)
}

/// An axis that holds all intervals, with room around them.
fn range<'a>(estimates: impl Iterator<Item = &'a Estimate>) -> Range<f64> {
    let (low, high) = estimates.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), e| {
        (low.min(e.lower).min(e.value), high.max(e.upper).max(e.value))
    });
    // All values equal: any width will do.
    let room = if high > low { 0.08 * (high - low) } else { 0.1 * high.abs().max(0.1) };
    low - room..high + room
}

fn shorten(name: &str) -> String {
    if name.chars().count() <= LABEL_LETTERS {
        return name.to_owned();
    }
    // From the middle: names of one series tend to differ at their ends.
    let letters: Vec<char> = name.chars().collect();
    let (front, back) = (LABEL_LETTERS / 2, LABEL_LETTERS - LABEL_LETTERS / 2 - 1);
    let tail = letters.iter().skip(letters.len() - back);
    letters.iter().take(front).chain(&['…']).chain(tail).collect()
}

/// Where a label may stand around a point, best first.
fn places(dot: (i32, i32), text: &str) -> Vec<Rectangle> {
    let (x, y) = dot;
    let (width, height) = (text.chars().count() as i32 * LETTER_PIXELS, FONT_PIXELS as i32);
    let corners = [
        (x + 7, y - height - 3),
        (x + 7, y + 4),
        (x - 7 - width, y - height - 3),
        (x - 7 - width, y + 4),
        (x - width / 2, y - height - 24),
        (x - width / 2, y + 24),
    ];
    corners.into_iter().map(|(left, top)| (left, top, left + width, top + height)).collect()
}

fn beside(dot: (i32, i32), text: &str) -> Rectangle {
    let width = text.chars().count() as i32 * LETTER_PIXELS;
    (dot.0 + 7, dot.1 - FONT_PIXELS as i32 - 3, dot.0 + 7 + width, dot.1 - 3)
}

fn fits((left, top, right, bottom): Rectangle) -> bool {
    left >= 64 && top >= 4 && right <= SIZE.0 as i32 - 4 && bottom <= SIZE.1 as i32 - 52
}

fn overlap(a: Rectangle, b: Rectangle) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}
