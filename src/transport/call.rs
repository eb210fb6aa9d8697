//! The life of a call: admission, a blocking thread, deadline, cancellation, shutdown, panics.
//!
//! Invariants: work runs on blocking threads only; it is told to stop as soon as nobody waits for its answer; whatever
//! happens to it, its permit comes back.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::Span;

use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result, panic_text},
    limits,
    scoring::Scoring,
    transport::{
        admission::{Admission, Permit},
        deadline,
        layers::{Arrival, RequestId},
        status::to_status,
    },
};

/// The events of a server stream.
pub type EventStream<T> = ReceiverStream<Result<T, Status>>;

/// What is known about a call beside its message.
pub struct Context {
    request_id: RequestId,
    deadline: Option<Instant>,
    span: Span,
}

impl Context {
    /// Reads what the layers and the client left on the request.
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let arrival = request.extensions().get().map_or_else(Instant::now, |&Arrival(arrival)| arrival);
        Context {
            request_id: request.extensions().get().cloned().unwrap_or_default(),
            deadline: deadline::of(request.metadata(), arrival),
            span: Span::current(),
        }
    }

    pub fn status(&self, error: &Error) -> Status {
        to_status(error, self.request_id.as_str())
    }
}

/// Runs the domain's functions for the services. Clones share gates and the stop signal.
#[derive(Clone)]
pub struct Calls {
    scoring: Arc<dyn Scoring>,
    /// For work that computes.
    pub computing: Admission,
    /// For look-ups, which never wait behind a computation.
    pub lookups: Admission,
    /// Says that the server is stopping: calls in progress may finish, nothing new begins.
    pub draining: CancellationToken,
    /// For uploads, which none waits for: each holds its client's connection.
    pub uploads: Admission,
    /// How long an upload may stand still.
    pub upload_stall: Duration,
    /// Ends every call once the server's drain is over.
    pub stop: CancellationToken,
}

impl Calls {
    pub fn new(scoring: Arc<dyn Scoring>, computing: Admission, upload_stall: Duration) -> Self {
        Calls {
            scoring,
            computing,
            lookups: Admission::new("look_up", limits::CONCURRENT_LOOKUPS, limits::QUEUED_LOOKUPS),
            draining: CancellationToken::new(),
            uploads: Admission::new("upload", limits::CONCURRENT_UPLOADS, 0),
            upload_stall,
            stop: CancellationToken::new(),
        }
    }

    /// The domain's functions, for work that is no call.
    pub fn scoring(&self) -> Arc<dyn Scoring> {
        Arc::clone(&self.scoring)
    }

    /// One answer from work that computes.
    pub async fn compute<T: Send + 'static>(
        &self,
        context: Context,
        work: impl FnOnce(&dyn Scoring, &Cancel) -> Result<T> + Send + 'static,
    ) -> Result<tonic::Response<T>, Status> {
        self.answer(&self.computing, context, work).await
    }

    /// One answer from a look-up.
    pub async fn look_up<T: Send + 'static>(
        &self,
        context: Context,
        work: impl FnOnce(&dyn Scoring) -> Result<T> + Send + 'static,
    ) -> Result<tonic::Response<T>, Status> {
        self.answer(&self.lookups, context, |scoring, _| work(scoring)).await
    }

    /// One answer from an upload: `receive` reads its header, starts the work and feeds it.
    pub async fn upload<T>(
        &self,
        context: Context,
        receive: impl AsyncFnOnce(Working) -> Result<T>,
    ) -> Result<tonic::Response<T>, Status> {
        let guard = CancelOnDrop::default();
        let outcome = async {
            let permit = self.uploads.enter().await?;
            let scoring = Arc::clone(&self.scoring);
            receive(Working { permit, scoring, cancel: guard.cancel.clone(), span: context.span.clone() }).await
        };
        match self.bounded(context.deadline, outcome).await {
            Ok(answer) => Ok(tonic::Response::new(answer)),
            Err(error) => Err(context.status(&error)),
        }
    }

    /// A stream of events from work that computes. An error is the stream's last event.
    pub fn stream<T: Send + 'static>(
        &self,
        context: Context,
        work: impl FnOnce(&dyn Scoring, &mut Outlet<T>, &Cancel) -> Result<()> + Send + 'static,
    ) -> tonic::Response<EventStream<T>> {
        let (sender, receiver) = mpsc::channel(limits::STREAM_EVENTS);
        let calls = self.clone();
        tokio::spawn(async move {
            let guard = CancelOnDrop::default();
            let mut outlet = Outlet {
                sender: sender.clone(),
                abandoned: guard.abandoned.clone(),
                cancel: guard.cancel.clone(),
                runtime: tokio::runtime::Handle::current(),
            };
            let scoring = Arc::clone(&calls.scoring);
            let cancel = guard.cancel.clone();
            let span = context.span.clone();
            let outcome = async {
                let permit = calls.computing.enter().await?;
                let turn = permit.turn();
                let work = move || {
                    let cancel = cancel.in_turn(turn);
                    outlet.cancel = cancel.clone();
                    work(&*scoring, &mut outlet, &cancel)
                };
                on_blocking_thread(permit, span, work).await
            };
            let outcome = tokio::select! {
                biased;
                outcome = calls.bounded(context.deadline, outcome) => outcome,
                () = sender.closed() => {
                    tracing::debug!(parent: &context.span, "the client left its stream");
                    return;
                }
            };
            if let Err(error) = outcome {
                // Work that waits for room in the stream must not keep the error out.
                drop(guard);
                end(&sender, &context, &error).await;
            }
        });
        tonic::Response::new(ReceiverStream::new(receiver))
    }

    /// A stream of events that are waited for and not computed. It ends when the server begins to stop, so that a client that
    /// only listens does not hold it up. An error is the stream's last event.
    pub fn listen<T: Send + 'static, W: Future<Output = Result<()>> + Send + 'static>(
        &self,
        context: Context,
        work: impl FnOnce(mpsc::Sender<Result<T, Status>>) -> W,
    ) -> tonic::Response<EventStream<T>> {
        let (sender, receiver) = mpsc::channel(limits::STREAM_EVENTS);
        let (calls, work) = (self.clone(), work(sender.clone()));
        tokio::spawn(async move {
            let outcome = tokio::select! {
                biased;
                outcome = calls.bounded(context.deadline, work) => outcome,
                () = calls.draining.cancelled() => Err(shutting_down()),
                () = sender.closed() => return,
            };
            if let Err(error) = outcome {
                end(&sender, &context, &error).await;
            }
        });
        tonic::Response::new(ReceiverStream::new(receiver))
    }

    /// A look-up within a stream.
    ///
    /// # Errors
    /// Those of the look-up.
    pub async fn look_up_within<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self.lookups.enter_when_possible().await?;
        on_blocking_thread(permit, Span::current(), work).await
    }

    async fn answer<T: Send + 'static>(
        &self,
        admission: &Admission,
        context: Context,
        work: impl FnOnce(&dyn Scoring, &Cancel) -> Result<T> + Send + 'static,
    ) -> Result<tonic::Response<T>, Status> {
        // A client that leaves drops this future, and with it the guard.
        let guard = CancelOnDrop::default();
        let cancel = guard.cancel.clone();
        let scoring = Arc::clone(&self.scoring);
        let span = context.span.clone();
        let outcome = async {
            let permit = admission.enter().await?;
            let turn = permit.turn();
            on_blocking_thread(permit, span, move || work(&*scoring, &cancel.in_turn(turn))).await
        };
        match self.bounded(context.deadline, outcome).await {
            Ok(answer) => Ok(tonic::Response::new(answer)),
            Err(error) => Err(context.status(&error)),
        }
    }

    /// The work's outcome, unless the deadline or the end of the server comes first.
    async fn bounded<T>(&self, deadline: Option<Instant>, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            outcome = work => outcome,
            () = deadline::passed(deadline) => Err(Error::new(
                Reason::DeadlineExceeded,
                "the deadline passed before the work was done; allow more time, or lower max_samples",
            )),
            () = self.stop.cancelled() => Err(shutting_down()),
        }
    }
}

/// The right to start some work, with what it needs.
pub struct Working {
    permit: Permit,
    scoring: Arc<dyn Scoring>,
    cancel: Cancel,
    span: Span,
}

impl Working {
    /// Starts the work.
    ///
    /// # Errors
    /// Those of the work; [`Reason::Internal`] where it panics.
    pub async fn start<T: Send + 'static>(
        self,
        work: impl FnOnce(&dyn Scoring, &Cancel) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Working { permit, scoring, cancel, span } = self;
        on_blocking_thread(permit, span, move || work(&*scoring, &cancel)).await
    }
}

fn nobody_reads() -> Error {
    Error::new(Reason::Cancelled, "the client no longer reads the stream")
}

fn shutting_down() -> Error {
    let message = "the server is stopping; send the request to another one, or again once it is back";
    Error::new(Reason::ShuttingDown, message)
}

/// Ends a stream with an error, unless nobody reads it any more.
async fn end<T>(sender: &mpsc::Sender<Result<T, Status>>, context: &Context, error: &Error) {
    let status = context.status(error);
    let _gone = timeout(Duration::from_secs(limits::STALL_SECONDS), sender.send(Err(status))).await;
}

/// Where the work of a stream puts its events. Used on a blocking thread.
pub struct Outlet<T> {
    sender: mpsc::Sender<Result<T, Status>>,
    abandoned: CancellationToken,
    /// With the turn of the work, which a slow client shall not keep.
    cancel: Cancel,
    runtime: tokio::runtime::Handle,
}

impl<T> Outlet<T> {
    /// Sends an event, waiting for room while the client is slow.
    ///
    /// # Errors
    /// [`Reason::Cancelled`] when nobody reads any more.
    pub fn send(&mut self, event: T) -> Result<()> {
        let event = match self.sender.try_send(Ok(event)) {
            Err(TrySendError::Full(event)) => event,
            sent => return sent.map_err(|_| nobody_reads()),
        };
        let stall = Duration::from_secs(limits::STALL_SECONDS);
        let sending = async {
            tokio::select! {
                sent = timeout(stall, self.sender.send(event)) => matches!(sent, Ok(Ok(()))),
                () = self.abandoned.cancelled() => false,
            }
        };
        if self.cancel.aside(|| self.runtime.block_on(sending)) { Ok(()) } else { Err(nobody_reads()) }
    }

    /// Sends an event that is out of date soon, unless there is no room for it.
    pub fn offer(&mut self, event: T) {
        let _no_room = self.sender.try_send(Ok(event));
    }
}

/// Tells the work to stop when the call that wants its result is gone.
#[derive(Default)]
struct CancelOnDrop {
    cancel: Cancel,
    abandoned: CancellationToken,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.abandoned.cancel();
    }
}

pub async fn on_blocking_thread<T: Send + 'static>(
    permit: Permit,
    span: Span,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let task = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        span.in_scope(work)
    });
    match task.await {
        Ok(outcome) => outcome,
        Err(failure) => Err(Error::new(
            Reason::Internal,
            match failure.try_into_panic() {
                Ok(panic) => format!("the work panicked: {}", panic_text(&*panic)),
                Err(failure) => format!("the work was not run: {failure}"),
            },
        )),
    }
}
