//! What a server tells of itself: metrics, health that is watched, logs.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use transferscore::transport::{
    client::Client,
    proto::{
        ListModelsRequest, TransferScoreRequest, model_service_client::ModelServiceClient, transfer_score_request,
    },
};

use super::http::get;
use crate::{
    server_process::{ServerProcess, repository},
    support,
    transport::fake::{Fake, Running},
};

/// The value of a series, by its name and some of its labels.
pub fn value(metrics: &str, name: &str, labels: &[&str]) -> f64 {
    metrics
        .lines()
        .filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']))
        .find(|line| labels.iter().all(|label| line.contains(label)))
        .and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{name} {labels:?} is not in\n{metrics}"))
}

#[tokio::test]
async fn metrics_count_what_was_done() {
    let server = ServerProcess::start_bundled();
    let client = Client::connect(&server.address).await.expect("a server");
    let request = TransferScoreRequest {
        source_model: "digits-50".to_owned(),
        reference_model: "digits-reference".to_owned(),
        probe: Some(transfer_score_request::Probe::Dataset("digits".to_owned())),
        max_samples: 16,
        ..TransferScoreRequest::default()
    };
    client.transfer_score(request.clone()).await.expect("scores");
    client.transfer_score(request.clone()).await.expect("the same scores");
    let unknown = TransferScoreRequest { source_model: "nowhere".to_owned(), ..request };
    client.transfer_score(unknown).await.expect_err("no such model");

    let address = server.address.clone();
    let answer = tokio::task::spawn_blocking(move || get(&address, "/metrics")).await.expect("no panic");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")));
    let metrics = answer.text();
    let method = "method=\"transferscore.v1.TransferScoreService/TransferScore\"";
    assert_eq!(value(&metrics, "transferscore_requests_total", &[method, "code=\"OK\""]), 2.0);
    assert_eq!(value(&metrics, "transferscore_requests_total", &[method, "code=\"NOT_FOUND\""]), 1.0);
    assert_eq!(value(&metrics, "transferscore_request_seconds_count", &[method]), 3.0);
    assert_eq!(value(&metrics, "transferscore_requests_in_progress", &[method]), 0.0);
    assert_eq!(value(&metrics, "transferscore_admission_wait_seconds_count", &["gate=\"compute\""]), 3.0);
    assert_eq!(value(&metrics, "transferscore_admission_running", &["gate=\"compute\""]), 0.0);
    assert_eq!(value(&metrics, "transferscore_admission_waiting", &["gate=\"look_up\""]), 0.0);
    // Two networks for the first call; the second finds the answer.
    assert_eq!(value(&metrics, "transferscore_stage_seconds_count", &["stage=\"compile\""]), 2.0);
    assert_eq!(value(&metrics, "transferscore_stage_seconds_count", &["stage=\"own_passes\""]), 1.0);
    assert_eq!(value(&metrics, "transferscore_stage_seconds_count", &["stage=\"statistics\""]), 1.0);
    assert_eq!(value(&metrics, "transferscore_cache_hits_total", &["cache=\"answers\""]), 1.0);
    assert_eq!(value(&metrics, "transferscore_cache_misses_total", &["cache=\"answers\""]), 1.0);
    assert!(value(&metrics, "transferscore_cache_bytes", &["cache=\"networks\""]) > 0.0);
    assert!(value(&metrics, "transferscore_sessions", &["provider=\"CPUExecutionProvider\""]) >= 2.0);
    assert_eq!(value(&metrics, "transferscore_build_info", &[env!("CARGO_PKG_VERSION")]), 1.0);
    assert!(metrics.contains("# HELP transferscore_requests_total Calls that were answered"), "{metrics}");
}

#[tokio::test]
async fn whoever_watches_a_services_health_is_told_that_the_server_stops() {
    let running = Running::with_settings(Fake::default(), 1, 1, std::time::Duration::from_secs(3600)).await;
    let mut health = HealthClient::with_origin(running.raw_client(), running.origin());
    let request = HealthCheckRequest { service: "transferscore.v1.TransferScoreService".to_owned() };
    let mut changes = health.watch(request).await.expect("a stream").into_inner();
    let first = changes.message().await.expect("an answer").expect("the present state");
    assert_eq!(first.status(), ServingStatus::Serving);
    let _served = running.stop();
    let next = changes.message().await.expect("an answer").expect("a change");
    assert_eq!(next.status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn each_line_of_the_log_is_json_with_the_id_that_the_client_chose() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_transferscore"))
        .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--models"])
        .arg(repository("models"))
        .arg("--datasets")
        .arg(repository("models/datasets"))
        .env("ORT_DYLIB_PATH", support::library())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
    let line = output.next().expect("a line").expect("text");
    let address = line.strip_prefix("listening on ").expect("an address").to_owned();

    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut service = ModelServiceClient::new(channel.connect().await.expect("a server"));
    let mut request = Request::new(ListModelsRequest {});
    request.metadata_mut().insert("x-request-id", "find-me.7".parse().expect("a header"));
    let answer = service.list_models(request).await.expect("models");
    assert_eq!(answer.metadata().get("x-request-id").and_then(|id| id.to_str().ok()), Some("find-me.7"));
    drop(service);

    let stopped = Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert!(stopped.success());
    // The connection is closed meanwhile, which takes this thread.
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output()).await.expect("no panic").expect("an end");
    assert!(ended.status.success(), "{:?}", ended.status);
    let log = String::from_utf8(ended.stderr).expect("text");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    let of_call =
        lines.iter().find(|line| line["span"]["request_id"] == "find-me.7").unwrap_or_else(|| panic!("{log}"));
    assert_eq!(of_call["span"]["method"], "/transferscore.v1.ModelService/ListModels");
    assert!(
        lines.iter().any(|line| line["message"].as_str().is_some_and(|text| text.starts_with("stopping"))),
        "{log}"
    );
}

#[test]
fn a_script_asks_for_health_and_reads_the_exit_code() {
    let server = ServerProcess::start_bundled();
    for (service, code) in [("", 0), ("transferscore.v1.JobService", 0), ("nowhere", 1)] {
        let output = crate::cli::run(&["health", "--server", &server.address, "--service", service]);
        assert_eq!(output.status.code(), Some(code), "{service}: {}", crate::cli::text(&output.stderr));
    }
    assert_eq!(crate::cli::run(&["health", "--server", "127.0.0.1:1"]).status.code(), Some(1));
}
