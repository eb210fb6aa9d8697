//! Empirical attacks on real networks, one or several together: from a plan to perturbations.
//!
//! Invariant: what a sample gets depends on the seed and on its index in the probe set, not on the samples beside it.

use ndarray::{Array2, ArrayView2};

use crate::{
    attack::{
        self, AutoProjectedGradient, Ball, DeepFool, Goal, Loss, LossTarget, MeanOutputs, MinimumNorm, Model,
        Objective, PixelRange, ProjectedGradient, RadiusRule, TargetClass, Term, Transforms, argmax,
        auto_projected_gradient, deepfool, fast_gradient, minimum_norm, projected_gradient, random_starts,
    },
    cancel::Cancel,
    dataset::Dataset,
    error::{Error, Reason, Result},
    registry::OutputKind,
    scoring::{
        attack_plan::EmpiricalAttack,
        network::{Ascent, Network},
        types::{AttackLoss, AttackMethod, Pooling},
    },
};

/// Samples with what a network gives for them when clean. One row each.
#[derive(Clone, Copy)]
pub struct CleanRows<'a> {
    /// Rows x inputs.
    pub samples: ArrayView2<'a, f32>,
    /// Rows x outputs.
    pub outputs: ArrayView2<'a, f32>,
}

/// A network under attack, and its clean outputs for the rows.
#[derive(Clone, Copy)]
pub struct Attacked<'a> {
    pub network: &'a Network,
    /// Rows x outputs.
    pub outputs: ArrayView2<'a, f32>,
}

/// An attack on some rows.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub plan: &'a EmpiricalAttack,
    pub seed: u64,
    /// One, or several that are attacked together.
    pub sources: &'a [Attacked<'a>],
    pub pooling: Pooling,
    /// Rows x inputs, clean.
    pub rows: ArrayView2<'a, f32>,
    /// The rows' indices in the probe set.
    pub samples: &'a [usize],
    pub probe: &'a Dataset,
    pub cancel: &'a Cancel,
}

/// The attack of one network on some rows of the probe set, `samples`: a perturbation array (rows x inputs, pixel units)
/// for each radius of the plan; for a minimum-norm attack without a radius one array, the perturbations as they are.
///
/// # Errors
/// As [`Attack::new`] and [`Attack::perturbations`].
pub fn empirical(
    plan: &EmpiricalAttack,
    seed: u64,
    network: &Network,
    clean: CleanRows<'_>,
    samples: &[usize],
    probe: &Dataset,
    cancel: &Cancel,
) -> Result<Vec<Array2<f32>>> {
    let sources = [Attacked { network, outputs: clean.outputs }];
    let pooling = Pooling::Losses;
    Attack::new(&Job { plan, seed, sources: &sources, pooling, rows: clean.samples, samples, probe, cancel })?
        .perturbations()
}

/// The classes of rows, by the clean outputs or by labels: what an attack is to change.
fn classes(
    plan: &EmpiricalAttack,
    probe: &Dataset,
    samples: &[usize],
    outputs: ArrayView2<'_, f32>,
) -> Result<Vec<usize>> {
    if !plan.use_labels {
        return Ok(outputs.rows().into_iter().map(|row| argmax(row.iter())).collect());
    }
    let field = if plan.loss == Some(AttackLoss::CrossEntropyLabels) { "attack.loss" } else { "attack.use_labels" };
    let Some(labels) = probe.labels() else {
        let message = "the probe set has no labels; attack the model's own predictions";
        return Err(Error::new(Reason::OptionUnsupported, message).at(field));
    };
    if probe.n_classes() > outputs.ncols() {
        let message = format!(
            "the probe set has {} classes, the model only {} outputs; attack the model's own predictions",
            probe.n_classes(),
            outputs.ncols()
        );
        return Err(Error::new(Reason::OptionUnsupported, message).at(field));
    }
    Ok(samples.iter().filter_map(|&sample| labels.get(sample)).map(|&label| label as usize).collect())
}

/// The mean of the networks' clean outputs; `None` where their sizes differ.
pub fn mean_outputs(sources: &[Attacked<'_>]) -> Option<Array2<f32>> {
    let (first, others) = sources.split_first()?;
    let mut sum = first.outputs.to_owned();
    for other in others {
        if other.outputs.dim() != sum.dim() {
            return None;
        }
        sum += &other.outputs;
    }
    Some(sum / sources.len() as f32)
}

/// An attack on some rows, with what follows from its job.
pub struct Attack<'a> {
    job: Job<'a>,
    loss: AttackLoss,
    range: PixelRange,
    /// The networks are one through the mean of their outputs.
    is_pooled: bool,
    /// Clean outputs by which classes are told; without columns where there are none.
    outputs: Array2<f32>,
    goal: Option<Goal>,
}

impl<'a> Attack<'a> {
    /// Looks whether the networks and the probe set allow the attack.
    ///
    /// # Errors
    /// [`Reason::OptionUnsupported`] for a loss, a target, transformations or labels that they do not allow.
    pub fn new(job: &Job<'a>) -> Result<Self> {
        let plan = job.plan;
        let unsupported = |message: String, field: &str| Error::new(Reason::OptionUnsupported, message).at(field);
        let without_logits = job.sources.iter().find(|source| source.network.output_kind() != OutputKind::Logits);
        // One logit is one class: its probability is 1 whatever the logit.
        let single = job.sources.iter().find(|source| source.network.n_outputs() == 1);
        let loss = match plan.method {
            AttackMethod::Fmn => AttackLoss::Margin,
            AttackMethod::Ddn | AttackMethod::DeepFool => AttackLoss::CrossEntropy,
            // Cross-entropy to the own prediction for logits, which is the paper's; deviation of the output otherwise.
            _ if without_logits.is_none() && single.is_none() => plan.loss.unwrap_or(AttackLoss::CrossEntropy),
            _ => plan.loss.unwrap_or(AttackLoss::SquaredDeviation),
        };
        if let Some(source) = without_logits.filter(|_| loss != AttackLoss::SquaredDeviation) {
            let (field, mend) = match plan.method.is_minimum_norm() {
                true => ("attack.method", "use another attack with the squared deviation"),
                false => ("attack.loss", "use the squared deviation"),
            };
            return Err(unsupported(format!("model `{}` gives no logits; {mend}", source.network.name()), field));
        }
        if let Some(source) = single.filter(|_| !plan.method.is_minimum_norm() && loss != AttackLoss::SquaredDeviation)
        {
            let message = format!(
                "model `{}` has one output, so no class to leave; use the squared deviation",
                source.network.name()
            );
            return Err(unsupported(message, "attack.loss"));
        }
        let is_image = job.probe.shape().len() == 3;
        let transforms_images = plan.transforms.diversity.is_some() || plan.transforms.translation.is_some();
        if transforms_images && !is_image {
            let message = "the samples are no images; leave input diversity and translation out";
            return Err(unsupported(message.to_owned(), "attack"));
        }
        let is_pooled = job.sources.len() > 1 && (job.pooling == Pooling::Outputs || plan.method.is_minimum_norm());
        let looks_at_classes = !matches!(loss, AttackLoss::Kl | AttackLoss::SquaredDeviation);
        let outputs = mean_outputs(job.sources);
        if outputs.is_none() && (is_pooled || looks_at_classes) {
            let message =
                "the models have different numbers of outputs; use the squared deviation and the mean of losses";
            return Err(unsupported(message.to_owned(), "models"));
        }
        let outputs = outputs.unwrap_or_else(|| Array2::zeros((job.rows.nrows(), 0)));
        let goal = if looks_at_classes { Some(goal(job, outputs.view())?) } else { None };
        if loss == AttackLoss::LogitsRatio && outputs.ncols() < 3 {
            return Err(unsupported(few_classes(3, outputs.ncols()), "attack.loss"));
        }
        let range = if job.probe.is_pixels() { PixelRange::Unit } else { PixelRange::Unbounded };
        Ok(Attack { job: *job, loss, range, is_pooled, outputs, goal })
    }

    /// The classes to leave or to reach; `None` where the loss looks at no class.
    pub fn goal(&self) -> Option<&Goal> {
        self.goal.as_ref()
    }

    /// Rows under attack.
    pub fn n_rows(&self) -> usize {
        self.job.rows.nrows()
    }

    /// A perturbation array (rows x inputs, pixel units) for each radius of the plan; for a minimum-norm attack without a
    /// radius one array, the perturbations as they are. One longer than a radius is scaled down to it (L2) or clipped (L∞),
    /// as Foolbox does.
    ///
    /// # Errors
    /// Those of [`Network`], and [`Reason::Cancelled`].
    pub fn perturbations(&self) -> Result<Vec<Array2<f32>>> {
        let Job { plan, rows, .. } = self.job;
        let mean = self.mean();
        let terms = || self.terms(mean.as_ref());
        match plan.method {
            AttackMethod::DeepFool => self.boundary(&terms()),
            AttackMethod::Ddn | AttackMethod::Fmn => self.smallest(&mut self.objective(terms())),
            AttackMethod::Fgsm if !self.vanishes() => {
                let balls = plan.radii.iter().map(|&radius| ball(&self.job, radius)).collect::<Result<Vec<_>>>()?;
                let gradient = |at: ArrayView2<'_, f32>| Ok(self.objective(terms()).evaluate(at)?.gradients);
                let adversarial = fast_gradient(rows, &balls, self.range, gradient).map_err(attack_failed)?;
                Ok(adversarial.into_iter().map(|adversarial| adversarial - rows).collect())
            }
            // Each radius draws for itself, so that it gives the same whether others are asked for or not.
            _ => plan.radii.iter().map(|&radius| self.worst(radius, &mut self.objective(terms()))).collect(),
        }
    }

    /// The loss at attacked rows, without the sign that a targeted attack gives it, and the mean of the networks' outputs
    /// there, which means nothing where their sizes differ.
    ///
    /// # Errors
    /// Those of [`Network`].
    pub fn losses(&self, attacked: ArrayView2<'_, f32>) -> Result<(Vec<f64>, Array2<f32>)> {
        let mean = self.mean();
        let (mut losses, outputs) = self.objective(self.terms(mean.as_ref())).losses(attacked)?;
        if self.descends() {
            losses.iter_mut().for_each(|loss| *loss = -*loss);
        }
        Ok((losses, outputs))
    }

    fn descends(&self) -> bool {
        self.goal.as_ref().is_some_and(Goal::is_targeted)
    }

    /// The networks as one, where they are pooled.
    fn mean(&self) -> Option<MeanOutputs<'a, Error>> {
        let networks = self.job.sources.iter().map(|source| source.network as &dyn Model<Error = Error>);
        if self.is_pooled { MeanOutputs::new(networks.collect()) } else { None }
    }

    fn objective<'b>(&self, terms: Vec<Term<'b, Error>>) -> Objective<'b, Error> {
        let Job { plan, probe, seed, samples, .. } = self.job;
        Objective::new(terms, self.descends(), &plan.transforms, probe.shape(), seed, samples)
    }

    /// Whether the loss has no gradient at the clean samples.
    fn vanishes(&self) -> bool {
        matches!(self.loss, AttackLoss::Kl | AttackLoss::SquaredDeviation)
    }

    /// What is ascended of which model: of the mean of all where there is one, else of each.
    fn terms<'b>(&self, mean: Option<&'b MeanOutputs<'a, Error>>) -> Vec<Term<'b, Error>>
    where
        'a: 'b,
    {
        if let Some(mean) = mean {
            return vec![Term { model: mean, target: self.target(self.outputs.view()) }];
        }
        let of_each = |source: &Attacked<'a>| Term { model: source.network, target: self.target(source.outputs) };
        self.job.sources.iter().map(of_each).collect()
    }

    fn target(&self, outputs: ArrayView2<'_, f32>) -> LossTarget {
        let loss = match self.loss {
            AttackLoss::CrossEntropy | AttackLoss::CrossEntropyLabels => Loss::SoftCrossEntropy,
            AttackLoss::Kl => Loss::KullbackLeibler,
            AttackLoss::SquaredDeviation => Loss::SquaredDeviation,
            AttackLoss::Margin => Loss::Margin,
            AttackLoss::LogitsRatio => Loss::LogitsRatio,
        };
        let mut target = outputs.to_owned();
        if loss == Loss::KullbackLeibler {
            target.rows_mut().into_iter().for_each(softmax);
        } else if let Some(goal) = &self.goal {
            target = one_hot(goal.classes(), outputs.ncols());
        }
        LossTarget { loss, target }
    }

    /// The best of all restarts within a radius.
    fn worst(&self, radius: f64, objective: &mut Objective<'_, Error>) -> Result<Array2<f32>> {
        let Job { plan, rows, samples, seed, .. } = self.job;
        let ball = ball(&self.job, radius)?;
        let mut best: Option<(Array2<f32>, Vec<Worth>)> = None;
        for restart in 0..plan.restarts {
            let starts = match plan.random_start || self.vanishes() || restart > 0 {
                true => random_starts(rows, samples, ball, self.range, seed, restart),
                false => rows.to_owned(),
            };
            let found = self.climb(starts.view(), ball, plan.step_size(radius), objective)?;
            let worths = if plan.restarts > 1 { self.worths(&found, objective)? } else { Vec::new() };
            match &mut best {
                None => best = Some((found, worths)),
                Some((kept, kept_worths)) => {
                    for (row, (kept_worth, worth)) in kept_worths.iter_mut().zip(worths).enumerate() {
                        if worth > *kept_worth {
                            kept.row_mut(row).assign(&found.row(row));
                            *kept_worth = worth;
                        }
                    }
                }
            }
        }
        let (adversarial, _) = best.ok_or_else(|| Error::new(Reason::Internal, "an attack without runs"))?;
        Ok(adversarial - rows)
    }

    /// One run from given starts.
    fn climb(
        &self,
        starts: ArrayView2<'_, f32>,
        ball: Ball,
        step_size: f64,
        objective: &mut Objective<'_, Error>,
    ) -> Result<Array2<f32>> {
        let Job { plan, sources, rows, cancel, .. } = self.job;
        let (range, steps) = (self.range, plan.steps);
        if plan.method == AttackMethod::Apgd {
            let settings = AutoProjectedGradient { ball, range, steps };
            let found = auto_projected_gradient(rows, starts, &settings, self.goal.as_ref(), |at| {
                cancel.check()?;
                objective.evaluate(at)
            });
            return found.map_err(attack_failed);
        }
        if let ([source], Transforms::NONE) = (sources, plan.transforms) {
            let step = if self.descends() { -step_size } else { step_size } as f32;
            let (norm, epsilon) = (plan.norm, ball.epsilon());
            let ascent = Ascent { norm, epsilon, step, steps, momentum: plan.momentum, range };
            return source.network.ascend(starts, rows, &self.target(source.outputs), &ascent, cancel);
        }
        let settings = ProjectedGradient { ball, range, steps, step_size, momentum: plan.momentum };
        let found = projected_gradient(rows, starts, &settings, |at| {
            cancel.check()?;
            Ok(objective.evaluate(at)?.gradients)
        });
        found.map_err(attack_failed)
    }

    fn worths(&self, adversarial: &Array2<f32>, objective: &Objective<'_, Error>) -> Result<Vec<Worth>> {
        let (losses, outputs) = objective.losses(adversarial.view())?;
        let reached = |row: usize| match &self.goal {
            Some(goal) => outputs.rows().into_iter().nth(row).is_some_and(|logits| goal.is_reached(row, logits)),
            None => false,
        };
        Ok(losses.into_iter().enumerate().map(|(row, loss)| Worth { is_reached: reached(row), loss }).collect())
    }

    fn boundary(&self, terms: &[Term<'_, Error>]) -> Result<Vec<Array2<f32>>> {
        let Job { plan, rows, cancel, .. } = self.job;
        let (Some(term), Some(goal)) = (terms.first(), &self.goal) else {
            return Err(Error::new(Reason::Internal, "DeepFool without a model or a goal"));
        };
        let settings = DeepFool {
            norm: plan.norm,
            range: self.range,
            steps: plan.steps,
            candidates: plan.candidates,
            overshoot: plan.overshoot,
        };
        let adversarial = deepfool(term.model, rows, goal, &settings, || cancel.check()).map_err(attack_failed)?;
        self.within_radii(adversarial - rows)
    }

    fn smallest(&self, objective: &mut Objective<'_, Error>) -> Result<Vec<Array2<f32>>> {
        let Job { plan, rows, samples, seed, cancel, .. } = self.job;
        let Some(goal) = &self.goal else {
            return Err(Error::new(Reason::Internal, "a minimum-norm attack without a goal"));
        };
        let rule = match plan.method {
            AttackMethod::Ddn => RadiusRule::Decoupled { first_radius: 1.0 },
            _ => RadiusRule::Fast(plan.norm),
        };
        let settings = MinimumNorm { rule, range: self.range, steps: plan.steps, step_size: plan.first_step() };
        let found = minimum_norm(rows, samples, seed, goal, &settings, |at| {
            cancel.check()?;
            objective.evaluate(at)
        });
        self.within_radii(found.map_err(attack_failed)?.perturbations)
    }

    /// The smallest perturbations, cut to each radius.
    fn within_radii(&self, perturbations: Array2<f32>) -> Result<Vec<Array2<f32>>> {
        let Job { plan, .. } = self.job;
        if plan.radii.is_empty() {
            return Ok(vec![perturbations]);
        }
        let cut = |&radius: &f64| {
            let mut cut = perturbations.as_standard_layout().into_owned();
            for mut row in cut.rows_mut() {
                if let Some(delta) = row.as_slice_mut() {
                    plan.norm.project(delta, radius);
                }
            }
            cut
        };
        Ok(plan.radii.iter().map(cut).collect())
    }
}

/// How good a perturbation is: one that reaches the goal before any that does not, then the higher loss.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
struct Worth {
    is_reached: bool,
    loss: f64,
}

fn ball(job: &Job<'_>, radius: f64) -> Result<Ball> {
    Ball::new(job.plan.norm, radius).map_err(attack_failed)
}

fn goal(job: &Job<'_>, outputs: ArrayView2<'_, f32>) -> Result<Goal> {
    let classes = classes(job.plan, job.probe, job.samples, outputs)?;
    let Some(target) = job.plan.target else { return Ok(Goal::away_from(classes)) };
    let unfit = |message: String| Error::new(Reason::OptionUnsupported, message).at("attack.target");
    match target {
        TargetClass::Given(class) if class >= outputs.ncols() => Err(unfit(format!(
            "class {class} is none of the model's {}; give 0 to {}",
            outputs.ncols(),
            outputs.ncols().saturating_sub(1)
        ))),
        _ if outputs.ncols() < 2 => Err(unfit(few_classes(2, outputs.ncols()))),
        _ => Ok(Goal::targeting(target, outputs, &classes)),
    }
}

fn few_classes(needed: usize, found: usize) -> String {
    attack::Error::<Error>::FewClasses { needed, found }.to_string()
}

/// Rows x `width`, 1 at each row's class.
pub fn one_hot(classes: &[usize], width: usize) -> Array2<f32> {
    let mut target = Array2::zeros((classes.len(), width));
    for (mut row, &class) in target.rows_mut().into_iter().zip(classes) {
        if let Some(entry) = row.get_mut(class) {
            *entry = 1.0;
        }
    }
    target
}

fn softmax(mut row: ndarray::ArrayViewMut1<'_, f32>) {
    let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.mapv_inplace(|value| (value - largest).exp());
    let sum = row.sum();
    row.mapv_inplace(|value| value / sum);
}

fn attack_failed(cause: attack::Error<Error>) -> Error {
    let of = |reason: Reason| Error::new(reason, cause.to_string());
    match cause {
        attack::Error::Gradient(error) => error,
        attack::Error::Epsilon(_) => of(Reason::OptionOutOfRange).at("attack.epsilon"),
        attack::Error::StepSize(_) => of(Reason::OptionOutOfRange).at("attack.step_size"),
        attack::Error::NoSteps => of(Reason::OptionOutOfRange).at("attack.steps"),
        attack::Error::FewClasses { .. } => of(Reason::OptionUnsupported).at("attack.method"),
        attack::Error::GradientShape { .. } | attack::Error::GradientNotFinite { .. } => {
            of(Reason::ModelExecutionFailed)
        }
    }
}
