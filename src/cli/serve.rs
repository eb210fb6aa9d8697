//! `serve`: the server, until a signal.

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, session};
use crate::{
    config::{LimitArgs, SecurityArgs, SecurityConfig, ServeConfig, SourceArgs, TracesArgs, UploadArgs},
    transport::security::Security,
};

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on; port 0 picks a free one and prints it
    #[arg(long, value_name = "ADDR", env = "TRANSFERSCORE_LISTEN", default_value = "127.0.0.1:50051")]
    listen: SocketAddr,
    /// Folder to keep jobs in, made where there is none; without it the server takes none
    #[arg(long, value_name = "DIR", env = "TRANSFERSCORE_JOBS")]
    jobs: Option<PathBuf>,
    /// File of settings, TOML: keys are the names of these flags; flags and environment come before it
    #[arg(long, value_name = "FILE", env = "TRANSFERSCORE_CONFIG")]
    pub(super) config: Option<PathBuf>,
    /// Check the settings and everything they name, print them as a file of settings, and end
    #[arg(long)]
    check_config: bool,
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    uploads: UploadArgs,
    #[command(flatten)]
    security: SecurityArgs,
    #[command(flatten)]
    pub(super) traces: TracesArgs,
}

/// Serves until SIGTERM or ctrl-c; a second signal ends the process at once. SIGHUP has certificates and tokens read again.
pub async fn run(args: ServeArgs) -> Result<(), Failure> {
    let security = SecurityConfig::new(args.security)?;
    let config = ServeConfig::new(args.sources, args.limits, args.listen)?.with_uploads(args.uploads)?;
    let config = ServeConfig { jobs: args.jobs, security, traces: args.traces.collector()?, ..config };
    if args.check_config {
        session::check(&config).await?;
        write!(io::stdout().lock(), "{}", config.to_toml())?;
        return Ok(());
    }
    tracing::info!(
        models = ?config.models,
        datasets = ?config.datasets,
        threads = config.threads,
        batch_size = config.batch_size,
        jobs = ?config.jobs,
        uploads = config.uploads.is_some(),
        traces = ?config.traces,
        onnxruntime = %config.onnxruntime.display(),
        "starting"
    );
    // From here on a signal ends the server in order, also while it starts.
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let server = session::start(&config).await?;
    tokio::spawn(reload_on_signal(signal(SignalKind::hangup())?, server.security()));
    if config.security.tokens.is_some() && config.security.tls.is_none() && !config.listen.ip().is_loopback() {
        tracing::warn!("tokens travel unencrypted; give --tls-cert and --tls-key, or have a proxy speak TLS");
    }
    server.ready().await;
    announce(server.address())?;
    server
        .serve(async move {
            next(&mut signals).await;
            tokio::spawn(async move {
                next(&mut signals).await;
                eprintln!("error: stopped at once by a second signal");
                std::process::exit(1);
            });
        })
        .await?;
    Ok(())
}

async fn reload_on_signal(mut hangup: Signal, security: Arc<Security>) {
    while hangup.recv().await.is_some() {
        let security = Arc::clone(&security);
        let _panicked = tokio::task::spawn_blocking(move || security.reload_and_tell()).await;
    }
}

async fn next((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Whoever started the server waits for this line.
fn announce(address: SocketAddr) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "listening on {address}")?;
    output.flush()
}
