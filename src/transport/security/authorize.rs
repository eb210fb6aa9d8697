//! Asks every call for its token, before its service sees it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use tonic::{body::Body, codegen};
use tower::{Layer, Service};
use tracing::Span;

use super::Security;
use crate::transport::{layers::RequestId, methods, status::to_status};

/// Refuses calls without the token that they take.
#[derive(Clone, Debug)]
pub struct AuthorizeLayer(pub Arc<Security>);

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { inner, security: Arc::clone(&self.0) }
    }
}

/// The service of [`AuthorizeLayer`].
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
    security: Arc<Security>,
}

impl<S, B> Service<Request<Body>> for Authorize<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: codegen::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let access = methods::access(request.uri().path());
        match self.security.authorize(request.headers(), access) {
            Ok(caller) => {
                if let Some(caller) = caller {
                    Span::current().record("caller", caller);
                }
                let answer = self.inner.call(request);
                Box::pin(async move { Ok(answer.await?.map(Body::new)) })
            }
            Err(error) => {
                let id = request.extensions().get().map_or("", RequestId::as_str);
                let refusal = to_status(&error, id).into_http();
                Box::pin(async move { Ok(refusal) })
            }
        }
    }
}

/// The token of a request: a bearer's, or the password of HTTP's basic scheme, which is what browsers ask people for.
pub fn presented(headers: &HeaderMap) -> Option<String> {
    let (scheme, value) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" => Some(value.trim().to_owned()),
        "basic" => {
            let pair = String::from_utf8(BASE64_STANDARD.decode(value.trim()).ok()?).ok()?;
            pair.split_once(':').map(|(_, password)| password.to_owned())
        }
        _ => None,
    }
}
