//! Clients that ask for small scores, and one that has models ranked all the time.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;
use transferscore::transport::proto::{
    AttackMethod, AttackOptions, Confidence, RankSourcesRequest, TransferScoreRequest, rank_sources_request,
    transfer_score_request, transfer_score_service_client::TransferScoreServiceClient,
};

pub const SOURCES: [&str; 5] = ["digits-0", "digits-25", "digits-50", "digits-75", "digits-100"];
pub const REFERENCE: &str = "digits-reference";
pub const DATASET: &str = "digits";

/// Steps of the ranking's attack.
pub const STEPS: u32 = 40;
pub const EPSILON: f64 = 0.1;
pub const RESAMPLES: u32 = 2_000;

/// Samples of a small score.
const SMALL: u32 = 32;

/// One of so many small scores repeats one of [`REPEATED`].
const REPEATS: u64 = 4;

/// Seeds that are asked for again and again.
const REPEATED: u64 = 8;

/// What became of all calls.
#[derive(Debug, Default)]
pub struct Tally {
    /// How long each small score took.
    pub small: Vec<Duration>,
    pub rankings: u64,
    /// Calls that the server had no room for.
    pub sent_away: u64,
    /// Other failures, by status and message.
    pub failures: BTreeMap<String, u64>,
}

type Service = TransferScoreServiceClient<Channel>;

async fn connect(address: &str) -> Result<Service, Status> {
    let failed = |error: tonic::transport::Error| Status::unavailable(format!("no connection: {error}"));
    TransferScoreServiceClient::connect(format!("http://{address}")).await.map_err(failed)
}

/// Has all models compiled, so that what is measured is calls.
pub async fn warm_up(address: &str) {
    let mut service = connect(address).await.expect("the server listens");
    for source in SOURCES {
        service.transfer_score(small(source, 0)).await.expect("scores");
    }
    rank(&mut service, 0).await.expect("a ranking");
}

/// So many clients for so long.
pub async fn load(address: &str, clients: u64, lasting: Duration) -> Tally {
    let end = Instant::now() + lasting;
    let ranking = tokio::spawn(tokio::time::timeout_at(end.into(), keep_ranking(address.to_owned())));
    let scoring: Vec<_> =
        (0..clients).map(|client| tokio::spawn(keep_scoring(address.to_owned(), client, end))).collect();
    let mut tally = Tally::default();
    for client in scoring {
        tally.add(client.await.expect("no panic"));
    }
    // The last ranking is left in its middle; what came of the others is told by the server.
    match ranking.await.expect("no panic") {
        Ok(ended) => tally.add(ended),
        Err(_) => tally.rankings = rankings(address).await,
    }
    tally
}

/// Rankings that the server has answered to their end, but for the first.
async fn rankings(address: &str) -> u64 {
    let address = address.to_owned();
    let metrics = tokio::task::spawn_blocking(move || crate::http::get(&address, "/metrics").text()).await;
    let metrics = metrics.expect("no panic");
    let series =
        "transferscore_requests_total{method=\"transferscore.v1.TransferScoreService/RankSources\",code=\"OK\"} ";
    let found = metrics.lines().find_map(|line| line.strip_prefix(series)?.parse::<u64>().ok());
    found.unwrap_or(0).saturating_sub(1)
}

async fn keep_scoring(address: String, client: u64, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut service = match connect(&address).await {
        Ok(service) => service,
        Err(status) => {
            tally.failed(&status);
            return tally;
        }
    };
    let mut n_calls = 0;
    while Instant::now() < end {
        let is_repeated = n_calls % REPEATS == REPEATS - 1;
        let seed = if is_repeated { n_calls % REPEATED } else { ((client + 1) << 32) + n_calls };
        let source = SOURCES[(client + n_calls) as usize % SOURCES.len()];
        let start = Instant::now();
        match service.transfer_score(small(source, seed)).await {
            Ok(_) => tally.small.push(start.elapsed()),
            Err(status) => tally.pause(&status).await,
        }
        n_calls += 1;
    }
    tally
}

/// Ends only where it fails.
async fn keep_ranking(address: String) -> Tally {
    let mut tally = Tally::default();
    let mut service = match connect(&address).await {
        Ok(service) => service,
        Err(status) => {
            tally.failed(&status);
            return tally;
        }
    };
    for seed in 1.. {
        if let Err(status) = rank(&mut service, seed).await {
            tally.pause(&status).await;
            if !tally.failures.is_empty() {
                break;
            }
        }
    }
    tally
}

async fn rank(service: &mut Service, seed: u64) -> Result<(), Status> {
    let mut events = service.rank_sources(ranking(seed)).await?.into_inner();
    while events.message().await?.is_some() {}
    Ok(())
}

fn small(source: &str, seed: u64) -> TransferScoreRequest {
    TransferScoreRequest {
        source_model: source.to_owned(),
        reference_model: REFERENCE.to_owned(),
        probe: Some(transfer_score_request::Probe::Dataset(DATASET.to_owned())),
        max_samples: SMALL,
        seed,
        ..TransferScoreRequest::default()
    }
}

/// A ranking that takes its time.
pub fn ranking(seed: u64) -> RankSourcesRequest {
    RankSourcesRequest {
        source_models: SOURCES.map(str::to_owned).into(),
        reference_model: REFERENCE.to_owned(),
        probe: Some(rank_sources_request::Probe::Dataset(DATASET.to_owned())),
        attack: Some(AttackOptions {
            method: AttackMethod::Pgd.into(),
            epsilon: Some(EPSILON),
            steps: STEPS,
            ..AttackOptions::default()
        }),
        seed,
        confidence: Some(Confidence { level: None, resamples: RESAMPLES }),
        ..RankSourcesRequest::default()
    }
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.small.extend(other.small);
        self.rankings += other.rankings;
        self.sent_away += other.sent_away;
        for (what, count) in other.failures {
            *self.failures.entry(what).or_default() += count;
        }
    }

    /// Counts a call that came to nothing, and waits for as long as the server asks for.
    async fn pause(&mut self, status: &Status) {
        if status.code() != Code::ResourceExhausted {
            return self.failed(status);
        }
        self.sent_away += 1;
        let delay = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
        tokio::time::sleep(delay.unwrap_or(Duration::from_secs(1))).await;
    }

    fn failed(&mut self, status: &Status) {
        *self.failures.entry(format!("{:?}: {}", status.code(), status.message())).or_default() += 1;
    }
}
