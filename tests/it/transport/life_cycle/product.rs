//! {completes, fails, deadline passes, client cancels, client vanishes, server drains} × every method × {queued, running,
//! streaming}: the right end, and afterwards no permit, task or connection is left.

use std::{
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use prost::Message;
use tokio::{runtime::Builder, time::timeout};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use transferscore::{
    error::panic_text,
    jobs::{JobKind, Jobs, NewJob},
    limits,
    transport::server::{Gauges, ServerSettings},
};

use super::{
    methods::{Gate, METHODS, Method, Streams, Work, ranking},
    peer::{Call, Manner, Peer},
};
use crate::{
    support::connections,
    transport::fake::{Fake, Running, settings},
};

/// Tasks of a server that nobody has connected to: itself, its housekeeping; and its loop of jobs, where it keeps any.
const IDLE_TASKS: usize = 2;

/// Cases at once: most of them wait.
const THREADS: usize = 4;

/// So that a case that never ends says which one it is.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It waits for a permit.
    Queued,
    /// Its work is in progress.
    Running,
    /// Something of it was sent, and more is to come.
    Streaming,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Completes,
    Fails,
    DeadlinePasses,
    ClientCancels,
    ClientVanishes,
    ServerDrains,
}

const STATES: [State; 3] = [State::Queued, State::Running, State::Streaming];
const ENDINGS: [Ending; 6] = [
    Ending::Completes,
    Ending::Fails,
    Ending::DeadlinePasses,
    Ending::ClientCancels,
    Ending::ClientVanishes,
    Ending::ServerDrains,
];

#[derive(Clone, Copy, Debug)]
struct Case {
    method: &'static Method,
    state: State,
    ending: Ending,
}

/// What of a server can be looked at while it runs and after.
struct Watched {
    fake: Arc<Fake>,
    gauges: Gauges,
    address: SocketAddr,
    tasks: tokio::runtime::RuntimeMetrics,
}

#[test]
fn nothing_is_left_of_any_call_however_it_ends() {
    let cases: Vec<Case> = METHODS
        .iter()
        .flat_map(|method| STATES.map(|state| (method, state)))
        .flat_map(|(method, state)| ENDINGS.map(|ending| Case { method, state, ending }))
        .filter(Case::can_be)
        .collect();
    assert!(cases.len() > 200, "only {}", cases.len());
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = case.play() {
                        let Case { method, state, ending } = case;
                        let told = format!("{} {state:?} {ending:?}: {failure}", method.name);
                        failures.lock().expect("no panic").push(told);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

impl Case {
    fn can_be(&self) -> bool {
        let Method { gate, streams, work, .. } = self.method;
        match (self.state, self.ending) {
            (State::Queued, _) => *gate != Gate::Upload,
            // A watch runs no longer than it takes to open it.
            (State::Running, _) => *streams != Streams::Watch || *work != Work::Instant,
            // What is finished, or only told of, fails no more.
            (State::Streaming, Ending::Fails) => {
                !matches!(streams, Streams::Nothing | Streams::Pieces | Streams::Watch)
            }
            (State::Streaming, _) => *streams != Streams::Nothing,
        }
    }

    /// What the fake is told by name.
    fn name(&self) -> String {
        let fails = self.ending == Ending::Fails;
        let name = match self.state {
            State::Queued => {
                if fails {
                    "nowhere"
                } else {
                    "ok"
                }
            }
            _ => {
                if fails {
                    "wait-nowhere"
                } else {
                    "wait"
                }
            }
        };
        // An upload streams before its work can do anything.
        match (self.state, self.method.streams) {
            (State::Streaming, Streams::Upload) => "ok".to_owned(),
            (State::Streaming, _) => format!("late-{name}"),
            _ => name.to_owned(),
        }
    }

    fn play(&self) -> Result<(), String> {
        let server = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("threads");
        let run = || server.block_on(async { timeout(PATIENCE, self.run()).await });
        let outcome = catch_unwind(AssertUnwindSafe(run));
        // What is left of a case that failed may never end.
        server.shutdown_background();
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err("does not end".to_owned()),
            Err(panic) => Err(panic_text(&*panic).to_owned()),
        }
    }

    async fn run(&self) {
        let folder = tempfile::tempdir().expect("a folder");
        let running = self.serve(folder.path()).await;
        let watched = Watched::of(&running);
        let occupant = self.occupy(&watched).await;
        let n_occupants = watched.in_progress(self.method.gate);
        let peer = Peer::new(watched.address);
        let mut call = self.begin(&peer);
        self.reach(&watched, &mut call, n_occupants).await;
        if self.ending == Ending::ServerDrains {
            let served = running.stop();
            self.until_it_is_told(&watched, &mut call, n_occupants).await;
            self.assert_broken_off(call.answered().await, Code::Unavailable, "SHUTTING_DOWN");
            watched.fake.release();
            served.await.expect("no panic").expect("an end in order");
            peer.vanish();
            occupant.into_iter().for_each(Peer::vanish);
            return watched.nothing_is_left(0).await;
        }
        self.end(&watched, call, peer, n_occupants).await;
        if n_occupants == 0 {
            // Also while work goes on that nobody waits for, and while a job does that nobody watches.
            watched.tasks(self.idle_tasks()).await;
        }
        watched.fake.release();
        if let Some(occupant) = occupant {
            watched.gauges.idle().await;
            occupant.vanish();
        }
        watched.nothing_is_left(self.idle_tasks()).await;
        running.stop().await.expect("no panic").expect("an end in order");
        watched.nothing_is_left(0).await;
    }

    fn needs_jobs(&self) -> bool {
        self.method.name.starts_with("JobService/")
    }

    fn idle_tasks(&self) -> usize {
        IDLE_TASKS + usize::from(self.needs_jobs())
    }

    /// A server with one call at work. Where jobs are asked for, it keeps them: one that is over or, to be watched, goes on. No
    /// other does, as the loop of jobs would pass the gate of what computes once by itself.
    async fn serve(&self, folder: &Path) -> Running {
        let jobs = self.needs_jobs().then(|| Jobs::open(folder).expect("a store"));
        if let Some(jobs) = &jobs {
            let reference = if self.state == State::Streaming { "late-wait" } else { "ok" };
            let request = ranking(reference, 0).encode_to_vec();
            let new = NewJob {
                kind: JobKind::Ranking,
                request_id: None,
                request,
                models: Vec::new(),
                dataset: String::new(),
            };
            jobs.create(&new).expect("room");
        }
        let listings = self.name().replace("nowhere", "panic");
        let settings = ServerSettings { concurrent_requests: 1, ..settings() };
        Running::serving(Arc::new(Fake { listings, ..Fake::default() }), settings, jobs.map(Arc::new)).await
    }

    /// Fills the gate, so that the call has to wait.
    async fn occupy(&self, watched: &Watched) -> Option<Peer> {
        let (method, n_places) = match (self.state, self.method.gate) {
            (State::Queued, Gate::Compute) => ("TransferScoreService/TransferScore", 1),
            (State::Queued, Gate::LookUp) => ("ModelService/GetModel", limits::CONCURRENT_LOOKUPS),
            _ => return None,
        };
        // A job that is about to end would hold a place.
        watched.gauges.idle().await;
        let peer = Peer::new(watched.address);
        let method = METHODS.iter().find(|known| known.name == method).expect("it is in the table");
        for _ in 0..n_places {
            drop(peer.call(method, (method.messages)("wait", 0), Manner::default()));
            watched.fake.started().await;
        }
        Some(peer)
    }

    fn begin(&self, peer: &Peer) -> Call {
        let messages = (self.method.messages)(&self.name(), 0);
        // Enough to get where it is to end, but for what takes no time.
        let timeout = if self.is_instant() { "1u" } else { "300m" };
        let manner = Manner {
            timeout: (self.ending == Ending::DeadlinePasses).then_some(timeout),
            pauses: self.pauses(),
            stays_open: self.state == State::Streaming && self.method.streams == Streams::Upload,
        };
        peer.call(self.method, messages, manner)
    }

    /// Whether it may be over before its end comes.
    fn is_instant(&self) -> bool {
        self.state == State::Running && self.method.work == Work::Instant
    }

    /// A client that reads no further keeps the pieces of a large result in the server.
    fn pauses(&self) -> bool {
        self.state == State::Streaming && self.method.streams == Streams::Pieces
    }

    /// Waits until the call is where it is to end.
    async fn reach(&self, watched: &Watched, call: &mut Call, n_occupants: usize) {
        match (self.state, self.method.streams) {
            _ if self.pauses() => call.first().await,
            // It may pass before: the call ends by it all the same.
            _ if self.ending == Ending::DeadlinePasses => {}
            (State::Queued, _) => watched.until(self.method.gate, |n| n > n_occupants).await,
            (State::Running, _) if self.is_instant() => {}
            (State::Running, _) => watched.fake.started().await,
            (State::Streaming, Streams::Upload) => watched.fake.chunk().await,
            (State::Streaming, _) => call.first().await,
        }
    }

    /// Has the call end, but for a server that drains; what it held is back before anything is released.
    async fn end(&self, watched: &Watched, mut call: Call, peer: Peer, n_occupants: usize) {
        match self.ending {
            Ending::Completes => {
                watched.fake.release();
                call.read_on();
                assert!(call.end().await.expect("an answer") > 0);
            }
            Ending::Fails => {
                watched.fake.release();
                if self.method.streams == Streams::Upload && self.state == State::Streaming {
                    call.send((self.method.messages)("again", 0).swap_remove(0)).await;
                }
                let status = call.answered().await.expect_err("it fails");
                let known = [Code::NotFound, Code::Internal, Code::InvalidArgument];
                assert!(known.contains(&status.code()) && !reason(&status).is_empty(), "{status:?}");
            }
            Ending::DeadlinePasses => {
                self.until_it_is_told(watched, &mut call, n_occupants).await;
                self.assert_broken_off(call.answered().await, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
            }
            Ending::ClientCancels => {
                call.cancel();
                assert!(peer.is_answered().await, "the connection has suffered");
            }
            Ending::ClientVanishes | Ending::ServerDrains => {}
        }
        peer.vanish();
        watched.until(self.method.gate, |n| n <= n_occupants + self.that_goes_on()).await;
    }

    /// Waits until the work is told where the client reads nothing, and reads on then.
    async fn until_it_is_told(&self, watched: &Watched, call: &mut Call, n_occupants: usize) {
        if self.pauses() {
            watched.until(self.method.gate, |n| n <= n_occupants).await;
        }
        call.read_on();
    }

    fn assert_broken_off(&self, answer: Result<usize, Status>, code: Code, expected: &str) {
        if self.is_instant() {
            return;
        }
        let status = answer.expect_err("it is broken off");
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{status:?}");
    }

    /// Permits that come back only with the work's end.
    fn that_goes_on(&self) -> usize {
        usize::from(self.state == State::Running && self.method.work == Work::GoesOn)
    }
}

impl Watched {
    fn of(running: &Running) -> Watched {
        let tasks = tokio::runtime::Handle::current().metrics();
        Watched { fake: running.fake.clone(), gauges: running.gauges.clone(), address: running.address, tasks }
    }

    fn in_progress(&self, gate: Gate) -> usize {
        match gate {
            Gate::Compute => self.gauges.computing(),
            Gate::LookUp => self.gauges.lookups(),
            Gate::Upload => self.gauges.uploads(),
        }
    }

    async fn until(&self, gate: Gate, is_so: impl Fn(usize) -> bool) {
        while !is_so(self.in_progress(gate)) {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until so many tasks are left.
    async fn tasks(&self, n: usize) {
        while self.tasks.num_alive_tasks() != n {
            tokio::task::yield_now().await;
        }
    }

    async fn nothing_is_left(&self, n_tasks: usize) {
        for gate in [Gate::Compute, Gate::LookUp, Gate::Upload] {
            self.until(gate, |n| n == 0).await;
        }
        self.tasks(n_tasks).await;
        while connections(self.address.port()) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}
