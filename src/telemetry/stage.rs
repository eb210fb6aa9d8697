//! Where the time of a computation goes.

use std::time::Instant;

use super::metrics;

/// A part of a computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Finding, reading and decoding the probe set.
    Samples,
    /// Deriving a model's graphs and compiling them.
    Compile,
    /// A model's own passes over a group of samples: outputs, Jacobians, attacks.
    OwnPasses,
    /// Passes of one model under another's attack.
    JointPasses,
    /// From arrays to scores, nulls and intervals.
    Statistics,
    /// Making adversarial examples.
    Attack,
    /// Fine-tuning.
    FineTune,
}

impl Stage {
    /// The name that metrics and traces carry.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Samples => "samples",
            Stage::Compile => "compile",
            Stage::OwnPasses => "own_passes",
            Stage::JointPasses => "joint_passes",
            Stage::Statistics => "statistics",
            Stage::Attack => "attack",
            Stage::FineTune => "fine_tune",
        }
    }
}

/// Does some work, and records how long it took, however it ends.
pub fn timed<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    let _span = tracing::debug_span!("stage", stage = stage.name()).entered();
    let _timer = Timer { stage, begun: Instant::now() };
    work()
}

struct Timer {
    stage: Stage,
    begun: Instant,
}

impl Drop for Timer {
    fn drop(&mut self) {
        metrics::STAGE_SECONDS.record(&[self.stage.name()], self.begun.elapsed());
    }
}
