//! TLS: certificates from PEM files, and connections that are handed on once their handshake is done.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        server::WebPkiClientVerifier,
    },
    server::TlsStream,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{Security, SecurityError, contents};
use crate::{config::TlsConfig, limits, telemetry::metrics};

/// Reads certificate, key and, where clients have to show one too, the authority of theirs.
///
/// # Errors
/// The first file that cannot be used, a key that is not the certificate's.
pub fn server_config(files: &TlsConfig) -> Result<ServerConfig, SecurityError> {
    let chain = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&contents(&files.key, limits::PEM_BYTES)?)
        .map_err(|cause| SecurityError::Pem { path: files.key.clone(), cause: cause.to_string() })?;
    let provider = Arc::new(ring::default_provider());
    let wrong = |path: &Path, cause: &dyn std::fmt::Display| SecurityError::Certificate {
        path: path.to_owned(),
        cause: cause.to_string(),
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|cause| wrong(&files.certificate, &cause))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|cause| wrong(path, &cause))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|cause| wrong(path, &cause))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|cause| wrong(&files.certificate, &cause))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let wrong = |cause: String| SecurityError::Pem { path: path.to_owned(), cause };
    let pem = contents(path, limits::PEM_BYTES)?;
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|cause| wrong(cause.to_string()))?;
    if found.is_empty() { Err(wrong("has no certificate".to_owned())) } else { Ok(found) }
}

/// Connections whose handshake is done, until nobody wants them any more. Each is made with what `security` has in use when
/// the client connects.
pub fn incoming(
    listener: TcpListener,
    security: Arc<Security>,
) -> ReceiverStream<std::io::Result<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(limits::HANDSHAKES);
    let handshakes = Arc::new(Semaphore::new(limits::HANDSHAKES));
    tokio::spawn(async move {
        loop {
            let permit = tokio::select! {
                permit = Arc::clone(&handshakes).acquire_owned() => permit,
                () = sender.closed() => return,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Too many open files, or a client that was gone at once: the next may do better.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Some(config) = security.tls() else { return };
            let sender = sender.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let _slow = stream.set_nodelay(true);
                let handshake = TlsAcceptor::from(config).accept(stream);
                let cause = match timeout(Duration::from_secs(limits::HANDSHAKE_SECONDS), handshake).await {
                    Ok(Ok(stream)) => {
                        let _stopping = sender.send(Ok(stream)).await;
                        return;
                    }
                    Ok(Err(cause)) => cause.to_string(),
                    Err(_) => format!("it took longer than {} seconds", limits::HANDSHAKE_SECONDS),
                };
                metrics::HANDSHAKES_FAILED.add(&[], 1);
                tracing::debug!(%peer, cause, "a TLS handshake failed");
            });
        }
    });
    ReceiverStream::new(receiver)
}
