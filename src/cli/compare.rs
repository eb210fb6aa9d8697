//! `compare`: how the tasks of several models relate.

use comfy_table::Table;

use super::{
    Failure,
    attack_options::AttackArgs,
    json,
    options::{ClientArgs, ConfidenceArgs, TaskMatrix},
    progress,
    session::Session,
    table,
};
use crate::transport::{
    client::ClientError,
    proto::{self, CompareTasksRequest, TaskComparison, compare_tasks_request::Probe, compare_tasks_response::Event},
};

#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// Models to compare, one for each task
    #[arg(value_name = "MODEL", required = true, num_args = 2..)]
    compared: Vec<String>,
    /// Dataset that the tasks share
    #[arg(long, value_name = "NAME")]
    dataset: String,
    /// Matrix whose rows are clustered [default: alpha1]
    #[arg(long, value_name = "MATRIX", value_enum)]
    cluster_by: Option<TaskMatrix>,
    /// Groups that the clustering is cut into [default: 3, or the number of models where that is less]
    #[arg(long, value_name = "N", default_value_t, hide_default_value = true)]
    groups: u32,
    /// Use at most this many samples, drawn by the seed; 0 means all
    #[arg(long, value_name = "N", default_value_t)]
    max_samples: u32,
    /// Seed of every random draw
    #[arg(long, value_name = "N", default_value_t)]
    seed: u64,
    #[command(flatten)]
    attack: AttackArgs,
    #[command(flatten)]
    confidence: ConfidenceArgs,
    #[command(flatten)]
    client: ClientArgs,
}

pub async fn run(args: CompareArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let request = CompareTasksRequest {
        models: args.compared,
        probe: Some(Probe::Dataset(args.dataset)),
        max_samples: args.max_samples,
        attack: Some(args.attack.options()),
        seed: args.seed,
        confidence: Some(args.confidence.into()),
        cluster_by: args.cluster_by.map_or(0, |matrix| proto::TaskMatrix::from(matrix).into()),
        n_groups: args.groups,
    };
    let session = Session::open(args.client).await?;
    let bar = progress::bar();
    let mut events = session.client.compare_tasks(request).await?;
    let mut last = None;
    while let Some(response) = events.next().await? {
        match &response.event {
            Some(Event::Progress(progress)) => progress::advance(&bar, progress),
            Some(Event::Comparison(comparison)) => {
                bar.finish_and_clear();
                if as_json {
                    json::print("CompareTasksResponse", &response)?;
                }
                last = Some(comparison.clone());
            }
            None => {}
        }
    }
    drop(events);
    let comparison = last.ok_or(ClientError::Incomplete)?;
    session.close().await?;
    if as_json { Ok(()) } else { print(&comparison) }
}

fn print(comparison: &TaskComparison) -> Result<(), Failure> {
    println!("alpha1: a row for each attacked model, a column for each model read");
    table::print(&matrix(comparison, |row| row.alpha1.iter().map(|value| value.value).collect()))?;
    println!("affinity: how each attack fares in the tournament for each model read");
    table::print(&matrix(comparison, |row| row.affinity.clone()))?;
    let metric = comparison.cluster_by().as_str_name().trim_start_matches("TASK_MATRIX_").to_lowercase();
    println!("merges of the rows of {metric}, nearest first:");
    table::print(&merges(comparison))
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
