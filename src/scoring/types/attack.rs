//! Attacks as clients ask for them.

use serde::{Deserialize, Serialize};

use super::VirtualAttackOptions;
use crate::attack::{Accumulated, InputDiversity, Norm, TargetClass, TranslationKernel};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttackMethod {
    Virtual,
    Fgsm,
    Pgd,
    MiFgsm,
    Apgd,
    DeepFool,
    Ddn,
    Fmn,
}

impl AttackMethod {
    /// Whether it looks for the smallest perturbation instead of the worst one within a radius.
    pub fn is_minimum_norm(self) -> bool {
        matches!(self, AttackMethod::DeepFool | AttackMethod::Ddn | AttackMethod::Fmn)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttackLoss {
    CrossEntropy,
    CrossEntropyLabels,
    Kl,
    SquaredDeviation,
    Margin,
    LogitsRatio,
}

/// What several models have in common when they are attacked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The mean of their losses.
    Losses,
    /// A loss of the mean of their outputs.
    Outputs,
}

/// The attack as the client asked for it; `None`, 0 and nothing stand for defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttackOptions {
    pub method: AttackMethod,
    pub norm: Option<Norm>,
    pub epsilon: Option<f64>,
    /// Several radii in one call; not together with `epsilon`.
    pub epsilons: Vec<f64>,
    pub steps: u32,
    pub step_size: Option<f64>,
    pub random_start: bool,
    pub restarts: u32,
    pub loss: Option<AttackLoss>,
    /// The classes to leave are the labels, not the model's own predictions.
    pub use_labels: bool,
    pub target: Option<TargetClass>,
    pub momentum: MomentumOptions,
    pub diversity: Option<InputDiversity>,
    pub translation: Option<TranslationKernel>,
    pub scales: u32,
    pub boundary: BoundaryOptions,
    pub virtual_attack: VirtualAttackOptions,
}

/// Of MI-FGSM.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MomentumOptions {
    pub decay: Option<f64>,
    pub of: Option<Accumulated>,
}

/// Of DeepFool.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoundaryOptions {
    pub candidates: u32,
    pub overshoot: Option<f64>,
}

impl AttackOptions {
    /// A method with every other setting left to its default.
    pub fn of(method: AttackMethod) -> Self {
        AttackOptions {
            method,
            norm: None,
            epsilon: None,
            epsilons: Vec::new(),
            steps: 0,
            step_size: None,
            random_start: false,
            restarts: 0,
            loss: None,
            use_labels: false,
            target: None,
            momentum: MomentumOptions { decay: None, of: None },
            diversity: None,
            translation: None,
            scales: 0,
            boundary: BoundaryOptions { candidates: 0, overshoot: None },
            virtual_attack: VirtualAttackOptions::default(),
        }
    }

    /// The radii that were named, if any.
    pub fn radii(&self) -> Vec<f64> {
        self.epsilon.iter().chain(&self.epsilons).copied().collect()
    }
}
