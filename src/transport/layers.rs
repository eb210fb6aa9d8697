//! What wraps every call: its id, and answers for what the services never see.

use std::{
    any::Any,
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    pin::Pin,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body, codegen};
use tower::{Layer, Service};

use crate::{
    error::{Error, Reason, panic_text},
    limits,
    transport::status::to_status,
};

/// The header with a call's id, in both directions.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// Longest id that is taken from a client.
const REQUEST_ID_BYTES: usize = 64;

/// The id of a call, in its logs and its errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The client's id if it is short and plain, otherwise a new one: ids end up in logs.
    fn of(request: &Request<Body>) -> Self {
        request
            .headers()
            .get(REQUEST_ID_HEADER)
            .and_then(|value| value.to_str().ok())
            .filter(|id| (1..=REQUEST_ID_BYTES).contains(&id.len()))
            .filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
            .map_or_else(RequestId::new, |id| RequestId(id.into()))
    }

    fn new() -> Self {
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one("process"));
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        RequestId(format!("{:08x}-{count:06x}", *PROCESS >> 32).into())
    }
}

/// When a call came in. tonic starts its own timer right after, so that a deadline counted from here is never later.
#[derive(Clone, Copy, Debug)]
pub struct Arrival(pub Instant);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Gives every call an id and a time of arrival, and every refusal that tonic makes by itself our reasons.
#[derive(Clone, Copy, Debug)]
pub struct AnswerLayer;

impl<S> Layer<S> for AnswerLayer {
    type Service = Answer<S>;

    fn layer(&self, inner: S) -> Answer<S> {
        Answer { inner }
    }
}

/// The service of [`AnswerLayer`].
#[derive(Clone, Debug)]
pub struct Answer<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Answer<S>
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let id = RequestId::of(&request);
        request.extensions_mut().insert(id.clone());
        request.extensions_mut().insert(Arrival(Instant::now()));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let mut response = match foreign_error(&response) {
                Some(error) => to_status(&error, id.as_str()).into_http(),
                None => response.map(Body::new),
            };
            if let Ok(value) = HeaderValue::from_str(id.as_str()) {
                response.headers_mut().insert(REQUEST_ID_HEADER, value);
            }
            Ok(response)
        })
    }
}

/// The text of a panic, on its way from the panic catcher to [`AnswerLayer`].
#[derive(Clone)]
struct Panicked(String);

/// The panic catcher's answer: a mark, from which [`AnswerLayer`] makes the status, as it knows the call's id.
pub fn mark_panic(panic: Box<dyn Any + Send + 'static>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.extensions_mut().insert(Panicked(panic_text(&*panic).to_owned()));
    response
}

/// Our error in place of an answer that did not come from a service of ours.
fn foreign_error<B>(response: &Response<B>) -> Option<Error> {
    if let Some(Panicked(text)) = response.extensions().get() {
        return Some(Error::new(Reason::Internal, format!("a handler panicked: {text}")));
    }
    let status = response.extensions().get::<Status>()?;
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::OutOfRange => Some(Error::new(
            Reason::LimitExceeded,
            format!(
                "the request message is larger than {} bytes; send fewer inline samples, or put them on the server as \
                 a dataset",
                limits::MESSAGE_BYTES
            ),
        )),
        Code::Internal => Some(Error::new(
            Reason::RequestMalformed,
            format!("the request cannot be decoded ({}); encode it with the server's .proto files", status.message()),
        )),
        _ => None,
    }
}
