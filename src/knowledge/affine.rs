//! Function matching and affine transfer: the affine function of a source's features nearest to the targets.
//!
//! Ridge regression with an unpenalised intercept, in closed form from one singular value decomposition:
//! min over W, b of (1/N) Σ ‖y_i − W x_i − b‖² + strength·s̄²·‖W‖²_F, with s̄² the mean squared centred feature, so that the
//! strength means the same whatever the features' scale. Strength 0 is least squares of minimum norm.

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, Axis};
use serde::{Deserialize, Serialize};

use super::{Error, error::check_finite};
use crate::{
    limits,
    stats::{Estimate, LeftSingular, Resamples, product, solve_positive},
};

/// Strengths tried when none is given, from none to one that leaves little: 0, then two a decade from 1e-8 to 1e3.
const DECADES: std::ops::RangeInclusive<i32> = -16..=6;
/// Share of the least held-out squared error that a weaker ridge may cost.
const TOLERATED_EXCESS: f64 = 0.01;
/// Where folds are held out, strength 0 is a ridge of this share of the largest sum of squares.
const LEAST_OF_FOLDS: f64 = 1e-10;
/// A sample with less of its leverage left than this is fitted exactly, whatever its target.
const LEVERAGE_CUT: f64 = 1e-10;

/// An affine head and how near it comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AffineFit {
    /// √(mean ‖y_i − ŷ_i‖²) over the samples it was fitted to, in target units.
    pub distance: Estimate,
    /// Share of the targets' variance explained on the same samples, at most 1.
    pub r2: Estimate,
    /// The distance on what is held out: each sample by itself, or folds.
    pub held_out_distance: Estimate,
    /// R² on what is held out: 1 − Σ‖y_i − ŷ_{−i}‖²/Σ‖y_i − ȳ‖²; can be negative.
    pub held_out_r2: Estimate,
    /// Strength used, relative to the mean squared centred feature.
    pub ridge: f64,
    /// Number of features fitted.
    pub n_features: usize,
}

/// Fits targets (N, d) by an affine function of features (N, m).
///
/// Without a `ridge`, the weakest strength is used whose leave-one-out squared error is within 1 % of the least: least
/// squares, which is the paper's own measure, unless shrinking clearly helps. The leave-one-out errors are exact, from the
/// leverages. The intervals hold the fitted head and the targets' mean fixed and resample the
/// samples' squared residuals and squared deviations from the mean: they tell how well this head does on such samples, not
/// how the head itself would vary.
///
/// # Errors
/// When there are fewer than 3 samples or no features, a number is not finite, the strength is out of range, or the targets
/// are constant.
pub fn affine_fit(
    features: ArrayView2<'_, f64>,
    targets: ArrayView2<'_, f64>,
    ridge: Option<f64>,
    resamples: &Resamples,
) -> Result<AffineFit, Error> {
    fit(features, targets, ridge, &HeldOut::Each, resamples)
}

/// The same, held out by folds: `fold_of` tells the fold of each sample. Exact too: with H the projection of the fit and e its
/// residuals, the residuals of a fold S under the fit to the others are (I − H_SS)⁻¹ e_S.
///
/// # Errors
/// Those of [`affine_fit`], and when there is not one fold for each sample, or only one.
pub fn affine_fit_by_folds(
    features: ArrayView2<'_, f64>,
    targets: ArrayView2<'_, f64>,
    ridge: Option<f64>,
    fold_of: &[usize],
    resamples: &Resamples,
) -> Result<AffineFit, Error> {
    if fold_of.len() != resamples.n_samples() {
        return Err(Error::SampleCount { what: "folds", expected: resamples.n_samples(), found: fold_of.len() });
    }
    let n_folds = fold_of.iter().max().map_or(0, |&last| last + 1);
    let mut members = vec![Vec::new(); n_folds];
    for (sample, &fold) in fold_of.iter().enumerate() {
        members.get_mut(fold).into_iter().for_each(|members: &mut Vec<usize>| members.push(sample));
    }
    members.retain(|members| !members.is_empty());
    if members.len() < 2 {
        return Err(Error::Folds(members.len()));
    }
    fit(features, targets, ridge, &HeldOut::Folds(members), resamples)
}

/// Which samples a fit is judged on without having seen them.
enum HeldOut {
    /// Each by itself.
    Each,
    /// Each fold's members together.
    Folds(Vec<Vec<usize>>),
}

fn fit(
    features: ArrayView2<'_, f64>,
    targets: ArrayView2<'_, f64>,
    ridge: Option<f64>,
    held_out: &HeldOut,
    resamples: &Resamples,
) -> Result<AffineFit, Error> {
    let (n, n_features) = features.dim();
    check(features, targets, ridge, resamples)?;
    let design = if targets.ncols() > n {
        Design::new(features, coordinates(targets)?.view())?
    } else {
        Design::new(features, targets)?
    };
    let total = design.centred_targets.map_axis(Axis(1), |row| row.dot(&row));
    if total.sum() <= 0.0 {
        return Err(Error::ConstantTargets);
    }
    let ridge = ridge.unwrap_or_else(|| design.strength_by(held_out));
    let (residuals, held_out) = design.residuals_by(ridge, held_out);
    let squares = residuals.map_axis(Axis(1), |row| row.dot(&row));
    let held_out_squares = held_out.map_axis(Axis(1), |row| row.dot(&row));
    let ones = Array1::ones(n);
    let root = |squares: ArrayView1<'_, f64>| resamples.ratio(squares, ones.view(), |mean| mean.max(0.0).sqrt());
    let share = |squares: ArrayView1<'_, f64>| resamples.ratio(squares, total.view(), |ratio| 1.0 - ratio);
    Ok(AffineFit {
        distance: root(squares.view())?,
        r2: share(squares.view())?,
        held_out_distance: root(held_out_squares.view())?,
        held_out_r2: share(held_out_squares.view())?,
        ridge,
        n_features,
    })
}

fn check(
    features: ArrayView2<'_, f64>,
    targets: ArrayView2<'_, f64>,
    ridge: Option<f64>,
    resamples: &Resamples,
) -> Result<(), Error> {
    let n = resamples.n_samples();
    for (what, rows) in [("the feature", features), ("the target", targets)] {
        if rows.nrows() != n {
            return Err(Error::SampleCount { what, expected: n, found: rows.nrows() });
        }
        check_finite(what, rows)?;
    }
    for (what, width) in [("features", features.ncols()), ("targets", targets.ncols())] {
        if n.min(width) > limits::FITTED_WIDTH {
            return Err(Error::TooWide { what, width, limit: limits::FITTED_WIDTH });
        }
    }
    if n < 3 {
        return Err(Error::TooFewSamples { needed: 3, found: n });
    }
    if features.ncols() == 0 {
        return Err(Error::NoFeatures);
    }
    match ridge {
        Some(strength) if !(strength >= 0.0 && strength.is_finite()) => Err(Error::Ridge(strength)),
        _ => Ok(()),
    }
}

/// The decomposed regression: every strength is a reweighting of it.
struct Design {
    /// Left singular vectors of the centred features, (N, r), those of zero singular values left out.
    left: Array2<f64>,
    /// Squared singular values, (r).
    squares: Array1<f64>,
    /// λ for a strength of 1: N·s̄².
    unit: f64,
    /// (N, d).
    centred_targets: Array2<f64>,
    /// Uᵀ Y, (r, d).
    projections: Array2<f64>,
    /// Y − ȳ − U Uᵀ Y, (N, d): what no strength explains.
    unexplained: Array2<f64>,
    /// 1 − 1/N − Σ_k u_ik², (N): the share of leverage that no strength takes.
    free: Array1<f64>,
}

impl Design {
    fn new(features: ArrayView2<'_, f64>, targets: ArrayView2<'_, f64>) -> Result<Self, Error> {
        let (n, m) = features.dim();
        let centred = centre(features);
        let unit = centred.iter().map(|x| x * x).sum::<f64>() / m as f64;
        let LeftSingular { left, values } = LeftSingular::of(centred.view())?;
        // NumPy's cut for the rank of a least-squares problem.
        let cut = f64::EPSILON * n.max(m) as f64 * values.first().copied().unwrap_or(0.0);
        let rank = values.iter().take_while(|&&value| value > cut).count();
        let left = left.slice_move(ndarray::s![.., ..rank]);
        let centred_targets = centre(targets);
        let projections = product(left.t(), centred_targets.view());
        let mut unexplained = &centred_targets - &product(left.view(), projections.view());
        let mut free = left.map_axis(Axis(1), |row| 1.0 - 1.0 / n as f64 - row.dot(&row));
        for (free, mut row) in free.iter_mut().zip(unexplained.rows_mut()) {
            if *free < LEVERAGE_CUT {
                *free = 0.0;
                row.fill(0.0);
            }
        }
        let squares = values.iter().take(rank).map(|value| value * value).collect();
        Ok(Design { left, squares, unit, centred_targets, projections, unexplained, free })
    }

    /// Residuals of the fit and under leave-one-out, (N, d) each.
    ///
    /// A leave-one-out residual is e_i/(1 − h_i), h_i the leverage (Allen 1974). At strength 0 a sample of leverage 1 gives
    /// 0/0; its limit for vanishing strength, which is the residual of the minimum-norm fit to the others, needs the shares
    /// weighted by 1/s_k² instead of λ/(s_k² + λ).
    fn residuals(&self, strength: f64) -> (Array2<f64>, Array2<f64>) {
        let lambda = strength * self.unit;
        let shrunk = self.squares.mapv(|square| lambda / (square + lambda));
        let residuals = &self.unexplained + &self.weighted_fit(&shrunk);
        let remaining = &self.free + &self.weighted_leverage(&shrunk);
        let mut held_out = &residuals / &remaining.view().insert_axis(Axis(1));
        if remaining.iter().any(|&share| share <= 0.0) {
            let inverse = self.squares.mapv(|square| self.unit / square);
            let limits = self.weighted_fit(&inverse) / self.weighted_leverage(&inverse).insert_axis(Axis(1));
            for ((mut row, limit), &share) in held_out.rows_mut().into_iter().zip(limits.rows()).zip(&remaining) {
                if share <= 0.0 {
                    row.assign(&limit);
                }
            }
        }
        (residuals, held_out)
    }

    /// Residuals of the fit and of what is held out, (N, d) each.
    fn residuals_by(&self, strength: f64, held_out: &HeldOut) -> (Array2<f64>, Array2<f64>) {
        match held_out {
            HeldOut::Each => self.residuals(strength),
            HeldOut::Folds(folds) => {
                // Without shrinking, the fit to the others need not be unique.
                let least =
                    LEAST_OF_FOLDS * self.squares.first().copied().unwrap_or(0.0) / self.unit.max(f64::MIN_POSITIVE);
                let (residuals, _) = self.residuals(strength.max(least));
                let of_folds =
                    folds.iter().map(|members| self.residuals_of_fold(strength.max(least), &residuals, members));
                let mut all = residuals.clone();
                for (members, fold) in folds.iter().zip(of_folds) {
                    for (&sample, row) in members.iter().zip(fold.rows()) {
                        all.row_mut(sample).assign(&row);
                    }
                }
                (self.residuals(strength).0, all)
            }
        }
    }

    /// (I − H_SS)⁻¹ e_S, H = 11ᵀ/N + U diag(s²/(s² + λ)) Uᵀ.
    fn residuals_of_fold(&self, strength: f64, residuals: &Array2<f64>, members: &[usize]) -> Array2<f64> {
        let lambda = strength * self.unit;
        let left = self.left.select(Axis(0), members);
        let taken = &left * &self.squares.mapv(|square| square / (square + lambda));
        let mut remaining = -product(taken.view(), left.t()) - 1.0 / self.centred_targets.nrows() as f64;
        remaining.diag_mut().mapv_inplace(|x| x + 1.0);
        let own = residuals.select(Axis(0), members);
        solve_positive(remaining.view(), own.view()).unwrap_or(own)
    }

    /// U diag(w) Uᵀ Y.
    fn weighted_fit(&self, weights: &Array1<f64>) -> Array2<f64> {
        let weighted = &self.projections * &weights.view().insert_axis(Axis(1));
        product(self.left.view(), weighted.view())
    }

    /// Σ_k u_ik² w_k.
    fn weighted_leverage(&self, weights: &Array1<f64>) -> Array1<f64> {
        self.left.map_axis(Axis(1), |row| row.iter().zip(weights).map(|(u, w)| u * u * w).sum())
    }

    /// The weakest strength whose held-out error is within [`TOLERATED_EXCESS`] of the least.
    fn strength_by(&self, held_out: &HeldOut) -> f64 {
        let strengths = std::iter::once(0.0).chain(DECADES.map(|half| 10.0_f64.powf(f64::from(half) / 2.0)));
        let errors: Vec<(f64, f64)> = strengths
            .map(|strength| {
                let (_, held_out) = self.residuals_by(strength, held_out);
                (strength, held_out.iter().map(|x| x * x).sum())
            })
            .collect();
        let least = errors.iter().fold(f64::INFINITY, |least, (_, error)| error.min(least));
        errors
            .iter()
            .find(|(_, error)| *error <= least * (1.0 + TOLERATED_EXCESS))
            .map_or(0.0, |(strength, _)| *strength)
    }
}

/// Centred rows in an orthonormal basis of what they span: as many numbers a row as there are rows, and every length and
/// inner product the same.
fn coordinates(rows: ArrayView2<'_, f64>) -> Result<Array2<f64>, Error> {
    let LeftSingular { left, values } = LeftSingular::of(centre(rows).view())?;
    Ok(left * values.insert_axis(Axis(0)))
}

fn centre(rows: ArrayView2<'_, f64>) -> Array2<f64> {
    let mean = rows.sum_axis(Axis(0)) / rows.nrows().max(1) as f64;
    &rows - &mean
}
