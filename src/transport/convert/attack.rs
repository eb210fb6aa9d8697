//! Attack settings.

use super::{
    field::{count, finite, known, out_of_range, positive},
    virtual_attack::{virtual_attack, virtual_attack_used},
};
use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::types::{
        Accumulated, AttackLoss, AttackMethod, AttackOptions, BoundaryOptions, InputDiversity, MomentumOptions, Norm,
        TargetClass, TranslationKernel,
    },
    transport::proto::{self, target_class::Target},
};

/// Defaults of settings that are on once they are there: those of torchattacks and of Dong et al. 2019.
const DIVERSITY: InputDiversity = InputDiversity { probability: 0.5, least_size: 0.9 };
const TRANSLATION: TranslationKernel = TranslationKernel { size: 15, reach: 3.0 };

/// The attack as asked for; the domain fills in what depends on the method and the models.
pub fn attack(options: Option<proto::AttackOptions>) -> Result<AttackOptions> {
    let options = options.unwrap_or_default();
    if options.steps > limits::ATTACK_STEPS {
        return Err(out_of_range(
            "attack.steps",
            options.steps,
            &format!("1 to {}, or 0 for the default", limits::ATTACK_STEPS),
        ));
    }
    let epsilons = options.epsilons.iter().enumerate();
    for (index, &epsilon) in epsilons {
        positive(&format!("attack.epsilons[{index}]"), Some(epsilon))?;
    }
    let momentum = options.momentum.unwrap_or_default();
    Ok(AttackOptions {
        method: method(options.method)?,
        norm: match known("attack.norm", options.norm)? {
            proto::Norm::Unspecified => None,
            proto::Norm::L2 => Some(Norm::L2),
            proto::Norm::Linf => Some(Norm::Linf),
        },
        epsilon: positive("attack.epsilon", options.epsilon)?,
        epsilons: options.epsilons,
        steps: options.steps,
        step_size: positive("attack.step_size", options.step_size)?,
        random_start: options.random_start,
        restarts: options.restarts,
        loss: loss(options.loss)?,
        use_labels: options.use_labels,
        target: options.target.map(target).transpose()?,
        momentum: MomentumOptions {
            decay: momentum.decay,
            of: match known("attack.momentum.accumulated", momentum.accumulated)? {
                proto::Accumulated::Unspecified => None,
                proto::Accumulated::Gradients => Some(Accumulated::Gradients),
                proto::Accumulated::Directions => Some(Accumulated::Directions),
            },
        },
        diversity: options.input_diversity.map(|diversity| InputDiversity {
            probability: diversity.probability.unwrap_or(DIVERSITY.probability),
            least_size: diversity.least_size.unwrap_or(DIVERSITY.least_size),
        }),
        translation: options.translation.map(|translation| TranslationKernel {
            size: if translation.kernel_size == 0 { TRANSLATION.size } else { translation.kernel_size as usize },
            reach: translation.reach.unwrap_or(TRANSLATION.reach),
        }),
        scales: options.scales,
        boundary: BoundaryOptions { candidates: options.candidates, overshoot: options.overshoot },
        virtual_attack: virtual_attack(options.virtual_attack)?,
    })
}

fn method(number: i32) -> Result<AttackMethod> {
    Ok(match known("attack.method", number)? {
        proto::AttackMethod::Unspecified | proto::AttackMethod::Virtual => AttackMethod::Virtual,
        proto::AttackMethod::Fgsm => AttackMethod::Fgsm,
        proto::AttackMethod::Pgd => AttackMethod::Pgd,
        proto::AttackMethod::MiFgsm => AttackMethod::MiFgsm,
        proto::AttackMethod::Apgd => AttackMethod::Apgd,
        proto::AttackMethod::Deepfool => AttackMethod::DeepFool,
        proto::AttackMethod::Ddn => AttackMethod::Ddn,
        proto::AttackMethod::Fmn => AttackMethod::Fmn,
    })
}

fn loss(number: i32) -> Result<Option<AttackLoss>> {
    Ok(match known("attack.loss", number)? {
        proto::AttackLoss::Unspecified => None,
        proto::AttackLoss::CrossEntropy => Some(AttackLoss::CrossEntropy),
        proto::AttackLoss::CrossEntropyLabels => Some(AttackLoss::CrossEntropyLabels),
        proto::AttackLoss::Kl => Some(AttackLoss::Kl),
        proto::AttackLoss::SquaredDeviation => Some(AttackLoss::SquaredDeviation),
        proto::AttackLoss::Margin => Some(AttackLoss::Margin),
        proto::AttackLoss::LogitsRatio => Some(AttackLoss::LogitsRatio),
    })
}

fn target(target: proto::TargetClass) -> Result<TargetClass> {
    match target.target {
        Some(Target::Given(class)) => Ok(TargetClass::Given(class as usize)),
        Some(Target::LeastLikely(_)) => Ok(TargetClass::LeastLikely),
        Some(Target::NextMostLikely(_)) => Ok(TargetClass::NextMostLikely),
        None => {
            let message = "attack.target names no class; give one, or least_likely or next_most_likely";
            Err(Error::new(Reason::FieldMissing, message).at("attack.target"))
        }
    }
}

/// The attack that was made, every default filled in.
pub fn attack_used(options: &AttackOptions) -> Result<proto::AttackOptions> {
    let number = |what: &str, value: Option<f64>| value.map(|value| finite(what, value)).transpose();
    let epsilons = options.epsilons.iter().map(|&epsilon| finite("attack.epsilons", epsilon));
    let momentum = options.momentum;
    let decay = number("attack.momentum.decay", momentum.decay)?;
    let diversity = options.diversity.map(|diversity| -> Result<_> {
        Ok(proto::InputDiversity {
            probability: number("attack.input_diversity.probability", Some(diversity.probability))?,
            least_size: number("attack.input_diversity.least_size", Some(diversity.least_size))?,
        })
    });
    let translation = options.translation.map(|translation| -> Result<_> {
        Ok(proto::Translation {
            kernel_size: count(translation.size),
            reach: number("attack.translation.reach", Some(translation.reach))?,
        })
    });
    let norm = match options.norm {
        None => proto::Norm::Unspecified,
        Some(Norm::L2) => proto::Norm::L2,
        Some(Norm::Linf) => proto::Norm::Linf,
    };
    Ok(proto::AttackOptions {
        method: method_number(options.method).into(),
        norm: norm.into(),
        epsilon: number("attack.epsilon", options.epsilon)?,
        epsilons: epsilons.collect::<Result<_>>()?,
        steps: options.steps,
        step_size: number("attack.step_size", options.step_size)?,
        random_start: options.random_start,
        restarts: options.restarts,
        loss: loss_number(options.loss).into(),
        use_labels: options.use_labels,
        target: options.target.map(|target| proto::TargetClass {
            target: Some(match target {
                TargetClass::Given(class) => Target::Given(count(class)),
                TargetClass::LeastLikely => Target::LeastLikely(proto::LeastLikely {}),
                TargetClass::NextMostLikely => Target::NextMostLikely(proto::NextMostLikely {}),
            }),
        }),
        momentum: (momentum.decay.is_some() || momentum.of.is_some()).then(|| proto::Momentum {
            decay,
            accumulated: match momentum.of {
                None => proto::Accumulated::Unspecified,
                Some(Accumulated::Gradients) => proto::Accumulated::Gradients,
                Some(Accumulated::Directions) => proto::Accumulated::Directions,
            }
            .into(),
        }),
        input_diversity: diversity.transpose()?,
        translation: translation.transpose()?,
        scales: options.scales,
        candidates: options.boundary.candidates,
        overshoot: number("attack.overshoot", options.boundary.overshoot)?,
        virtual_attack: virtual_attack_used(&options.virtual_attack),
    })
}

fn method_number(method: AttackMethod) -> proto::AttackMethod {
    match method {
        AttackMethod::Virtual => proto::AttackMethod::Virtual,
        AttackMethod::Fgsm => proto::AttackMethod::Fgsm,
        AttackMethod::Pgd => proto::AttackMethod::Pgd,
        AttackMethod::MiFgsm => proto::AttackMethod::MiFgsm,
        AttackMethod::Apgd => proto::AttackMethod::Apgd,
        AttackMethod::DeepFool => proto::AttackMethod::Deepfool,
        AttackMethod::Ddn => proto::AttackMethod::Ddn,
        AttackMethod::Fmn => proto::AttackMethod::Fmn,
    }
}

fn loss_number(loss: Option<AttackLoss>) -> proto::AttackLoss {
    match loss {
        None => proto::AttackLoss::Unspecified,
        Some(AttackLoss::CrossEntropy) => proto::AttackLoss::CrossEntropy,
        Some(AttackLoss::CrossEntropyLabels) => proto::AttackLoss::CrossEntropyLabels,
        Some(AttackLoss::Kl) => proto::AttackLoss::Kl,
        Some(AttackLoss::SquaredDeviation) => proto::AttackLoss::SquaredDeviation,
        Some(AttackLoss::Margin) => proto::AttackLoss::Margin,
        Some(AttackLoss::LogitsRatio) => proto::AttackLoss::LogitsRatio,
    }
}
