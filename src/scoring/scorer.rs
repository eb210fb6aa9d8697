//! The service's functions, synchronous: what the transport calls on a blocking thread.

use crate::{
    cancel::Cancel,
    error::{Error, Reason, Result},
    scoring::types::*,
};

/// Models, datasets and the runtime, ready to score. Shared by all calls.
pub struct Scorer {}

impl Scorer {
    /// Scores one pair.
    pub fn score(&self, _request: &PairRequest, _cancel: &Cancel) -> Result<PairScores> {
        Err(Error::new(Reason::Internal, "not wired up"))
    }

    /// Ranks sources; rows and progress go to `on_event` as they come.
    pub fn rank(
        &self,
        _request: &RankingRequest,
        _on_event: &mut dyn FnMut(RankingEvent),
        _cancel: &Cancel,
    ) -> Result<Ranking> {
        Err(Error::new(Reason::Internal, "not wired up"))
    }

    /// Every model, in order of name.
    pub fn models(&self) -> Vec<ModelDescription> {
        Vec::new()
    }

    pub fn model(&self, _name: &str) -> Result<ModelDescription> {
        Err(Error::new(Reason::Internal, "not wired up"))
    }

    /// Tells whether a model can be differentiated; runs nothing.
    pub fn check(&self, _name: &str) -> Result<ModelCheck> {
        Err(Error::new(Reason::Internal, "not wired up"))
    }

    /// Derives a gradient graph, as ONNX bytes.
    pub fn gradient(&self, _request: &GradientRequest) -> Result<Vec<u8>> {
        Err(Error::new(Reason::Internal, "not wired up"))
    }

    /// Every dataset, in order of name.
    pub fn datasets(&self) -> Vec<DatasetDescription> {
        Vec::new()
    }

    pub fn dataset(&self, _name: &str) -> Result<DatasetDescription> {
        Err(Error::new(Reason::Internal, "not wired up"))
    }
}
