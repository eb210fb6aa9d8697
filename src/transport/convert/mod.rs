//! Messages to the domain's types, validated; the domain's types to messages, finite.
//!
//! Invariants: what leaves [`request`] is in the documented ranges; what leaves [`scores`] and [`ranking`] has no NaN
//! and no infinity.

mod adversarial;
mod attack;
mod compare;
mod confidence;
mod description;
mod field;
mod fine_tune;
mod job;
mod knowledge;
mod knowledge_scores;
mod page;
mod probe;
mod ranking;
mod request;
mod scores;
mod upload;
mod virtual_attack;

pub use adversarial::{adversarial_request, attack_event, attack_summary};
pub use compare::{comparison, comparison_progress, comparison_request};
pub use description::{check, dataset, gradient_mode, loaded, model};
pub use field::name;
pub use fine_tune::{fine_tune_progress, fine_tune_request, fine_tuned};
pub use job::{decode, job, job_event, job_filter, job_number, job_with_contents, new_job};
pub use page::{page_token, page_token_of};
pub use ranking::{event, progress, ranking};
pub use request::{pair, ranking_request};
pub use scores::pair_scores;
pub use upload::{dataset_piece, dataset_upload, model_piece, model_upload};
