//! A figure written as SVG: the few shapes that charts are made of. Every text is escaped.

use std::fmt::Write as _;

use super::colour::{Colour, literal};

/// A place in pixels, from the top left.
pub type Place = (f64, f64);

/// Rough width of a letter in shares of the font's size: labels need only not to touch.
pub const LETTER: f64 = 0.56;

/// A figure that is being drawn.
pub struct Drawing {
    width: f64,
    height: f64,
    body: String,
}

/// How a line is drawn.
#[derive(Clone, Copy)]
pub struct Stroke {
    pub colour: Colour,
    pub width: f64,
    pub is_dashed: bool,
}

impl Stroke {
    pub fn new(colour: Colour, width: f64) -> Stroke {
        Stroke { colour, width, is_dashed: false }
    }

    pub fn dashed(colour: Colour, width: f64) -> Stroke {
        Stroke { colour, width, is_dashed: true }
    }
}

/// How a text is set.
#[derive(Clone, Copy)]
pub struct Lettering {
    pub size: f64,
    pub colour: Colour,
    pub anchor: Anchor,
    pub is_bold: bool,
    /// Degrees, clockwise.
    pub turned: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

impl Lettering {
    pub fn new(size: f64, colour: Colour) -> Lettering {
        Lettering { size, colour, anchor: Anchor::Start, is_bold: false, turned: 0.0 }
    }

    pub fn anchored(self, anchor: Anchor) -> Lettering {
        Lettering { anchor, ..self }
    }

    pub fn bold(self) -> Lettering {
        Lettering { is_bold: true, ..self }
    }

    pub fn turned(self, degrees: f64) -> Lettering {
        Lettering { turned: degrees, ..self }
    }
}

impl Drawing {
    pub fn new(width: f64, height: f64) -> Drawing {
        Drawing { width, height, body: String::new() }
    }

    pub fn width(&self) -> f64 {
        self.width
    }

    /// A line along a path in SVG's notation, as [`segment`] writes it.
    pub fn path(&mut self, path: &str, stroke: Stroke) {
        if !path.is_empty() {
            let dashes = if stroke.is_dashed { r#" stroke-dasharray="4 3""# } else { "" };
            self.add(format_args!(
                r#"<path d="{path}" fill="none" stroke="{}" stroke-width="{}"{dashes}/>"#,
                stroke.colour,
                short(stroke.width)
            ));
        }
    }

    /// The inside of a path.
    pub fn area(&mut self, path: &str, colour: Colour, opacity: f64) {
        let opacity = short(opacity);
        self.add(format_args!(r#"<path d="{path}" fill="{colour}" fill-opacity="{opacity}"/>"#));
    }

    pub fn line(&mut self, from: Place, to: Place, stroke: Stroke) {
        self.path(&segment(from, to), stroke);
    }

    /// A rectangle by its top left corner and size; `title` is what a pointer over it is told.
    pub fn rectangle(&mut self, (x, y): Place, (width, height): Place, colour: Colour, title: &str) {
        let (x, y, width, height) = (short(x), short(y), short(width.max(0.0)), short(height.max(0.0)));
        self.add(format_args!(r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="{colour}""#));
        self.close("rect", title);
    }

    pub fn circle(&mut self, (x, y): Place, radius: f64, colour: Colour, title: &str) {
        self.add(format_args!(r#"<circle cx="{}" cy="{}" r="{}" fill="{colour}""#, short(x), short(y), short(radius)));
        self.close("circle", title);
    }

    /// A PNG image, given in base 64, by its top left corner and size.
    pub fn image(&mut self, (x, y): Place, (width, height): Place, png: &str) {
        let (x, y, width, height) = (short(x), short(y), short(width), short(height));
        self.add(format_args!(
            r#"<image x="{x}" y="{y}" width="{width}" height="{height}" preserveAspectRatio="xMidYMid meet" style="image-rendering:pixelated" href="data:image/png;base64,{png}"/>"#
        ));
    }

    /// A text from its baseline.
    pub fn text(&mut self, (x, y): Place, text: &str, lettering: Lettering) {
        let Lettering { size, colour, anchor, is_bold, turned } = lettering;
        let (x, y) = (short(x), short(y));
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => r#" text-anchor="middle""#,
            Anchor::End => r#" text-anchor="end""#,
        };
        let weight = if is_bold { r#" font-weight="600""# } else { "" };
        let turn =
            if turned == 0.0 { String::new() } else { format!(r#" transform="rotate({} {x} {y})""#, short(turned)) };
        self.add(format_args!(
            r#"<text x="{x}" y="{y}" font-size="{}" fill="{colour}"{anchor}{weight}{turn}>{}</text>"#,
            short(size),
            escaped(text)
        ));
    }

    /// The figure, with what a screen reader says of it.
    pub fn finish(self, name: &str, label: &str) -> Figure {
        let Drawing { width, height, body } = self;
        let (width, height) = (width.ceil(), height.ceil());
        let svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{}" font-family="system-ui,Helvetica,Arial,sans-serif">{body}</svg>"#,
            escaped(label)
        );
        Figure { name: slug(name), svg }
    }

    fn close(&mut self, element: &str, title: &str) {
        if title.is_empty() {
            self.body.push_str("/>");
        } else {
            self.add(format_args!("><title>{}</title></{element}>", escaped(title)));
        }
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        let _always_written = self.body.write_fmt(text);
    }
}

/// A figure of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// The name of its file, without an ending.
    pub name: String,
    /// With the page's colours.
    svg: String,
}

impl Figure {
    /// For a page that has the variables of [`super::colour::style_sheet`].
    pub fn inline(&self) -> &str {
        &self.svg
    }

    /// A file of its own.
    pub fn standalone(&self) -> String {
        format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n", literal(&self.svg))
    }
}

/// A straight piece of a path.
pub fn segment(from: Place, to: Place) -> String {
    format!("M{} {}L{} {}", short(from.0), short(from.1), short(to.0), short(to.1))
}

/// A path through places.
pub fn through(places: impl IntoIterator<Item = Place>) -> String {
    let steps = places.into_iter().enumerate();
    steps.map(|(index, (x, y))| format!("{}{} {}", if index == 0 { 'M' } else { 'L' }, short(x), short(y))).collect()
}

/// A length with at most two decimals.
pub fn short(value: f64) -> String {
    let text = format!("{:.2}", if value.is_finite() { value } else { 0.0 });
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A text that is nothing but text in HTML and SVG, attributes included.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Not allowed in XML, not even as a reference.
            letter if letter.is_control() => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A name for a file: small letters, digits and dashes.
pub fn slug(text: &str) -> String {
    let words = text.replace('²', "2");
    let words = words.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("-");
    slug.chars().take(SLUG_LETTERS).collect()
}

/// Longest name of a file.
const SLUG_LETTERS: usize = 80;

/// A name that fits, cut in the middle: names of one series tend to differ at their ends.
pub fn shortened(name: &str, most: usize) -> String {
    let letters: Vec<char> = name.chars().collect();
    if letters.len() <= most {
        return name.to_owned();
    }
    let front = most / 2;
    let tail = letters.iter().skip(letters.len() - (most - front - 1));
    letters.iter().take(front).chain(&['…']).chain(tail).collect()
}

/// Rough width of a text.
pub fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * LETTER
}
