//! APGD (Croce and Hein 2020, algorithm 1): projected gradient ascent that sets its own step size.
//!
//! Where the paper and the authors' code differ this follows the code, which is what figures called APGD come from: the
//! checkpoints are whole numbers rounded down, and a step size is halved where at most (not fewer than) three quarters of
//! the steps since the last checkpoint raised the loss. The first window compares with the loss at the start, as the paper
//! has it; the code takes 0 there.

use ndarray::{Array2, ArrayView1, ArrayView2, Zip};

use super::{Ball, Error, Evaluation, Goal, PixelRange, gradient_sign::checked};

/// The settings of APGD. The authors take 100 steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AutoProjectedGradient {
    pub ball: Ball,
    pub range: PixelRange,
    /// At least 1.
    pub steps: u32,
}

/// Share of a step that is new; the rest goes on as before.
const NEW_SHARE: f32 = 0.75;
/// Share of steps that have to raise the loss.
const RAISING_SHARE: f64 = 0.75;

/// Ascends a loss from `starts` around `samples`, both (N, pixels), and gives each sample's point of highest loss. Where that
/// is not what `goal` wants but a later iterate was, it gives the last such iterate, as the authors' code does.
///
/// `evaluate` runs once more than there are steps.
///
/// # Errors
/// Without steps; when `evaluate` fails, or gives gradients of another shape or that are not finite.
pub fn auto_projected_gradient<E>(
    samples: ArrayView2<'_, f32>,
    starts: ArrayView2<'_, f32>,
    settings: &AutoProjectedGradient,
    goal: Option<&Goal>,
    mut evaluate: impl FnMut(ArrayView2<'_, f32>) -> Result<Evaluation, E>,
) -> Result<Array2<f32>, Error<E>> {
    if settings.steps == 0 {
        return Err(Error::NoSteps);
    }
    let mut seen = |at: ArrayView2<'_, f32>| -> Result<Evaluation, Error<E>> {
        let seen = evaluate(at).map_err(Error::Gradient)?;
        Ok(Evaluation { gradients: checked(samples, seen.gradients)?, ..seen })
    };
    let first = seen(starts)?;
    let rows = starts.rows().into_iter().zip(first.gradients.rows()).zip(&first.losses);
    let mut climbs: Vec<Climb> =
        rows.map(|((start, gradient), &loss)| Climb::new(start, gradient, loss, settings.ball.epsilon())).collect();
    let mut window = Window::new(settings.steps);
    let mut current = starts.to_owned();
    for step in 0..settings.steps {
        let share = if step == 0 { 1.0 } else { NEW_SHARE };
        Zip::from(current.rows_mut()).and(samples.rows()).and(climbs.as_mut_slice()).for_each(
            |mut current, sample, climb| {
                climb.advance(sample, share, settings);
                current.iter_mut().zip(&climb.current).for_each(|(to, &from)| *to = from);
            },
        );
        let Evaluation { outputs, losses, gradients } = seen(current.view())?;
        let is_checkpoint = window.ends();
        for (row, ((climb, &loss), gradient)) in climbs.iter_mut().zip(&losses).zip(gradients.rows()).enumerate() {
            let reached = goal.map(|goal| outputs.rows().into_iter().nth(row).is_some_and(|z| goal.is_reached(row, z)));
            climb.look(loss, gradient, reached);
            if let Some(length) = is_checkpoint {
                climb.check(length);
            }
        }
    }
    let mut adversarial = samples.to_owned();
    for (mut row, climb) in adversarial.rows_mut().into_iter().zip(climbs) {
        let found = if climb.best_reaches { None } else { climb.reaching };
        row.iter_mut().zip(found.unwrap_or(climb.best)).for_each(|(to, from)| *to = from);
    }
    Ok(adversarial)
}

/// The steps between checkpoints: 22 % of all at first, 3 % fewer each time, at least 6 %.
struct Window {
    length: u32,
    least: u32,
    decrease: u32,
    passed: u32,
}

impl Window {
    fn new(steps: u32) -> Self {
        let share = |percent: u32| (steps.saturating_mul(percent) / 100).max(1);
        Window { length: share(22), least: share(6), decrease: share(3), passed: 0 }
    }

    /// Counts a step, and gives the window's length where it ends there.
    fn ends(&mut self) -> Option<u32> {
        self.passed += 1;
        if self.passed < self.length {
            return None;
        }
        let ended = self.length;
        self.passed = 0;
        self.length = self.length.saturating_sub(self.decrease).max(self.least);
        Some(ended)
    }
}

/// One sample's ascent.
struct Climb {
    current: Vec<f32>,
    previous: Vec<f32>,
    gradient: Vec<f32>,
    loss: f64,
    step_size: f32,
    best: Vec<f32>,
    best_gradient: Vec<f32>,
    best_loss: f64,
    best_reaches: bool,
    /// The last iterate that is what the goal wants.
    reaching: Option<Vec<f32>>,
    /// Steps since the last checkpoint that raised the loss.
    raises: u32,
    checked_loss: f64,
    was_halved: bool,
}

impl Climb {
    fn new(start: ArrayView1<'_, f32>, gradient: ArrayView1<'_, f32>, loss: f64, epsilon: f32) -> Self {
        let (current, gradient) = (start.to_vec(), gradient.to_vec());
        Climb {
            previous: current.clone(),
            best: current.clone(),
            current,
            best_gradient: gradient.clone(),
            gradient,
            loss,
            step_size: 2.0 * epsilon,
            best_loss: loss,
            best_reaches: false,
            reaching: None,
            raises: 0,
            checked_loss: loss,
            was_halved: true,
        }
    }

    fn advance(&mut self, sample: ArrayView1<'_, f32>, share: f32, settings: &AutoProjectedGradient) {
        let allowed = |point: Vec<f32>| -> Vec<f32> {
            let mut delta: Vec<f32> = point.iter().zip(sample).map(|(pixel, sample)| pixel - sample).collect();
            settings.ball.project(&mut delta);
            delta.iter().zip(sample).map(|(delta, sample)| settings.range.clip(sample + delta)).collect()
        };
        let mut direction = self.gradient.clone();
        settings.ball.norm().steepest_ascent(&mut direction);
        let moved = self.current.iter().zip(&direction).map(|(pixel, d)| pixel + self.step_size * d).collect();
        let moved = allowed(moved);
        let mixed = self.current.iter().zip(&moved).zip(&self.previous).map(|((current, moved), previous)| {
            current + (moved - current) * share + (current - previous) * (1.0 - share)
        });
        let next = allowed(mixed.collect());
        self.previous = std::mem::replace(&mut self.current, next);
    }

    fn look(&mut self, loss: f64, gradient: ArrayView1<'_, f32>, reached: Option<bool>) {
        self.raises += u32::from(loss > self.loss);
        self.loss = loss;
        self.gradient = gradient.to_vec();
        if reached == Some(true) {
            self.reaching = Some(self.current.clone());
        }
        if loss > self.best_loss {
            self.best_loss = loss;
            self.best.clone_from(&self.current);
            self.best_gradient.clone_from(&self.gradient);
            self.best_reaches = reached.unwrap_or(true);
        }
    }

    /// Halves the step size and goes back to the best point where the steps since the last checkpoint came to little.
    fn check(&mut self, length: u32) {
        let few_raised = f64::from(self.raises) <= f64::from(length) * RAISING_SHARE;
        let is_stuck = !self.was_halved && self.checked_loss >= self.best_loss;
        self.was_halved = few_raised || is_stuck;
        self.checked_loss = self.best_loss;
        self.raises = 0;
        if self.was_halved {
            self.step_size /= 2.0;
            self.current.clone_from(&self.best);
            self.gradient.clone_from(&self.best_gradient);
        }
    }
}
