//! The server: its layers, its ports, its end.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue, Method, Request,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use tokio::{net::TcpListener, time::timeout};
use tonic::{body::Body, server::NamedService, service::Routes, transport::server::TcpIncoming};
use tonic_health::{ServingStatus, server::HealthReporter};
use tonic_web::GrpcWebLayer;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
    trace::{DefaultOnRequest, DefaultOnResponse, TraceLayer},
};
use tracing::{Level, Span};

use crate::{
    jobs::Jobs,
    limits,
    scoring::Scoring,
    telemetry::{self, metrics},
    transport::{
        admission::Admission,
        call::Calls,
        dataset_service::DatasetService,
        job_service::{JobService, work_on_jobs},
        layers::{AnswerLayer, REQUEST_ID_HEADER, RequestId, mark_panic},
        measure::{CallSpan, MeasureLayer},
        model_service::ModelService,
        pages::{JobReporter, Pages, PagesLayer},
        proto::{
            FILE_DESCRIPTOR_SET, dataset_service_server::DatasetServiceServer, job_service_server::JobServiceServer,
            model_service_server::ModelServiceServer, transfer_score_service_server::TransferScoreServiceServer,
        },
        score_service::ScoreService,
        security::{self, AuthorizeLayer, Security},
    },
};

/// What the server itself needs to know; the rest is the domain's.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Requests that compute at once.
    pub concurrent_requests: usize,
    /// Requests that wait for their turn; more are refused.
    pub queued_requests: usize,
    /// How long an upload may stand still.
    pub upload_stall: Duration,
    /// What calls in progress get to finish when the server stops; then they are cancelled.
    pub drain: Duration,
}

/// Why a server did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}: {source}; choose another --listen, port 0 picks a free one")]
    Bind { address: SocketAddr, source: std::io::Error },
    #[error("the server's own description cannot be read: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("the server failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// A server that listens and is not serving yet.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    calls: Calls,
    jobs: Option<Arc<Jobs>>,
    health: HealthReporter,
    drain: Duration,
    security: Arc<Security>,
    reporter: Option<JobReporter>,
}

/// How busy a server is.
#[derive(Clone, Debug)]
pub struct Gauges(Calls);

impl Server {
    /// Takes the port. Clients can connect from here on, but are told NOT_SERVING until [`Server::ready`].
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn bind(settings: ServerSettings, scoring: Arc<dyn Scoring>) -> Result<Self, ServerError> {
        let health = HealthReporter::new();
        set_health(&health, ServingStatus::NotServing).await;

        let refused = |source| ServerError::Bind { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let computing = Admission::new("compute", settings.concurrent_requests, settings.queued_requests);
        let calls = Calls::new(scoring, computing, settings.upload_stall);
        metrics::install();
        Ok(Server {
            listener,
            address,
            calls,
            jobs: None,
            health,
            drain: settings.drain,
            security: Security::none(),
            reporter: None,
        })
    }

    /// Also takes jobs, and works on those that wait.
    #[must_use]
    pub fn with_jobs(self, jobs: Option<Arc<Jobs>>) -> Self {
        Server { jobs, ..self }
    }

    /// Lets in whom these certificates, tokens and origins let in, in place of everybody.
    #[must_use]
    pub fn with_security(self, security: Arc<Security>) -> Self {
        Server { security, ..self }
    }

    /// Also shows reports of jobs, which `reporter` makes.
    #[must_use]
    pub fn with_reports(self, reporter: JobReporter) -> Self {
        Server { reporter: Some(reporter), ..self }
    }

    /// Who may connect and call, to be read again on demand.
    pub fn security(&self) -> Arc<Security> {
        Arc::clone(&self.security)
    }

    /// Where the server listens, with the port that was picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How busy it is, readable while it serves.
    pub fn gauges(&self) -> Gauges {
        Gauges(self.calls.clone())
    }

    /// Tells clients that ask for health that they may send requests.
    pub async fn ready(&self) {
        set_health(&self.health, ServingStatus::Serving).await;
    }

    /// Serves until `shutdown` is there; then lets calls finish for the drain's time, cancels the rest, and returns.
    ///
    /// # Errors
    /// When the service's description is broken or the listener fails.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) -> Result<(), ServerError> {
        self.ready().await;
        let routes = self.routes()?;
        let Server { listener, calls, jobs, health, drain, security, reporter, .. } = self;
        let pages = Pages { calls: calls.clone(), jobs: jobs.clone(), reporter, security: Arc::clone(&security) };

        // Outermost first. Each sees what those below it answer.
        let layers = tower::ServiceBuilder::new()
            // Pages are no calls: nothing below counts, names or translates them.
            .layer(PagesLayer(pages))
            // Pages of other origins ask for leave first; then their calls become calls like any other.
            .layer(cross_origin(security.web_origins()))
            .layer(GrpcWebLayer::new())
            // What it counts is what clients see.
            .layer(MeasureLayer)
            // Ids come first, so that logs and errors below have them; refusals by tonic are reworded last.
            .layer(AnswerLayer)
            // Then logs: a span for each call, under which everything below logs.
            .layer(
                TraceLayer::new_for_grpc()
                    .make_span_with(call_span)
                    .on_request(DefaultOnRequest::new().level(Level::DEBUG))
                    .on_response(DefaultOnResponse::new().level(Level::INFO))
                    .on_failure(()),
            )
            // Refusals are logged too, and no service sees a call without its token.
            .layer(AuthorizeLayer(Arc::clone(&security)))
            // Innermost, so that a panicking handler is logged and answered like any other failure. Panics of work on
            // blocking threads do not come here: `call` catches them.
            .layer(CatchPanicLayer::custom(mark_panic))
            .into_inner();
        let router = tonic::transport::Server::builder()
            // Deadlines and admission are not layers: tonic's timeout says CANCELLED and leaves streams alone, its
            // load shedding is per connection. Both are in `call`, for the whole process.
            .layer(layers)
            // For pages and calls of browsers.
            .accept_http1(true)
            .max_concurrent_streams(limits::CONNECTION_STREAMS)
            // A client that vanished without a word is noticed, and its work stopped.
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .add_routes(routes);

        let draining = calls.draining.clone();
        let working = jobs.map(|jobs| tokio::spawn(work_on_jobs(calls.clone(), jobs)));
        let _housekeeping = tokio::spawn(keep_house(Arc::clone(&security), calls.clone(), health.clone()));
        let signal = async {
            shutdown.await;
            tracing::info!(seconds = drain.as_secs(), "stopping: no new connections, calls in progress may finish");
            set_health(&health, ServingStatus::NotServing).await;
            draining.cancel();
        };
        let serving: Pin<Box<dyn Future<Output = _> + Send>> = match security.tls() {
            Some(_) => Box::pin(router.serve_with_incoming_shutdown(security::incoming(listener, security), signal)),
            None => {
                let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
                Box::pin(router.serve_with_incoming_shutdown(incoming, signal))
            }
        };
        let served = drained(serving, &calls, drain).await;
        // What has become of a job is written down once its work has stopped.
        if let Some(working) = working {
            let _still_working = timeout(Duration::from_secs(limits::FLUSH_SECONDS), working).await;
        }
        Ok(served?)
    }

    /// The services.
    fn routes(&self) -> Result<Routes, ServerError> {
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // So that grpcurl prints the details of an error in words.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        let calls = &self.calls;
        let score = TransferScoreServiceServer::new(ScoreService { calls: calls.clone() });
        let models = ModelServiceServer::new(ModelService { calls: calls.clone() });
        let datasets = DatasetServiceServer::new(DatasetService { calls: calls.clone() });
        let jobs = JobServiceServer::new(JobService::new(calls.clone(), self.jobs.clone()));
        let health = tonic_health::server::HealthService::from_health_reporter(self.health.clone());
        Ok(Routes::default()
            .add_service(tonic_health::pb::health_server::HealthServer::new(health))
            // grpcurl asks for v1alpha, newer tools for v1.
            .add_service(reflection().build_v1()?)
            .add_service(reflection().build_v1alpha()?)
            .add_service(score.max_decoding_message_size(limits::MESSAGE_BYTES))
            .add_service(models.max_decoding_message_size(limits::MESSAGE_BYTES))
            .add_service(datasets.max_decoding_message_size(limits::MESSAGE_BYTES))
            .add_service(jobs.max_decoding_message_size(limits::MESSAGE_BYTES)))
    }
}

/// Serves to the end of the drain, then ends what is left.
async fn drained(
    mut serving: Pin<Box<dyn Future<Output = Result<(), tonic::transport::Error>> + Send + '_>>,
    calls: &Calls,
    drain: Duration,
) -> Result<(), tonic::transport::Error> {
    let over = async {
        calls.draining.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    let served = tokio::select! {
        served = &mut serving => Some(served),
        () = over => None,
    };

    // A client that keeps a stream open would hold the server up for ever.
    calls.stop.cancel();
    let flush = Duration::from_secs(limits::FLUSH_SECONDS);
    let served = match served {
        Some(served) => served,
        None => timeout(flush, serving).await.unwrap_or(Ok(())),
    };
    let _still_working = timeout(flush, Gauges(calls.clone()).idle()).await;
    served
}

/// What has to be done now and then, until the server stops.
async fn keep_house(security: Arc<Security>, calls: Calls, health: HealthReporter) {
    let mut metrics_are_due = tokio::time::interval(Duration::from_secs(limits::METRICS_SECONDS));
    let mut files_are_due = tokio::time::interval(Duration::from_secs(limits::RELOAD_SECONDS));
    let mut devices_are_due = tokio::time::interval(Duration::from_secs(limits::DEVICE_SECONDS));
    let mut can_run = true;
    loop {
        let security = Arc::clone(&security);
        let done = tokio::select! {
            _ = devices_are_due.tick(), if can_run => {
                can_run = calls.scoring().can_run();
                if !can_run {
                    tracing::error!("no device runs models any more; health says so, for this server to be started again");
                    set_health(&health, ServingStatus::NotServing).await;
                }
                Ok(())
            }
            _ = metrics_are_due.tick() => tokio::task::spawn_blocking(metrics::tidy).await,
            _ = files_are_due.tick(), if security.has_files() => {
                tokio::task::spawn_blocking(move || security.reload_and_tell()).await
            }
            () = calls.stop.cancelled() => return,
        };
        if let Err(error) = done {
            tracing::error!(%error, "housekeeping failed");
        }
    }
}

/// Which pages of other servers may call.
fn cross_origin(origins: &[String]) -> CorsLayer {
    let header = HeaderName::from_static;
    let origins = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::POST])
        .allow_headers([
            CONTENT_TYPE,
            AUTHORIZATION,
            header("x-grpc-web"),
            header("x-user-agent"),
            header("grpc-timeout"),
            header("traceparent"),
            header("tracestate"),
            header(REQUEST_ID_HEADER),
        ])
        .expose_headers([
            header("grpc-status"),
            header("grpc-message"),
            header("grpc-status-details-bin"),
            header(REQUEST_ID_HEADER),
        ])
}

impl Gauges {
    /// Requests that compute or wait to.
    pub fn computing(&self) -> usize {
        self.0.computing.in_progress()
    }

    /// Look-ups that run or wait to.
    pub fn lookups(&self) -> usize {
        self.0.lookups.in_progress()
    }

    /// Uploads in progress.
    pub fn uploads(&self) -> usize {
        self.0.uploads.in_progress()
    }

    /// Waits until no work is left.
    pub async fn idle(&self) {
        self.0.computing.idle().await;
        self.0.lookups.idle().await;
        self.0.uploads.idle().await;
    }
}

impl std::fmt::Debug for Calls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Calls").field("computing", &self.computing).finish_non_exhaustive()
    }
}

async fn set_health(health: &HealthReporter, status: ServingStatus) {
    let services = [
        "",
        <TransferScoreServiceServer<ScoreService> as NamedService>::NAME,
        <ModelServiceServer<ModelService> as NamedService>::NAME,
        <DatasetServiceServer<DatasetService> as NamedService>::NAME,
        <JobServiceServer<JobService> as NamedService>::NAME,
    ];
    for service in services {
        health.set_service_status(service, status).await;
    }
}

fn call_span(request: &Request<Body>) -> Span {
    let request_id = request.extensions().get::<RequestId>().map_or("", RequestId::as_str);
    let empty = tracing::field::Empty;
    let span = tracing::info_span!("call", method = request.uri().path(), request_id, caller = empty, code = empty);
    telemetry::adopt(&span, request.headers());
    if let Some(slot) = request.extensions().get::<CallSpan>() {
        slot.set(&span);
    }
    span
}
