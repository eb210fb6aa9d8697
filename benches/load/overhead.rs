//! What the service adds to a ranking: the same one through gRPC and called in this process, in turns.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use transferscore::{
    cancel::Cancel,
    limits,
    runtime::Runtime,
    scoring::{Memory, Scorer, ScorerConfig, Scoring, types::*},
    transport::{
        client::Client,
        proto::{RankSourcesResponse, rank_sources_response::Event},
    },
};

use crate::{
    clients::{self, DATASET, EPSILON, REFERENCE, RESAMPLES, SOURCES, STEPS},
    server_process::repository,
    support::library,
};

/// Combined scores by source: what both ways must agree on to the bit.
type Scores = Vec<(String, f64)>;

/// Times the ranking so often each way, and tells the ratios.
pub fn measured(tokio: &tokio::runtime::Runtime, address: &str, rounds: u64) -> String {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let scorer = scorer(threads);
    let client = tokio.block_on(Client::connect(address)).expect("the server listens");
    let (mut ratios, mut times) = (Vec::new(), [Vec::new(), Vec::new()]);
    // The first round compiles. No seed twice, as answers are kept.
    for round in 0..=rounds {
        let through = || timed(|| tokio.block_on(through_the_service(&client, round)));
        let within = || timed(|| in_this_process(&scorer, round));
        let (through, within) = if round % 2 == 0 {
            let first = through();
            (first, within())
        } else {
            let first = within();
            (through(), first)
        };
        assert_eq!(through.1, within.1, "both ways give the same");
        if round > 0 {
            ratios.push(through.0.as_secs_f64() / within.0.as_secs_f64());
            times[0].push(through.0.as_secs_f64());
            times[1].push(within.0.as_secs_f64());
        }
    }
    let [through, within] = times.map(median);
    let (least, most) = (ratios.iter().copied().fold(f64::MAX, f64::min), ratios.iter().copied().fold(0.0, f64::max));
    format!(
        "| a ranking of {} sources, {threads} threads | through gRPC, s | in process, s | gRPC / in process | from, to |\n\
         |---|---|---|---|---|\n\
         | median of {rounds} rounds | {through:.3} | {within:.3} | {:.3} | {least:.3}, {most:.3} |\n",
        SOURCES.len(),
        median(ratios)
    )
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let done = work();
    (start.elapsed(), done)
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 { numbers[middle] } else { f64::midpoint(numbers[middle - 1], numbers[middle]) }
}

/// As `transferscore serve` makes it by default.
fn scorer(threads: usize) -> Scorer {
    let runtime = Runtime::load(&library(), threads).expect("ONNX Runtime loads");
    let config = ScorerConfig {
        models: vec![repository("models")],
        datasets: vec![repository("models/datasets")],
        uploads: None,
        batch_size: threads * limits::BATCH_SAMPLES,
        sample_limit: limits::SAMPLES,
        request_bytes: limits::REQUEST_BYTES,
        memory: Arc::new(Memory::new(limits::MEMORY_BYTES, 1)),
        session_bytes: limits::NETWORK_CACHE_BYTES,
        group_bytes: limits::GROUP_BYTES,
    };
    Scorer::open(config, runtime).expect("the bundled models")
}

async fn through_the_service(client: &Client, seed: u64) -> Scores {
    let mut events = client.rank_sources(clients::ranking(seed)).await.expect("a stream");
    let mut scores = Vec::new();
    while let Some(RankSourcesResponse { event, .. }) = events.next().await.expect("an event") {
        let Some(Event::Row(row)) = event else { continue };
        let combined = row.scores.and_then(|scores| scores.reference_to_source?.combined);
        scores.push((row.source_model, combined.expect("a score").value));
    }
    scores
}

fn in_this_process(scorer: &Scorer, seed: u64) -> Scores {
    let request = RankingRequest {
        source_models: SOURCES.map(str::to_owned).into(),
        reference_model: REFERENCE.to_owned(),
        probe: Probe::Dataset(DATASET.to_owned()),
        options: ScoreOptions {
            max_samples: 0,
            attack: AttackOptions { epsilon: Some(EPSILON), steps: STEPS, ..AttackOptions::of(AttackMethod::Pgd) },
            matching: MatchingOptions::default(),
            theory: None,
            knowledge: KnowledgeOptions {
                measures: Vec::new(),
                ridge: None,
                ridge_folds: 0,
                folds: 0,
                n_neighbors: 0,
                feature_tensor: None,
                function_matching_of: None,
                affine_transfer_of: None,
                fine_tune: FineTuneOptions::default(),
            },
            seed,
            confidence: Confidence { level: limits::DEFAULT_CONFIDENCE_LEVEL, resamples: RESAMPLES as usize },
        },
        rank_by: RankingMetric::CombinedReferenceToSource,
        recommend_from: Vec::new(),
    };
    let mut scores = Vec::new();
    let mut on_event = |event| {
        if let RankingEvent::Row { source_model, scores: row } = event {
            scores.push((source_model, row.reference_to_source.combined.value));
        }
    };
    scorer.rank(&request, &mut on_event, &Cancel::default()).expect("a ranking");
    scores
}
