//! `model.toml`: what a model's file cannot say about itself.
//!
//! Invariant: a [`Manifest`] is consistent: sizes are in range, means and deviations pair up, deviations are positive.
//! Whether it fits the model's graph is for those who read the graph.

use serde::Deserialize;

use super::OutputKind;
use crate::limits;

/// What is known of a model beside its graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// One line, with training data and licence; may be empty.
    pub summary: String,
    pub input: InputManifest,
    pub output: OutputManifest,
}

/// From dataset pixels, 0..1 NCHW, to what the network wants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InputManifest {
    /// Height and width that the network wants; `None`: the dataset's own, or what the graph declares.
    pub size: Option<[usize; 2]>,
    /// What normalises each channel, or `None`. One entry stands for all channels.
    pub normalisation: Option<Normalisation>,
    pub layout: Layout,
}

/// (pixel − mean) / std, for each channel; both of the same length, at least 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalisation {
    pub mean: Vec<f32>,
    /// Positive.
    pub std: Vec<f32>,
}

/// Order of an image's axes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Batch, channels, height, width.
    #[default]
    Nchw,
    /// Batch, height, width, channels.
    Nhwc,
}

/// What comes out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputManifest {
    /// `None`: not said.
    pub kind: Option<OutputKind>,
    /// Names of the classes in output order; may be empty.
    pub classes: Vec<String>,
    pub features: Features,
    /// Share of unseen samples of its own task that the model gets right, 0..1; `None`: not said.
    pub accuracy: Option<f64>,
}

/// Which tensor is read as the penultimate features.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Features {
    /// The input of the last Gemm or MatMul.
    #[default]
    Auto,
    /// A tensor of the graph, by name.
    Tensor(String),
}

/// What is wrong with a manifest: the file, the key, the mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("{file}: not UTF-8 text; save it as UTF-8")]
    NotText { file: String },
    #[error("{file}, line {line}: {message}")]
    Syntax { file: String, line: usize, message: String },
    #[error("{file}: {key} {problem}")]
    Value { file: String, key: &'static str, problem: String },
}

/// Largest height or width.
const MOST_PIXELS: usize = 8_192;
/// Most channels.
const MOST_CHANNELS: usize = 1_024;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawManifest {
    summary: String,
    input: RawInput,
    output: RawOutput,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawInput {
    size: Option<Vec<i64>>,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
    layout: Layout,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawOutput {
    kind: Option<OutputKind>,
    classes: Vec<String>,
    features: Option<String>,
    accuracy: Option<f64>,
}

impl Manifest {
    /// Reads a manifest. `file` names it in messages.
    ///
    /// # Errors
    /// Text that is no TOML, keys that are not known, values out of range.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let raw: RawManifest = parse_toml(file, bytes)?;
        let wrong = |key, problem: String| ManifestError::Value { file: file.to_owned(), key, problem };
        Ok(Manifest {
            summary: one_line(raw.summary).map_err(|problem| wrong("summary", problem))?,
            input: InputManifest {
                size: raw.input.size.map(picture_size).transpose().map_err(|problem| wrong("input.size", problem))?,
                normalisation: normalisation(raw.input.mean, raw.input.std)
                    .map_err(|(key, problem)| wrong(key, problem))?,
                layout: raw.input.layout,
            },
            output: OutputManifest {
                kind: raw.output.kind,
                classes: classes(raw.output.classes).map_err(|problem| wrong("output.classes", problem))?,
                features: features(raw.output.features).map_err(|problem| wrong("output.features", problem))?,
                accuracy: accuracy(raw.output.accuracy).map_err(|problem| wrong("output.accuracy", problem))?,
            },
        })
    }
}

impl Manifest {
    /// The text that [`Manifest::parse`] reads back.
    pub fn to_toml(&self) -> String {
        let text = |text: &String| toml::Value::String(text.clone()).to_string();
        let list = |items: Vec<String>| format!("[{}]", items.join(", "));
        // A float has a point in TOML.
        let numbers = |values: &[f32]| list(values.iter().map(|value| format!("{value:?}")).collect());
        let mut lines = vec![format!("summary = {}", text(&self.summary))];
        let mut section = |name: &str, entries: Vec<Option<String>>| {
            let entries: Vec<String> = entries.into_iter().flatten().collect();
            if !entries.is_empty() {
                lines.push(format!("\n[{name}]\n{}", entries.join("\n")));
            }
        };
        let InputManifest { size, normalisation, layout } = &self.input;
        section(
            "input",
            vec![
                size.map(|[height, width]| format!("size = [{height}, {width}]")),
                normalisation.as_ref().map(|pixels| format!("mean = {}", numbers(&pixels.mean))),
                normalisation.as_ref().map(|pixels| format!("std = {}", numbers(&pixels.std))),
                (*layout == Layout::Nhwc).then(|| "layout = \"nhwc\"".to_owned()),
            ],
        );
        let OutputManifest { kind, classes, features, accuracy } = &self.output;
        section(
            "output",
            vec![
                kind.map(|kind| format!("kind = \"{}\"", kind.name())),
                (!classes.is_empty()).then(|| format!("classes = {}", list(classes.iter().map(text).collect()))),
                match features {
                    Features::Auto => None,
                    Features::Tensor(name) => Some(format!("features = {}", text(name))),
                },
                accuracy.map(|share| format!("accuracy = {share:?}")),
            ],
        );
        lines.join("\n") + "\n"
    }
}

/// Reads a manifest's keys as they stand. `file` names it in messages.
///
/// # Errors
/// Text that is no TOML, keys that are not known, values of another type.
pub fn parse_toml<T: serde::de::DeserializeOwned>(file: &str, bytes: &[u8]) -> Result<T, ManifestError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotText { file: file.to_owned() })?;
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + bytes.iter().take(start).filter(|&&byte| byte == b'\n').count();
        ManifestError::Syntax { file: file.to_owned(), line, message: error.message().to_owned() }
    })
}

/// A summary, which is one line.
///
/// # Errors
/// A clause that says what mends it.
pub fn one_line(summary: String) -> Result<String, String> {
    if summary.chars().any(char::is_control) {
        return Err("has line breaks or other control characters; write one line".to_owned());
    }
    Ok(summary)
}

/// Height and width in pixels.
///
/// # Errors
/// A clause that says what mends it.
pub fn picture_size(size: Vec<i64>) -> Result<[usize; 2], String> {
    let sides: Vec<usize> = size
        .iter()
        .filter_map(|&side| usize::try_from(side).ok().filter(|side| (1..=MOST_PIXELS).contains(side)))
        .collect();
    match sides.as_slice() {
        &[height, width] if size.len() == 2 => Ok([height, width]),
        _ => Err(format!("is {size:?}; give [height, width], each from 1 to {MOST_PIXELS}")),
    }
}

fn normalisation(
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
) -> Result<Option<Normalisation>, (&'static str, String)> {
    let (mean, std) = match (mean, std) {
        (None, None) => return Ok(None),
        (Some(mean), None) => {
            let std = vec![1.0; mean.len()];
            (mean, std)
        }
        (None, Some(std)) => (vec![0.0; std.len()], std),
        (Some(mean), Some(std)) => (mean, std),
    };
    if mean.len() != std.len() {
        let problem = format!("has {} values, input.mean {}; give one of each for each channel", std.len(), mean.len());
        return Err(("input.std", problem));
    }
    if mean.is_empty() || mean.len() > MOST_CHANNELS {
        return Err(("input.mean", format!("has {} values; give one for each channel", mean.len())));
    }
    if let Some(bad) = mean.iter().find(|value| !value.is_finite()) {
        return Err(("input.mean", format!("contains {bad}; give finite numbers")));
    }
    // A deviation so small that its inverse overflows would turn every pixel into infinity.
    if let Some(bad) = std.iter().find(|value| !(value.is_finite() && **value > 0.0 && value.recip().is_finite())) {
        return Err(("input.std", format!("contains {bad}; give positive numbers")));
    }
    Ok(Some(Normalisation { mean, std }))
}

fn classes(classes: Vec<String>) -> Result<Vec<String>, String> {
    if classes.len() > limits::CLASSES {
        return Err(format!("has {} names, more than the {} allowed", classes.len(), limits::CLASSES));
    }
    match classes.iter().position(|class| class.trim().is_empty()) {
        Some(i) => Err(format!("has an empty name at place {i}; name every class, or leave the key out")),
        None => Ok(classes),
    }
}

fn features(features: Option<String>) -> Result<Features, String> {
    match features {
        None => Ok(Features::Auto),
        Some(name) if name == "auto" => Ok(Features::Auto),
        Some(name) if name.trim().is_empty() => Err("is empty; name a tensor, or \"auto\"".to_owned()),
        Some(name) => Ok(Features::Tensor(name)),
    }
}

fn accuracy(accuracy: Option<f64>) -> Result<Option<f64>, String> {
    match accuracy {
        Some(share) if !(0.0..=1.0).contains(&share) => Err(format!("is {share}; give a share from 0 to 1")),
        accuracy => Ok(accuracy),
    }
}
