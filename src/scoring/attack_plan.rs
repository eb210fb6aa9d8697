//! From what a client asks of an attack to what is done: defaults filled in, contradictions refused.

use crate::{
    error::{Error, Reason, Result},
    limits,
    scoring::{
        types::{AttackLoss, AttackMethod, AttackOptions, Norm, Variant},
        virtual_plan::VirtualPlan,
    },
};

/// An attack, fully specified but for the loss, which is each model's own default where none was named.
#[derive(Clone, Debug, PartialEq)]
pub enum AttackPlan {
    /// v₁(J), read to first order or, with an epsilon, by running the models at x + εv₁.
    Virtual(VirtualPlan),
    /// Steps of steepest ascent on a loss.
    Empirical(EmpiricalAttack),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EmpiricalAttack {
    pub method: AttackMethod,
    pub norm: Norm,
    pub epsilon: f64,
    pub steps: u32,
    pub step_size: f64,
    /// Asked for; losses whose gradient vanishes at the clean point start at random in any case.
    pub random_start: bool,
    pub loss: Option<AttackLoss>,
}

/// Default radius under L-infinity: 8/255 in pixel units.
const EPSILON_LINF: f64 = 8.0 / 255.0;
/// Default radius under L2, in pixel units.
const EPSILON_L2: f64 = 0.5;
const DEFAULT_STEPS: u32 = 10;
/// Default step of PGD, as a share of epsilon / steps.
const STEP_SHARE: f64 = 2.5;

impl AttackPlan {
    /// Fills in defaults.
    ///
    /// # Errors
    /// [`Reason::OptionOutOfRange`], [`Reason::OptionUnsupported`], naming the field.
    pub fn new(options: &AttackOptions) -> Result<Self> {
        positive(options.epsilon, "attack.epsilon", "a radius in pixel units, such as 0.03")?;
        positive(options.step_size, "attack.step_size", "a length in pixel units, such as 0.01")?;
        if options.steps > limits::ATTACK_STEPS {
            let message = format!("{} steps are too many; ask for 1 to {}", options.steps, limits::ATTACK_STEPS);
            return Err(Error::new(Reason::OptionOutOfRange, message).at("attack.steps"));
        }
        let is_pgd = options.method == AttackMethod::Pgd;
        refuse(options.steps > 0 && !is_pgd, "attack.steps", "only PGD takes steps")?;
        refuse(options.step_size.is_some() && !is_pgd, "attack.step_size", "only PGD takes a step size")?;
        refuse(options.random_start && !is_pgd, "attack.random_start", "only PGD starts at random")?;
        if options.method == AttackMethod::Virtual {
            refuse(options.norm == Some(Norm::Linf), "attack.norm", "the virtual attack is bounded in L2")?;
            refuse(options.loss.is_some(), "attack.loss", "the virtual attack ascends no loss")?;
            let plan = VirtualPlan::new(&options.virtual_attack, options.epsilon.into_iter().collect())?;
            return Ok(AttackPlan::Virtual(plan));
        }
        let norm = options.norm.unwrap_or(Norm::Linf);
        let epsilon = options.epsilon.unwrap_or(match norm {
            Norm::Linf => EPSILON_LINF,
            Norm::L2 => EPSILON_L2,
        });
        let steps = match (is_pgd, options.steps) {
            (false, _) => 1,
            (true, 0) => DEFAULT_STEPS,
            (true, steps) => steps,
        };
        let default_step = if is_pgd { STEP_SHARE * epsilon / f64::from(steps) } else { epsilon };
        Ok(AttackPlan::Empirical(EmpiricalAttack {
            method: options.method,
            norm,
            epsilon,
            steps,
            step_size: options.step_size.unwrap_or(default_step),
            random_start: options.random_start,
            loss: options.loss,
        }))
    }

    /// Whether deviations are J δ, without running the models again.
    pub fn is_first_order(&self) -> bool {
        matches!(self, AttackPlan::Virtual(plan) if plan.is_first_order())
    }

    /// The attacks of the call, in order; the first is the one that rankings go by.
    pub fn variants(&self) -> Vec<Variant> {
        match self {
            AttackPlan::Virtual(plan) => plan.variants(),
            AttackPlan::Empirical(attack) => vec![Variant { epsilon: Some(attack.epsilon), level: 0 }],
        }
    }

    /// The options with every default filled in, for the answer.
    pub fn resolved(&self, options: &AttackOptions) -> AttackOptions {
        match self {
            AttackPlan::Virtual(_) => AttackOptions { norm: Some(Norm::L2), ..*options },
            AttackPlan::Empirical(attack) => {
                let is_pgd = options.method == AttackMethod::Pgd;
                AttackOptions {
                    norm: Some(attack.norm),
                    epsilon: Some(attack.epsilon),
                    steps: if is_pgd { attack.steps } else { 0 },
                    step_size: is_pgd.then_some(attack.step_size),
                    random_start: attack.random_start,
                    ..*options
                }
            }
        }
    }
}

fn positive(value: Option<f64>, field: &str, mend: &str) -> Result<()> {
    match value {
        // Pixels are f32, so that is what the number has to be after rounding.
        Some(value) if !(value as f32 > 0.0 && (value as f32).is_finite()) => {
            let message = format!("{value} is not a positive number of pixel units; give {mend}");
            Err(Error::new(Reason::OptionOutOfRange, message).at(field))
        }
        _ => Ok(()),
    }
}

fn refuse(wrong: bool, field: &str, message: &str) -> Result<()> {
    if wrong {
        return Err(Error::new(Reason::OptionUnsupported, format!("{message}; leave this option out")).at(field));
    }
    Ok(())
}
