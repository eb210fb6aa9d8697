//! Attacks as clients ask for them.

use super::VirtualAttackOptions;
use crate::attack::Norm;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttackMethod {
    Virtual,
    Fgsm,
    Pgd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttackLoss {
    CrossEntropy,
    CrossEntropyLabels,
    Kl,
    SquaredDeviation,
}

/// The attack as the client asked for it; `None` and 0 stand for defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttackOptions {
    pub method: AttackMethod,
    pub norm: Option<Norm>,
    pub epsilon: Option<f64>,
    pub steps: u32,
    pub step_size: Option<f64>,
    pub random_start: bool,
    pub loss: Option<AttackLoss>,
    pub virtual_attack: VirtualAttackOptions,
}
