//! Samples, what an attack adds to them, and what comes out.

use askama::Template;

use super::{
    ReportError, Section,
    colour::Colour,
    image::Picture,
    svg::{Anchor, Drawing, Figure, Lettering, shortened},
    words,
};

/// Attacked samples to look at.
#[derive(Clone, Debug, PartialEq)]
pub struct ExamplesReport {
    /// The attacked model.
    pub model: String,
    /// In words: "PGD, L∞, epsilon 0.031".
    pub attack: String,
    pub examples: Vec<Example>,
}

/// A sample before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// Its place in the dataset.
    pub index: usize,
    pub clean: Picture,
    /// Of the same size.
    pub adversarial: Picture,
    /// What the model makes of it before and after, where it has classes.
    pub classes: Option<(String, String)>,
    /// What it is, where that is known.
    pub label: Option<String>,
    pub l2_norm: f64,
    pub linf_norm: f64,
}

/// Side of a picture in the figure, in pixels.
const SIDE: f64 = 108.0;
const GAP: f64 = 8.0;
const FONT: f64 = 11.0;
const TOP: f64 = 18.0;
/// Longer names of classes are cut in the figure.
const LABEL_LETTERS: usize = 17;

#[derive(Template)]
#[template(path = "examples.html")]
struct Body<'a> {
    report: &'a ExamplesReport,
    factor: String,
    figures: Vec<(Figure, String)>,
    changed: Option<(usize, usize)>,
}

/// The samples, their perturbations amplified by one factor for all, and the attacked samples.
///
/// # Errors
/// Only where the template fails, which no input makes it do.
pub fn examples_section(report: &ExamplesReport) -> Result<Section, ReportError> {
    let factor = amplification(&report.examples);
    let figures = report.examples.iter().map(|example| (draw(example, factor), caption(example))).collect();
    let classes = report.examples.iter().filter_map(|example| example.classes.as_ref());
    let (changed, judged) =
        classes.fold((0, 0), |(changed, judged), (before, after)| (changed + usize::from(before != after), judged + 1));
    let changed = (judged > 0).then_some((changed, judged));
    let body = Body { report, factor: words::plain(f64::from(factor)), figures, changed };
    let html = body.render()?;
    let figures = body.figures.into_iter().map(|(figure, _)| figure).collect();
    Ok(Section::new(format!("What an attack on {} looks like", report.model), html).with_figures(figures))
}

fn caption(example: &Example) -> String {
    let label = example.label.as_ref().map_or(String::new(), |label| format!(", labelled {label}"));
    let (l2, linf) = (words::number(example.l2_norm), words::number(example.linf_norm));
    format!("Sample {}{label}: changed by {l2} in L2, by {linf} at most in a pixel.", example.index)
}

/// The largest of 1, 2, 5 times a power of ten that takes no perturbation beyond black and white.
fn amplification(examples: &[Example]) -> f32 {
    let deltas = examples.iter().flat_map(|example| {
        let pairs = example.clean.pixels.iter().zip(&example.adversarial.pixels);
        pairs.map(|(clean, adversarial)| (adversarial - clean).abs())
    });
    let largest = deltas.filter(|delta| delta.is_finite()).fold(0.0_f32, f32::max);
    let most = 0.5 / largest.max(1e-6);
    let power = 10.0_f32.powf(most.log10().floor());
    let factor = [5.0, 2.0, 1.0].into_iter().find(|factor| factor * power <= most * 1.001).unwrap_or(1.0);
    (factor * power).max(1.0)
}

fn draw(example: &Example, factor: f32) -> Figure {
    let mut drawing = Drawing::new(3.0 * SIDE + 2.0 * GAP, TOP + SIDE + 20.0);
    let amplified = example.clean.with(&example.adversarial, |clean, other| 0.5 + factor * (other - clean));
    let (before, after) = match &example.classes {
        Some((before, after)) => (before.as_str(), after.as_str()),
        None => ("", ""),
    };
    let factor = format!("× {}", words::plain(f64::from(factor)));
    let parts = [
        ("sample", &example.clean, before.to_owned()),
        ("perturbation", &amplified, factor),
        ("attacked", &example.adversarial, after.to_owned()),
    ];
    for (index, (title, picture, below)) in parts.iter().enumerate() {
        let left = index as f64 * (SIDE + GAP);
        drawing.text((left, 12.0), title, Lettering::new(FONT - 1.0, Colour::Muted));
        drawing.image((left, TOP), (SIDE, SIDE), &picture.png());
        let is_fooled = index == 2 && before != after;
        let lettering = Lettering::new(FONT, if is_fooled { Colour::Chance } else { Colour::Ink });
        let lettering = if is_fooled { lettering.bold() } else { lettering };
        let middle = (left + SIDE / 2.0, TOP + SIDE + 14.0);
        drawing.text(middle, &shortened(below, LABEL_LETTERS), lettering.anchored(Anchor::Middle));
    }
    let taken = if before.is_empty() { String::new() } else { format!(", taken for {before}, then for {after}") };
    let label = format!("Sample {}, its perturbation and the attacked sample{taken}", example.index);
    drawing.finish(&format!("example {}", example.index), &label)
}
