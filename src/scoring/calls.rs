//! What the transport asks of the domain: one method a call, synchronous, cancellable.
//!
//! [`super::Scorer`] is the real one; tests of the transport bring a fake.

use crate::{
    cancel::Cancel,
    error::Result,
    registry::NextChunk,
    scoring::{NotKept, Units, types::*},
};

/// The service's functions. Each may run for long: callers keep them off async executors.
pub trait Scoring: Send + Sync + 'static {
    /// Whether models can be run; not so once the last graphics card was lost.
    fn can_run(&self) -> bool {
        true
    }

    /// Scores one pair.
    ///
    /// # Errors
    /// Any [`Reason`](crate::error::Reason) that a request can bring about.
    fn score(&self, request: &PairRequest, cancel: &Cancel) -> Result<PairScores>;

    /// Ranks sources; rows and progress go to `on_event` as they come, rows in the order of the request.
    ///
    /// # Errors
    /// As [`Scoring::score`].
    fn rank(
        &self,
        request: &RankingRequest,
        on_event: &mut (dyn FnMut(RankingEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Ranking> {
        self.rank_in_units(request, &NotKept, on_event, cancel)
    }

    /// The same, with sources kept as they are finished: those that are kept already are not scored again.
    ///
    /// # Errors
    /// As [`Scoring::score`], and those of the units.
    fn rank_in_units(
        &self,
        request: &RankingRequest,
        units: &dyn Units,
        on_event: &mut (dyn FnMut(RankingEvent) + Send),
        cancel: &Cancel,
    ) -> Result<Ranking>;

    /// Compares the tasks of several models; progress goes to `on_progress`.
    ///
    /// # Errors
    /// As [`Scoring::score`].
    fn compare(
        &self,
        request: &ComparisonRequest,
        on_progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &Cancel,
    ) -> Result<TaskComparison> {
        self.compare_in_units(request, &NotKept, on_progress, cancel)
    }

    /// The same, with groups of samples kept as they are finished: those that are kept already are not run again.
    ///
    /// # Errors
    /// As [`Scoring::score`], and those of the units.
    fn compare_in_units(
        &self,
        request: &ComparisonRequest,
        units: &dyn Units,
        on_progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &Cancel,
    ) -> Result<TaskComparison>;

    /// Makes adversarial examples; they and progress go to `on_event` as they come, in the order of the samples.
    ///
    /// # Errors
    /// As [`Scoring::score`].
    fn attack(
        &self,
        request: &AdversarialRequest,
        on_event: &mut (dyn FnMut(AdversarialEvent) + Send),
        cancel: &Cancel,
    ) -> Result<AdversarialSummary>;

    /// Fine-tunes a model; progress goes to `on_progress`.
    ///
    /// # Errors
    /// As [`Scoring::score`].
    fn fine_tune(
        &self,
        request: &FineTuneRequest,
        on_progress: &mut (dyn FnMut(Progress) + Send),
        cancel: &Cancel,
    ) -> Result<FineTuned>;

    /// Every model, in order of name.
    fn models(&self) -> Vec<ModelDescription>;

    /// One model by name.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`, or `MODEL_INVALID` for a file that cannot be read at all.
    fn model(&self, name: &str) -> Result<ModelDescription>;

    /// Tells whether a model can be differentiated; runs nothing.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`, `MODEL_INVALID`.
    fn check(&self, name: &str) -> Result<ModelCheck>;

    /// Derives a gradient graph, as ONNX bytes.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`, `MODEL_INVALID`, `MODEL_NOT_DIFFERENTIABLE`, or `OPTION_OUT_OF_RANGE` for a tensor that the model
    /// does not have; `CANCELLED`.
    fn gradient(&self, request: &GradientRequest, cancel: &Cancel) -> Result<Vec<u8>>;

    /// Compiles a model for samples as a dataset has them, or as the model itself declares them, and keeps it ready.
    ///
    /// # Errors
    /// Those of a score that lie in the model; `OPTION_UNSUPPORTED` where neither tells the samples' shape; `CANCELLED`.
    fn load_model(&self, name: &str, dataset: Option<&str>, cancel: &Cancel) -> Result<LoadedModel>;

    /// Drops what is in memory of a model; its file stays, and a later call loads it again.
    ///
    /// # Errors
    /// `MODEL_NOT_FOUND`.
    fn unload_model(&self, name: &str) -> Result<UnloadedModel>;

    /// Takes a model's file, checks it, and puts it in its place. Nothing is left of one that is refused.
    ///
    /// # Errors
    /// `UPLOADS_NOT_ALLOWED`, `UPLOAD_MISMATCH`, `NAME_TAKEN`, `NOT_UPLOADED`, `STORAGE_FULL`, `LIMIT_EXCEEDED`,
    /// `MODEL_INVALID`, and those of `next`.
    fn upload_model(
        &self,
        upload: &Upload,
        next: &mut NextChunk<'_>,
        cancel: &Cancel,
    ) -> Result<Uploaded<ModelDescription>>;

    /// Every dataset, in order of name.
    fn datasets(&self) -> Vec<DatasetDescription>;

    /// One dataset by name.
    ///
    /// # Errors
    /// `DATASET_NOT_FOUND`, `DATASET_INVALID`.
    fn dataset(&self, name: &str) -> Result<DatasetDescription>;

    /// Takes a dataset's file, unpacks and checks it, and puts it in its place.
    ///
    /// # Errors
    /// As [`Scoring::upload_model`], with `DATASET_INVALID`.
    fn upload_dataset(
        &self,
        upload: &Upload,
        next: &mut NextChunk<'_>,
        cancel: &Cancel,
    ) -> Result<Uploaded<DatasetDescription>>;

    /// Deletes an uploaded dataset, once no call reads it, and gives the bytes that it took. Calls that have its samples go
    /// on.
    ///
    /// # Errors
    /// `DATASET_NOT_FOUND`, `NOT_UPLOADED`, `UPLOADS_NOT_ALLOWED`.
    fn delete_dataset(&self, name: &str, cancel: &Cancel) -> Result<u64>;
}
