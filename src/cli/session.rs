//! A connection to a server: a given one, or one inside this process that ends with the command.
//!
//! Commands speak gRPC either way, so that both give the same answers.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle};

use super::{Failure, options::ClientArgs};
use crate::{
    config::{LimitArgs, ServeConfig},
    jobs::Jobs,
    limits,
    runtime::Runtime,
    scoring::{Scorer, ScorerConfig},
    transport::{
        client::Client,
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
            return Ok(Session { client: Client::connect(address).await?, embedded: None });
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

/// Opens models, datasets and the runtime, then the port.
///
/// # Errors
/// What is wrong with the configuration.
pub async fn start(config: &ServeConfig) -> Result<Server, Failure> {
    let settings = ServerSettings {
        listen: config.listen,
        concurrent_requests: config.concurrent_requests,
        queued_requests: limits::QUEUED_REQUESTS,
        upload_stall: Duration::from_secs(limits::STALL_SECONDS),
        drain: Duration::from_secs(limits::DRAIN_SECONDS),
    };
    let library = config.onnxruntime.clone();
    let threads = config.threads;
    let scorer_config = ScorerConfig {
        models: config.models.clone(),
        datasets: config.datasets.clone(),
        uploads: config.uploads.clone(),
        batch_size: config.batch_size,
        sample_limit: config.sample_limit,
        request_bytes: config.request_bytes,
        group_bytes: crate::limits::GROUP_BYTES,
    };
    let jobs = config.jobs.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let runtime = Runtime::load(&library, threads)?;
        let scorer = Scorer::open(scorer_config, runtime).map_err(Failure::usage)?;
        let jobs = jobs.map(|folder| Jobs::open(&folder).map(Arc::new)).transpose().map_err(Failure::usage)?;
        Ok::<_, Failure>((scorer, jobs))
    });
    let (scorer, jobs) = opened.await.map_err(|error| Failure::Work(format!("cannot start: {error}")))??;
    Ok(Server::bind(settings, Arc::new(scorer)).await?.with_jobs(jobs))
}
