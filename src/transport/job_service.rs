//! `JobService`: convert, ask the jobs, convert back; and the loop that works on them.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tonic::{Request, Response, Status};
use tracing::Span;

use crate::{
    error::{Error, Reason, Result as DomainResult},
    jobs::{Happened, JobNumber, Jobs, Pulse},
    limits,
    scoring::types::Progress,
    transport::{
        call::{Calls, Context, EventStream, on_blocking_thread},
        convert,
        job_work::JobWork,
        proto::{
            CancelJobRequest, CancelJobResponse, CreateJobRequest, CreateJobResponse, GetJobRequest, GetJobResponse,
            ListJobsRequest, ListJobsResponse, WatchJobRequest, WatchJobResponse, job_service_server,
            watch_job_response::Event,
        },
    },
};

/// Keeps long work, where the server does.
pub struct JobService {
    calls: Calls,
    jobs: Option<Arc<Jobs>>,
    watchers: Arc<Semaphore>,
}

impl JobService {
    pub fn new(calls: Calls, jobs: Option<Arc<Jobs>>) -> Self {
        JobService { calls, jobs, watchers: Arc::new(Semaphore::new(limits::JOB_WATCHERS)) }
    }

    fn jobs(&self) -> DomainResult<Arc<Jobs>> {
        self.jobs.clone().ok_or_else(|| {
            let message = "this server keeps no jobs; have it started with --jobs DIR, or make the direct call";
            Error::new(Reason::JobsNotKept, message)
        })
    }

    /// One answer from the jobs.
    async fn ask<T: Send + 'static>(
        &self,
        context: Context,
        work: impl FnOnce(&Jobs) -> DomainResult<T> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let jobs = self.jobs().map_err(|error| context.status(&error))?;
        self.calls.look_up(context, move |_| work(&jobs)).await
    }
}

#[tonic::async_trait]
impl job_service_server::JobService for JobService {
    async fn create_job(&self, request: Request<CreateJobRequest>) -> Result<Response<CreateJobResponse>, Status> {
        let context = Context::of(&request);
        let request = request.into_inner();
        self.ask(context, move |jobs| {
            let job = jobs.create(&convert::new_job(request)?)?;
            Ok(CreateJobResponse { job: Some(convert::job(job)) })
        })
        .await
    }

    async fn get_job(&self, request: Request<GetJobRequest>) -> Result<Response<GetJobResponse>, Status> {
        let context = Context::of(&request);
        let request = request.into_inner();
        self.ask(context, move |jobs| {
            let number = convert::job_number(&request.name)?;
            // In this order: a result that is there belongs to a job that is over.
            let job = jobs.get(number)?;
            convert::job_with_contents(job, jobs.contents(number)?)
        })
        .await
    }

    async fn list_jobs(&self, request: Request<ListJobsRequest>) -> Result<Response<ListJobsResponse>, Status> {
        let context = Context::of(&request);
        let request = request.into_inner();
        self.ask(context, move |jobs| {
            let (filter, page) = convert::job_filter(&request)?;
            let before = convert::page_token(&request.page_token, &filter)?;
            // One more tells whether there is a next page.
            let mut found = jobs.list(&filter, before, page + 1)?;
            let is_last = found.len() <= page;
            found.truncate(page);
            let next = found.last().filter(|_| !is_last).map(|last| convert::page_token_of(last.number, &filter));
            let jobs = found.into_iter().map(convert::job).collect();
            Ok(ListJobsResponse { jobs, next_page_token: next.unwrap_or_default() })
        })
        .await
    }

    type WatchJobStream = EventStream<WatchJobResponse>;

    async fn watch_job(&self, request: Request<WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let (opening, context) = (Context::of(&request), Context::of(&request));
        let permit = Arc::clone(&self.watchers).try_acquire_owned().map_err(|_| {
            let message = format!("{} streams watch jobs already; try again later", limits::JOB_WATCHERS);
            context.status(&Error::new(Reason::ServerBusy, message))
        })?;
        let jobs = self.jobs().map_err(|error| context.status(&error))?;
        let WatchJobRequest { name, after_sequence } = request.into_inner();
        let open = move |jobs: &Jobs| {
            let number = convert::job_number(&name)?;
            // In this order: what happens from here on is told.
            let pulse = jobs.follow(number);
            let last = jobs.get(number)?.last_sequence;
            if after_sequence > last {
                let message = format!("after_sequence is {after_sequence}; the job's last event is {last}");
                return Err(Error::new(Reason::OptionOutOfRange, message).at("after_sequence"));
            }
            Ok((number, pulse))
        };
        let (number, pulse) = self.ask(opening, open).await?.into_inner();
        let calls = self.calls.clone();
        Ok(self.calls.listen(context, move |sender| {
            let watcher =
                Watcher { calls, jobs, number, sent: after_sequence, is_over: false, sender, _permit: permit };
            watcher.watch(pulse)
        }))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        let context = Context::of(&request);
        let request = request.into_inner();
        self.ask(context, move |jobs| {
            let job = jobs.cancel(convert::job_number(&request.name)?)?;
            Ok(CancelJobResponse { job: Some(convert::job(job)) })
        })
        .await
    }
}

/// A client that watches a job.
struct Watcher {
    calls: Calls,
    jobs: Arc<Jobs>,
    number: JobNumber,
    /// Sequence number of the last event that was sent.
    sent: u64,
    /// Whether that was the job's last.
    is_over: bool,
    sender: mpsc::Sender<Result<WatchJobResponse, Status>>,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    /// Sends what there is, then what comes, until the job is over.
    async fn watch(mut self, mut pulse: Option<watch::Receiver<Pulse>>) -> DomainResult<()> {
        // What was reached before this stream began is no news.
        let mut told = pulse.as_mut().and_then(|pulse| pulse.borrow_and_update().progress.clone());
        self.send_events().await?;
        while let Some(receiver) = &mut pulse {
            let has_changed = receiver.changed().await.is_ok();
            let Pulse { sequence, progress } = receiver.borrow_and_update().clone();
            if !has_changed || sequence > self.sent {
                self.send_events().await?;
            }
            if !has_changed || self.is_over {
                break;
            }
            if let Some(progress) = progress.filter(|progress| told.as_ref() != Some(progress)) {
                self.offer(progress.clone());
                told = Some(progress);
            }
        }
        Ok(())
    }

    /// Sends every event that was not sent yet.
    async fn send_events(&mut self) -> DomainResult<()> {
        loop {
            let (jobs, number, sent) = (Arc::clone(&self.jobs), self.number, self.sent);
            let read = move || {
                let events = jobs.events(number, sent, limits::JOB_EVENTS)?;
                let is_over = events.last().is_some_and(|last| matches!(last.what, Happened::State(s) if s.is_over()));
                let events = events.into_iter().map(convert::job_event).collect::<DomainResult<Vec<_>>>()?;
                Ok((events, is_over))
            };
            let (events, is_over) = self.calls.look_up_within(read).await?;
            let is_last = events.len() < limits::JOB_EVENTS;
            for event in events {
                let sequence = event.sequence;
                let stall = Duration::from_secs(limits::STALL_SECONDS);
                if !matches!(timeout(stall, self.sender.send(Ok(event))).await, Ok(Ok(()))) {
                    return Err(Error::new(Reason::Cancelled, "the client no longer reads the stream"));
                }
                self.sent = sequence;
            }
            self.is_over = is_over;
            if is_last {
                return Ok(());
            }
        }
    }

    /// Sends progress, unless there is no room for it.
    fn offer(&self, progress: Progress) {
        let event = Event::Progress(convert::progress(progress));
        let _no_room = self.sender.try_send(Ok(WatchJobResponse { sequence: self.sent, event: Some(event) }));
    }
}

/// Tells the work on jobs to stop when nobody looks after it any more.
struct InterruptOnDrop(Arc<Jobs>);

impl Drop for InterruptOnDrop {
    fn drop(&mut self) {
        self.0.interrupt();
    }
}

/// Works on one job after another, under the same limits as calls, until the server stops; then breaks off the one that runs,
/// to go on with it when the server is back.
pub async fn work_on_jobs(calls: Calls, jobs: Arc<Jobs>) {
    // Work on a blocking thread would outlive this task otherwise, and keep the process waiting.
    let _leaving = InterruptOnDrop(Arc::clone(&jobs));
    let mut is_looking = true;
    while !calls.draining.is_cancelled() && calls.scoring().can_run() {
        if !is_looking {
            tokio::select! {
                () = jobs.created() => {}
                () = calls.draining.cancelled() => return,
            }
        }
        let permit = tokio::select! {
            permit = calls.computing.enter_when_possible() => permit,
            () = calls.draining.cancelled() => return,
        };
        let Ok(permit) = permit else { return };
        let (working, work) = (Arc::clone(&jobs), JobWork { scoring: calls.scoring(), turn: permit.turn() });
        let next = move || Ok(working.run_next(&work)?);
        let mut next = std::pin::pin!(on_blocking_thread(permit, Span::current(), next));
        let found = tokio::select! {
            found = &mut next => found,
            () = calls.draining.cancelled() => {
                jobs.interrupt();
                next.await
            }
        };
        is_looking = found.unwrap_or_else(|error| {
            tracing::error!(%error, "the next job cannot be taken up");
            false
        });
    }
}
