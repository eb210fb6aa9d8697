//! Browsers: gRPC-Web, pages of other origins, the status page.

use std::{
    io::{Read, Write},
    net::TcpListener,
    path::Path,
    process::Command,
    sync::Arc,
};

use prost::Message;
use tempfile::TempDir;
use transferscore::{
    config::SecurityConfig,
    transport::{proto::ListModelsResponse, security::Security},
};

use super::http::{Answer, get, send};
use crate::{
    report::chromium,
    server_process::{ServerProcess, repository},
    transport::fake::{Fake, Running},
};

const LIST_MODELS: &str = "/transferscore.v1.ModelService/ListModels";

/// The frames of a body of gRPC-Web: the first byte of each, and its content.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [kind, a, b, c, d, rest @ ..] = body {
        let (content, next) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        frames.push((*kind, content.to_vec()));
        body = next;
    }
    frames
}

/// A call with an empty message, as gRPC-Web sends it.
fn call(address: &str, path: &str, further: &[(&str, &str)]) -> Answer {
    let headers = [&[("content-type", "application/grpc-web+proto"), ("x-grpc-web", "1")][..], further].concat();
    send(address, "POST", path, &headers, &[0; 5])
}

async fn with_origins(origins: &[&str]) -> Running {
    let web_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
    let security = Security::open(SecurityConfig { web_origins, ..SecurityConfig::default() }).expect("no files");
    Running::secured(Fake::default(), security).await
}

#[tokio::test]
async fn calls_of_browsers_are_answered_over_http_1() {
    let running = with_origins(&[]).await;
    let address = running.address.to_string();
    let (good, bad) = tokio::task::spawn_blocking(move || {
        let unknown = "/transferscore.v1.ModelService/GetModel";
        (call(&address, LIST_MODELS, &[]), call(&address, unknown, &[("x-request-id", "of-a-browser")]))
    })
    .await
    .expect("no panic");
    assert_eq!(good.status, 200);
    let found = frames(&good.body);
    let models = ListModelsResponse::decode(found[0].1.as_slice()).expect("a message");
    assert_eq!(models.models[0].name, "ok");
    assert_eq!(found[1].0, 0x80, "trailers come last");
    assert!(String::from_utf8_lossy(&found[1].1).contains("grpc-status:0"), "{found:?}");

    assert_eq!(bad.header("x-request-id"), Some("of-a-browser"));
    let status = bad.header("grpc-status").map(str::to_owned);
    let trailers = frames(&bad.body).pop().map(|(_, text)| String::from_utf8_lossy(&text).into_owned());
    let told = status.map(|code| format!("grpc-status:{code}")).or(trailers).unwrap_or_default();
    assert!(told.contains("grpc-status:3"), "{told}");
}

#[tokio::test]
async fn only_pages_of_named_origins_may_call() {
    let running = with_origins(&["https://tools.example"]).await;
    let address = running.address.to_string();
    let asked = tokio::task::spawn_blocking(move || {
        ["https://tools.example", "https://elsewhere.example"].map(|origin| {
            let headers = [
                ("origin", origin),
                ("access-control-request-method", "POST"),
                ("access-control-request-headers", "content-type,x-grpc-web,authorization"),
            ];
            let preflight = send(&address, "OPTIONS", LIST_MODELS, &headers, b"");
            let answer = call(&address, LIST_MODELS, &[("origin", origin)]);
            let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(str::to_owned);
            (allowed(&preflight), allowed(&answer))
        })
    });
    let [named, other] = asked.await.expect("no panic");
    let tools = Some("https://tools.example".to_owned());
    assert_eq!(named, (tools.clone(), tools));
    assert_eq!(other, (None, None));
}

#[test]
fn a_page_that_is_not_there_and_requests_that_are_no_calls_are_refused() {
    let server = ServerProcess::start_bundled();
    assert_eq!(get(&server.address, "/nowhere").status, 404);
    assert_eq!(get(&server.address, "/jobs/job-1").status, 404);
    assert_eq!(send(&server.address, "POST", "/", &[("content-type", "text/plain")], b"x").status, 400);
    let page = get(&server.address, "/");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("digits-reference"), "{}", page.text());
}

/// What a browser has made of a page.
fn shown(chromium: &str, address: &str, profile: &Path) -> String {
    let mut command = Command::new(chromium);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", "--virtual-time-budget=10000"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    let output = command.arg(address).output().expect("the browser runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_browser_shows_models_jobs_and_their_reports() {
    let Some(chromium) = chromium() else { return };
    let folder = TempDir::new().expect("a folder");
    let jobs = folder.path().join("jobs").display().to_string();
    let server = ServerProcess::start_with(&repository("models"), &repository("models/datasets"), &["--jobs", &jobs]);
    let created = Command::new(env!("CARGO_BIN_EXE_transferscore"))
        .args(["rank", "--reference", "digits-reference", "--dataset", "digits", "--max-samples", "16", "digits-50"])
        .args(["digits-75", "--as-job", "--server", &server.address])
        .output()
        .expect("the binary runs");
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let watched = Command::new(env!("CARGO_BIN_EXE_transferscore"))
        .args(["jobs", "watch", "job-1", "--server", &server.address])
        .output()
        .expect("the binary runs");
    assert!(watched.status.success(), "{}", String::from_utf8_lossy(&watched.stderr));

    let status = shown(chromium, &format!("http://{}/", server.address), &folder.path().join("profile"));
    for text in ["digits-reference", "digits-75", "succeeded", "href=\"/jobs/job-1\""] {
        assert!(status.contains(text), "{text} is not in {status}");
    }
    let report = shown(chromium, &format!("http://{}/jobs/job-1", server.address), &folder.path().join("profile"));
    assert!(report.contains("<svg") && report.contains("digits-75"), "{report}");
}

/// A page that calls the server with gRPC-Web and shows what comes back.
fn calling_page(server: &str) -> String {
    format!(
        r#"<pre id="found">nothing</pre><script>
const show = text => {{ document.getElementById("found").textContent = text; }};
fetch("http://{server}{LIST_MODELS}", {{
  method: "POST",
  headers: {{ "content-type": "application/grpc-web+proto", "x-grpc-web": "1" }},
  body: new Uint8Array(5),
}}).then(async answer => show("answered: " + new TextDecoder().decode(await answer.arrayBuffer())))
  .catch(error => show("refused: " + error));
</script>"#
    )
}

/// Serves one page to whoever asks, until the process ends.
fn serve_page(listener: TcpListener, page: String) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut asked = [0; 4096];
            let _some = stream.read(&mut asked);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n";
            let _gone = write!(stream, "{head}content-length: {}\r\n\r\n{page}", page.len());
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_a_browser_calls_the_server_where_its_origin_is_named() {
    let Some(chromium) = chromium() else { return };
    let (named, other) = (TcpListener::bind("127.0.0.1:0"), TcpListener::bind("127.0.0.1:0"));
    let (named, other) = (named.expect("a free port"), other.expect("a free port"));
    let origin = |listener: &TcpListener| format!("http://{}", listener.local_addr().expect("an address"));
    let origins = [origin(&named), origin(&other)];
    let running = with_origins(&[&origins[0]]).await;
    let page = calling_page(&running.address.to_string());
    serve_page(named, page.clone());
    serve_page(other, page);
    let folder = Arc::new(TempDir::new().expect("a folder"));
    let found = tokio::task::spawn_blocking(move || {
        origins.map(|origin| shown(chromium, &origin, &folder.path().join("profile")))
    });
    let [named, other] = found.await.expect("no panic");
    assert!(named.contains("answered: ") && named.contains("a model"), "{named}");
    assert!(other.contains("refused: "), "{other}");
}
