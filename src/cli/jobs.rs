//! `jobs`: long work on a server, looked after from anywhere.

use prost_types::Timestamp;

use super::{
    Failure,
    compare::{self, comparison_page},
    json,
    options::{ClientArgs, JobState},
    progress,
    rank::{self, Ranked},
    reported::ReportArgs,
    session::Session,
    table,
};
use crate::{
    report::Page,
    transport::{
        client::Client,
        proto::{
            self, CreateJobRequest, GetJobResponse, Job, ListJobsRequest, ListJobsResponse, WatchJobRequest,
            create_job_request, get_job_response, watch_job_response::Event,
        },
    },
};

#[derive(Debug, clap::Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum JobsCommand {
    /// List jobs, newest first
    List(ListArgs),
    /// Show a job and, once it succeeded, its result
    Show(ShowArgs),
    /// Follow a job until it is over
    Watch(WatchArgs),
    /// End a job
    Cancel(NamedArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only jobs with this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only jobs on this dataset
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Only jobs in this state; repeat for several
    #[arg(long = "state", value_name = "STATE", value_enum)]
    states: Vec<JobState>,
    /// List at most this many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    most: u32,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct NamedArgs {
    /// The job's name
    #[arg(value_name = "JOB")]
    name: String,
    #[command(flatten)]
    client: ClientArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    output: ReportArgs,
    #[command(flatten)]
    named: NamedArgs,
}

#[derive(Debug, clap::Args)]
struct WatchArgs {
    /// Only events after the one of this number
    #[arg(long, value_name = "N", default_value_t)]
    after: u64,
    #[command(flatten)]
    named: NamedArgs,
}

/// Work that is left to the server.
#[derive(Clone, Debug, clap::Args)]
pub struct JobArgs {
    /// Leave the work to the server, which keeps it, and print the job's name
    #[arg(long, requires = "server", conflicts_with_all = ["report", "figures"])]
    pub as_job: bool,
    /// Makes a repeated creation find the job that is there, 1 to 64 letters, digits, dots, dashes and underscores
    #[arg(long, value_name = "ID", requires = "as_job", default_value_t, hide_default_value = true)]
    request_id: String,
}

/// Creates a job and prints its name.
///
/// # Errors
/// When the server refuses.
pub async fn create(client: ClientArgs, args: JobArgs, work: create_job_request::Work) -> Result<(), Failure> {
    let as_json = client.json;
    let session = Session::open(client).await?;
    let request = CreateJobRequest { request_id: args.request_id, work: Some(work) };
    let created = session.client.create_job(request).await?;
    session.close().await?;
    if as_json {
        return json::print("CreateJobResponse", &created);
    }
    println!("{}", created.job.unwrap_or_default().name);
    Ok(())
}

pub async fn run(args: JobsArgs) -> Result<(), Failure> {
    match args.command {
        JobsCommand::List(args) => list(args).await,
        JobsCommand::Show(args) => show(args).await,
        JobsCommand::Watch(args) => watch(args).await,
        JobsCommand::Cancel(args) => cancel(args).await,
    }
}

/// Jobs are a server's own: one that ends with the command has none.
async fn session(client: ClientArgs) -> Result<Session, Failure> {
    if client.server.is_none() {
        return Err(Failure::Usage("jobs are kept by a server; give its address with --server HOST:PORT".to_owned()));
    }
    Session::open(client).await
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let session = session(args.client).await?;
    let request = ListJobsRequest {
        page_size: args.most,
        model: args.model.unwrap_or_default(),
        dataset: args.dataset.unwrap_or_default(),
        states: args.states.into_iter().map(|state| proto::JobState::from(state).into()).collect(),
        ..ListJobsRequest::default()
    };
    let found: ListJobsResponse = session.client.jobs(request).await?;
    session.close().await?;
    if as_json {
        return json::print("ListJobsResponse", &found);
    }
    let mut rows = table::with_columns(["job", "state", "what", "dataset", "models", "created", "done"]);
    for job in &found.jobs {
        let created = job.create_time.map_or_else(String::new, to_the_second);
        let models = job.models.len().to_string();
        rows.add_row([job.name.clone(), state(job), kind(job), job.dataset.clone(), models, created, share(job)]);
    }
    table::print(&rows)?;
    if !found.next_page_token.is_empty() {
        eprintln!("there are more: --most lists up to 1000, --model, --dataset and --state choose");
    }
    Ok(())
}

async fn show(args: ShowArgs) -> Result<(), Failure> {
    let as_json = args.named.client.json;
    let session = session(args.named.client).await?;
    let found = session.client.job(&args.named.name).await?;
    session.close().await?;
    match as_json {
        true => json::print("GetJobResponse", &found)?,
        false => print(&found)?,
    }
    if !args.output.is_wanted() {
        return Ok(());
    }
    match report(found)? {
        Some(page) => args.output.write(&page),
        None => Err(Failure::Work(format!("{} has no result to report", args.named.name))),
    }
}

/// What there is to report of a job; `None` for one without a result.
///
/// # Errors
/// Only where a result is not what the job was asked for.
pub fn report(found: GetJobResponse) -> Result<Option<Page>, Failure> {
    use get_job_response::{Result as Outcome, Work};
    match (found.work, found.result) {
        (Some(Work::Rank(request)), Some(Outcome::Ranking(result))) => {
            Ok(Some(rank::page(&ranked(request, result), None)?))
        }
        (Some(Work::Compare(request)), Some(Outcome::Comparison(result))) => {
            Ok(Some(comparison_page(&result, &request)?))
        }
        _ => Ok(None),
    }
}

fn ranked(request: proto::RankSourcesRequest, result: proto::RankingResult) -> Ranked {
    Ranked { request, rows: result.rows, ranking: result.ranking.unwrap_or_default() }
}

/// A job for a person: a line of what it is, then its result.
fn print(found: &GetJobResponse) -> Result<(), Failure> {
    let job = found.job.clone().unwrap_or_default();
    println!("{}: {} on {}, {}", job.name, kind(&job), dataset(&job), state(&job));
    if let Some(error) = &job.error {
        println!("{} ({})", error.message, error.reason);
    }
    match (&found.work, &found.result) {
        (Some(get_job_response::Work::Rank(request)), Some(get_job_response::Result::Ranking(result))) => {
            rank::print(&ranked(request.clone(), result.clone()))
        }
        (_, Some(get_job_response::Result::Comparison(comparison))) => compare::print(comparison),
        _ => Ok(()),
    }
}

async fn watch(args: WatchArgs) -> Result<(), Failure> {
    let WatchArgs { after, named: NamedArgs { name, client } } = args;
    let as_json = client.json;
    let session = session(client).await?;
    let last = follow(&session.client, &name, after, as_json).await?;
    let error = match last {
        proto::JobState::Failed => session.client.job(&name).await?.job.and_then(|job| job.error),
        _ => None,
    };
    session.close().await?;
    match error {
        Some(error) => Err(Failure::Work(format!("{} ({})", error.message, error.reason))),
        None => Ok(()),
    }
}

/// Prints events as they come, and gives the last state.
async fn follow(client: &Client, name: &str, after: u64, as_json: bool) -> Result<proto::JobState, Failure> {
    let bar = progress::bar();
    let request = WatchJobRequest { name: name.to_owned(), after_sequence: after };
    let mut events = client.watch_job(request).await?;
    let mut last = proto::JobState::Unspecified;
    while let Some(event) = events.next().await? {
        if let Some(Event::State(state)) = event.event {
            last = proto::JobState::try_from(state).unwrap_or_default();
        }
        let line = match &event.event {
            Some(Event::Progress(progress)) => {
                progress::advance(&bar, progress);
                continue;
            }
            Some(Event::State(_)) => words(last.as_str_name(), "JOB_STATE_"),
            Some(Event::Unit(unit)) => format!("{} finished", unit.name),
            Some(Event::Row(row)) => format!("{} scored", row.source_model),
            None => continue,
        };
        bar.suspend(|| match as_json {
            true => json::print("WatchJobResponse", &event),
            false => {
                println!("{:>4}  {line}", event.sequence);
                Ok(())
            }
        })?;
    }
    bar.finish_and_clear();
    Ok(last)
}

async fn cancel(args: NamedArgs) -> Result<(), Failure> {
    let as_json = args.client.json;
    let session = session(args.client).await?;
    let cancelled = session.client.cancel_job(&args.name).await?;
    session.close().await?;
    if as_json {
        return json::print("CancelJobResponse", &cancelled);
    }
    let job = cancelled.job.unwrap_or_default();
    println!("{}: {}", job.name, state(&job));
    Ok(())
}

fn state(job: &Job) -> String {
    match job.state() {
        proto::JobState::Running if job.cancel_requested => "stopping".to_owned(),
        state => words(state.as_str_name(), "JOB_STATE_"),
    }
}

fn kind(job: &Job) -> String {
    words(job.kind().as_str_name(), "JOB_KIND_")
}

/// The name of a value of an enum, for people.
fn words(name: &str, prefix: &str) -> String {
    name.trim_start_matches(prefix).to_lowercase().replace('_', " ")
}

fn dataset(job: &Job) -> &str {
    if job.dataset.is_empty() { "samples sent along" } else { &job.dataset }
}

/// How far a job is; empty unless it runs.
fn share(job: &Job) -> String {
    match &job.progress {
        Some(progress) if progress.total > 0 => format!("{} %", 100 * progress.done / progress.total),
        _ => String::new(),
    }
}

fn to_the_second(time: Timestamp) -> String {
    Timestamp { nanos: 0, ..time }.to_string()
}
