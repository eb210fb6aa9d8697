//! What is asked and what is answered, in the domain's own terms. The transport converts from and to these.

mod adversarial;
mod attack;
mod catalogue;
mod compare;
mod fine_tune;
mod knowledge;
mod ranking;
mod request;
mod scores;
mod upload;
mod virtual_attack;

pub use adversarial::*;
pub use attack::*;
pub use catalogue::*;
pub use compare::*;
pub use fine_tune::*;
pub use knowledge::*;
pub use ranking::*;
pub use request::*;
pub use scores::*;
pub use upload::*;
pub use virtual_attack::*;

pub use crate::{
    attack::{Accumulated, InputDiversity, Norm, TargetClass, TranslationKernel},
    knowledge::{AffineFit, ClassFigures, Estimator, LinearProbe, Score, Verification},
    metric::{GradientMatching, LossScores, ProbeErrors, TheoremCheck, TheoryChecks},
    registry::OutputKind,
    stats::{Agreement, Coefficient, Confidence, Estimate, Merge, Regret, ShuffledNull},
    training::{Augmentation, ScheduleShape},
};
