//! `experiment`: the paper's experiments, or one's own, as calls to the service.
//!
//! An experiment has no scoring code of its own: it is a folder of models, datasets and requests ([`definition`]). Each finished
//! call is kept ([`checkpoint`]), so that a run which was killed goes on where it was.

mod checkpoint;
mod definition;
mod page;
mod summary;
mod together;

use std::{
    iter,
    path::{Path, PathBuf},
    time::Instant,
};

pub use self::definition::OWN_DATASETS;
use self::{
    checkpoint::{Answer, Checkpoints, Digests, Finished},
    definition::{Definition, Request},
    together::Together,
};
use super::{Failure, compare, demo, options::ClientArgs, rank, reported::ReportArgs, session::Session};
use crate::transport::proto::CompareTasksRequest;

#[derive(Debug, clap::Args)]
pub struct ExperimentArgs {
    /// Experiment: one of models/experiments by its name, or a folder with an experiment.toml
    experiment: PathBuf,
    /// Folder of the datasets, as they were downloaded; repeat for several
    #[arg(long, value_name = "DIR", default_value = "../shared/data")]
    data: Vec<PathBuf>,
    /// Folder for the results: a file for each call, result.json and report.html; a run goes on with what it finds there
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Run this call alone; repeat for several
    #[arg(long = "call", value_name = "NAME")]
    calls: Vec<String>,
    /// Make calls anew that are finished
    #[arg(long)]
    again: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// The page, in the folder of results.
const REPORT: &str = "report.html";
/// Where the experiments of this repository lie.
const EXPERIMENTS: &str = "models/experiments";

pub async fn run(args: ExperimentArgs) -> Result<(), Failure> {
    let definition = Definition::read(&folder_of(&args.experiment))?;
    if let Some(unknown) = args.calls.iter().find(|name| !definition.calls.iter().any(|call| call.name == **name)) {
        let names: Vec<&str> = definition.calls.iter().map(|call| call.name.as_str()).collect();
        return Err(Failure::Usage(format!("there is no call `{unknown}`; there are {}", names.join(", "))));
    }
    let name = definition.folder.file_name().map_or("own".into(), |name| name.to_string_lossy().into_owned());
    let output = args.output.unwrap_or_else(|| PathBuf::from(format!("experiment-{name}")));
    let checkpoints = Checkpoints::open(&output)?;
    let mut client = args.client;
    if client.server.is_none() {
        let datasets = output.join("datasets");
        let own = definition.folder.join(OWN_DATASETS);
        definition::write_manifests(&definition, &args.data, &datasets)?;
        client.sources.models = iter::once(definition.folder.clone()).chain(definition.models.clone()).collect();
        client.sources.datasets = [datasets, own].into_iter().filter(|it| it.is_dir()).collect();
    }
    let as_json = client.json;
    let session = Session::open(client).await?;
    let digests: Digests = session.client.models().await?.into_iter().map(|model| (model.name, model.digest)).collect();
    let mut finished = Vec::new();
    for (number, call) in definition.calls.iter().enumerate() {
        let is_wanted = args.calls.is_empty() || args.calls.contains(&call.name);
        let progress = format!("{}/{} {}", number + 1, definition.calls.len(), call.title);
        let models = models_of(&call.request, &digests);
        let kept = if args.again && is_wanted { None } else { checkpoints.find(call, &models)? };
        let done = match kept {
            Some(done) => {
                eprintln!("{progress}: done before");
                done
            }
            None if !is_wanted => continue,
            None => {
                if let Some(absent) = checkpoint::missing(&call.request, &digests) {
                    eprintln!("{progress}: left out, there is no model `{absent}`");
                    continue;
                }
                eprintln!("{progress}");
                let done = answered(&session, &call.request).await?;
                checkpoints.keep(call, models, &done)?;
                done
            }
        };
        finished.push((call, done));
    }
    session.close().await?;
    let together = Together::of(&definition, &finished);
    let result = summary::write(&definition, &finished, &together, &output)?;
    let files = ReportArgs { report: Some(output.join(REPORT)), figures: Some(output.join("figures")) };
    files.write(&page::of(&definition, &finished, &together)?)?;
    if as_json {
        println!("{result}");
        return Ok(());
    }
    for (call, done) in &finished {
        println!("{}:", call.title);
        match &done.answer {
            Answer::Ranked(ranked) => rank::print(ranked)?,
            Answer::Compared { comparison, .. } => compare::print(comparison)?,
        }
    }
    println!("results: {}", output.join(summary::FILE).display());
    println!("report: {}", output.join(REPORT).display());
    Ok(())
}

/// The first comparison of an experiment's folder; `None` where it has none.
///
/// # Errors
/// Those of [`Definition::read`].
pub fn comparison(folder: &Path) -> Result<Option<CompareTasksRequest>, Failure> {
    let calls = Definition::read(folder)?.calls.into_iter();
    let comparison = |call: definition::Call| match call.request {
        Request::Compare(request) => Some(*request),
        Request::Rank(_) => None,
    };
    Ok(calls.filter_map(comparison).next())
}

/// The folder of an experiment: as it is named, or one of the repository's.
fn folder_of(experiment: &Path) -> PathBuf {
    let own = demo::bundled(&Path::new(EXPERIMENTS).join(experiment));
    if own.is_dir() { own } else { experiment.to_owned() }
}

/// The digests of the models that a request takes.
fn models_of(request: &Request, there: &Digests) -> Digests {
    let names = request.models();
    there
        .iter()
        .filter(|(name, _)| names.is_empty() || names.contains(&name.as_str()))
        .map(|(name, digest)| (name.clone(), digest.clone()))
        .collect()
}

async fn answered(session: &Session, request: &Request) -> Result<Finished, Failure> {
    let start = Instant::now();
    let answer = match request {
        Request::Rank(request) => {
            Answer::Ranked(Box::new(rank::rank(&session.client, request.as_ref().clone(), |_| Ok(())).await?))
        }
        Request::Compare(request) => {
            let comparison = compare::compare(&session.client, request.as_ref().clone(), |_| Ok(())).await?;
            Answer::Compared { comparison: Box::new(comparison), request: request.clone() }
        }
    };
    Ok(Finished { answer, seconds: start.elapsed().as_secs_f64(), peak_bytes: peak_bytes() })
}

/// The most memory that this process has held, from the kernel's own books.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}
