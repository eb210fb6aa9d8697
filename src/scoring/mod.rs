//! Orchestration: one pair, a ranking. Validates requests in the domain's terms, runs models tile by tile and hands
//! what they gave to the mathematics.

mod scorer;
pub mod types;

pub use scorer::Scorer;
