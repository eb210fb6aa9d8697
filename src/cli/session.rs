//! A connection to a server: a given one, or one inside this process that ends with the command.
//!
//! Commands speak gRPC either way, so that both give the same answers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle};

use super::{Failure, jobs, options::ClientArgs};
use crate::{
    config::{LimitArgs, ServeConfig, SourceArgs},
    jobs::Jobs,
    limits,
    runtime::Runtime,
    scoring::{Memory, Scorer, ScorerConfig},
    transport::{
        client::Client,
        security::Security,
        server::{Server, ServerError, ServerSettings},
    },
};

/// A client, and the server that it talks to where that is ours.
pub struct Session {
    pub client: Client,
    embedded: Option<Embedded>,
}

struct Embedded {
    shutdown: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServerError>>,
}

impl Session {
    /// Connects to `--server`, or starts a server on the models and datasets of the arguments.
    ///
    /// # Errors
    /// When the server cannot be reached, or the configuration is wrong.
    pub async fn open(args: ClientArgs) -> Result<Self, Failure> {
        if let Some(address) = &args.server {
            let client = Client::connect_with(address, &args.connection.security()?).await?;
            return Ok(Session { client, embedded: None });
        }
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = start(&ServeConfig::new(args.sources, LimitArgs::embedded(), listen)?).await?;
        let address = server.address().to_string();
        let (shutdown, wanted) = oneshot::channel();
        let served = tokio::spawn(server.serve(async {
            let _sender_gone = wanted.await;
        }));
        let embedded = Some(Embedded { shutdown, served });
        Ok(Session { client: Client::connect(&address).await?, embedded })
    }

    /// Ends the session, and the server with it where it is ours.
    ///
    /// # Errors
    /// When that server failed.
    pub async fn close(self) -> Result<(), Failure> {
        // A connection that is still open would be drained for its full time.
        drop(self.client);
        if let Some(Embedded { shutdown, served }) = self.embedded {
            let _server_gone = shutdown.send(());
            served.await.map_err(|error| Failure::Work(format!("the embedded server broke: {error}")))??;
        }
        Ok(())
    }
}

/// Opens everything that a server opens but its port and its jobs.
///
/// # Errors
/// What is wrong with the configuration.
pub async fn check(config: &ServeConfig) -> Result<(), Failure> {
    let config = config.clone();
    let checked = tokio::task::spawn_blocking(move || open(&config).map(drop));
    checked.await.map_err(|error| Failure::Work(format!("cannot check: {error}")))?
}

/// Opens models, datasets and the runtime, then the port.
///
/// # Errors
/// What is wrong with the configuration.
pub async fn start(config: &ServeConfig) -> Result<Server, Failure> {
    let settings = ServerSettings {
        listen: config.listen,
        concurrent_requests: config.concurrent_requests,
        queued_requests: config.queued_requests,
        upload_stall: Duration::from_secs(limits::STALL_SECONDS),
        drain: Duration::from_secs(config.drain_seconds),
    };
    let config = config.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let (scorer, security) = open(&config)?;
        let jobs = config.jobs.map(|folder| Jobs::open(&folder).map(Arc::new)).transpose().map_err(Failure::usage)?;
        Ok::<_, Failure>((scorer, jobs, security))
    });
    let (scorer, jobs, security) = opened.await.map_err(|error| Failure::Work(format!("cannot start: {error}")))??;
    let server = Server::bind(settings, Arc::new(scorer)).await?.with_jobs(jobs).with_security(security);
    Ok(server.with_reports(|job| {
        let page = jobs::report(job).map_err(|failure| failure.to_string())?;
        page.map(|page| page.html()).transpose().map_err(|error| error.to_string())
    }))
}

/// The scorer of a command that makes no calls.
///
/// # Errors
/// What is wrong with the arguments.
pub async fn scorer(sources: SourceArgs) -> Result<Scorer, Failure> {
    let config = ServeConfig::new(sources, LimitArgs::embedded(), SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    let opened = tokio::task::spawn_blocking(move || open(&config).map(|(scorer, _)| scorer));
    opened.await.map_err(|error| Failure::Work(format!("cannot start: {error}")))?
}

/// Opens the runtime, models, datasets, certificates and tokens. Blocks.
fn open(config: &ServeConfig) -> Result<(Scorer, Arc<Security>), Failure> {
    let memory = Memory::new(config.memory_bytes, config.concurrent_requests + config.queued_requests);
    let scorer_config = ScorerConfig {
        models: config.models.clone(),
        datasets: config.datasets.clone(),
        uploads: config.uploads.clone(),
        batch_size: config.batch_size,
        sample_limit: config.sample_limit,
        request_bytes: config.request_bytes.min(memory.largest()),
        memory: Arc::new(memory),
        session_bytes: config.session_bytes,
        group_bytes: limits::GROUP_BYTES,
    };
    let security = Security::open(config.security.clone()).map_err(Failure::usage)?;
    let runtime = Runtime::load_on(&config.onnxruntime, config.threads, config.device.clone())?;
    let scorer = Scorer::open(scorer_config, runtime).map_err(Failure::usage)?;
    Ok((scorer, security))
}
