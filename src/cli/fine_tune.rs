//! `finetune`: a model trained on a dataset, in a file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use comfy_table::Table;

use super::{
    Failure, json,
    options::{ClientArgs, ConfidenceArgs, FineTuneMode, FineTuneOptimizer, FineTuneSchedule},
    progress,
    session::Session,
    table,
};
use crate::transport::{
    client::ClientError,
    proto::{self, FineTuneRequest, FineTuneSummary, fine_tune_request::Probe, fine_tune_response::Event},
};

#[derive(Debug, clap::Args)]
pub struct FineTuneArgs {
    /// Model to fine-tune
    model: String,
    /// Dataset to train and judge on
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// File for the fine-tuned model, such as models/tuned/model.onnx; its manifest is written beside it, as model.toml
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Use at most this many samples, drawn by the seed; 0 means all
    #[arg(long, value_name = "N", default_value_t)]
    max_samples: u32,
    /// Seed of every random draw
    #[arg(long, value_name = "N", default_value_t)]
    seed: u64,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    confidence: ConfidenceArgs,
    #[command(flatten)]
    client: ClientArgs,
}

/// How a model is fine-tuned. What is left out is the server's default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Fine-tuning")]
pub struct TrainingArgs {
    /// What is trained [default: head]
    #[arg(long, value_name = "WHAT", value_enum)]
    mode: Option<FineTuneMode>,
    /// Start from the model's own last layer, not a new one
    #[arg(long)]
    keep_head: bool,
    /// How weights follow their gradients [default: sgd]
    #[arg(long, value_name = "OPTIMIZER", value_enum)]
    optimizer: Option<FineTuneOptimizer>,
    /// Passes over the training samples [default: 20; for a head, as many as make 500 steps if that is more]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    epochs: Option<u32>,
    /// Samples a step [default: 32]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Peak learning rate [default: 0.01 for sgd, 0.001 for adamw]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    learning_rate: Option<f64>,
    /// Weight decay [default: 0]
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Momentum of sgd [default: 0.9]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Nesterov's look ahead, for sgd
    #[arg(long)]
    nesterov: bool,
    /// How the learning rate goes on after the warm-up [default: cosine]
    #[arg(long, value_name = "SCHEDULE", value_enum)]
    schedule: Option<FineTuneSchedule>,
    /// Share of the steps in which the learning rate rises [default: 0]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    warm_up: Option<f64>,
    /// Share of the samples that judge and are not trained on [default: 0.25]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    held_out: Option<f64>,
    /// Hold every sample out once, in this many trainings
    #[arg(long, value_name = "N")]
    held_out_folds: Option<u32>,
    /// Stop after this many epochs without a smaller loss on a tenth of the training samples [default: never]
    #[arg(long, value_name = "EPOCHS")]
    patience: Option<u32>,
    /// Mirror each image half of the time
    #[arg(long)]
    flip: bool,
    /// Shift each image by up to this many pixels [default: 0]
    #[arg(long, value_name = "PIXELS")]
    shift: Option<u32>,
}

impl TrainingArgs {
    pub fn options(&self) -> proto::FineTuneOptions {
        proto::FineTuneOptions {
            mode: self.mode.map_or(0, |mode| proto::FineTuneMode::from(mode).into()),
            keep_head: self.keep_head,
            optimizer: self.optimizer.map_or(0, |optimizer| proto::FineTuneOptimizer::from(optimizer).into()),
            epochs: self.epochs.unwrap_or_default(),
            batch_size: self.batch.unwrap_or_default(),
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            momentum: self.momentum,
            nesterov: self.nesterov,
            schedule: self.schedule.map_or(0, |schedule| proto::FineTuneSchedule::from(schedule).into()),
            warm_up: self.warm_up,
            held_out: self.held_out,
            folds: self.held_out_folds.unwrap_or_default(),
            patience: self.patience.unwrap_or_default(),
            flip: self.flip,
            shift: self.shift.unwrap_or_default(),
        }
    }
}

pub async fn run(args: FineTuneArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let request = FineTuneRequest {
        model: args.model,
        probe: Some(Probe::Dataset(args.dataset)),
        max_samples: args.max_samples,
        options: Some(args.training.options()),
        seed: args.seed,
        confidence: Some(args.confidence.into()),
    };
    if let Some(output) = &args.output {
        prepare(output)?;
    }
    let session = Session::open(args.client).await?;
    let bar = progress::bar();
    let mut events = session.client.fine_tune(request).await?;
    let (mut summary, mut model) = (None, Vec::new());
    while let Some(response) = events.next().await? {
        match response.event {
            Some(Event::Progress(progress)) => progress::advance(&bar, &progress),
            Some(Event::Summary(last)) => summary = Some(last),
            Some(Event::Model(piece)) if args.output.is_some() => model.extend(piece),
            _ => {}
        }
    }
    bar.finish_and_clear();
    drop(events);
    let summary = summary.ok_or(ClientError::Incomplete)?;
    session.close().await?;
    if as_json {
        json::print("FineTuneSummary", &summary)?;
    } else {
        table::print(&summary_table(&summary))?;
    }
    let Some(output) = &args.output else { return Ok(()) };
    if model.len() as u64 != summary.size_bytes {
        return Err(ClientError::Incomplete.into());
    }
    write(output, &model, &summary.manifest)
}

fn cannot_write(path: &Path, error: &io::Error) -> Failure {
    Failure::Work(format!("cannot write {}: {error}", path.display()))
}

/// Makes the folder that a model is to lie in and tries whether it can be written, before any training.
fn prepare(path: &Path) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
    let is_new = !path.exists();
    fs::OpenOptions::new().append(true).create(true).open(path).map_err(|error| cannot_write(path, &error))?;
    if is_new {
        fs::remove_file(path).map_err(|error| cannot_write(path, &error))?;
    }
    Ok(())
}

/// Writes a model and its manifest.
fn write(path: &Path, model: &[u8], manifest: &str) -> Result<(), Failure> {
    for (path, contents) in [(path, model), (&path.with_extension("toml"), manifest.as_bytes())] {
        fs::write(path, contents).map_err(|error| cannot_write(path, &error))?;
    }
    Ok(())
}

fn summary_table(summary: &FineTuneSummary) -> Table {
    let mut rows = table::with_columns(["measure", "value [interval]"]);
    let Some(scores) = &summary.scores else { return rows };
    let estimates = [
        ("accuracy", &scores.accuracy),
        ("cross-entropy", &scores.cross_entropy),
        ("R2", &scores.r2),
        ("mean squared error", &scores.mean_squared_error),
    ];
    for (name, estimate) in estimates {
        if estimate.is_some() {
            rows.add_row([name.to_owned(), table::interval(estimate.as_ref())]);
        }
    }
    if let Some(share) = scores.majority_accuracy {
        rows.add_row(["accuracy of the most frequent class".to_owned(), table::number(share)]);
    }
    let epochs: Vec<String> = scores.runs.iter().map(|run| run.best_epoch.to_string()).collect();
    rows.add_row(["epochs".to_owned(), epochs.join(", ")]);
    rows.add_row(["trained numbers".to_owned(), table::magnitude(scores.n_trained)]);
    let samples = format!("{} trained on, {} held out", scores.n_training_samples, scores.n_held_out_samples);
    rows.add_row(["samples".to_owned(), samples]);
    rows
}
