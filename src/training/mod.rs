//! Training as plans: which samples, in which order, at which learning rate, until when, judged on what.
//!
//! Pure: no graph is run here. `gradient::compose::training_step` is a step as a graph, `scoring::fine_tune` runs it.
//! The randomness is seeded, a stream for each purpose, run and epoch.

mod augmentation;
mod batches;
mod initial;
mod judgement;
mod patience;
mod schedule;
mod split;
mod units;

pub use augmentation::Augmentation;
pub use batches::batches;
pub use initial::initial_head;
pub use judgement::{Judgement, Truth};
pub use patience::{Patience, Verdict};
pub use schedule::{Schedule, ScheduleShape};
pub use split::{Split, folds, share};
pub use units::Units;
