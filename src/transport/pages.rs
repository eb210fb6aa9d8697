//! The HTTP side of the port, read-only: metrics, the status page, the reports of jobs.
//!
//! Everything that is no call is answered here, so that the layers below see calls alone.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{
    HeaderValue, Method, Request, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
};
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Span;

use crate::{
    error::{Error, Reason, Result},
    jobs::{Job, JobFilter, JobKind, JobState, Jobs},
    limits,
    report::{ListedDataset, ListedJob, ListedModel, ServerReport, server_page},
    scoring::{Scoring, types},
    telemetry::metrics,
    transport::{
        call::{Calls, on_blocking_thread},
        convert,
        methods::{Access, Scope},
        proto::GetJobResponse,
        security::Security,
        status::to_status,
    },
};

/// Makes the page of a job, as HTML; `None` for one without a result.
pub type JobReporter = fn(GetJobResponse) -> std::result::Result<Option<String>, String>;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    pub calls: Calls,
    pub jobs: Option<Arc<Jobs>>,
    pub reporter: Option<JobReporter>,
    pub security: Arc<Security>,
}

/// What is asked for.
enum Wanted {
    Metrics,
    Status,
    Report(String),
    Nothing,
}

/// An answer before it is one.
struct Page {
    kind: &'static str,
    text: String,
}

impl Pages {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        if let Err(error) = self.security.authorize(request.headers(), Access::With(Scope::Score)) {
            return refusal(&error);
        }
        let page = match wanted(request.uri().path()) {
            Wanted::Metrics => Ok(Page { kind: "text/plain; version=0.0.4; charset=utf-8", text: self.metrics() }),
            Wanted::Status => self.status().await,
            Wanted::Report(name) => self.report(name).await,
            Wanted::Nothing => {
                let message = "there is no such page; those there are: /, /metrics, /jobs/NAME";
                Err(Error::new(Reason::JobNotFound, message))
            }
        };
        match page {
            Ok(Page { kind, text }) => response(StatusCode::OK, kind, text),
            Err(error) => refusal(&error),
        }
    }

    fn metrics(&self) -> String {
        self.calls.computing.tell();
        self.calls.lookups.tell();
        self.calls.uploads.tell();
        if let Some(jobs) = &self.jobs {
            metrics::JOBS_OPEN.set(&[], jobs.n_open() as f64);
        }
        metrics::render()
    }

    async fn status(&self) -> Result<Page> {
        let (jobs, computing) = (self.jobs.clone(), self.calls.computing.in_progress());
        let has_reports = self.reporter.is_some();
        self.page(move |scoring| {
            let listed = |job: Job| listed_job(job, has_reports);
            let jobs = jobs.map(|jobs| jobs.list(&JobFilter::default(), None, limits::SHOWN_JOBS)).transpose()?;
            let report = ServerReport {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                computing,
                models: scoring.models().into_iter().map(listed_model).collect(),
                datasets: scoring.datasets().into_iter().map(listed_dataset).collect(),
                jobs: jobs.map(|jobs| jobs.into_iter().map(listed).collect()),
            };
            let page = server_page(&report).and_then(|page| page.html());
            page.map_err(|cause| Error::new(Reason::Internal, cause.to_string()))
        })
        .await
    }

    async fn report(&self, name: String) -> Result<Page> {
        let (Some(jobs), Some(reporter)) = (self.jobs.clone(), self.reporter) else {
            return Err(Error::new(Reason::JobsNotKept, "this server keeps no jobs; have it started with --jobs DIR"));
        };
        self.page(move |_| {
            let number = convert::job_number(&name)?;
            // In this order: a result that is there belongs to a job that is over.
            let job = jobs.get(number)?;
            let found = convert::job_with_contents(job, jobs.contents(number)?)?;
            let page = reporter(found).map_err(|cause| Error::new(Reason::Internal, cause))?;
            page.ok_or_else(|| {
                Error::new(
                    Reason::JobNotFound,
                    format!("{number} has no result to report; look again once it succeeded"),
                )
            })
        })
        .await
    }

    /// A page of HTML, made on a blocking thread like any look-up.
    async fn page(&self, make: impl FnOnce(&dyn Scoring) -> Result<String> + Send + 'static) -> Result<Page> {
        let permit = self.calls.lookups.enter().await?;
        let scoring = self.calls.scoring();
        let text = on_blocking_thread(permit, Span::current(), move || make(&*scoring)).await?;
        Ok(Page { kind: "text/html; charset=utf-8", text })
    }
}

/// Whether a request is for a page and not a call.
fn is_for_page(request: &Request<Body>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    matches!(*request.method(), Method::GET | Method::HEAD) && !kind.starts_with(b"application/grpc")
}

fn wanted(path: &str) -> Wanted {
    match path {
        "/" => Wanted::Status,
        "/metrics" => Wanted::Metrics,
        path => path.strip_prefix("/jobs/").map_or(Wanted::Nothing, |name| Wanted::Report(name.to_owned())),
    }
}

fn refusal(error: &Error) -> Response<Body> {
    // The one place that knows what of an error is for the log alone.
    let message = to_status(error, "page").message().to_owned();
    let status = match error.reason {
        Reason::TokenInvalid => StatusCode::UNAUTHORIZED,
        Reason::ScopeMissing => StatusCode::FORBIDDEN,
        Reason::ServerBusy => StatusCode::SERVICE_UNAVAILABLE,
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::NOT_FOUND,
    };
    let mut response = response(status, "text/plain; charset=utf-8", format!("{message}\n"));
    if status == StatusCode::UNAUTHORIZED {
        // So that a browser asks its user for the token.
        let scheme = HeaderValue::from_static("Basic realm=\"transferscore: any name, the token as password\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}

fn response(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::new(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn listed_model(model: types::ModelDescription) -> ListedModel {
    let remark = if model.problem.is_empty() { model.summary } else { model.problem };
    ListedModel { name: model.name, n_parameters: model.n_parameters, digest: model.digest, remark }
}

fn listed_dataset(dataset: types::DatasetDescription) -> ListedDataset {
    let remark = if dataset.problem.is_empty() { dataset.summary } else { dataset.problem };
    ListedDataset { name: dataset.name, n_samples: dataset.n_samples as u64, format: dataset.format, remark }
}

fn listed_job(job: Job, has_reports: bool) -> ListedJob {
    let has_report = has_reports && job.state == JobState::Succeeded;
    let state = match job.state {
        JobState::Queued => "waits",
        JobState::Running => "runs",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::Cancelled => "was cancelled",
    };
    let share = |progress: &types::Progress| format!("{} %", progress.done * 100 / progress.total.max(1));
    ListedJob {
        report: if has_report { format!("/jobs/{}", job.number) } else { String::new() },
        name: job.number.to_string(),
        kind: match job.kind {
            JobKind::Ranking => "ranking".to_owned(),
            JobKind::Comparison => "comparison".to_owned(),
        },
        state: state.to_owned(),
        dataset: job.dataset,
        n_models: job.models.len() as u64,
        progress: job.progress.as_ref().map(share).unwrap_or_default(),
    }
}

/// Answers what is for a page, and hands calls on.
#[derive(Clone)]
pub struct PagesLayer(pub Pages);

impl<S> Layer<S> for PagesLayer {
    type Service = BesideCalls<S>;

    fn layer(&self, inner: S) -> BesideCalls<S> {
        BesideCalls { inner, pages: self.0.clone() }
    }
}

/// The service of [`PagesLayer`].
#[derive(Clone)]
pub struct BesideCalls<S> {
    inner: S,
    pages: Pages,
}

impl<S> Service<Request<Body>> for BesideCalls<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !is_for_page(&request) {
            return Box::pin(self.inner.call(request));
        }
        let pages = self.pages.clone();
        Box::pin(async move { Ok(pages.answer(request).await) })
    }
}
