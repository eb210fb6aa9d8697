//! Orchestration: one pair, a ranking. Validates requests in the domain's terms, runs models tile by tile and hands
//! what they gave to the mathematics.

mod adversarial;
mod attack_plan;
mod calls;
mod compare;
mod describe;
mod empirical;
mod fine_tune;
mod fine_tune_plan;
mod group_unit;
mod interface;
mod jacobian_rows;
mod knowledge;
mod memory;
mod network;
mod pair;
mod passes;
mod perturb;
mod probe;
mod ranking;
mod rows;
mod scorer;
mod survey;
mod theory;
mod trial;
pub mod types;
mod units;
mod uploads;
mod virtual_plan;

pub use calls::Scoring;
pub use describe::derived;
pub use memory::{Memory, Reserved};
pub use scorer::{Scorer, ScorerConfig};
pub use trial::{Exercise, Trial};
pub use units::{NotKept, Units};
