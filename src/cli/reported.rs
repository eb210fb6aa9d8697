//! Answers as the plain values that reports are made of, and reports as files.

use std::path::Path;

use prost::Message;

use super::{Failure, json};
use crate::{
    report::{Page, ReportError, ReportedModel, ReportedRequest},
    stats::{Estimate, ShuffledNull},
    transport::proto,
};

/// Where a report and its figures go.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ReportArgs {
    /// File for a report, HTML
    #[arg(long, value_name = "FILE")]
    pub report: Option<std::path::PathBuf>,
    /// Folder for the report's figures, each an SVG file
    #[arg(long, value_name = "FOLDER")]
    pub figures: Option<std::path::PathBuf>,
}

impl ReportArgs {
    pub fn is_wanted(&self) -> bool {
        self.report.is_some() || self.figures.is_some()
    }

    /// Writes what is wanted of a page.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, page: &Page) -> Result<(), Failure> {
        if let Some(file) = &self.report {
            write(file, &page.html()?)?;
        }
        if let Some(folder) = &self.figures {
            std::fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
            for (name, svg) in page.figures() {
                write(&folder.join(name), &svg)?;
            }
        }
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text).map_err(|error| unwritable(file, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Work(format!("cannot write {}: {error}", path.display()))
}

impl From<ReportError> for Failure {
    fn from(error: ReportError) -> Self {
        Failure::Work(error.to_string())
    }
}

pub fn model(model: Option<&proto::ModelReference>) -> ReportedModel {
    let model = model.cloned().unwrap_or_default();
    ReportedModel { name: model.name, digest: model.digest }
}

pub fn estimate(estimate: &proto::Estimate) -> Estimate {
    Estimate {
        null_floor: estimate.null_floor,
        shuffled: estimate
            .shuffled_null
            .zip(estimate.shuffled_null_upper)
            .map(|(mean, upper)| ShuffledNull { mean, upper }),
        ..Estimate::of(estimate.value, estimate.lower, estimate.upper)
    }
}

/// A request as a page shows it.
pub fn request(method: &str, name: &str, message: &impl Message) -> Option<ReportedRequest> {
    let method = format!("transferscore.v1.TransferScoreService/{method}");
    Some(ReportedRequest { method, json: json::brief(name, message).ok()? })
}

/// What was computed how, as name and value.
pub struct Settings<'a> {
    pub attack: Option<&'a proto::AttackOptions>,
    pub seed: u64,
    pub confidence: Option<&'a proto::Confidence>,
    pub dropped: &'a [proto::DroppedSamples],
    pub provider: &'a str,
    pub version: &'a str,
}

impl Settings<'_> {
    pub fn list(&self) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = Vec::new();
        let mut add = |name: &str, value: String| settings.push((name.to_owned(), value));
        if let Some(attack) = self.attack {
            let short = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase().replace('_', " ");
            add("attack", short(attack.method().as_str_name(), "ATTACK_METHOD_"));
            add("norm", short(attack.norm().as_str_name(), "NORM_"));
            let radius =
                attack.epsilon.map_or_else(|| "first order".to_owned(), |epsilon| format!("epsilon {epsilon}"));
            add("radius", radius);
            if attack.steps > 0 {
                add("steps", attack.steps.to_string());
            }
            if let Ok(json) = json::brief("AttackOptions", attack) {
                add("attack in full", json);
            }
        }
        add("seed", self.seed.to_string());
        if let Some(confidence) = self.confidence {
            add("bootstrap resamples", confidence.resamples.to_string());
        }
        for dropped in self.dropped {
            add("samples left out", format!("{}: {}", dropped.count, dropped.reason));
        }
        add("provider", self.provider.to_owned());
        add("version", self.version.to_owned());
        settings
    }
}
