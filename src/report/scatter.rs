//! Scatter plots with intervals in both directions: a large one whose points are named, and small ones to compare.

use super::{
    axis::{Axis, Scale},
    colour::Colour,
    svg::{Anchor, Drawing, Figure, Lettering, Place, Stroke, segment, shortened, width_of},
    words,
};
use crate::stats::{Coefficient, Estimate};

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
const SIZE: Place = (440.0, 350.0);
const LEFT: f64 = 56.0;
const TOP: f64 = 26.0;
const RIGHT: f64 = 12.0;
const BOTTOM: f64 = 44.0;
const FONT: f64 = 12.0;
/// Longer names are cut in the plot; the table has them whole.
const LABEL_LETTERS: usize = 18;
/// With more sources only ranks are written.
const MOST_NAMES: usize = 12;
/// With more sources nothing is written: there would be no room.
const MOST_LABELS: usize = 100;

const SMALL: Place = (216.0, 196.0);
const SMALL_LEFT: f64 = 38.0;
const SMALL_TOP: f64 = 50.0;
const SMALL_BOTTOM: f64 = 22.0;
const SMALL_FONT: f64 = 10.5;
/// With more sources the intervals of small plots would hide the points.
const MOST_INTERVALS: usize = 40;
/// With more sources the points of small plots have no names for a pointer over them.
const MOST_TITLES: usize = 40;

/// A rectangle in pixels: left, top, right, bottom.
type Rectangle = (f64, f64, f64, f64);

/// The plane of a plot.
struct Plane {
    x: Axis,
    y: Axis,
}

impl Plane {
    fn new(points: &[Point], (left, top, right, bottom): Rectangle) -> Plane {
        let ends = |e: &Estimate| [e.lower, e.value, e.upper];
        Plane {
            x: Axis::around(points.iter().flat_map(|point| ends(&point.x)), Scale::Linear, left, right),
            y: Axis::around(points.iter().flat_map(|point| ends(&point.y)), Scale::Linear, bottom, top),
        }
    }

    fn at(&self, point: &Point) -> Place {
        (self.x.at(point.x.value), self.y.at(point.y.value))
    }

    fn intervals(&self, points: &[Point]) -> String {
        let lines = points.iter().flat_map(|point| {
            let (x, y) = self.at(point);
            [
                ((self.x.at(point.x.lower), y), (self.x.at(point.x.upper), y)),
                ((x, self.y.at(point.y.lower)), (x, self.y.at(point.y.upper))),
            ]
        });
        lines.filter(|(from, to)| from != to).map(|(from, to)| segment(from, to)).collect()
    }
}

/// Draws points, all finite, with their names.
pub fn draw(points: &[Point], x_label: &str, y_label: &str) -> Figure {
    let mut drawing = Drawing::new(SIZE.0, SIZE.1);
    let (right, bottom) = (SIZE.0 - RIGHT, SIZE.1 - BOTTOM);
    let plane = Plane::new(points, (LEFT, TOP, right, bottom));
    let muted = Lettering::new(FONT - 1.0, Colour::Muted);
    let mut grid = String::new();
    for (value, text) in plane.x.ticks(5) {
        let x = plane.x.at(value);
        grid.push_str(&segment((x, TOP), (x, bottom)));
        drawing.text((x, bottom + 16.0), &text, muted.anchored(Anchor::Middle));
    }
    for (value, text) in plane.y.ticks(5) {
        let y = plane.y.at(value);
        grid.push_str(&segment((LEFT, y), (right, y)));
        drawing.text((LEFT - 7.0, y + 4.0), &text, muted.anchored(Anchor::End));
    }
    drawing.path(&grid, Stroke::new(Colour::Line, 1.0));
    let title = Lettering::new(FONT, Colour::Ink);
    drawing.text((6.0, 14.0), &format!("{y_label} ↑"), title);
    drawing.text((right, SIZE.1 - 8.0), &format!("{x_label} →"), title.anchored(Anchor::End));
    drawing.path(&plane.intervals(points), Stroke::new(Colour::Interval, 2.0));
    for point in points {
        drawing.circle(plane.at(point), 4.5, Colour::Accent, &point.name);
    }
    if points.len() <= MOST_LABELS {
        draw_labels(&mut drawing, &plane, points);
    }
    drawing.finish(&format!("{x_label} and {y_label}"), &format!("{x_label} of each source, against {y_label}"))
}

/// Writes each point's label where it touches no point, interval or other label; where no place is free, the rank alone.
fn draw_labels(drawing: &mut Drawing, plane: &Plane, points: &[Point]) {
    let mut taken: Vec<Rectangle> = Vec::with_capacity(4 * points.len());
    for point in points {
        let (x, y) = plane.at(point);
        taken.push((x - 5.0, y - 5.0, x + 5.0, y + 5.0));
        taken.push((plane.x.at(point.x.lower), y - 1.5, plane.x.at(point.x.upper), y + 1.5));
        taken.push((x - 1.5, plane.y.at(point.y.upper), x + 1.5, plane.y.at(point.y.lower)));
    }
    for point in points {
        let dot = plane.at(point);
        let rank = point.rank.to_string();
        let full = format!("{rank} {}", shortened(&point.name, LABEL_LETTERS));
        let texts = if points.len() <= MOST_NAMES { vec![full, rank.clone()] } else { vec![rank.clone()] };
        let free = texts.into_iter().find_map(|text| {
            let place =
                places(dot, &text).into_iter().find(|place| fits(*place) && !taken.iter().any(|t| overlap(*t, *place)));
            Some((text, place?))
        });
        let (text, place) = free.unwrap_or_else(|| {
            let place = beside(dot, &rank);
            (rank, place)
        });
        drawing.text((place.0, place.3 - 2.0), &text, Lettering::new(FONT, Colour::Ink));
        taken.push(place);
    }
}

/// Where a label may stand around a point, best first.
fn places((x, y): Place, text: &str) -> Vec<Rectangle> {
    let (width, height) = (width_of(text, FONT), FONT + 1.0);
    let corners = [
        (x + 7.0, y - height - 3.0),
        (x + 7.0, y + 4.0),
        (x - 7.0 - width, y - height - 3.0),
        (x - 7.0 - width, y + 4.0),
        (x - width / 2.0, y - height - 24.0),
        (x - width / 2.0, y + 24.0),
    ];
    corners.into_iter().map(|(left, top)| (left, top, left + width, top + height)).collect()
}

fn beside((x, y): Place, text: &str) -> Rectangle {
    (x + 7.0, y - FONT - 4.0, x + 7.0 + width_of(text, FONT), y - 3.0)
}

fn fits((left, top, right, bottom): Rectangle) -> bool {
    left >= LEFT + 2.0 && top >= TOP && right <= SIZE.0 - 2.0 && bottom <= SIZE.1 - BOTTOM
}

fn overlap(a: Rectangle, b: Rectangle) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}

/// Draws points, all finite, as one of many small plots that are alike: what is above is said in its title.
pub fn draw_small(points: &[Point], x_label: &str, y_label: &str, spearman: Option<Coefficient>) -> Figure {
    let mut drawing = Drawing::new(SMALL.0, SMALL.1);
    let (right, bottom) = (SMALL.0 - 6.0, SMALL.1 - SMALL_BOTTOM);
    let plane = Plane::new(points, (SMALL_LEFT, SMALL_TOP, right, bottom));
    let muted = Lettering::new(SMALL_FONT - 1.0, Colour::Muted);
    let mut grid = String::new();
    for (value, text) in plane.x.ticks(3) {
        let x = plane.x.at(value);
        grid.push_str(&segment((x, SMALL_TOP), (x, bottom)));
        drawing.text((x, bottom + 13.0), &text, muted.anchored(Anchor::Middle));
    }
    for (value, text) in plane.y.ticks(3) {
        let y = plane.y.at(value);
        grid.push_str(&segment((SMALL_LEFT, y), (right, y)));
        drawing.text((SMALL_LEFT - 4.0, y + 3.5), &text, muted.anchored(Anchor::End));
    }
    drawing.path(&grid, Stroke::new(Colour::Line, 0.8));
    drawing.text((2.0, 12.0), &shortened(x_label, 32), Lettering::new(SMALL_FONT + 1.0, Colour::Ink).bold());
    drawing.text((2.0, 26.0), &coefficient(spearman), Lettering::new(SMALL_FONT, Colour::Ink));
    drawing.text((2.0, 43.0), &format!("{} ↑", shortened(y_label, 36)), muted);
    if points.len() <= MOST_INTERVALS {
        drawing.path(&plane.intervals(points), Stroke::new(Colour::Interval, 1.2));
    }
    let radius = if points.len() <= MOST_INTERVALS { 3.0 } else { 1.8 };
    for point in points {
        let title = if points.len() <= MOST_TITLES { point.name.as_str() } else { "" };
        drawing.circle(plane.at(point), radius, Colour::Accent, title);
    }
    drawing.finish(
        &format!("{x_label} and {y_label}, small"),
        &format!("{x_label} against {y_label}: {}", coefficient(spearman)),
    )
}

/// "Spearman 0.87 (0.16 to 1.00)".
fn coefficient(spearman: Option<Coefficient>) -> String {
    match spearman {
        None => "no rank correlation".to_owned(),
        Some(Coefficient { value, interval: None, .. }) => format!("Spearman {}", words::signed(value)),
        Some(Coefficient { value, interval: Some((lower, upper)), .. }) => {
            format!("Spearman {} ({} to {})", words::signed(value), words::signed(lower), words::signed(upper))
        }
    }
}
