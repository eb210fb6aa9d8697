//! Every method of a real server, ended in every way that a client can bring about, again and again: what the process holds open
//! and how many sessions it has do not grow.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    methods::{Gate, METHODS, Method, Streams},
    peer::{Call, Manner, Peer},
};
use crate::{
    operation::{http::get, observed::value},
    server_process::{ServerProcess, repository},
    support::connections,
};

/// Rounds of all calls. What grows with each of them is a leak; what is kept ready is there after a few.
const ROUNDS: u64 = 8;

#[derive(Clone, Copy, Debug)]
enum Ending {
    Completes,
    Fails,
    DeadlinePasses,
    ClientCancels,
    ClientVanishes,
}

const ENDINGS: [Ending; 5] =
    [Ending::Completes, Ending::Fails, Ending::DeadlinePasses, Ending::ClientCancels, Ending::ClientVanishes];

/// What a server holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    /// Each open file, pipe and socket, by what it is.
    descriptors: Vec<String>,
    sessions: u64,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_holds_open_does_not_grow() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = serve(folder.path());
    let address: SocketAddr = server.address.parse().expect("an address");
    let mut held = Vec::new();
    for round in 0..ROUNDS {
        for method in METHODS {
            for (ending, seed) in ENDINGS.into_iter().zip(5 * round..) {
                end(address, method, ending, seed).await;
            }
        }
        quiet(&server.address).await;
        let now = Held::by(&server);
        if held.last() == Some(&now) {
            return;
        }
        held.push(now);
    }
    let counts: Vec<_> = held.iter().map(|held| (held.descriptors.len(), held.sessions)).collect();
    panic!("descriptors and sessions after each round: {counts:?}; in the end {:#?}", held.last());
}

/// A server with models and data under the names of the table, on one thread, so that as many sessions are open after each round.
fn serve(folder: &Path) -> ServerProcess {
    let made = |name: &str| {
        let path = folder.join(name);
        fs::create_dir(&path).expect("room");
        path
    };
    let (models, datasets, jobs) = (made("models"), made("datasets"), made("jobs"));
    for (name, of) in [("ok", "digits-reference"), ("source", "digits-50"), ("other", "digits-100")] {
        fs::create_dir(models.join(name)).expect("room");
        for file in ["model.onnx", "model.toml"] {
            fs::copy(repository("models").join(of).join(file), models.join(name).join(file)).expect("room");
        }
    }
    for name in ["ok", "digits"] {
        let copied = datasets.join(name).with_extension("npz");
        fs::copy(repository("models/datasets/digits.npz"), copied).expect("room");
    }
    let jobs = jobs.to_str().expect("a path in UTF-8");
    ServerProcess::start_with(&models, &datasets, &["--threads", "1", "--allow-uploads", "--jobs", jobs])
}

/// Makes one call and has it end.
async fn end(address: SocketAddr, method: &Method, ending: Ending, seed: u64) {
    let name = match (ending, method.gate) {
        (Ending::Fails, _) => "nowhere",
        (_, Gate::Upload) => "sent",
        _ => "ok",
    };
    let mut messages = (method.messages)(name, seed);
    if let (Ending::Fails, Gate::Upload) = (ending, method.gate) {
        // The file's bytes without its header; for what is no upload, a name that is not there.
        messages.rotate_left(1);
    }
    let names_nothing = messages.iter().all(Vec::is_empty);
    let is_left = matches!(ending, Ending::ClientCancels | Ending::ClientVanishes);
    if method.gate == Gate::Upload {
        // An upload of the same name that was left may still be on its way out.
        quiet(&address.to_string()).await;
    }
    let peer = Peer::new(address);
    let manner = Manner {
        timeout: matches!(ending, Ending::DeadlinePasses).then_some("20m"),
        stays_open: is_left && method.streams == Streams::Upload,
        ..Manner::default()
    };
    let mut call = peer.call(method, messages, manner);
    if is_left {
        under_way(address, method, &mut call).await;
    }
    match ending {
        Ending::Completes => {
            let answer = call.end().await;
            assert!(answer.is_ok(), "{}: {answer:?}", method.name);
        }
        Ending::Fails => {
            let answer = call.end().await;
            assert!(answer.is_err() || names_nothing, "{}: {answer:?}", method.name);
        }
        // Whatever comes first.
        Ending::DeadlinePasses => drop(call.end().await),
        Ending::ClientCancels => {
            call.cancel();
            assert!(peer.is_answered().await, "the connection has suffered");
        }
        Ending::ClientVanishes => {}
    }
    peer.vanish();
}

/// Waits until a call is in the middle of its work, if it is not over before.
async fn under_way(address: SocketAddr, method: &Method, call: &mut Call) {
    if matches!(method.streams, Streams::Events | Streams::Pieces | Streams::Watch) {
        return call.first().await;
    }
    let begun = format!("transferscore_requests_in_progress{{method=\"transferscore.v1.{}\"}} 1", method.name);
    while !call.is_over() && !metrics(&address.to_string()).await.lines().any(|line| line == begun) {
        tokio::task::yield_now().await;
    }
}

async fn metrics(address: &str) -> String {
    let address = address.to_owned();
    tokio::task::spawn_blocking(move || get(&address, "/metrics").text()).await.expect("no panic")
}

/// Waits until the server has nothing to do and nobody is connected.
async fn quiet(address: &str) {
    let busy = |metrics: &str, name: &str, label: &str| value(metrics, name, &[label]) > 0.0;
    loop {
        let metrics = metrics(address).await;
        let gates = ["gate=\"compute\"", "gate=\"look_up\"", "gate=\"upload\""];
        let is_admitted = gates.iter().any(|gate| {
            busy(&metrics, "transferscore_admission_running", gate)
                || busy(&metrics, "transferscore_admission_waiting", gate)
        });
        let has_jobs = value(&metrics, "transferscore_jobs_open", &[]) > 0.0;
        let is_called = metrics
            .lines()
            .filter(|line| line.starts_with("transferscore_requests_in_progress{"))
            .any(|line| !line.ends_with(" 0"));
        if !is_admitted && !has_jobs && !is_called {
            return;
        }
        tokio::task::yield_now().await;
    }
}

impl Held {
    /// Waits until no connection is left, and looks.
    fn by(server: &ServerProcess) -> Held {
        let port = server.address.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        while connections(port) > 0 {
            std::thread::yield_now();
        }
        let metrics = get(&server.address, "/metrics").text();
        let sessions = value(&metrics, "transferscore_sessions", &["provider=\"CPUExecutionProvider\""]) as u64;
        while connections(port) > 0 {
            std::thread::yield_now();
        }
        let links = fs::read_dir(format!("/proc/{}/fd", server.id())).expect("Linux");
        let is_of = |link: PathBuf| link.display().to_string();
        let mut descriptors: Vec<String> =
            links.filter_map(|link| Some(is_of(fs::read_link(link.ok()?.path()).ok()?))).collect();
        descriptors.sort();
        Held { descriptors, sessions }
    }
}
