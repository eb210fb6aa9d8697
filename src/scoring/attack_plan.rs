//! From what a client asks of an attack to what is done: defaults filled in, contradictions refused.

use crate::{
    attack::{Accumulated, Momentum, TargetClass, Transforms},
    error::{Error, Reason, Result},
    limits,
    scoring::{
        types::{
            AttackLoss, AttackMethod, AttackOptions, BoundaryOptions, MomentumOptions, Norm, Variant,
            VirtualAttackOptions,
        },
        virtual_plan::VirtualPlan,
    },
};

/// An attack, fully specified but for the loss, which is each model's own default where none was named.
#[derive(Clone, Debug, PartialEq)]
pub enum AttackPlan {
    /// v₁(J), read to first order or, with an epsilon, by running the models at x + εv₁.
    Virtual(VirtualPlan),
    /// An attack that follows gradients of a loss or of logits.
    Empirical(EmpiricalAttack),
}

#[derive(Clone, Debug, PartialEq)]
pub struct EmpiricalAttack {
    pub method: AttackMethod,
    pub norm: Norm,
    /// In the order of the request. Empty for a minimum-norm attack whose perturbations are taken as they are.
    pub radii: Vec<f64>,
    /// At least 1.
    pub steps: u32,
    /// `None`: the method's share of each radius.
    pub step_size: Option<f64>,
    /// Of MI-FGSM.
    pub momentum: Option<Momentum>,
    /// Asked for; losses whose gradient vanishes at the clean point start at random in any case.
    pub random_start: bool,
    /// Runs, of which each sample's best counts; all but the first start at random.
    pub restarts: u32,
    pub loss: Option<AttackLoss>,
    pub use_labels: bool,
    pub target: Option<TargetClass>,
    pub transforms: Transforms,
    /// Classes that DeepFool considers.
    pub candidates: usize,
    /// Of DeepFool.
    pub overshoot: f64,
}

/// Default radius under L-infinity: 8/255 in pixel units.
const EPSILON_LINF: f64 = 8.0 / 255.0;
/// Default radius under L2, in pixel units.
const EPSILON_L2: f64 = 0.5;
/// Default step of PGD, as a share of epsilon / steps; that of MI-FGSM is 1 (Dong et al. 2018).
const STEP_SHARE: f64 = 2.5;
/// Default decay of MI-FGSM (Dong et al. 2018).
const DECAY: f64 = 1.0;
/// Defaults of DeepFool, Foolbox's and the authors'.
const CANDIDATES: u32 = 10;
const OVERSHOOT: f64 = 0.02;
/// Default first step of FMN and that of DDN, in pixel units.
const MINIMUM_NORM_STEP: f64 = 1.0;

impl EmpiricalAttack {
    /// Length of a step for a radius, in pixel units.
    pub fn step_size(&self, radius: f64) -> f64 {
        let share = match self.method {
            AttackMethod::Pgd => STEP_SHARE,
            _ => 1.0,
        };
        self.step_size.unwrap_or(share * radius / f64::from(self.steps))
    }

    /// Length of the first step of a minimum-norm attack, in pixel units.
    pub fn first_step(&self) -> f64 {
        self.step_size.unwrap_or(MINIMUM_NORM_STEP)
    }
}

impl AttackPlan {
    /// Fills in defaults.
    ///
    /// # Errors
    /// [`Reason::OptionOutOfRange`], [`Reason::OptionUnsupported`], naming the field.
    pub fn new(options: &AttackOptions) -> Result<Self> {
        check_ranges(options)?;
        check_method(options)?;
        check_goal(options)?;
        let AttackOptions { method, .. } = *options;
        if method == AttackMethod::Virtual {
            return Ok(AttackPlan::Virtual(VirtualPlan::new(&options.virtual_attack, options.radii())?));
        }
        let norm = options.norm.unwrap_or(if method == AttackMethod::Ddn { Norm::L2 } else { Norm::Linf });
        let mut radii = options.radii();
        if radii.is_empty() && !method.is_minimum_norm() {
            radii.push(match norm {
                Norm::Linf => EPSILON_LINF,
                Norm::L2 => EPSILON_L2,
            });
        }
        let MomentumOptions { decay, of } = options.momentum;
        let momentum = Momentum { decay: decay.unwrap_or(DECAY), of: of.unwrap_or(Accumulated::Gradients) };
        let BoundaryOptions { candidates, overshoot } = options.boundary;
        Ok(AttackPlan::Empirical(EmpiricalAttack {
            method,
            norm,
            radii,
            steps: if options.steps == 0 { default_steps(method) } else { options.steps },
            step_size: options.step_size,
            momentum: (method == AttackMethod::MiFgsm).then_some(momentum),
            random_start: options.random_start,
            restarts: options.restarts.max(1),
            loss: options.loss,
            use_labels: options.use_labels || options.loss == Some(AttackLoss::CrossEntropyLabels),
            target: options.target,
            transforms: Transforms {
                diversity: options.diversity,
                translation: options.translation,
                scales: options.scales.max(1),
            },
            candidates: if candidates == 0 { CANDIDATES } else { candidates } as usize,
            overshoot: overshoot.unwrap_or(OVERSHOOT),
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
            AttackPlan::Empirical(attack) if attack.radii.is_empty() => vec![Variant { epsilon: None, level: 0 }],
            AttackPlan::Empirical(attack) => {
                attack.radii.iter().map(|&radius| Variant { epsilon: Some(radius), level: 0 }).collect()
            }
        }
    }

    /// The options with every default filled in, for the answer.
    pub fn resolved(&self, options: &AttackOptions) -> AttackOptions {
        let AttackPlan::Empirical(attack) = self else {
            return AttackOptions { norm: Some(Norm::L2), ..options.clone() };
        };
        let one = match attack.radii.as_slice() {
            [radius] => Some(*radius),
            _ => None,
        };
        let takes_steps = attack.method != AttackMethod::Fgsm;
        let steps_freely = matches!(attack.method, AttackMethod::Pgd | AttackMethod::MiFgsm);
        let is_fmn = attack.method == AttackMethod::Fmn;
        let is_deepfool = attack.method == AttackMethod::DeepFool;
        AttackOptions {
            norm: Some(attack.norm),
            epsilon: one,
            epsilons: if one.is_some() { Vec::new() } else { attack.radii.clone() },
            steps: if takes_steps { attack.steps } else { 0 },
            step_size: match one {
                Some(radius) if steps_freely => Some(attack.step_size(radius)),
                _ if is_fmn => Some(attack.first_step()),
                _ => attack.step_size,
            },
            restarts: attack.restarts,
            use_labels: attack.use_labels,
            momentum: MomentumOptions {
                decay: attack.momentum.map(|momentum| momentum.decay),
                of: attack.momentum.map(|momentum| momentum.of),
            },
            scales: attack.transforms.scales,
            boundary: BoundaryOptions {
                candidates: if is_deepfool { attack.candidates as u32 } else { 0 },
                overshoot: is_deepfool.then_some(attack.overshoot),
            },
            ..options.clone()
        }
    }
}

/// 10 as Madry et al. and Dong et al. have it, 100 and 50 as the other authors do.
fn default_steps(method: AttackMethod) -> u32 {
    match method {
        AttackMethod::Virtual | AttackMethod::Fgsm => 1,
        AttackMethod::Pgd | AttackMethod::MiFgsm => 10,
        AttackMethod::DeepFool => 50,
        AttackMethod::Apgd | AttackMethod::Ddn | AttackMethod::Fmn => 100,
    }
}

/// Numbers that are wrong for any method.
fn check_ranges(options: &AttackOptions) -> Result<()> {
    if options.epsilon.is_some() && !options.epsilons.is_empty() {
        let message = "give attack.epsilon for one radius or attack.epsilons for several, not both";
        return Err(Error::new(Reason::OptionUnsupported, message).at("attack.epsilons"));
    }
    positive(options.epsilon, "attack.epsilon", "a radius in pixel units, such as 0.03")?;
    for (index, &epsilon) in options.epsilons.iter().enumerate() {
        positive(Some(epsilon), &format!("attack.epsilons[{index}]"), "a radius in pixel units, such as 0.03")?;
    }
    positive(options.step_size, "attack.step_size", "a length in pixel units, such as 0.01")?;
    at_most(options.epsilons.len(), limits::ATTACK_RADII, "attack.epsilons", "radii")?;
    at_most(options.steps as usize, limits::ATTACK_STEPS as usize, "attack.steps", "steps")?;
    at_most(options.restarts as usize, limits::ATTACK_RESTARTS as usize, "attack.restarts", "restarts")?;
    at_most(options.scales as usize, limits::ATTACK_SCALES as usize, "attack.scales", "scales")?;
    let share = |value: f64| value.is_finite() && (0.0..=1.0).contains(&value);
    if let Some(diversity) = options.diversity {
        in_range(share(diversity.probability), "attack.input_diversity.probability", diversity.probability, "0 to 1")?;
        let least = diversity.least_size;
        let is_size = share(least) && least > 0.0 && least < 1.0;
        in_range(is_size, "attack.input_diversity.least_size", least, "a share above 0 and below 1, such as 0.9")?;
    }
    if let Some(kernel) = options.translation {
        let size = kernel.size;
        let is_size = size % 2 == 1 && size <= limits::TRANSLATION_PIXELS;
        let allowed = format!("an odd number of pixels up to {}, such as 15", limits::TRANSLATION_PIXELS);
        in_range(is_size, "attack.translation.kernel_size", size as f64, &allowed)?;
        let is_reach = kernel.reach.is_finite() && kernel.reach > 0.0;
        in_range(is_reach, "attack.translation.reach", kernel.reach, "standard deviations above 0, such as 3")?;
    }
    let decay = options.momentum.decay.unwrap_or(DECAY);
    in_range((0.0..=10.0).contains(&decay), "attack.momentum.decay", decay, "0 to 10, such as 1")?;
    let overshoot = options.boundary.overshoot.unwrap_or(OVERSHOOT);
    in_range((0.0..=10.0).contains(&overshoot), "attack.overshoot", overshoot, "0 to 10, such as 0.02")?;
    let candidates = options.boundary.candidates;
    let allowed = format!("2 to {}, or 0 for the default", limits::DEEPFOOL_CANDIDATES);
    let is_count = candidates == 0 || (2..=limits::DEEPFOOL_CANDIDATES).contains(&candidates);
    in_range(is_count, "attack.candidates", f64::from(candidates), &allowed)
}

/// Options that a method does not take.
fn check_method(options: &AttackOptions) -> Result<()> {
    use AttackMethod::{Apgd, Ddn, DeepFool, Fgsm, Fmn, MiFgsm, Pgd, Virtual};
    let AttackOptions { method, .. } = *options;
    let only = |given: bool, methods: &[AttackMethod], field: &str, message: &str| {
        refuse(given && !methods.contains(&method), field, message)
    };
    let iterative = [Pgd, MiFgsm, Apgd];
    only(options.steps > 0, &[Pgd, MiFgsm, Apgd, DeepFool, Ddn, Fmn], "attack.steps", "this attack takes no steps")?;
    let message = "only PGD, MI-FGSM and FMN take a step size";
    only(options.step_size.is_some(), &[Pgd, MiFgsm, Fmn], "attack.step_size", message)?;
    let message = "only PGD, MI-FGSM and APGD start at random";
    only(options.random_start, &iterative, "attack.random_start", message)?;
    let message = "only PGD, MI-FGSM and APGD are restarted";
    only(options.restarts > 1, &iterative, "attack.restarts", message)?;
    only(options.momentum.decay.is_some(), &[MiFgsm], "attack.momentum.decay", "only MI-FGSM has momentum")?;
    only(options.momentum.of.is_some(), &[MiFgsm], "attack.momentum.accumulated", "only MI-FGSM has momentum")?;
    only(options.boundary.candidates > 0, &[DeepFool], "attack.candidates", "only DeepFool has candidates")?;
    only(options.boundary.overshoot.is_some(), &[DeepFool], "attack.overshoot", "only DeepFool overshoots")?;
    let transformed = [Fgsm, Pgd, MiFgsm];
    let message = "only FGSM, PGD and MI-FGSM transform inputs";
    only(options.diversity.is_some(), &transformed, "attack.input_diversity", message)?;
    only(options.translation.is_some(), &transformed, "attack.translation", message)?;
    only(options.scales > 1, &transformed, "attack.scales", message)?;
    let is_tuned = options.virtual_attack != VirtualAttackOptions::default();
    only(is_tuned, &[Virtual], "attack.virtual_attack", "this attack follows no singular direction")?;
    if method == Virtual {
        refuse(options.norm == Some(Norm::Linf), "attack.norm", "the virtual attack is bounded in L2")?;
        refuse(options.use_labels, "attack.use_labels", "the virtual attack looks at no class")?;
        refuse(options.target.is_some(), "attack.target", "the virtual attack looks at no class")?;
    }
    refuse(
        method == Ddn && options.norm == Some(Norm::Linf),
        "attack.norm",
        "DDN is an attack in L2; FMN is for both",
    )?;
    let has_own_loss = method == Virtual || method.is_minimum_norm();
    refuse(has_own_loss && options.loss.is_some(), "attack.loss", "this attack has its own loss, or none")
}

/// What the loss, the labels and the target class have to do with each other.
fn check_goal(options: &AttackOptions) -> Result<()> {
    let is_classless = matches!(options.loss, Some(AttackLoss::Kl | AttackLoss::SquaredDeviation));
    let message = "this loss looks at no class";
    refuse(is_classless && options.use_labels, "attack.use_labels", message)?;
    refuse(is_classless && options.target.is_some(), "attack.target", message)?;
    if options.target.is_some() {
        let is_untargeted = options.method == AttackMethod::DeepFool;
        refuse(is_untargeted, "attack.target", "DeepFool goes to the nearest boundary, whichever class lies behind")?;
        let is_ratio = options.loss == Some(AttackLoss::LogitsRatio);
        refuse(is_ratio, "attack.loss", "the logits ratio is for untargeted attacks; the margin is for both")?;
    }
    Ok(())
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

fn at_most(count: usize, most: usize, field: &str, what: &str) -> Result<()> {
    if count > most {
        let message = format!("{count} {what} are too many; ask for {most} at most");
        return Err(Error::new(Reason::OptionOutOfRange, message).at(field));
    }
    Ok(())
}

fn in_range(is_in: bool, field: &str, value: f64, allowed: &str) -> Result<()> {
    if is_in {
        return Ok(());
    }
    Err(Error::new(Reason::OptionOutOfRange, format!("{field} is {value}; give {allowed}")).at(field))
}

fn refuse(wrong: bool, field: &str, message: &str) -> Result<()> {
    if wrong {
        return Err(Error::new(Reason::OptionUnsupported, format!("{message}; leave this option out")).at(field));
    }
    Ok(())
}
