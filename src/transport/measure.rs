//! Counts calls: how many, how long, with which code.
//!
//! Invariant: every call that came in is counted once, also where its client left before the end of the answer.

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};
use tower::{Layer, Service};
use tracing::Span;

use crate::{telemetry::metrics, transport::methods};

/// Measures every call that passes.
#[derive(Clone, Copy, Debug)]
pub struct MeasureLayer;

impl<S> Layer<S> for MeasureLayer {
    type Service = Measure<S>;

    fn layer(&self, inner: S) -> Measure<S> {
        Measure { inner }
    }
}

/// The service of [`MeasureLayer`].
#[derive(Clone, Debug)]
pub struct Measure<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for Measure<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let span = CallSpan::default();
        request.extensions_mut().insert(span.clone());
        let mut measured = Measured::begin(methods::label(request.uri().path()), span);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            // An answer without a message has its status here, any other in its trailers.
            measured.read(response.headers());
            Ok(response.map(|body| Body::new(MeasuredBody { body, measured })))
        })
    }
}

/// The span of a call, put here by a layer below, so that it is told the code that the client sees.
#[derive(Clone, Debug, Default)]
pub struct CallSpan(Arc<OnceLock<Span>>);

impl CallSpan {
    pub fn set(&self, span: &Span) {
        self.0.get_or_init(|| span.clone());
    }
}

/// A call on its way. Counted as soon as its status is known, before that is sent; without one, when it is dropped.
struct Measured {
    method: &'static str,
    begun: Instant,
    is_counted: bool,
    span: CallSpan,
}

impl Measured {
    fn begin(method: &'static str, span: CallSpan) -> Self {
        metrics::REQUESTS_IN_PROGRESS.shift(&[method], 1.0);
        Measured { method, begun: Instant::now(), is_counted: false, span }
    }

    /// Headers or trailers, whichever have the status.
    fn read(&mut self, headers: &HeaderMap) {
        if let Some(status) = Status::from_header_map(headers) {
            self.count(status.code());
        }
    }

    fn count(&mut self, code: Code) {
        if !std::mem::replace(&mut self.is_counted, true) {
            metrics::REQUESTS_IN_PROGRESS.shift(&[self.method], -1.0);
            metrics::REQUEST_SECONDS.record(&[self.method], self.begun.elapsed());
            metrics::REQUESTS.add(&[self.method, code_name(code)], 1);
            if let Some(span) = self.span.0.get() {
                span.record("code", code_name(code));
            }
        }
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        // An answer without a status was never finished: its client left.
        self.count(Code::Cancelled);
    }
}

/// The body of an answer, whose end is the call's.
struct MeasuredBody {
    body: Body,
    measured: Measured,
}

impl http_body::Body for MeasuredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.measured.read(trailers);
                }
            }
            Poll::Ready(Some(Err(status))) => self.measured.count(status.code()),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A code as gRPC's documents write it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
