//! The transport in front of a fake domain: its life cycle, its refusals, its bytes.

mod bad_input;
mod comparing;
pub mod fake;
mod fake_answers;
mod fake_ranking;
mod life_cycle;
mod numbers;
mod surroundings;
mod tuned;
mod turns;
mod uploading;
