//! Limited-memory BFGS for smooth convex functions (Liu and Nocedal 1989), with a diagonal preconditioner.
//!
//! A preconditioner and a tolerance on the plain gradient are what the solvers at hand do not combine.

use std::collections::VecDeque;

use ndarray::Array2;

/// Pairs of steps and gradient changes that are remembered.
const MEMORY: usize = 12;
/// Share of the decrease that the gradient promises which a step must keep (Armijo).
const SUFFICIENT_DECREASE: f64 = 1e-4;
/// Halvings of a step before rounding is taken to have the last word.
const HALVINGS: usize = 40;

/// Where a minimisation stopped.
pub(super) struct Minimum {
    pub point: Array2<f64>,
    pub value: f64,
    /// Largest absolute entry of the gradient there.
    pub gradient: f64,
    pub iterations: usize,
}

/// Minimises a convex function from `start` until no entry of the gradient exceeds `tolerance`, or the iterations are
/// used up, or no step decreases the function any more.
///
/// `evaluate` gives the value and the gradient; `preconditioner` approximates the inverse of the Hessian's diagonal.
pub(super) fn minimise(
    start: Array2<f64>,
    preconditioner: &Array2<f64>,
    tolerance: f64,
    iterations: usize,
    evaluate: impl Fn(&Array2<f64>) -> (f64, Array2<f64>),
) -> Minimum {
    let (mut value, mut gradient) = evaluate(&start);
    let mut point = start;
    let mut memory: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    for iteration in 0..iterations {
        if largest(&gradient) <= tolerance {
            return Minimum { point, value, gradient: largest(&gradient), iterations: iteration };
        }
        let mut direction = descent(&gradient, &memory, preconditioner);
        let mut slope = dot(&direction, &gradient);
        if slope >= 0.0 {
            memory.clear();
            direction = descent(&gradient, &memory, preconditioner);
            slope = dot(&direction, &gradient);
        }
        let mut length = 1.0;
        let accepted = (0..HALVINGS).find_map(|_| {
            let candidate = &point + &(&direction * length);
            let (new_value, new_gradient) = evaluate(&candidate);
            // Close to the minimum the decrease drowns in rounding, while a smaller gradient still tells progress.
            let rounding = 1e-14 * value.abs();
            let accepted = new_value <= value + SUFFICIENT_DECREASE * length * slope
                || (new_value <= value + rounding && largest(&new_gradient) < largest(&gradient));
            length *= 0.5;
            accepted.then_some((candidate, new_value, new_gradient))
        });
        let Some((new_point, new_value, new_gradient)) = accepted else {
            return Minimum { point, value, gradient: largest(&gradient), iterations: iteration };
        };
        let (step, change) = (&new_point - &point, &new_gradient - &gradient);
        let curvature = dot(&step, &change);
        if curvature > 1e-12 * dot(&change, &change).sqrt() * dot(&step, &step).sqrt() {
            if memory.len() == MEMORY {
                memory.pop_front();
            }
            memory.push_back(Pair { step, change, curvature });
        }
        (point, value, gradient) = (new_point, new_value, new_gradient);
    }
    Minimum { point, value, gradient: largest(&gradient), iterations }
}

struct Pair {
    step: Array2<f64>,
    change: Array2<f64>,
    /// ⟨step, change⟩, positive.
    curvature: f64,
}

/// −H g by the two-loop recursion, H starting from the preconditioner.
fn descent(gradient: &Array2<f64>, memory: &VecDeque<Pair>, preconditioner: &Array2<f64>) -> Array2<f64> {
    let mut direction = gradient.mapv(|g| -g);
    let mut shares = Vec::with_capacity(memory.len());
    for pair in memory.iter().rev() {
        let share = dot(&pair.step, &direction) / pair.curvature;
        direction.scaled_add(-share, &pair.change);
        shares.push(share);
    }
    let scale = memory.back().map_or(1.0, |pair| pair.curvature / dot(&pair.change, &(&pair.change * preconditioner)));
    direction = direction * preconditioner * scale;
    for (pair, share) in memory.iter().zip(shares.into_iter().rev()) {
        let correction = dot(&pair.change, &direction) / pair.curvature;
        direction.scaled_add(share - correction, &pair.step);
    }
    direction
}

fn dot(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(values: &Array2<f64>) -> f64 {
    values.iter().fold(0.0, |largest, value| value.abs().max(largest))
}
