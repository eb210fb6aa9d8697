//! The theorems that tie adversarial to knowledge transferability, both sides of each, on a probe set.
//!
//! Everything here is of first order and exact: the attacks are the top singular vectors of the Jacobians, whatever attack
//! a call asks for elsewhere. Source: Liang et al. 2021; theorem 1 is of its first version (arXiv 2006.14512v1).

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3, Axis, concatenate, s};
use serde::{Deserialize, Serialize};

use super::{
    Error,
    error::{check_finite, check_samples},
    moment_inverse::{MomentInverse, ROUNDING},
    tau2::explained_share,
};
use crate::{
    attack::{DEAD_LENGTH, JacobianError, sample_grams},
    limits::THEORY_NUMBERS,
    stats::{SymmetricEigen, largest_eigenvalue, product},
};

/// One side of a theorem against the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TheoremCheck {
    /// What is bounded.
    pub left: f64,
    /// The bound, or what equals it.
    pub right: f64,
}

/// The theorems that can be told of a pair of models. The target is f_T, the source f_S; g is affine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TheoryChecks {
    /// Scalar outputs: E[(1 − τ₁(x)τ₂)‖∇f_T‖²] = min over g of E‖∇f_T − ∇(g∘f_S)‖². `None` for vector outputs.
    pub first: Option<TheoremCheck>,
    /// E‖J_T − J_{g∘f_S}‖₂² ≤ ((1 − τ₁τ₂) + (1 − τ₁)(1 − τ₂)λ_T² + (λ_T + λ_S)²)·5L² for the g that matches gradients best in
    /// the Frobenius norm, with λ_f the largest σ₂/σ₁ of a sample's Jacobian and L the largest ‖J_T‖₂.
    pub second: TheoremCheck,
    /// min over g of ‖g∘f_S − y‖²_D ≤ (‖f_T − y‖_D + r‖J_T − J_{g∘f_S}‖_D + r²(1 + ‖J_T‖_{D,2}/‖J_S‖_{D,2})β)². `None` where
    /// the targets y or the smoothness β are not known.
    pub third: Option<TheoremCheck>,
}

impl TheoremCheck {
    /// Right minus left: 0 for an equality, at least 0 for a bound that holds.
    pub fn slack(&self) -> f64 {
        self.right - self.left
    }
}

/// What the third theorem needs beside the Jacobians.
#[derive(Clone, Copy, Debug)]
pub struct TaskOutputs<'a> {
    /// f_S, (N, d_S).
    pub source: ArrayView2<'a, f32>,
    /// f_T, (N, d_T).
    pub target: ArrayView2<'a, f32>,
    /// y, (N, d_T).
    pub truth: ArrayView2<'a, f64>,
    /// r: the largest ‖x‖₂ of a sample, at least 1. The paper has ‖x‖ ≤ 1; samples of length up to r are those of length up
    /// to 1 in units of r, in which Jacobians are r times and β is r² times as large.
    pub radius: f64,
    /// β: how much the gradients of both models change at most, ‖J(x) − J(x′)‖ ≤ β‖x − x′‖.
    pub smoothness: f64,
}

/// Products of the two models' Jacobians, fed by chunks of samples.
#[derive(Clone, Debug)]
pub struct TheoryMoments {
    d_target: usize,
    /// (N, D·D) with D = d_T + d_S: the Gram matrix of J_T above J_S; NaN until the sample comes.
    grams: Array2<f64>,
}

impl TheoryMoments {
    /// Empty moments of `n_samples` samples.
    ///
    /// # Errors
    /// When the samples and outputs are too many to be kept.
    pub fn new(n_samples: usize, d_target: usize, d_source: usize) -> Result<Self, Error> {
        let width = (d_target + d_source).pow(2);
        let limit = THEORY_NUMBERS / width.max(1);
        if n_samples > limit {
            return Err(Error::TooManySamples { n_samples, limit });
        }
        Ok(TheoryMoments { d_target, grams: Array2::from_elem((n_samples, width), f64::NAN) })
    }

    /// Adds some samples: row i of the products, as [`joint_grams`] gives them, is that of the sample at `positions[i]`.
    /// Order and chunks change nothing.
    ///
    /// # Errors
    /// When the products are of other models, a position is not one of the probe set or came before, or a number is not
    /// finite.
    pub fn add(&mut self, positions: &[usize], grams: ArrayView2<'_, f64>) -> Result<(), Error> {
        let n_samples = self.grams.nrows();
        check_samples("products of Jacobians", positions.len(), grams.nrows())?;
        check_finite("the product of Jacobians", grams)?;
        let (expected, found) = (self.grams.ncols(), grams.ncols());
        if found != expected {
            return Err(Error::RowLength { what: "products of Jacobians", expected, found });
        }
        for (&position, gram) in positions.iter().zip(grams.rows()) {
            if position >= n_samples || self.grams.row(position).iter().all(|x| !x.is_nan()) {
                return Err(Error::Position { position, n_samples });
            }
            self.grams.row_mut(position).assign(&gram);
        }
        Ok(())
    }

    /// The blocks J_T J_Tᵀ, J_T J_Sᵀ and J_S J_Sᵀ of a sample, or of their mean.
    fn blocks<'a>(&self, gram: ArrayView1<'a, f64>) -> Option<[ArrayView2<'a, f64>; 3]> {
        let d = self.grams.ncols().isqrt();
        let t = self.d_target;
        let gram = gram.into_shape_with_order((d, d)).ok()?;
        Some([gram.slice_move(s![..t, ..t]), gram.slice_move(s![..t, t..]), gram.slice_move(s![t.., t..])])
    }
}

/// The Gram matrix of J_T above J_S for each sample, (N, D·D) with D = d_T + d_S, from Jacobians (N, d, pixels).
///
/// # Errors
/// When the Jacobians do not belong together, or a number is not finite.
pub fn joint_grams(target: ArrayView3<'_, f32>, source: ArrayView3<'_, f32>) -> Result<Array2<f64>, Error> {
    check_samples("the source's Jacobians", target.dim().0, source.dim().0)?;
    let (left, right) = (target.dim().2, source.dim().2);
    let joint = concatenate(Axis(1), &[target, source]).map_err(|_| JacobianError::Pixels { left, right })?;
    Ok(sample_grams(joint.view(), joint.view())?)
}

/// The first two singular values of a Jacobian and the left vector of the first, from its Gram matrix.
struct Top {
    values: [f64; 2],
    left: Array1<f64>,
}

impl Top {
    fn of(gram: ArrayView2<'_, f64>) -> Result<Self, Error> {
        let eigen = SymmetricEigen::of(gram)?;
        let root = |index: usize| eigen.values.get(index).map_or(0.0, |value| value.max(0.0).sqrt());
        Ok(Top { values: [root(0), root(1)], left: eigen.vectors.column(0).to_owned() })
    }

    fn is_dead(&self) -> bool {
        self.values[0] <= DEAD_LENGTH
    }

    fn ratio(&self) -> f64 {
        if self.is_dead() { 0.0 } else { self.values[1] / self.values[0] }
    }
}

/// What the theorems are made of, sample by sample.
#[derive(Default)]
struct Samples {
    /// ⟨δ_S, δ_T⟩² of unit attacks; 0 where one is dead.
    tau1: Vec<f64>,
    /// Δ_{S→S} and Δ_{S→T}.
    white: Vec<Array1<f64>>,
    black: Vec<Array1<f64>>,
    /// ‖J_T − W J_S‖₂².
    residuals: Vec<f64>,
    target_norms: Vec<f64>,
    source_norms: Vec<f64>,
    target_ratios: Vec<f64>,
    source_ratios: Vec<f64>,
    /// ‖J_T‖²_F.
    energies: Vec<f64>,
}

/// Checks the theorems, in the direction from source to target.
///
/// # Errors
/// When samples are missing, the outputs do not belong to them, or neither model has a gradient anywhere.
pub fn theory_checks(moments: &TheoryMoments, task: Option<&TaskOutputs<'_>>) -> Result<TheoryChecks, Error> {
    check_finite("the product of Jacobians", moments.grams.view())?;
    let n = moments.grams.nrows() as f64;
    let whole = moments.grams.sum_axis(Axis(0)) / n;
    let Some([target, cross, source]) = moments.blocks(whole.view()) else { return Err(Error::NoGradients) };
    let energy = target.diag().sum();
    if energy <= 0.0 {
        return Err(Error::NoGradients);
    }
    let root = MomentInverse::of(source, ROUNDING)?.root().to_owned();
    let half = product(cross, root.view());
    let best = product(half.view(), root.t());
    let least = (energy - half.iter().map(|x| x * x).sum::<f64>()).max(0.0);
    let samples = samples(moments, best.view())?;

    let rows = |rows: &[Array1<f64>]| {
        let views: Vec<_> = rows.iter().map(|row| row.view()).collect();
        ndarray::stack(Axis(0), &views).unwrap_or_default()
    };
    let (white, black) = (rows(&samples.white), rows(&samples.black));
    if white.iter().all(|x| x.abs() <= DEAD_LENGTH) {
        return Err(Error::AllDead);
    }
    let tau2 = explained_share(white.view(), black.view())?;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / n;
    let largest = |values: &[f64]| values.iter().copied().fold(0.0_f64, f64::max);
    let tau1 = mean(&samples.tau1);
    let (lambda_t, lambda_s) = (largest(&samples.target_ratios), largest(&samples.source_ratios));
    let second = (1.0 - tau1 * tau2) + (1.0 - tau1) * (1.0 - tau2) * lambda_t.powi(2) + (lambda_t + lambda_s).powi(2);
    let is_scalar = moments.d_target == 1 && moments.grams.ncols() == 4;
    let weighted = samples.tau1.iter().zip(&samples.energies).map(|(tau1, energy)| (1.0 - tau1 * tau2) * energy);
    Ok(TheoryChecks {
        first: is_scalar.then(|| TheoremCheck { left: weighted.sum::<f64>() / n, right: least }),
        second: TheoremCheck {
            left: mean(&samples.residuals),
            right: second * 5.0 * largest(&samples.target_norms).powi(2),
        },
        third: task.map(|task| third(task, &samples, least)).transpose()?,
    })
}

/// What each sample gives, with W = `best`.
fn samples(moments: &TheoryMoments, best: ArrayView2<'_, f64>) -> Result<Samples, Error> {
    let mut samples = Samples::default();
    for gram in moments.grams.rows() {
        let Some([target, cross, source]) = moments.blocks(gram) else { continue };
        let (of_target, of_source) = (Top::of(target)?, Top::of(source)?);
        // J_T v_S = J_T J_Sᵀ u_S/σ_S, and ⟨v_T, v_S⟩ = u_Tᵀ J_T J_Sᵀ u_S/(σ_T σ_S).
        let black = if of_source.is_dead() {
            Array1::zeros(target.nrows())
        } else {
            cross.dot(&of_source.left) / of_source.values[0]
        };
        let cosine = if of_target.is_dead() { 0.0 } else { of_target.left.dot(&black) / of_target.values[0] };
        // (J_T − W J_S)(J_T − W J_S)ᵀ.
        let mixed = product(best, cross.t());
        let residual = &target - &mixed - mixed.t() + product(product(best, source).view(), best.t());
        samples.tau1.push((cosine * cosine).min(1.0));
        samples.white.push(of_source.left.clone() * of_source.values[0]);
        samples.black.push(black);
        samples.residuals.push(largest_eigenvalue(residual.view())?.max(0.0));
        samples.target_norms.push(of_target.values[0]);
        samples.source_norms.push(of_source.values[0]);
        samples.target_ratios.push(of_target.ratio());
        samples.source_ratios.push(of_source.ratio());
        samples.energies.push(target.diag().sum());
    }
    Ok(samples)
}

fn third(task: &TaskOutputs<'_>, samples: &Samples, least: f64) -> Result<TheoremCheck, Error> {
    let n = samples.energies.len();
    check_samples("the source's outputs", n, task.source.nrows())?;
    check_samples("the target's outputs", n, task.target.nrows())?;
    check_samples("targets", n, task.truth.nrows())?;
    let (expected, found) = (task.target.ncols(), task.truth.ncols());
    if found != expected {
        return Err(Error::RowLength { what: "targets", expected, found });
    }
    check_finite("the target", task.truth)?;
    let source = task.source.mapv(f64::from);
    check_finite("the output", source.view())?;
    let error = &task.target.mapv(f64::from) - &task.truth;
    check_finite("the output", error.view())?;
    let squares = |rows: &Array2<f64>| rows.iter().map(|x| x * x).sum::<f64>() / n as f64;

    // The best affine function of the source: least squares on centred outputs.
    let centred = |rows: ArrayView2<'_, f64>| match rows.mean_axis(Axis(0)) {
        Some(mean) => &rows - &mean,
        None => rows.to_owned(),
    };
    let (outputs, truth) = (centred(source.view()), centred(task.truth));
    let root = MomentInverse::of((product(outputs.t(), outputs.view()) / n as f64).view(), ROUNDING)?.root().to_owned();
    let explained = product((product(truth.t(), outputs.view()) / n as f64).view(), root.view());
    let left = squares(&truth) - explained.iter().map(|x| x * x).sum::<f64>();

    let norm = |norms: &[f64]| (norms.iter().map(|x| x * x).sum::<f64>() / n as f64).sqrt();
    let stretch = 1.0 + norm(&samples.target_norms) / norm(&samples.source_norms);
    let radius = task.radius.max(1.0);
    let bound = squares(&error).sqrt() + radius * least.sqrt() + radius.powi(2) * stretch * task.smoothness;
    Ok(TheoremCheck { left: left.max(0.0), right: bound.powi(2) })
}
