//! A square matrix as a heat map, with the tree of its rows beside it where they are clustered.

use super::{
    axis::Axis,
    colour::{Colour, HEAT_STEPS},
    dendrogram::Tree,
    svg::{Anchor, Drawing, Figure, LETTER, Lettering, Place, Stroke, shortened, through, width_of},
    words,
};

/// What a heat map shows.
pub struct HeatMap<'a> {
    /// In words: "alpha1".
    pub name: &'a str,
    /// What a row is, and what a column is: "attacked" and "read on".
    pub axes: [&'a str; 2],
    /// Of all rows and columns.
    pub names: &'a [String],
    /// Finite or not.
    pub values: &'a [Vec<f64>],
    /// What a pointer over a cell is told; may be empty.
    pub titles: &'a [Vec<String>],
    /// Cells that chance explains.
    pub is_chance: &'a [Vec<bool>],
    /// The order of rows and columns.
    pub order: &'a [usize],
    /// The cluster of each row: between different ones there is a gap.
    pub clusters: &'a [usize],
    /// The known group of each row, and the groups' names; may be empty.
    pub groups: &'a [usize],
    pub group_names: &'a [String],
    pub tree: Option<Tree<'a>>,
}

const FONT: f64 = 12.0;
/// Longer names are cut in the figure; the table has them whole.
const LABEL_LETTERS: usize = 20;
/// Smaller cells have no numbers.
const LEAST_WRITTEN: f64 = 28.0;
const TREE_WIDTH: f64 = 130.0;
/// The strip of the known groups.
const STRIP: f64 = 6.0;
const GAP: f64 = 3.0;
const LEGEND_WIDTH: f64 = 180.0;
/// What the mark of chance takes beside the scale.
const CHANCE_WIDTH: f64 = 100.0;
/// Of the scale of colours below the cells.
const LEGEND_HEIGHT: f64 = 62.0;
const GROUP_HEIGHT: f64 = 18.0;
const GROUP_FONT: f64 = 11.0;
const MARGIN: f64 = 8.0;

/// The range of colours.
struct Range {
    low: f64,
    high: f64,
    decimals: usize,
}

impl Range {
    /// That of the values off the diagonal, which is another matter. From zero on, unless the values differ by little.
    fn of(map: &HeatMap<'_>) -> Range {
        let rows = map.values.iter().enumerate();
        let off = rows.flat_map(|(row, values)| values.iter().enumerate().filter(move |(column, _)| *column != row));
        let ends = off.map(|(_, value)| *value).filter(|value| value.is_finite());
        let (low, high) = ends.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let low = if low > 0.0 && low < high / 2.0 { 0.0 } else { low };
        let high = if high > low { high } else { low + low.abs().max(1.0) };
        let decimals = (2.3 - high.abs().max(low.abs()).log10()).floor().clamp(0.0, 4.0) as usize;
        Range { low, high, decimals: decimals.max(1) }
    }

    fn colour(&self, value: f64) -> Colour {
        Colour::heat((value - self.low) / (self.high - self.low))
    }

    /// A number for a cell, without the zero before its point.
    fn text(&self, value: f64) -> String {
        let text = format!("{value:.*}", self.decimals);
        text.strip_prefix("0.").map_or(text.clone(), |rest| format!(".{rest}"))
    }
}

/// The places of the figure's parts.
struct Layout {
    cell: f64,
    /// Left and top of the cells.
    left: f64,
    top: f64,
    /// Where each row, and column, begins, and the end of the last.
    starts: Vec<f64>,
    side: f64,
}

impl Layout {
    fn new(map: &HeatMap<'_>) -> Layout {
        let k = map.order.len();
        let cell = match k {
            ..=6 => 48.0,
            7..=10 => 40.0,
            11..=16 => 34.0,
            17..=24 => 28.0,
            25..=40 => 18.0,
            _ => 13.0,
        };
        let longest = map.names.iter().map(|name| name.chars().count().min(LABEL_LETTERS)).max().unwrap_or(0);
        let labels = longest as f64 * label_font(cell) * LETTER + 14.0;
        let mut starts = Vec::with_capacity(k);
        let (mut at, mut before) = (0.0, None);
        for member in map.order {
            let cluster = map.clusters.get(*member);
            if before.is_some_and(|before| before != cluster) {
                at += GAP;
            }
            before = Some(cluster);
            starts.push(at);
            at += cell;
        }
        let tree = if map.tree.is_some() { TREE_WIDTH } else { 0.0 };
        Layout { cell, left: MARGIN + tree + labels + STRIP + 4.0, top: labels + STRIP + 26.0, starts, side: at }
    }
}

fn label_font(cell: f64) -> f64 {
    (cell - 2.0).clamp(9.0, FONT)
}

/// Draws the map.
pub fn draw(map: &HeatMap<'_>) -> Figure {
    let layout = Layout::new(map);
    let range = Range::of(map);
    let width = (layout.left + layout.side + MARGIN).max(2.0 * MARGIN + LEGEND_WIDTH + CHANCE_WIDTH);
    let legend = group_legend(map, width);
    let n_rows = legend.iter().map(|(_, row, _)| row + 1).max().unwrap_or(0);
    let top = layout.top + layout.side + LEGEND_HEIGHT;
    let mut drawing = Drawing::new(width, top + n_rows as f64 * GROUP_HEIGHT);
    draw_labels(&mut drawing, map, &layout);
    draw_cells(&mut drawing, map, &layout, &range);
    if let Some(tree) = &map.tree {
        let middles: Vec<f64> = layout.starts.iter().map(|start| layout.top + start + layout.cell / 2.0).collect();
        tree.draw(&mut drawing, MARGIN, MARGIN + TREE_WIDTH - 6.0, &middles);
    }
    draw_legend(&mut drawing, map, &layout, &range);
    for (group, (left, row, name)) in legend.iter().enumerate() {
        let y = top + *row as f64 * GROUP_HEIGHT + 10.0;
        drawing.rectangle((*left, y - 9.0), (10.0, 10.0), Colour::Group(group), "");
        drawing.text((left + 14.0, y), name, Lettering::new(GROUP_FONT, Colour::Ink));
    }
    let [row, column] = map.axes;
    let label = format!("Heat map of {}: rows {row}, columns {column}", map.name);
    drawing.finish(&format!("matrix {}", map.name), &label)
}

fn draw_labels(drawing: &mut Drawing, map: &HeatMap<'_>, layout: &Layout) {
    let Layout { cell, left, top, starts, side, .. } = layout;
    let lettering = Lettering::new(label_font(*cell), Colour::Ink);
    let caption = Lettering::new(10.0, Colour::Muted);
    drawing.text((*left, 12.0), map.name, Lettering::new(FONT + 1.0, Colour::Ink).bold());
    let [row, column] = map.axes;
    drawing.text((left + side, 12.0), column, caption.anchored(Anchor::End));
    drawing.text((left - STRIP - 8.0, top - STRIP - 6.0), row, caption.anchored(Anchor::End));
    for (member, start) in map.order.iter().zip(starts) {
        let name = map.names.get(*member).map_or(String::new(), |name| shortened(name, LABEL_LETTERS));
        let middle = start + cell / 2.0;
        drawing.text((left - STRIP - 6.0, top + middle + 4.0), &name, lettering.anchored(Anchor::End));
        drawing.text((left + middle + 4.0, top - STRIP - 5.0), &name, lettering.turned(-90.0));
        if let Some(group) = map.groups.get(*member) {
            let colour = Colour::Group(*group);
            drawing.rectangle((left - STRIP - 2.0, top + start), (STRIP - 2.0, *cell), colour, "");
            drawing.rectangle((left + start, top - STRIP - 2.0), (*cell, STRIP - 2.0), colour, "");
        }
    }
}

fn draw_cells(drawing: &mut Drawing, map: &HeatMap<'_>, layout: &Layout, range: &Range) {
    let Layout { cell, left, top, starts, .. } = layout;
    let size = (cell * 0.34).clamp(9.0, 12.5);
    let mut marks = String::new();
    for (row, y) in map.order.iter().zip(starts) {
        for (column, x) in map.order.iter().zip(starts) {
            let value = map.values.get(*row).and_then(|values| values.get(*column)).copied().unwrap_or(f64::NAN);
            let is_own = row == column;
            let fill = if is_own || !value.is_finite() { Colour::Band } else { range.colour(value) };
            let (x, y) = (left + x, top + y);
            let title = map.titles.get(*row).and_then(|titles| titles.get(*column)).map_or("", String::as_str);
            drawing.rectangle((x, y), (cell - 1.0, cell - 1.0), fill, title);
            let text = match value {
                value if !value.is_finite() => "–".to_owned(),
                value if is_own && (value == 0.0 || (value - 1.0).abs() < 1e-9) => words::plain(value),
                value => range.text(value),
            };
            if *cell >= LEAST_WRITTEN && width_of(&text, size) <= cell - 3.0 {
                let colour = if fill == Colour::Band { Colour::Muted } else { fill.text() };
                let middle = (x + (cell - 1.0) / 2.0, y + (cell - 1.0) / 2.0 + size * 0.36);
                drawing.text(middle, &text, Lettering::new(size, colour).anchored(Anchor::Middle));
            }
            let is_chance = map.is_chance.get(*row).and_then(|cells| cells.get(*column)).copied().unwrap_or(false);
            if is_chance && !is_own {
                marks.push_str(&corner((x + cell - 1.0, y), (cell * 0.2).clamp(3.5, 7.0)));
            }
        }
    }
    drawing.area(&marks, Colour::Chance, 1.0);
}

/// A small triangle in the right upper corner of a cell.
fn corner((x, y): Place, side: f64) -> String {
    format!("{}Z", through([(x - side, y), (x, y), (x, y + side)]))
}

/// The colours and what they stand for.
fn draw_legend(drawing: &mut Drawing, map: &HeatMap<'_>, layout: &Layout, range: &Range) {
    let small = Lettering::new(10.0, Colour::Muted);
    let top = layout.top + layout.side + 30.0;
    let left = layout.left.min(drawing.width() - MARGIN - LEGEND_WIDTH - CHANCE_WIDTH).max(MARGIN);
    let step = LEGEND_WIDTH / HEAT_STEPS as f64;
    for index in 0..HEAT_STEPS {
        // Overlapping a little, so that no seam shows.
        drawing.rectangle((left + index as f64 * step, top), (step + 0.6, 10.0), Colour::Heat(index), "");
    }
    let axis = Axis::between(range.low, range.high, left, left + LEGEND_WIDTH);
    for (value, text) in axis.ticks(4) {
        let x = axis.at(value);
        drawing.line((x, top + 10.0), (x, top + 13.0), Stroke::new(Colour::Muted, 1.0));
        drawing.text((x, top + 23.0), &text, small.anchored(Anchor::Middle));
    }
    if map.is_chance.iter().flatten().any(|is_chance| *is_chance) {
        let left = left + LEGEND_WIDTH + 16.0;
        drawing.area(&corner((left + 8.0, top + 2.0), 7.0), Colour::Chance, 1.0);
        drawing.text((left + 13.0, top + 9.0), "may be chance", small);
    }
}

/// Left end, row and name of each known group's entry.
fn group_legend(map: &HeatMap<'_>, width: f64) -> Vec<(f64, usize, String)> {
    let (mut left, mut row) = (MARGIN, 0);
    let names = map.group_names.iter().filter(|_| !map.groups.is_empty());
    names
        .map(|name| {
            let name = shortened(name, LABEL_LETTERS);
            let entry = 26.0 + width_of(&name, GROUP_FONT);
            if left > MARGIN && left + entry > width {
                (left, row) = (MARGIN, row + 1);
            }
            left += entry;
            (left - entry, row, name)
        })
        .collect()
}
