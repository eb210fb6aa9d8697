//! `demo`: a ranking and a comparison of tasks of the bundled models through the real API, each with a report.

use std::path::{Path, PathBuf};

use super::{
    Failure, compare, compare_report, experiment,
    options::{ClientArgs, ConnectionArgs, MethodArgs},
    rank,
    reported::ReportArgs,
    session::Session,
};
use crate::{
    config::SourceArgs,
    report::matrix_page,
    transport::proto::{AttackMethod, AttackOptions, CompareTasksRequest, Norm},
};

#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Model of the target task
    #[arg(long, value_name = "MODEL", default_value = "digits-reference")]
    reference: String,
    /// Dataset to measure on
    #[arg(long, value_name = "NAME", default_value = "digits")]
    dataset: String,
    /// File for the ranking's report; that of the tasks lies beside it, its name ending in -tasks
    #[arg(long, value_name = "FILE", default_value = "transferscore-report.html")]
    output: PathBuf,
    #[command(flatten)]
    sources: SourceArgs,
}

/// The experiment that is shown in miniature, and how small.
const TASKS: &str = "models/experiments/tasks";
const TASK_SAMPLES: u32 = 64;
const TASK_RADIUS: f64 = 0.03;

pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let mut sources = args.sources;
    for folder in sources.models.iter_mut().chain(&mut sources.datasets) {
        *folder = bundled(folder);
    }
    eprintln!("ranking sources for {} on {}", args.reference, args.dataset);
    let session = Session::open(ClientArgs {
        server: None,
        json: false,
        connection: ConnectionArgs::default(),
        sources: sources.clone(),
    })
    .await?;
    let request = rank::request(Vec::new(), args.reference, args.dataset, None, &MethodArgs::default());
    let ranked = rank::rank(&session.client, request, |_| Ok(())).await?;
    session.close().await?;
    rank::print(&ranked)?;
    ReportArgs { report: Some(args.output.clone()), figures: None }.write(&rank::page(&ranked, None)?)?;
    told(&args.output);
    let stem = args.output.file_stem().unwrap_or_default().to_string_lossy();
    tasks(sources, &args.output.with_file_name(format!("{stem}-tasks.html"))).await
}

/// The first comparison of the experiment on tasks, with fewer samples and one step.
async fn tasks(mut sources: SourceArgs, output: &Path) -> Result<(), Failure> {
    let folder = bundled(Path::new(TASKS));
    if !folder.is_dir() {
        eprintln!("no comparison of tasks: {} is not there", folder.display());
        return Ok(());
    }
    let Some(whole) = experiment::comparison(&folder)? else { return Ok(()) };
    let request = CompareTasksRequest {
        max_samples: TASK_SAMPLES,
        attack: Some(AttackOptions {
            method: AttackMethod::Fgsm.into(),
            norm: Norm::Linf.into(),
            epsilon: Some(TASK_RADIUS),
            ..AttackOptions::default()
        }),
        ..whole
    };
    eprintln!("comparing {} tasks on {TASK_SAMPLES} views of rooms", request.models.len());
    sources.datasets = vec![folder.join(experiment::OWN_DATASETS)];
    sources.models = vec![folder];
    let session =
        Session::open(ClientArgs { server: None, json: false, connection: ConnectionArgs::default(), sources }).await?;
    let comparison = compare::compare(&session.client, request.clone(), |_| Ok(())).await?;
    session.close().await?;
    compare::print_groups(&comparison)?;
    let page = matrix_page(&compare_report::of(&comparison, &request))?;
    ReportArgs { report: Some(output.to_owned()), figures: None }.write(&page)?;
    told(output);
    Ok(())
}

fn told(report: &Path) {
    let written = report.canonicalize().unwrap_or_else(|_| report.to_owned());
    println!("report: {}", written.display());
}

/// A folder of the repository, also when the binary is called from elsewhere.
pub fn bundled(folder: &Path) -> PathBuf {
    if folder.is_dir() {
        return folder.to_owned();
    }
    let binary = std::env::current_exe().and_then(|binary| binary.canonicalize());
    let above = binary.iter().flat_map(|binary| binary.ancestors()).map(|ancestor| ancestor.join(folder));
    above.into_iter().find(|folder| folder.is_dir()).unwrap_or_else(|| folder.to_owned())
}
