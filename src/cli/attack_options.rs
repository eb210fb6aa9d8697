//! Arguments that tune an attack, and the message made of them.

use std::str::FromStr;

use super::options::{Accumulated, AttackLoss, AttackMethod, Norm, VirtualSolver};
use crate::transport::proto::{self, target_class::Target};

/// Settings of an attack. What is left out is the server's default.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Attack")]
pub struct AttackArgs {
    /// How to attack [default: virtual; for the command `attack` pgd]
    #[arg(long = "attack", value_name = "METHOD", value_enum)]
    pub method: Option<AttackMethod>,
    /// Norm that bounds the perturbation [default: l2 for the virtual attack and ddn, linf otherwise]
    #[arg(long, value_name = "NORM", value_enum)]
    norm: Option<Norm>,
    /// Radius of the perturbation in pixel units, 0..1; repeat for several. The virtual attack without one is read to first
    /// order, the minimum-norm attacks without one give what they find
    #[arg(long = "epsilon", value_name = "RADIUS", allow_negative_numbers = true)]
    epsilons: Vec<f64>,
    /// Steps of an iterative attack [default: 10 for pgd and mi-fgsm, 50 for deepfool, 100 otherwise]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Length of a step in pixel units [default: 2.5 epsilon / steps for pgd, epsilon / steps for mi-fgsm, 1 for fmn]
    #[arg(long, value_name = "LENGTH", allow_negative_numbers = true)]
    step_size: Option<f64>,
    /// Start pgd, mi-fgsm or apgd from a random point
    #[arg(long)]
    random_start: bool,
    /// Runs of which each sample's best counts [default: 1]
    #[arg(long, value_name = "N")]
    restarts: Option<u32>,
    /// What fgsm, pgd, mi-fgsm and apgd ascend [default: by the model's kind of output]
    #[arg(long, value_name = "LOSS", value_enum)]
    loss: Option<AttackLoss>,
    /// Leave the dataset's labels instead of the model's own predictions
    #[arg(long)]
    use_labels: bool,
    /// Class to be taken for: its number, `least-likely` or `next-most-likely` [default: any other]
    #[arg(long, value_name = "CLASS")]
    target: Option<TargetClass>,
    /// Share of the momentum of mi-fgsm that is kept [default: 1]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    decay: Option<f64>,
    /// What the momentum of mi-fgsm adds up [default: gradients]
    #[arg(long, value_name = "WHAT", value_enum)]
    accumulated: Option<Accumulated>,
    /// Probability that an image is resized and padded at random before a gradient [default: never]
    #[arg(long, value_name = "PROBABILITY", allow_negative_numbers = true)]
    input_diversity: Option<f64>,
    /// Width in pixels of the kernel that gradients are smoothed with [default: none]
    #[arg(long, value_name = "PIXELS")]
    translation: Option<u32>,
    /// Views x / 2^i whose gradients are averaged [default: 1]
    #[arg(long, value_name = "N")]
    scales: Option<u32>,
    /// Classes that deepfool considers [default: 10]
    #[arg(long, value_name = "N")]
    candidates: Option<u32>,
    /// How much farther than the boundary deepfool goes, as a share [default: 0.02]
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    overshoot: Option<f64>,
    /// How the virtual attack finds its directions [default: by the size of the Jacobian]
    #[arg(long, value_name = "SOLVER", value_enum)]
    solver: Option<VirtualSolver>,
    /// Singular levels of the virtual attack [default: 1]
    #[arg(long, value_name = "N")]
    levels: Option<u32>,
}

/// A class by number or by rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetClass {
    Given(u32),
    LeastLikely,
    NextMostLikely,
}

impl FromStr for TargetClass {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "least-likely" => Ok(TargetClass::LeastLikely),
            "next-most-likely" => Ok(TargetClass::NextMostLikely),
            number => number
                .parse()
                .map(TargetClass::Given)
                .map_err(|_| "give a class from 0 on, least-likely or next-most-likely".to_owned()),
        }
    }
}

impl AttackArgs {
    pub fn options(&self) -> proto::AttackOptions {
        let (epsilon, epsilons) = match self.epsilons.as_slice() {
            [] => (None, Vec::new()),
            [epsilon] => (Some(*epsilon), Vec::new()),
            several => (None, several.to_vec()),
        };
        let momentum = (self.decay.is_some() || self.accumulated.is_some()).then(|| proto::Momentum {
            decay: self.decay,
            accumulated: self.accumulated.map_or(0, |accumulated| proto::Accumulated::from(accumulated).into()),
        });
        proto::AttackOptions {
            method: self.method.map_or(0, |method| proto::AttackMethod::from(method).into()),
            norm: self.norm.map_or(0, |norm| proto::Norm::from(norm).into()),
            epsilon,
            epsilons,
            steps: self.steps.unwrap_or_default(),
            step_size: self.step_size,
            random_start: self.random_start,
            restarts: self.restarts.unwrap_or_default(),
            loss: self.loss.map_or(0, |loss| proto::AttackLoss::from(loss).into()),
            use_labels: self.use_labels,
            target: self.target.map(|target| proto::TargetClass {
                target: Some(match target {
                    TargetClass::Given(class) => Target::Given(class),
                    TargetClass::LeastLikely => Target::LeastLikely(proto::LeastLikely {}),
                    TargetClass::NextMostLikely => Target::NextMostLikely(proto::NextMostLikely {}),
                }),
            }),
            momentum,
            input_diversity: self
                .input_diversity
                .map(|probability| proto::InputDiversity { probability: Some(probability), least_size: None }),
            translation: self.translation.map(|kernel_size| proto::Translation { kernel_size, reach: None }),
            scales: self.scales.unwrap_or_default(),
            candidates: self.candidates.unwrap_or_default(),
            overshoot: self.overshoot,
            virtual_attack: (self.solver.is_some() || self.levels.is_some()).then(|| proto::VirtualAttackOptions {
                solver: self.solver.map_or(0, |solver| proto::VirtualSolver::from(solver).into()),
                levels: self.levels.unwrap_or_default(),
                ..Default::default()
            }),
        }
    }
}
