//! What stands around the services: health, reflection, ids, sizes, malformed bytes, look-ups and the client.

use tonic::{Code, Request, client::Grpc};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt;
use transferscore::transport::{
    client::{Client, ClientError},
    proto::{
        ExportGradientGraphRequest, InlineDataset, RankSourcesRequest, TransferScoreRequest, TransferScoreResponse,
        rank_sources_request, rank_sources_response::Event, transfer_score_request,
        transfer_score_service_client::TransferScoreServiceClient,
    },
    server::{Server, ServerSettings},
};

use super::fake::{Fake, Running, settings};

const SERVICES: [&str; 5] = [
    "",
    "transferscore.v1.TransferScoreService",
    "transferscore.v1.ModelService",
    "transferscore.v1.DatasetService",
    "transferscore.v1.JobService",
];

#[tokio::test]
async fn every_service_is_healthy_once_ready() {
    let running = Running::start(Fake::default()).await;
    let mut health = HealthClient::with_origin(running.raw_client(), running.origin());
    for service in SERVICES {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap_or_else(|status| panic!("{service}: {status}"));
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "{service}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_error() {
    let running = Running::start(Fake::default()).await;
    let settings = ServerSettings { listen: running.address, ..settings() };
    let error = Server::bind(settings, std::sync::Arc::new(Fake::default())).await.err().expect("the port is taken");
    assert!(error.to_string().contains(&running.address.to_string()), "{error}");
    assert!(error.to_string().contains("--listen"), "{error}");
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    use tonic_reflection::pb::{v1, v1alpha};

    let running = Running::start(Fake::default()).await;

    let mut current =
        v1::server_reflection_client::ServerReflectionClient::with_origin(running.raw_client(), running.origin());
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = current.server_reflection_info(tokio_stream::once(request)).await.expect("v1").into_inner();
    let answer = answers.message().await.expect("an answer").expect("one answer");
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer.message_response
    else {
        panic!("not a list: {answer:?}");
    };
    assert_has_services(list.service.into_iter().map(|service| service.name).collect());

    let mut older =
        v1alpha::server_reflection_client::ServerReflectionClient::with_origin(running.raw_client(), running.origin());
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut answers = older.server_reflection_info(tokio_stream::once(request)).await.expect("v1alpha").into_inner();
    let answer = answers.message().await.expect("an answer").expect("one answer");
    let Some(v1alpha::server_reflection_response::MessageResponse::ListServicesResponse(list)) =
        answer.message_response
    else {
        panic!("not a list: {answer:?}");
    };
    assert_has_services(list.service.into_iter().map(|service| service.name).collect());
}

fn assert_has_services(names: Vec<String>) {
    for service in SERVICES.into_iter().filter(|service| !service.is_empty()).chain(["grpc.health.v1.Health"]) {
        assert!(names.iter().any(|name| name == service), "{service} is not in {names:?}");
    }
}

#[tokio::test]
async fn a_plain_request_id_is_kept_and_any_other_replaced() {
    let running = Running::start(Fake::default()).await;
    let long = "x".repeat(65);
    for (sent, kept) in [("job-7.retry_2", true), ("two words", false), (long.as_str(), false), ("", false)] {
        let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
        let mut request = Request::new(TransferScoreRequest::default());
        request.metadata_mut().insert("x-request-id", sent.parse().expect("a header"));
        let status = service.transfer_score(request).await.expect_err("the request is empty");
        let details = status.get_error_details();
        let id = &details.request_info().expect("an id").request_id;
        assert_eq!(id == sent, kept, "{sent:?} became {id:?}");
        assert_eq!(status.metadata().get("x-request-id").and_then(|id| id.to_str().ok()), Some(id.as_str()));
    }
}

#[tokio::test]
async fn a_message_too_large_is_refused_with_the_mend() {
    let running = Running::start(Fake::default()).await;
    let mut service = TransferScoreServiceClient::with_origin(running.raw_client(), running.origin());
    let samples = vec![0.5; transferscore::limits::MESSAGE_BYTES / size_of::<f32>() + 1];
    let request = TransferScoreRequest {
        source_model: "source".to_owned(),
        reference_model: "ok".to_owned(),
        probe: Some(transfer_score_request::Probe::InlineDataset(InlineDataset {
            shape: vec![1],
            samples,
            labels: Vec::new(),
        })),
        ..TransferScoreRequest::default()
    };
    let status = service.transfer_score(request).await.expect_err("too large");
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("LIMIT_EXCEEDED"));
    assert!(status.message().contains("send fewer inline samples"), "{}", status.message());
}

/// Field 1 is a string in every request.
#[derive(Clone, PartialEq, prost::Message)]
struct NotARequest {
    #[prost(uint32, tag = "1")]
    number: u32,
}

#[tokio::test]
async fn malformed_bytes_are_the_clients_fault() {
    let running = Running::start(Fake::default()).await;
    let mut grpc = Grpc::with_origin(running.raw_client(), running.origin());
    grpc.ready().await.expect("a connection");
    let path = "/transferscore.v1.TransferScoreService/TransferScore".parse().expect("a path");
    let codec = ProstCodec::<NotARequest, TransferScoreResponse>::default();
    let status = grpc.unary(Request::new(NotARequest { number: 5 }), path, codec).await.expect_err("not a request");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_error_details();
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("REQUEST_MALFORMED"));
}

#[tokio::test]
async fn the_client_reads_listings_checks_graphs_and_rankings() {
    let running = Running::start(Fake::default()).await;
    let client = Client::connect(&running.address.to_string()).await.expect("a server");
    assert_eq!(client.models().await.expect("models")[0].inputs[0].shape, ["batch", "64"]);
    assert_eq!(client.datasets().await.expect("datasets")[0].shape, [1, 8, 8]);

    let check = client.check("ok").await.expect("a check");
    assert!(check.differentiable && check.opset == 18 && check.operators[0].count == 2, "{check:?}");

    let request = ExportGradientGraphRequest { name: "ok".to_owned(), ..ExportGradientGraphRequest::default() };
    let graph = client.gradient(request).await.expect("a graph");
    assert!(graph.len() == 3_000_000 && graph.iter().enumerate().all(|(index, &byte)| byte == index as u8));

    let request = RankSourcesRequest {
        source_models: vec!["first".to_owned(), "second".to_owned()],
        reference_model: "ok".to_owned(),
        probe: Some(rank_sources_request::Probe::Dataset("digits".to_owned())),
        ..RankSourcesRequest::default()
    };
    let mut events = client.rank_sources(request).await.expect("a stream");
    let mut seen = Vec::new();
    while let Some(event) = events.next().await.expect("an event") {
        match event.event {
            Some(Event::Row(row)) => seen.push(row.source_model),
            Some(Event::Ranking(ranking)) => seen.push(format!("{} ranked", ranking.sources.len())),
            _ => {}
        }
    }
    assert_eq!(seen, ["first", "second", "2 ranked"]);
}

#[tokio::test]
async fn the_client_tells_a_refusal_in_one_line() {
    let running = Running::start(Fake::default()).await;
    let client = Client::connect(&running.address.to_string()).await.expect("a server");
    let error = client.check("nowhere").await.expect_err("no such model");
    assert_eq!(
        error.to_string(),
        "there is no model nowhere; ListModels lists those there are (MODEL_NOT_FOUND, reference_model)"
    );
    assert!(matches!(Client::connect("not an address").await, Err(ClientError::Address(_))));
    // The port was free a moment ago and nobody took it.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address").to_string()
    };
    let error = Client::connect(&address).await.expect_err("nobody listens");
    assert!(error.to_string().starts_with(&format!("cannot reach {address}")), "{error}");
}
