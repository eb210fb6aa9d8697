//! `compare`: how the tasks of several models relate.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use comfy_table::Table;

use super::{
    Failure,
    attack_options::AttackArgs,
    compare_report,
    jobs::{self, JobArgs},
    json,
    options::{ClientArgs, ConfidenceArgs, TaskMatrix},
    progress,
    reported::ReportArgs,
    session::Session,
    table,
};
use crate::{
    limits,
    report::{Page, matrix_page},
    transport::{
        client::{Client, ClientError},
        proto::{
            self, CompareTasksRequest, CompareTasksResponse, TaskComparison, TaskGroup, compare_tasks_request::Probe,
            compare_tasks_response::Event, create_job_request::Work,
        },
    },
};

#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// Models to compare, one for each task
    ///
    /// [default: those of the known groups]
    #[arg(value_name = "MODEL", required_unless_present_any = ["known_groups", "group_file"])]
    compared: Vec<String>,
    /// Dataset that the tasks share
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Matrix whose rows are clustered [default: alpha1]
    #[arg(long, value_name = "MATRIX", value_enum)]
    cluster_by: Option<TaskMatrix>,
    /// Known group of tasks, to hold the clustering against; repeat for each
    #[arg(long = "group", value_name = "NAME=MODEL,MODEL", value_parser = named_group)]
    known_groups: Vec<TaskGroup>,
    /// File of known groups, TOML: a line NAME = ["MODEL", "MODEL"] for each
    #[arg(long, value_name = "FILE", conflicts_with = "known_groups")]
    group_file: Option<PathBuf>,
    /// Clusters to cut into [default: as many as known groups, or 3, or the number of models where that is less]
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true)]
    groups: u32,
    /// Use at most this many samples, drawn by the seed; 0 means all
    #[arg(long, value_name = "N", default_value_t)]
    max_samples: u32,
    /// Seed of every random draw
    #[arg(long, value_name = "N", default_value_t)]
    seed: u64,
    #[command(flatten)]
    output: ReportArgs,
    #[command(flatten)]
    attack: AttackArgs,
    #[command(flatten)]
    confidence: ConfidenceArgs,
    #[command(flatten)]
    job: JobArgs,
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: CompareArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let known_groups = known_groups(args.known_groups, args.group_file.as_deref())?;
    let models = if args.compared.is_empty() {
        known_groups.iter().flat_map(|group| group.models.iter().cloned()).collect()
    } else {
        args.compared
    };
    let request = CompareTasksRequest {
        models,
        probe: Some(Probe::Dataset(args.dataset)),
        max_samples: args.max_samples,
        attack: Some(args.attack.options()),
        seed: args.seed,
        confidence: Some(args.confidence.into()),
        cluster_by: args.cluster_by.map_or(0, |matrix| proto::TaskMatrix::from(matrix).into()),
        n_groups: args.groups,
        known_groups,
    };
    if args.job.as_job {
        return jobs::create(args.client, args.job, Work::Compare(request)).await;
    }
    let session = Session::open(args.client).await?;
    let comparison = compare(&session.client, request.clone(), |event| match as_json {
        true => json::print("CompareTasksResponse", event),
        false => Ok(()),
    })
    .await?;
    session.close().await?;
    if !as_json {
        print(&comparison)?;
    }
    if args.output.is_wanted() {
        args.output.write(&comparison_page(&comparison, &request)?)?;
    }
    Ok(())
}

/// The page of a comparison.
///
/// # Errors
/// When there is nothing to report.
pub fn comparison_page(comparison: &TaskComparison, request: &CompareTasksRequest) -> Result<Page, Failure> {
    Ok(matrix_page(&compare_report::of(comparison, request))?)
}

/// Runs a comparison under a progress bar. `on_result` sees the event that has it.
///
/// # Errors
/// When the server refuses or fails, or `on_result` does.
pub async fn compare(
    client: &Client,
    request: CompareTasksRequest,
    mut on_result: impl FnMut(&CompareTasksResponse) -> Result<(), Failure>,
) -> Result<TaskComparison, Failure> {
    let bar = progress::bar();
    let mut events = client.compare_tasks(request).await?;
    let mut last = None;
    while let Some(response) = events.next().await? {
        match &response.event {
            Some(Event::Progress(progress)) => progress::advance(&bar, progress),
            Some(Event::Comparison(comparison)) => {
                bar.finish_and_clear();
                on_result(&response)?;
                last = Some(comparison.clone());
            }
            None => {}
        }
    }
    last.ok_or_else(|| ClientError::Incomplete.into())
}

/// A group as it is written on the command line.
fn named_group(text: &str) -> Result<TaskGroup, String> {
    let (name, models) = text.split_once('=').ok_or("a group is NAME=MODEL,MODEL")?;
    let models = models.split(',').map(str::trim).filter(|model| !model.is_empty());
    Ok(TaskGroup { name: name.trim().to_owned(), models: models.map(str::to_owned).collect() })
}

/// The groups of the command line or of a file, in the order of the command line or of their names.
fn known_groups(given: Vec<TaskGroup>, file: Option<&Path>) -> Result<Vec<TaskGroup>, Failure> {
    let Some(file) = file else { return Ok(given) };
    let wrong = |cause: &dyn std::fmt::Display| Failure::Usage(format!("{}: {cause}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|cause| wrong(&cause))?;
    let groups: BTreeMap<String, Vec<String>> = toml::from_str(&text).map_err(|cause| wrong(&cause))?;
    Ok(groups.into_iter().map(|(name, models)| TaskGroup { name, models }).collect())
}

/// The matrices, the merges and how they agree with known groups.
///
/// # Errors
/// When standard output is closed.
pub fn print(comparison: &TaskComparison) -> Result<(), Failure> {
    println!("alpha1: a row for each attacked model, a column for each model read");
    table::print(&matrix(comparison, |row| row.alpha1.iter().map(|value| value.value).collect()))?;
    println!("affinity: how each attack fares in the tournament for each model read");
    table::print(&matrix(comparison, |row| row.affinity.clone()))?;
    let metric = comparison.cluster_by().as_str_name().trim_start_matches("TASK_MATRIX_").to_lowercase();
    println!("merges of the rows of {metric}, nearest first:");
    table::print(&merges(comparison))?;
    if let Some(correlation) = comparison.cophenetic_correlation {
        println!("cophenetic correlation of the merges with the distances: {}", table::number(correlation));
    }
    print_groups(comparison)
}

/// How the clusters agree with known groups, where there are some.
///
/// # Errors
/// When standard output is closed.
pub fn print_groups(comparison: &TaskComparison) -> Result<(), Failure> {
    let Some(agreement) = &comparison.group_agreement else { return Ok(()) };
    let groups = &agreement.known_groups;
    println!("cut into {} clusters, against the known groups:", groups.len());
    let mut rows = table::with_columns(["model", "known group", "cluster"]);
    for (name, cluster) in names(comparison).into_iter().zip(&agreement.clusters) {
        let known = groups.iter().find(|group| group.models.iter().any(|model| model == name));
        rows.add_row([name, known.map_or("-", |group| group.name.as_str()), &cluster.to_string()]);
    }
    table::print(&rows)?;
    let level = comparison.confidence.as_ref().and_then(|used| used.level).unwrap_or(limits::DEFAULT_CONFIDENCE_LEVEL);
    let quantile =
        format!("{} % of shuffles below", table::number(100.0 * level).trim_end_matches(['0']).trim_end_matches('.'));
    let mut rows = table::with_columns(["agreement", "value", "by chance", &quantile, "p"]);
    for (name, found) in [
        ("adjusted Rand index", &agreement.adjusted_rand_index),
        ("cophenetic correlation", &agreement.cophenetic_correlation),
    ] {
        if let Some(found) = found {
            let numbers = [found.value, found.chance_mean, found.chance_upper].map(table::number);
            rows.add_row(
                std::iter::once(name.to_owned()).chain(numbers).chain([table::probability(Some(found.p_value))]),
            );
        }
    }
    table::print(&rows)
}

fn names(comparison: &TaskComparison) -> Vec<&str> {
    comparison.rows.iter().map(|row| row.model.as_ref().map_or("", |model| model.name.as_str())).collect()
}

fn matrix(comparison: &TaskComparison, values: impl Fn(&proto::TaskRow) -> Vec<f64>) -> Table {
    let names = names(comparison);
    let mut rows = table::with_columns(std::iter::once("").chain(names.iter().copied()).chain(["group"]));
    for ((name, row), group) in names.iter().zip(&comparison.rows).zip(&comparison.groups) {
        let numbers = values(row).into_iter().map(table::number);
        rows.add_row(std::iter::once((*name).to_owned()).chain(numbers).chain([group.to_string()]));
    }
    rows
}

/// A row for each merge, with what each cluster holds.
fn merges(comparison: &TaskComparison) -> Table {
    let mut clusters: Vec<String> = names(comparison).into_iter().map(str::to_owned).collect();
    let mut rows = table::with_columns(["height", "cluster", "joins"]);
    for merge in &comparison.merges {
        let cluster = |number: u32| clusters.get(number as usize).cloned().unwrap_or_default();
        let (first, second) = (cluster(merge.first), cluster(merge.second));
        rows.add_row([table::number(merge.height), first.clone(), second.clone()]);
        clusters.push(format!("{first}, {second}"));
    }
    rows
}
