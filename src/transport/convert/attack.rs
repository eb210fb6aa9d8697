//! Attack settings.

use super::{
    field::{finite, known, out_of_range, positive},
    virtual_attack::{virtual_attack, virtual_attack_used},
};
use crate::{
    error::Result,
    limits,
    scoring::types::{AttackLoss, AttackMethod, AttackOptions, Norm},
    transport::proto,
};

/// The attack as asked for; the domain fills in what depends on the models.
pub fn attack(options: Option<proto::AttackOptions>) -> Result<AttackOptions> {
    let options = options.unwrap_or_default();
    if options.steps > limits::ATTACK_STEPS {
        return Err(out_of_range(
            "attack.steps",
            options.steps,
            &format!("1 to {}, or 0 for the default", limits::ATTACK_STEPS),
        ));
    }
    Ok(AttackOptions {
        method: match known("attack.method", options.method)? {
            proto::AttackMethod::Unspecified | proto::AttackMethod::Virtual => AttackMethod::Virtual,
            proto::AttackMethod::Fgsm => AttackMethod::Fgsm,
            proto::AttackMethod::Pgd => AttackMethod::Pgd,
        },
        norm: match known("attack.norm", options.norm)? {
            proto::Norm::Unspecified => None,
            proto::Norm::L2 => Some(Norm::L2),
            proto::Norm::Linf => Some(Norm::Linf),
        },
        epsilon: positive("attack.epsilon", options.epsilon)?,
        steps: options.steps,
        step_size: positive("attack.step_size", options.step_size)?,
        random_start: options.random_start,
        loss: match known("attack.loss", options.loss)? {
            proto::AttackLoss::Unspecified => None,
            proto::AttackLoss::CrossEntropy => Some(AttackLoss::CrossEntropy),
            proto::AttackLoss::CrossEntropyLabels => Some(AttackLoss::CrossEntropyLabels),
            proto::AttackLoss::Kl => Some(AttackLoss::Kl),
            proto::AttackLoss::SquaredDeviation => Some(AttackLoss::SquaredDeviation),
        },
        virtual_attack: virtual_attack(options.virtual_attack)?,
    })
}

/// The attack that was made, every default filled in.
pub fn attack_used(options: &AttackOptions) -> Result<proto::AttackOptions> {
    let method = match options.method {
        AttackMethod::Virtual => proto::AttackMethod::Virtual,
        AttackMethod::Fgsm => proto::AttackMethod::Fgsm,
        AttackMethod::Pgd => proto::AttackMethod::Pgd,
    };
    let norm = match options.norm {
        None => proto::Norm::Unspecified,
        Some(Norm::L2) => proto::Norm::L2,
        Some(Norm::Linf) => proto::Norm::Linf,
    };
    let loss = match options.loss {
        None => proto::AttackLoss::Unspecified,
        Some(AttackLoss::CrossEntropy) => proto::AttackLoss::CrossEntropy,
        Some(AttackLoss::CrossEntropyLabels) => proto::AttackLoss::CrossEntropyLabels,
        Some(AttackLoss::Kl) => proto::AttackLoss::Kl,
        Some(AttackLoss::SquaredDeviation) => proto::AttackLoss::SquaredDeviation,
    };
    Ok(proto::AttackOptions {
        method: method.into(),
        norm: norm.into(),
        epsilon: options.epsilon.map(|epsilon| finite("attack.epsilon", epsilon)).transpose()?,
        steps: options.steps,
        step_size: options.step_size.map(|step_size| finite("attack.step_size", step_size)).transpose()?,
        random_start: options.random_start,
        loss: loss.into(),
        virtual_attack: virtual_attack_used(&options.virtual_attack),
    })
}
