//! The colours of pages and figures, for a light and a dark scheme.
//!
//! On a page a colour is a variable that follows the reader's scheme; a figure that stands alone has the light scheme's own.

use std::fmt;

/// A colour by its purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    Ink,
    Muted,
    Line,
    Band,
    Accent,
    Interval,
    Chance,
    /// A step of the scale for values, 0 to [`HEAT_STEPS`] − 1.
    Heat(usize),
    /// Text on the lower half of that scale, and on the upper half.
    OnLow,
    OnHigh,
    /// A colour of its own for each number, repeating after eight.
    Group(usize),
}

/// Steps of the scale for values: more than an eye tells apart side by side.
pub const HEAT_STEPS: usize = 33;

/// Name, light, dark.
const NAMED: [(&str, &str, &str); 10] = [
    ("page", "#ffffff", "#14171b"),
    ("ink", "#1b1f24", "#e8eaed"),
    ("muted", "#59636e", "#a4adb8"),
    ("line", "#d5dae0", "#363d46"),
    ("band", "#f4f6f8", "#1d2127"),
    ("accent", "#0b5cad", "#7db8f5"),
    ("interval", "#8db8e3", "#2f5f93"),
    ("chance", "#b3261e", "#ff8a80"),
    ("on-low", "#10141a", "#f4f6f8"),
    ("on-high", "#ffffff", "#10141a"),
];

/// Told apart by people who see few colours too (after Okabe and Ito 2008).
const GROUPS: [(&str, &str); 8] = [
    ("#0072b2", "#5ab0e6"),
    ("#d55e00", "#ff9a57"),
    ("#009e73", "#3fcf9f"),
    ("#b5488f", "#e79ac3"),
    ("#b88600", "#f2c14e"),
    ("#3aa0d8", "#a5dcff"),
    ("#6b6b2a", "#c9c77a"),
    ("#6b6f76", "#b3b8c0"),
];

/// Dark to light, each as much lighter than the one before (Waskom's mako).
const MAKO: [[f64; 3]; 8] = [
    [11.0, 4.0, 5.0],
    [46.0, 30.0, 59.0],
    [65.0, 61.0, 123.0],
    [55.0, 101.0, 158.0],
    [52.0, 143.0, 167.0],
    [64.0, 183.0, 173.0],
    [139.0, 218.0, 178.0],
    [222.0, 245.0, 229.0],
];
/// The parts of that scale from the least to the largest value, so that both ends stand out from the page.
const LIGHT_SCALE: (f64, f64) = (1.0, 0.13);
const DARK_SCALE: (f64, f64) = (0.17, 0.97);

impl Colour {
    /// The step for a place along the scale, 0..1.
    pub fn heat(share: f64) -> Colour {
        let last = (HEAT_STEPS - 1) as f64;
        Colour::Heat(if share.is_finite() { (share.clamp(0.0, 1.0) * last).round() as usize } else { 0 })
    }

    /// The colour of text on this one.
    pub fn text(self) -> Colour {
        match self {
            Colour::Heat(step) if 2 * step > HEAT_STEPS => Colour::OnHigh,
            Colour::Heat(_) => Colour::OnLow,
            _ => Colour::Ink,
        }
    }
}

impl fmt::Display for Colour {
    /// As the value of an attribute on a page.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Colour::Ink => "ink",
            Colour::Muted => "muted",
            Colour::Line => "line",
            Colour::Band => "band",
            Colour::Accent => "accent",
            Colour::Interval => "interval",
            Colour::Chance => "chance",
            Colour::OnLow => "on-low",
            Colour::OnHigh => "on-high",
            Colour::Heat(step) => return write!(f, "var(--h{step})"),
            Colour::Group(number) => return write!(f, "var(--g{})", number % GROUPS.len()),
        };
        write!(f, "var(--{name})")
    }
}

/// The variables of both schemes as a style sheet.
pub fn style_sheet() -> String {
    let scheme =
        |is_dark: bool| -> String { variables(is_dark).map(|(name, colour)| format!("--{name}:{colour};")).collect() };
    format!(
        ":root{{color-scheme:light dark;{}}}@media (prefers-color-scheme: dark){{:root{{{}}}}}",
        scheme(false),
        scheme(true)
    )
}

/// An SVG whose colours are the light scheme's own. Its texts are escaped, so that a quoted variable can only be an attribute.
pub fn literal(svg: &str) -> String {
    variables(false).fold(svg.to_owned(), |svg, (name, colour)| {
        svg.replace(&format!("\"var(--{name})\""), &format!("\"{colour}\""))
    })
}

fn variables(is_dark: bool) -> impl Iterator<Item = (String, String)> {
    let of = move |light: &str, dark: &str| if is_dark { dark.to_owned() } else { light.to_owned() };
    let named = NAMED.iter().map(move |(name, light, dark)| ((*name).to_owned(), of(light, dark)));
    let groups = GROUPS.iter().enumerate().map(move |(index, (light, dark))| (format!("g{index}"), of(light, dark)));
    let (from, to) = if is_dark { DARK_SCALE } else { LIGHT_SCALE };
    let heat = (0..HEAT_STEPS).map(move |step| {
        let share = step as f64 / (HEAT_STEPS - 1) as f64;
        (format!("h{step}"), mako(from + (to - from) * share))
    });
    named.chain(groups).chain(heat)
}

fn mako(place: f64) -> String {
    let position = place.clamp(0.0, 1.0) * (MAKO.len() - 1) as f64;
    let below = position.floor() as usize;
    let black = [0.0; 3];
    let (low, high) = (MAKO.get(below).unwrap_or(&black), MAKO.get(below + 1).or(MAKO.last()).unwrap_or(&black));
    let parts = low.iter().zip(high).map(|(low, high)| (low + (high - low) * position.fract()).round() as u8);
    parts.fold("#".to_owned(), |text, part| format!("{text}{part:02x}"))
}
