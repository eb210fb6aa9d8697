//! Traces, as a collector gets them. Built with `--features opentelemetry` only.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::TcpListener as StdListener,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};
use transferscore::transport::proto::{
    TransferScoreRequest, transfer_score_request, transfer_score_service_client::TransferScoreServiceClient,
};

use crate::server_process::{ServerProcess, repository};

/// What W3C's recommendation has as its example.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that keeps what it is sent: each span with the name of the service that sent it.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut kept = self.0.lock().expect("no panic");
        for of_resource in request.into_inner().resource_spans {
            let service = texts(&of_resource.resource.expect("a resource").attributes)["service.name"].clone();
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            kept.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Attributes that are texts.
fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |attribute: &KeyValue| match &attribute.value.as_ref()?.value {
        Some(Value::StringValue(text)) => Some((attribute.key.clone(), text.clone())),
        _ => None,
    };
    attributes.iter().filter_map(text).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A collector on a free port, its address, and the task that it runs on.
async fn collector() -> (Collector, String, JoinHandle<Result<(), tonic::transport::Error>>) {
    let collector = Collector::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let service = TraceServiceServer::new(collector.clone());
    let serving = tonic::transport::Server::builder().add_service(service);
    (collector, address, tokio::spawn(serving.serve_with_incoming(TcpIncoming::from(listener))))
}

/// A server with the bundled models that sends its traces there.
async fn server(collector: &str) -> ServerProcess {
    let collector = collector.to_owned();
    let start = move || {
        ServerProcess::start_with(&repository("models"), &repository("models/datasets"), &["--traces", &collector])
    };
    tokio::task::spawn_blocking(start).await.expect("a server")
}

async fn stop(server: ServerProcess) {
    let ended = tokio::task::spawn_blocking(|| server.stop()).await.expect("no panic");
    assert!(ended.success(), "{ended:?}");
}

/// A score of a source, of a call that belongs to another trace.
async fn score(server: &ServerProcess, source: &str) -> Result<(), Status> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", server.address)).expect("an address");
    let mut client = TransferScoreServiceClient::new(channel.connect().await.expect("a server"));
    let mut request = Request::new(TransferScoreRequest {
        source_model: source.to_owned(),
        reference_model: "digits-reference".to_owned(),
        probe: Some(transfer_score_request::Probe::Dataset("digits".to_owned())),
        max_samples: 16,
        ..TransferScoreRequest::default()
    });
    let headers = request.metadata_mut();
    headers.insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().expect("a header"));
    headers.insert("x-request-id", format!("trace-{source}").parse().expect("a header"));
    client.transfer_score(request).await.map(drop)
}

#[tokio::test]
async fn a_call_is_a_span_under_its_clients_with_its_stages_below() {
    let (collector, address, _serving) = collector().await;
    let server = server(&address).await;
    score(&server, "digits-50").await.expect("scores");
    score(&server, "nowhere").await.expect_err("no such model");
    // Spans wait for others; the end of the server does not lose them.
    stop(server).await;

    let kept = collector.0.lock().expect("no panic");
    assert!(kept.iter().all(|(service, _)| service == "transferscore"), "{kept:?}");
    let spans: Vec<&Span> = kept.iter().map(|(_, span)| span).collect();
    let call = |id: &str| {
        let has_id = |span: &&&Span| texts(&span.attributes).get("request_id").is_some_and(|found| found == id);
        *spans.iter().find(has_id).unwrap_or_else(|| panic!("{id} is not among {spans:?}"))
    };
    for (id, code) in [("trace-digits-50", "OK"), ("trace-nowhere", "NOT_FOUND")] {
        let call = call(id);
        assert_eq!(call.name, "transferscore.v1.TransferScoreService/TransferScore");
        assert_eq!((hexadecimal(&call.trace_id), hexadecimal(&call.parent_span_id)), (TRACE.into(), PARENT.into()));
        assert_eq!(call.kind(), SpanKind::Server);
        let attributes = texts(&call.attributes);
        assert_eq!(attributes["rpc.response.status_code"], code);
        assert_eq!(attributes["rpc.method"], call.name);
        // What the client did wrong is no failure of the server.
        assert!(call.status.as_ref().is_none_or(|status| status.code() != StatusCode::Error), "{call:?}");
        assert!(call.end_time_unix_nano > call.start_time_unix_nano);
    }
    let below = |call: &Span| -> BTreeSet<&str> {
        spans.iter().filter(|span| span.parent_span_id == call.span_id).map(|span| span.name.as_str()).collect()
    };
    let scored = below(call("trace-digits-50"));
    assert_eq!(scored, BTreeSet::from(["compile", "joint_passes", "own_passes", "samples", "statistics"]));
    // Nothing else is sent: what a trace has is what the program means to tell.
    let calls: Vec<&[u8]> = ["trace-digits-50", "trace-nowhere"].map(|id| call(id).span_id.as_slice()).to_vec();
    let is_known = |span: &&Span| calls.contains(&&*span.span_id) || calls.contains(&&*span.parent_span_id);
    let unknown: Vec<_> = spans.iter().copied().filter(|span| !is_known(span)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[tokio::test]
async fn a_collector_that_is_away_or_dumb_costs_no_call_and_does_not_keep_the_server() {
    // One port that nobody listens on, and one where connections are taken and never answered.
    let away = StdListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let dumb = StdListener::bind("127.0.0.1:0").expect("a port");
    for address in [away, dumb.local_addr().expect("an address")] {
        let server = server(&format!("http://{address}")).await;
        score(&server, "digits-50").await.expect("scores");
        stop(server).await;
    }
}
