//! The command line: arguments, signals, exit codes. A command is a file here and a line in `Command`.
//!
//! Standard output has the result and nothing else; progress, logs and errors go to standard error. Exit codes: 0
//! success, 1 failed work, 2 usage or configuration.

mod attack;
mod attack_options;
mod attack_report;
mod check;
mod compare;
mod compare_report;
mod datasets;
mod demo;
mod example_report;
mod experiment;
mod failure;
mod fine_tune;
mod gradient;
mod health;
mod jobs;
mod json;
mod knowledge_table;
mod local;
mod measure;
mod models;
mod npz;
mod options;
mod progress;
mod rank;
mod ranking_report;
mod reported;
mod score;
mod scores;
mod serve;
mod session;
mod settings;
mod table;
mod upload;

use std::process::ExitCode;

use clap::Parser;

pub use self::failure::Failure;
use crate::telemetry::{self, LogFormat};

/// Tells which pre-trained ONNX models transfer best to a task, by attacking them.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    /// Which log lines to write: a level, or a filter such as transferscore=debug [default: info for serve, else warn]
    #[arg(long, global = true, value_name = "FILTER", env = "TRANSFERSCORE_LOG")]
    log: Option<String>,
    /// How to write log lines
    #[arg(long, global = true, value_name = "FORMAT", env = "TRANSFERSCORE_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Start the gRPC server
    Serve(serve::ServeArgs),
    /// Score one source model against a reference model
    Score(score::ScoreArgs),
    /// Rank source models for a reference model
    Rank(rank::RankArgs),
    /// Compare the tasks of several models: who attacks whom how well, and which belong together
    Compare(compare::CompareArgs),
    /// Run one of the paper's experiments, or one's own: models, datasets and calls in a folder
    Experiment(experiment::ExperimentArgs),
    /// List, show, watch and cancel the jobs of a server; rank and compare create them with --as-job
    Jobs(jobs::JobsArgs),
    /// Make adversarial examples of a model or of several together
    Attack(attack::AdversarialArgs),
    /// Train a model on a dataset, and measure how well it does on samples held out
    #[command(name = "finetune")]
    FineTune(fine_tune::FineTuneArgs),
    /// List the models, or send one to a server, ready or drop it there
    Models(models::ModelsArgs),
    /// List the datasets, or send one to a server, or delete it there
    Datasets(datasets::DatasetsArgs),
    /// Tell whether a model can be differentiated, and list every obstacle
    Check(check::CheckArgs),
    /// Write a model's gradient graph to a file
    Gradient(gradient::GradientArgs),
    /// Time a model's input gradients and attacks on this machine
    Measure(measure::MeasureArgs),
    /// Tell whether a server serves
    Health(health::HealthArgs),
    /// Rank the bundled models on the bundled data, and write a report
    Demo(demo::DemoArgs),
}

/// Runs the command that the process was called with.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => match settings::with_file(cli) {
            Ok(cli) => cli,
            Err(failure) => {
                eprintln!("error: {failure}");
                return failure.exit_code();
            }
        },
        Err(error) => {
            // Help and version come this way too, with code 0. A closed output is no reason to fail.
            let _closed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Work(format!("cannot start threads: {error}")))?;
    let (default_log, collector) = match &cli.command {
        Command::Serve(args) => ("info", args.traces.collector()?),
        _ => ("warn", None),
    };
    let inside = runtime.enter();
    let traces = telemetry::init(cli.log.as_deref().unwrap_or(default_log), cli.log_format, collector.as_deref())
        .map_err(Failure::usage)?;
    drop(inside);
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(args).await,
            Command::Score(args) => score::run(args).await,
            Command::Rank(args) => rank::run(args).await,
            Command::Compare(args) => compare::run(args).await,
            Command::Experiment(args) => experiment::run(args).await,
            Command::Jobs(args) => jobs::run(args).await,
            Command::Attack(args) => attack::run(args).await,
            Command::FineTune(args) => fine_tune::run(args).await,
            Command::Models(args) => models::run(args).await,
            Command::Datasets(args) => datasets::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Gradient(args) => gradient::run(args).await,
            Command::Measure(args) => measure::run(args).await,
            Command::Health(args) => health::run(args).await,
            Command::Demo(args) => demo::run(args).await,
        }
    });
    // What sends them lives on the runtime's threads.
    traces.flush();
    // Work that ignores its cancellation must not keep the process alive.
    runtime.shutdown_background();
    outcome
}
