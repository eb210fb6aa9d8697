//! Models on graphics cards, as far as that can be tried without one: the processor is used as a card is, with troubles to
//! order. What only a card shows, `benches/gpu.sh` tries.

mod choice;
mod faults;
mod running;

use std::sync::Arc;

use transferscore::{
    config::{DeviceChoice, DeviceConfig},
    runtime::Runtime,
    scoring::Scorer,
};

use crate::{scoring::config, server_process::repository, support};

/// A runtime of two threads on a card that is rehearsed.
fn rehearsed() -> Arc<Runtime> {
    rehearsed_with(DeviceConfig::default())
}

fn rehearsed_with(config: DeviceConfig) -> Arc<Runtime> {
    let config = DeviceConfig { choice: DeviceChoice::Rehearsal, ..config };
    Runtime::load_on(&support::library(), 2, config).unwrap()
}

/// A scorer of the bundled models.
fn scorer(runtime: &Arc<Runtime>) -> Scorer {
    let config = config(vec![repository("models")], vec![repository("models/datasets")], 2_048);
    Scorer::open(config, Arc::clone(runtime)).unwrap()
}
