//! Certificates and tokens: who gets in, who does not, and that files are read again without a restart.

use std::{path::Path, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tonic::{Code, Request, metadata::MetadataValue};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_types::StatusExt;
use transferscore::{
    config::{SecurityConfig, TlsConfig},
    transport::{
        client::{Client, ClientError, ClientSecurity},
        proto::{ListModelsRequest, model_service_client::ModelServiceClient},
        security::Security,
    },
};

use super::{
    certificates::{Authority, Pair, put},
    http::send,
};
use crate::transport::fake::{Fake, Running};

/// Files of a server's certificate.
fn tls_files(folder: &Path, pair: &Pair, client_ca: Option<&str>) -> SecurityConfig {
    let tls = TlsConfig {
        certificate: put(folder, "certificate.pem", &pair.certificate),
        key: put(folder, "key.pem", &pair.key),
        client_ca: client_ca.map(|pem| put(folder, "clients.pem", pem)),
    };
    SecurityConfig { tls: Some(tls), ..SecurityConfig::default() }
}

async fn secured(config: SecurityConfig) -> (Running, Arc<Security>) {
    let security = Security::open(config).expect("files that make sense");
    (Running::secured(Fake::default(), Arc::clone(&security)).await, security)
}

async fn reach(running: &Running, security: &ClientSecurity) -> Result<usize, ClientError> {
    let client = Client::connect_with(&running.address.to_string(), security).await?;
    Ok(client.models().await?.len())
}

fn trusting(authority: &Authority) -> ClientSecurity {
    ClientSecurity { authorities: Some(authority.pem.clone()), ..ClientSecurity::default() }
}

#[tokio::test]
async fn a_server_with_a_certificate_speaks_to_clients_that_trust_its_authority() {
    let (folder, authority) = (TempDir::new().expect("a folder"), Authority::new());
    let (running, _) = secured(tls_files(folder.path(), &authority.issue(), None)).await;
    assert_eq!(reach(&running, &trusting(&authority)).await, Ok(1));
    reach(&running, &trusting(&Authority::new())).await.expect_err("another authority");
    reach(&running, &ClientSecurity::default()).await.expect_err("no TLS");
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart_and_a_damaged_one_is_not() {
    let (folder, former, latter) = (TempDir::new().expect("a folder"), Authority::new(), Authority::new());
    let (running, security) = secured(tls_files(folder.path(), &former.issue(), None)).await;
    assert!(!security.reload().expect("nothing is new"));

    // In the middle of a replacement, certificate and key are not each other's.
    let pair = latter.issue();
    put(folder.path(), "certificate.pem", &pair.certificate);
    security.reload().expect_err("the former key");
    assert_eq!(reach(&running, &trusting(&former)).await, Ok(1));

    put(folder.path(), "key.pem", &pair.key);
    assert!(security.reload().expect("both are new"));
    assert_eq!(reach(&running, &trusting(&latter)).await, Ok(1));
    reach(&running, &trusting(&former)).await.expect_err("the former authority");

    put(folder.path(), "certificate.pem", "nonsense");
    let error = security.reload().expect_err("no certificate");
    assert!(error.to_string().contains("certificate.pem"), "{error}");
    assert_eq!(reach(&running, &trusting(&latter)).await, Ok(1));
}

#[tokio::test]
async fn a_server_that_asks_for_certificates_refuses_clients_without() {
    let (folder, authority, of_clients) = (TempDir::new().expect("a folder"), Authority::new(), Authority::new());
    let config = tls_files(folder.path(), &authority.issue(), Some(&of_clients.pem));
    let (running, _) = secured(config).await;
    let with = |pair: Pair| ClientSecurity { identity: Some((pair.certificate, pair.key)), ..trusting(&authority) };
    assert_eq!(reach(&running, &with(of_clients.issue())).await, Ok(1));
    reach(&running, &with(authority.issue())).await.expect_err("a certificate of another authority");
    reach(&running, &trusting(&authority)).await.expect_err("no certificate");
}

/// A file of tokens: names, which are the tokens too, with their scopes.
fn tokens(folder: &Path, of: &[(&str, &str)]) -> SecurityConfig {
    let entry = |(name, scopes): &(&str, &str)| {
        let digest: String = Sha256::digest(name.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("[[token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nscopes = [{scopes}]\n")
    };
    let path = put(folder, "tokens.toml", &of.iter().map(entry).collect::<String>());
    SecurityConfig { tokens: Some(path), ..SecurityConfig::default() }
}

/// The code and the reason of a listing with this header.
async fn listing(running: &Running, authorization: &str) -> (Code, String) {
    let mut service = ModelServiceClient::with_origin(running.raw_client(), running.origin());
    let mut request = Request::new(ListModelsRequest {});
    if !authorization.is_empty() {
        let value: MetadataValue<_> = authorization.parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
    }
    match service.list_models(request).await {
        Ok(_) => (Code::Ok, String::new()),
        Err(status) => {
            let details = status.get_error_details();
            assert!(details.request_info().is_some_and(|info| !info.request_id.is_empty()), "{status:?}");
            (status.code(), details.error_info().map(|info| info.reason.clone()).unwrap_or_default())
        }
    }
}

#[tokio::test]
async fn calls_take_a_token_with_their_scope() {
    let folder = TempDir::new().expect("a folder");
    let config = tokens(folder.path(), &[("reader", "\"score\""), ("keeper", "\"manage\"")]);
    let (running, security) = secured(config).await;
    let refused = |code: Code, reason: &str| (code, reason.to_owned());
    let basic = format!("Basic {}", BASE64_STANDARD.encode("anybody:reader"));
    for (header, expected) in [
        ("Bearer reader", refused(Code::Ok, "")),
        ("bearer reader", refused(Code::Ok, "")),
        (basic.as_str(), refused(Code::Ok, "")),
        ("", refused(Code::Unauthenticated, "TOKEN_INVALID")),
        ("reader", refused(Code::Unauthenticated, "TOKEN_INVALID")),
        ("Bearer reader2", refused(Code::Unauthenticated, "TOKEN_INVALID")),
        ("Basic !", refused(Code::Unauthenticated, "TOKEN_INVALID")),
        ("Bearer keeper", refused(Code::PermissionDenied, "SCOPE_MISSING")),
    ] {
        assert_eq!(listing(&running, header).await, expected, "{header:?}");
    }

    // Whoever looks after the server needs no token to see whether it is there.
    let mut health = HealthClient::with_origin(running.raw_client(), running.origin());
    health.check(HealthCheckRequest::default()).await.expect("health is open");

    tokens(folder.path(), &[("another", "\"score\"")]);
    assert!(security.reload().expect("a file that makes sense"));
    assert_eq!(listing(&running, "Bearer reader").await.0, Code::Unauthenticated);
    let with_token = ClientSecurity { token: Some("another".to_owned()), ..ClientSecurity::default() };
    assert_eq!(reach(&running, &with_token).await, Ok(1));
}

#[tokio::test]
async fn pages_take_a_token_too() {
    let folder = TempDir::new().expect("a folder");
    let (running, _) = secured(tokens(folder.path(), &[("reader", "\"score\"")])).await;
    let address = running.address.to_string();
    let basic = format!("Basic {}", BASE64_STANDARD.encode("anybody:reader"));
    let asked = tokio::task::spawn_blocking(move || {
        ["/", "/metrics", "/jobs/job-1"].map(|path| {
            let refused = send(&address, "GET", path, &[], b"");
            let asks = refused.header("www-authenticate").is_some_and(|scheme| scheme.starts_with("Basic "));
            let allowed = send(&address, "GET", path, &[("authorization", &basic)], b"");
            (path, refused.status, asks, allowed.status)
        })
    });
    let expected = [("/", 401, true, 200), ("/metrics", 401, true, 200), ("/jobs/job-1", 401, true, 404)];
    assert_eq!(asked.await.expect("no panic"), expected);
}

#[test]
fn files_of_tokens_that_make_no_sense_are_refused_with_the_mend() {
    let folder = TempDir::new().expect("a folder");
    let digest = "0".repeat(64);
    for (text, expected) in [
        ("", "token"),
        ("[[token]]\nname = \"a\"", "sha256"),
        ("[[token]]\nname = \"a\"\nsha256 = \"00\"\nscopes = [\"score\"]", "64 hexadecimal digits"),
        (format!("[[token]]\nname = \"a\"\nsha256 = \"{digest}\"\nscopes = []").as_str(), "no scopes"),
        (format!("[[token]]\nname = \"a\"\nsha256 = \"{digest}\"\nscopes = [\"all\"]").as_str(), "score"),
        (
            format!("[[token]]\nname = \"a\"\nsha256 = \"{digest}\"\nscopes = [\"score\"]\n").repeat(2).as_str(),
            "the same",
        ),
    ] {
        let path = put(folder.path(), "tokens.toml", text);
        let config = SecurityConfig { tokens: Some(path), ..SecurityConfig::default() };
        let error = Security::open(config).expect_err(text).to_string();
        assert!(error.contains("tokens.toml") && error.contains(expected), "{text}: {error}");
    }
}
