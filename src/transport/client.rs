//! The client's side: what the command line uses to talk to a server.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{
    Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt;

use crate::transport::proto::{
    AttackRequest, AttackResponse, CancelJobRequest, CancelJobResponse, CheckModelRequest, CheckModelResponse,
    CompareTasksRequest, CompareTasksResponse, CreateJobRequest, CreateJobResponse, Dataset, DatasetUploadHeader,
    DeleteDatasetRequest, DeleteDatasetResponse, ExportGradientGraphRequest, FineTuneRequest, FineTuneResponse,
    GetJobRequest, GetJobResponse, ListDatasetsRequest, ListJobsRequest, ListJobsResponse, ListModelsRequest,
    LoadModelRequest, LoadModelResponse, Model, ModelUploadHeader, RankSourcesRequest, RankSourcesResponse,
    TransferScoreRequest, TransferScoreResponse, UnloadModelRequest, UnloadModelResponse, UploadDatasetRequest,
    UploadDatasetResponse, UploadModelRequest, UploadModelResponse, WatchJobRequest, WatchJobResponse,
    dataset_service_client::DatasetServiceClient, job_service_client::JobServiceClient,
    model_service_client::ModelServiceClient, transfer_score_service_client::TransferScoreServiceClient,
    upload_dataset_request, upload_model_request,
};

/// How long to wait for a server to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call gave no answer, in one readable line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("{0} is not an address; give HOST:PORT")]
    Address(String),
    #[error("{0}; give files in PEM format")]
    Tls(String),
    #[error("the token has characters that no token has; give a file with the token alone")]
    Token,
    #[error("cannot reach {address}: {cause}; is the server running there?")]
    Unreachable { address: String, cause: String },
    /// The server refused or failed; `context` names its reason and the request's field at fault.
    #[error("{message}{context}")]
    Refused { message: String, context: String },
    #[error("the stream ended without a result; the server has more in its log")]
    Incomplete,
}

/// How to speak with a server: as little as it asks for.
#[derive(Clone, Debug, Default)]
pub struct ClientSecurity {
    /// Authorities that may vouch for the server, PEM; `None` means the system's, where the address begins with `https://`.
    pub authorities: Option<String>,
    /// A certificate to show, with its key, PEM.
    pub identity: Option<(String, String)>,
    /// A token to call with.
    pub token: Option<String>,
}

/// A connection to a server.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Connection,
}

type Connection = InterceptedService<Channel, Bearer>;

/// Puts the token into every call.
#[derive(Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

impl Client {
    /// Connects to `HOST:PORT` or `http://HOST:PORT`.
    ///
    /// # Errors
    /// When that is no address, or nobody listens there.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Client::connect_with(address, &ClientSecurity::default()).await
    }

    /// The same with TLS, where authorities or an identity are given or the address begins with `https://`, and with a token.
    ///
    /// # Errors
    /// Also certificates or a token that cannot be used.
    pub async fn connect_with(address: &str, security: &ClientSecurity) -> Result<Self, ClientError> {
        let has_tls = address.starts_with("https://") || security.authorities.is_some() || security.identity.is_some();
        let scheme = if has_tls { "https" } else { "http" };
        let uri = if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") };
        let mut endpoint = Endpoint::from_shared(uri).map_err(|_| ClientError::Address(address.to_owned()))?;
        if has_tls {
            endpoint = endpoint.tls_config(tls(security)).map_err(|error| ClientError::Tls(innermost(&error)))?;
        }
        let bearer = security.token.as_ref().map(|token| format!("Bearer {token}").parse());
        let bearer = Bearer(bearer.transpose().map_err(|_| ClientError::Token)?);
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .connect()
            .await
            .map_err(|error| ClientError::Unreachable { address: address.to_owned(), cause: innermost(&error) })?;
        Ok(Client { channel: InterceptedService::new(channel, bearer) })
    }

    /// Scores one pair.
    pub async fn transfer_score(&self, request: TransferScoreRequest) -> Result<TransferScoreResponse, ClientError> {
        Ok(self.scores().transfer_score(Request::new(request)).await?.into_inner())
    }

    /// Starts a ranking.
    pub async fn rank_sources(&self, request: RankSourcesRequest) -> Result<RankingEvents, ClientError> {
        Ok(RankingEvents(self.scores().rank_sources(Request::new(request)).await?.into_inner()))
    }

    /// Starts a comparison of tasks.
    pub async fn compare_tasks(&self, request: CompareTasksRequest) -> Result<ComparisonEvents, ClientError> {
        Ok(ComparisonEvents(self.scores().compare_tasks(Request::new(request)).await?.into_inner()))
    }

    /// Starts an attack.
    pub async fn attack(&self, request: AttackRequest) -> Result<AttackEvents, ClientError> {
        Ok(AttackEvents(self.scores().attack(Request::new(request)).await?.into_inner()))
    }

    /// Starts a fine-tuning.
    pub async fn fine_tune(&self, request: FineTuneRequest) -> Result<FineTuneEvents, ClientError> {
        Ok(FineTuneEvents(self.scores().fine_tune(Request::new(request)).await?.into_inner()))
    }

    /// Every model.
    pub async fn models(&self) -> Result<Vec<Model>, ClientError> {
        Ok(self.model_service().list_models(Request::new(ListModelsRequest {})).await?.into_inner().models)
    }

    /// Whether a model can be differentiated.
    pub async fn check(&self, name: &str) -> Result<CheckModelResponse, ClientError> {
        let request = CheckModelRequest { name: name.to_owned() };
        Ok(self.model_service().check_model(Request::new(request)).await?.into_inner())
    }

    /// A gradient graph, as ONNX bytes.
    pub async fn gradient(&self, request: ExportGradientGraphRequest) -> Result<Vec<u8>, ClientError> {
        let mut chunks = self.model_service().export_gradient_graph(Request::new(request)).await?.into_inner();
        let mut graph = Vec::new();
        while let Some(chunk) = chunks.message().await? {
            graph.extend_from_slice(&chunk.chunk);
        }
        if graph.is_empty() { Err(ClientError::Incomplete) } else { Ok(graph) }
    }

    /// Has the server keep a model ready.
    pub async fn load_model(&self, request: LoadModelRequest) -> Result<LoadModelResponse, ClientError> {
        Ok(self.model_service().load_model(Request::new(request)).await?.into_inner())
    }

    /// Has the server drop a model from its memory.
    pub async fn unload_model(&self, name: &str) -> Result<UnloadModelResponse, ClientError> {
        let request = UnloadModelRequest { name: name.to_owned() };
        Ok(self.model_service().unload_model(Request::new(request)).await?.into_inner())
    }

    /// Sends a model; `chunks` gives its file's bytes.
    pub async fn upload_model(
        &self,
        header: ModelUploadHeader,
        chunks: mpsc::Receiver<Vec<u8>>,
    ) -> Result<UploadModelResponse, ClientError> {
        let pieces = tokio_stream::once(upload_model_request::Piece::Header(header))
            .chain(ReceiverStream::new(chunks).map(upload_model_request::Piece::Chunk))
            .map(|piece| UploadModelRequest { piece: Some(piece) });
        Ok(self.model_service().upload_model(Request::new(pieces)).await?.into_inner())
    }

    /// Every dataset.
    pub async fn datasets(&self) -> Result<Vec<Dataset>, ClientError> {
        Ok(self.dataset_service().list_datasets(Request::new(ListDatasetsRequest {})).await?.into_inner().datasets)
    }

    /// Sends a dataset; `chunks` gives its file's bytes.
    pub async fn upload_dataset(
        &self,
        header: DatasetUploadHeader,
        chunks: mpsc::Receiver<Vec<u8>>,
    ) -> Result<UploadDatasetResponse, ClientError> {
        let pieces = tokio_stream::once(upload_dataset_request::Piece::Header(header))
            .chain(ReceiverStream::new(chunks).map(upload_dataset_request::Piece::Chunk))
            .map(|piece| UploadDatasetRequest { piece: Some(piece) });
        Ok(self.dataset_service().upload_dataset(Request::new(pieces)).await?.into_inner())
    }

    /// Has the server delete a dataset that was uploaded.
    pub async fn delete_dataset(&self, name: &str) -> Result<DeleteDatasetResponse, ClientError> {
        let request = DeleteDatasetRequest { name: name.to_owned() };
        Ok(self.dataset_service().delete_dataset(Request::new(request)).await?.into_inner())
    }

    /// Puts work into the queue.
    pub async fn create_job(&self, request: CreateJobRequest) -> Result<CreateJobResponse, ClientError> {
        Ok(self.job_service().create_job(Request::new(request)).await?.into_inner())
    }

    /// A job with its request and its result.
    pub async fn job(&self, name: &str) -> Result<GetJobResponse, ClientError> {
        let request = GetJobRequest { name: name.to_owned() };
        Ok(self.job_service().get_job(Request::new(request)).await?.into_inner())
    }

    /// A page of jobs.
    pub async fn jobs(&self, request: ListJobsRequest) -> Result<ListJobsResponse, ClientError> {
        Ok(self.job_service().list_jobs(Request::new(request)).await?.into_inner())
    }

    /// Watches a job.
    pub async fn watch_job(&self, request: WatchJobRequest) -> Result<JobEvents, ClientError> {
        Ok(JobEvents(self.job_service().watch_job(Request::new(request)).await?.into_inner()))
    }

    /// Cancels a job.
    pub async fn cancel_job(&self, name: &str) -> Result<CancelJobResponse, ClientError> {
        let request = CancelJobRequest { name: name.to_owned() };
        Ok(self.job_service().cancel_job(Request::new(request)).await?.into_inner())
    }

    /// Whether the server serves; an empty service means all of them.
    pub async fn is_serving(&self, service: &str) -> Result<bool, ClientError> {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(self.channel.clone()).check(Request::new(request)).await?.into_inner();
        Ok(answer.status() == ServingStatus::Serving)
    }

    // The server bounds what it sends; a long listing may pass tonic's default of 4 MiB.
    fn scores(&self) -> TransferScoreServiceClient<Connection> {
        TransferScoreServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    fn dataset_service(&self) -> DatasetServiceClient<Connection> {
        DatasetServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    fn job_service(&self) -> JobServiceClient<Connection> {
        JobServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    fn model_service(&self) -> ModelServiceClient<Connection> {
        ModelServiceClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }
}

/// The events of a ranking, as they come.
#[derive(Debug)]
pub struct RankingEvents(Streaming<RankSourcesResponse>);

impl RankingEvents {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<RankSourcesResponse>, ClientError> {
        Ok(self.0.message().await?)
    }
}

/// The events of a comparison, as they come.
#[derive(Debug)]
pub struct ComparisonEvents(Streaming<CompareTasksResponse>);

impl ComparisonEvents {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<CompareTasksResponse>, ClientError> {
        Ok(self.0.message().await?)
    }
}

/// The events of an attack, as they come.
#[derive(Debug)]
pub struct AttackEvents(Streaming<AttackResponse>);

impl AttackEvents {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<AttackResponse>, ClientError> {
        Ok(self.0.message().await?)
    }
}

/// The events of a fine-tuning, as they come.
#[derive(Debug)]
pub struct FineTuneEvents(Streaming<FineTuneResponse>);

impl FineTuneEvents {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<FineTuneResponse>, ClientError> {
        Ok(self.0.message().await?)
    }
}

/// The events of a job, as they come.
#[derive(Debug)]
pub struct JobEvents(Streaming<WatchJobResponse>);

impl JobEvents {
    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<WatchJobResponse>, ClientError> {
        Ok(self.0.message().await?)
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let reason = details.error_info().map(|info| info.reason.clone());
        let field = details.bad_request().and_then(|bad| bad.field_violations.first()).map(|first| &first.field);
        let context = match (reason, field) {
            (Some(reason), Some(field)) => format!(" ({reason}, {field})"),
            (Some(reason), None) => format!(" ({reason})"),
            // Not from our server: a proxy, or a broken connection.
            (None, _) => format!(" ({:?})", status.code()),
        };
        ClientError::Refused { message: status.message().to_owned(), context }
    }
}

fn tls(security: &ClientSecurity) -> ClientTlsConfig {
    let config = match &security.authorities {
        None => ClientTlsConfig::new().with_native_roots(),
        Some(pem) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)),
    };
    match &security.identity {
        None => config,
        Some((certificate, key)) => config.identity(Identity::from_pem(certificate, key)),
    }
}

/// The cause at the bottom: "connection refused" says more than "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
