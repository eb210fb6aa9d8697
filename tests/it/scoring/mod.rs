//! Scoring with real models: values, determinism, refusals.

mod adversarial;
mod attacks;
mod compare;
mod determinism;
mod digits;
mod engine;
mod files;
mod fine_tune;
mod loading;
mod memory;
mod pullbacks;
mod ranking;
mod refusals;
mod trial;
mod units;

use std::path::PathBuf;

use transferscore::{
    limits,
    runtime::Runtime,
    scoring::{Scorer, ScorerConfig, types::*},
};

use crate::{server_process::repository, support};

/// A scorer of the bundled models with two threads.
pub fn bundled() -> Scorer {
    scorer(vec![repository("models")], vec![repository("models/datasets")])
}

pub fn scorer(models: Vec<PathBuf>, datasets: Vec<PathBuf>) -> Scorer {
    Scorer::open(config(models, datasets, 64), support::runtime()).unwrap()
}

/// A scorer of the bundled models with its own number of threads and of samples in flight.
pub fn bundled_with(threads: usize, batch_size: usize) -> Scorer {
    let runtime = Runtime::load(&support::library(), threads).unwrap();
    Scorer::open(config(vec![repository("models")], vec![repository("models/datasets")], batch_size), runtime).unwrap()
}

pub fn config(models: Vec<PathBuf>, datasets: Vec<PathBuf>, batch_size: usize) -> ScorerConfig {
    ScorerConfig {
        models,
        datasets,
        uploads: None,
        batch_size,
        sample_limit: 20_000,
        request_bytes: 1 << 30,
        memory: std::sync::Arc::new(transferscore::scoring::Memory::new(limits::MEMORY_BYTES, 1)),
        session_bytes: limits::NETWORK_CACHE_BYTES,
        group_bytes: limits::GROUP_BYTES,
    }
}

/// The options of a minimal request, with few resamples.
pub fn options() -> ScoreOptions {
    ScoreOptions {
        max_samples: 0,
        attack: attack(AttackMethod::Virtual),
        matching: MatchingOptions::default(),
        theory: None,
        knowledge: knowledge(Vec::new()),
        seed: 0,
        confidence: Confidence { level: 0.95, resamples: 100 },
    }
}

/// The knowledge measures of a request, all settings left to the server.
pub fn knowledge(measures: Vec<KnowledgeMeasure>) -> KnowledgeOptions {
    KnowledgeOptions {
        measures,
        ridge: None,
        ridge_folds: 0,
        folds: 0,
        n_neighbors: 0,
        feature_tensor: None,
        function_matching_of: None,
        affine_transfer_of: None,
        fine_tune: FineTuneOptions::default(),
    }
}

pub fn attack(method: AttackMethod) -> AttackOptions {
    AttackOptions::of(method)
}

pub fn pair(source: &str, options: ScoreOptions) -> PairRequest {
    PairRequest {
        source_model: source.to_owned(),
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("digits".to_owned()),
        options,
    }
}
