//! Attacks that look for the smallest perturbation: DDN (Rony et al. 2019) and FMN (Pintor et al. 2021).
//!
//! Both take steps of decreasing length on a loss and keep the iterate in a ball that shrinks while the goal is reached and
//! grows while it is not. One run tells, for every radius, whether a perturbation of that size was found.

use ndarray::{Array2, ArrayView1, ArrayView2};
use rand_chacha::ChaCha8Rng;

use super::{Error, Evaluation, Goal, Norm, PixelRange, gradient_sign::checked, norm::euclidean};
use crate::stats::{Purpose, standard_normal, stream};

/// How the ball changes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RadiusRule {
    /// DDN (algorithm 1): the ball's radius goes up and down by a fixed factor and the iterate is put on its surface. L2;
    /// for the cross-entropy. A zero gradient takes a step in a random direction.
    Decoupled {
        /// The authors take 1, in pixel units.
        first_radius: f64,
    },
    /// FMN (algorithm 1): until the goal is first reached the radius is the linearised distance to the boundary; then it
    /// goes up and down by a factor that tends to 1. For the margin of the logits. By these rules an iterate may come to the
    /// boundary from inside and stay there, the more so where pixels are clipped; so the radius goes up by the factor too
    /// once a third of the steps has passed.
    Fast(Norm),
}

/// The settings of a minimum-norm attack. The authors take 100 steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MinimumNorm {
    pub rule: RadiusRule,
    pub range: PixelRange,
    /// At least 1.
    pub steps: u32,
    /// Length of the first step in L2, in pixel units; the last has a hundredth of it. The authors take 1.
    pub step_size: f64,
}

/// What a minimum-norm attack found.
#[derive(Clone, Debug, PartialEq)]
pub struct Smallest {
    /// (N, pixels): the smallest perturbation that reaches the goal; zero where none was found.
    pub perturbations: Array2<f32>,
    /// Whether the goal was reached.
    pub found: Vec<bool>,
}

/// Factor by which the radius changes at first, less 1.
const GAMMA: f64 = 0.05;
/// What FMN's tends to.
const LAST_GAMMA: f64 = 0.001;
/// The last step's length over the first's.
const LAST_STEP: f64 = 0.01;

impl RadiusRule {
    /// The norm that is made small.
    pub fn norm(self) -> Norm {
        match self {
            RadiusRule::Decoupled { .. } => Norm::L2,
            RadiusRule::Fast(norm) => norm,
        }
    }
}

/// Looks for the smallest perturbation of each of `samples`, (N, pixels), that reaches the goal. `indices` are the rows'
/// indices in the probe set: chance depends on them and on the seed alone.
///
/// `evaluate` gives outputs, the loss to ascend and its gradient. For FMN the loss has to be the margin, negative where the
/// goal is not reached.
///
/// # Errors
/// Without steps; when `evaluate` fails, or gives gradients of another shape or that are not finite.
pub fn minimum_norm<E>(
    samples: ArrayView2<'_, f32>,
    indices: &[usize],
    seed: u64,
    goal: &Goal,
    settings: &MinimumNorm,
    mut evaluate: impl FnMut(ArrayView2<'_, f32>) -> Result<Evaluation, E>,
) -> Result<Smallest, Error<E>> {
    if settings.steps == 0 {
        return Err(Error::NoSteps);
    }
    let norm = settings.rule.norm();
    let mut searches: Vec<Search> = samples
        .rows()
        .into_iter()
        .zip(indices)
        .map(|(sample, &index)| {
            let farthest = settings.range.farthest(norm, &sample.to_vec());
            let rng = stream(seed, Purpose::RandomDirection, index as u64);
            Search::new(sample.len(), settings.rule, farthest, rng)
        })
        .collect();
    for step in 0..settings.steps {
        let mut at = samples.to_owned();
        for (mut row, search) in at.rows_mut().into_iter().zip(&searches) {
            row.iter_mut().zip(&search.delta).for_each(|(pixel, delta)| *pixel += delta);
        }
        let Evaluation { outputs, losses, gradients } = evaluate(at.view()).map_err(Error::Gradient)?;
        let gradients = checked(samples, gradients)?;
        let is_late = step > settings.steps / 3;
        let annealed = (1.0 + (std::f64::consts::PI * f64::from(step) / f64::from(settings.steps)).cos()) / 2.0;
        let rows = searches.iter_mut().zip(samples.rows()).zip(outputs.rows()).zip(gradients.rows()).zip(&losses);
        for (row, ((((search, sample), outputs), gradient), &loss)) in rows.enumerate() {
            let is_reached = goal.is_reached(row, outputs) && !is_tie(outputs);
            search.keep(norm, is_reached);
            search.step(sample, gradient, Seen { loss, is_reached, annealed, is_late }, settings);
        }
    }
    let mut perturbations = Array2::zeros(samples.dim());
    for (mut row, search) in perturbations.rows_mut().into_iter().zip(&searches) {
        row.iter_mut().zip(&search.best).for_each(|(to, &from)| *to = from);
    }
    Ok(Smallest { perturbations, found: searches.iter().map(|search| search.found).collect() })
}

/// Whether the two largest outputs are equal but for rounding: on the boundary, any evaluation decides otherwise.
fn is_tie(outputs: ArrayView1<'_, f32>) -> bool {
    let (mut first, mut second, mut size) = (f32::NEG_INFINITY, f32::NEG_INFINITY, 0.0_f32);
    for &output in outputs {
        size = size.max(output.abs());
        (first, second) = if output > first { (output, first) } else { (first, second.max(output)) };
    }
    first - second <= 4.0 * f32::EPSILON * size
}

/// One sample's search.
struct Search {
    delta: Vec<f32>,
    radius: f64,
    /// Length of the longest perturbation that the range allows.
    farthest: f64,
    best: Vec<f32>,
    best_length: f64,
    found: bool,
    rng: ChaCha8Rng,
}

/// What the present iterate is like.
#[derive(Clone, Copy)]
struct Seen {
    loss: f64,
    is_reached: bool,
    /// From 1 at the first step towards 0, along a cosine.
    annealed: f64,
    /// More than a third of the steps has passed.
    is_late: bool,
}

impl Search {
    fn new(n_pixels: usize, rule: RadiusRule, farthest: f64, rng: ChaCha8Rng) -> Self {
        let radius = match rule {
            RadiusRule::Decoupled { first_radius } => first_radius,
            RadiusRule::Fast(_) => f64::INFINITY,
        };
        let delta = vec![0.0; n_pixels];
        Search { best: delta.clone(), delta, radius, farthest, best_length: farthest, found: false, rng }
    }

    /// Remembers the iterate where it is the smallest that reaches the goal.
    fn keep(&mut self, norm: Norm, is_reached: bool) {
        let length = norm.length(&self.delta);
        self.found |= is_reached;
        if is_reached && length <= self.best_length {
            self.best_length = length;
            self.best.clone_from(&self.delta);
        }
    }

    fn step(&mut self, sample: ArrayView1<'_, f32>, gradient: ArrayView1<'_, f32>, seen: Seen, settings: &MinimumNorm) {
        let step = settings.step_size * (LAST_STEP + (1.0 - LAST_STEP) * seen.annealed);
        let mut direction = gradient.to_vec();
        if matches!(settings.rule, RadiusRule::Decoupled { .. }) && euclidean(&direction) == 0.0 {
            direction.iter_mut().for_each(|d| *d = standard_normal(&mut self.rng) as f32);
        }
        Norm::L2.steepest_ascent(&mut direction);
        self.adapt(settings.rule, gradient, seen);
        self.delta.iter_mut().zip(&direction).for_each(|(delta, d)| *delta += (step * f64::from(*d)) as f32);
        match settings.rule {
            RadiusRule::Decoupled { .. } => {
                let length = euclidean(&self.delta);
                if length > 0.0 {
                    self.delta.iter_mut().for_each(|d| *d = (f64::from(*d) * self.radius / length) as f32);
                }
            }
            RadiusRule::Fast(norm) => norm.project(&mut self.delta, self.radius),
        }
        for (delta, &pixel) in self.delta.iter_mut().zip(sample) {
            *delta = settings.range.clip(pixel + *delta) - pixel;
        }
    }

    /// The next radius.
    fn adapt(&mut self, rule: RadiusRule, gradient: ArrayView1<'_, f32>, seen: Seen) {
        let radius = match rule {
            RadiusRule::Decoupled { .. } if seen.is_reached => self.radius * (1.0 - GAMMA),
            RadiusRule::Decoupled { .. } => self.radius * (1.0 + GAMMA),
            RadiusRule::Fast(norm) => {
                let gamma = LAST_GAMMA + (GAMMA - LAST_GAMMA) * seen.annealed;
                if seen.is_reached {
                    (self.radius * (1.0 - gamma)).min(self.best_length)
                } else if self.found || (seen.is_late && self.radius.is_finite()) {
                    self.radius * (1.0 + gamma)
                } else {
                    let slope = norm.dual_length(&gradient.to_vec());
                    let distance = if slope > 0.0 { seen.loss.abs() / slope } else { f64::INFINITY };
                    norm.length(&self.delta) + distance
                }
            }
        };
        self.radius = radius.min(self.farthest);
    }
}
