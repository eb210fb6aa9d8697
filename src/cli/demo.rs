//! `demo`: a ranking of the bundled models through the real API, with a report.

use std::path::{Path, PathBuf};

use super::{
    Failure,
    options::{ClientArgs, MethodArgs},
    rank,
    reported::ReportArgs,
    session::Session,
};
use crate::config::SourceArgs;

#[derive(Debug, clap::Args)]
pub struct DemoArgs {
    /// Model of the target task
    #[arg(long, value_name = "MODEL", default_value = "digits-reference")]
    reference: String,
    /// Dataset to measure on
    #[arg(long, value_name = "NAME", default_value = "digits")]
    dataset: String,
    /// File for the report
    #[arg(long, value_name = "FILE", default_value = "transferscore-report.html")]
    output: PathBuf,
    #[command(flatten)]
    sources: SourceArgs,
}

pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    let mut sources = args.sources;
    for folder in sources.models.iter_mut().chain(&mut sources.datasets) {
        *folder = bundled(folder);
    }
    eprintln!("ranking sources for {} on {}", args.reference, args.dataset);
    let session = Session::open(ClientArgs { server: None, json: false, sources }).await?;
    let request = rank::request(Vec::new(), args.reference, args.dataset, None, &MethodArgs::default());
    let ranked = rank::rank(&session.client, request, |_| Ok(())).await?;
    session.close().await?;

    rank::print(&ranked)?;
    ReportArgs { report: Some(args.output.clone()), figures: None }.write(&rank::page(&ranked, None)?)?;
    let written = args.output.canonicalize().unwrap_or(args.output);
    println!("report: {}", written.display());
    Ok(())
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
