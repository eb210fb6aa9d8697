//! How well an affine function g of the source can match the target's gradients.
//!
//! P = E[J_T J_Sᵀ], Q = E[J_S J_Sᵀ]: min over g of E‖J_T − J_{g∘f_S}‖²_F = E‖J_T‖²_F − tr(P Q^† Pᵀ).

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3, Axis, CowArray, concatenate, s};
use serde::{Deserialize, Serialize};

use super::{
    Error, GradientMoments,
    error::check_samples,
    gradient_moments::MomentParts,
    moment_inverse::{MomentInverse, ROUNDING},
};
use crate::{
    attack::sample_grams,
    stats::{Estimate, Resamples, product},
};

/// Products of Jacobians, a row a sample.
#[derive(Clone, Debug, PartialEq)]
pub struct CrossGrams {
    /// J_T J_Sᵀ, (N, d_T·d_S), rows of J_T first.
    pub cross: Array2<f64>,
    /// J_S J_Sᵀ, (N, d_S·d_S).
    pub own: Array2<f64>,
    /// Squared length of each row of J_T, (N, d_T).
    pub energies: Array2<f64>,
}

impl CrossGrams {
    /// The products of one tile, from the Jacobians (N, d_T, n) of the target and (N, d_S, n) of the source, over the same
    /// pixels.
    ///
    /// # Errors
    /// When the Jacobians do not belong together, or a number is not finite.
    pub fn of(target: ArrayView3<'_, f32>, source: ArrayView3<'_, f32>) -> Result<Self, Error> {
        let square = |x: &f32| f64::from(*x) * f64::from(*x);
        let energies = target.map_axis(Axis(2), |row| row.iter().map(square).sum());
        Ok(CrossGrams { cross: sample_grams(target, source)?, own: sample_grams(source, source)?, energies })
    }

    /// The products of all tiles, in order.
    ///
    /// # Errors
    /// When the tiles are of different models, or there are none.
    pub fn concatenate<'a>(tiles: impl IntoIterator<Item = &'a CrossGrams>) -> Result<Self, Error> {
        let tiles: Vec<&CrossGrams> = tiles.into_iter().collect();
        let join = |part: fn(&CrossGrams) -> &Array2<f64>| {
            let rows: Vec<_> = tiles.iter().map(|tile| part(tile).view()).collect();
            let expected = rows.first().map_or(0, |rows| rows.ncols());
            let found = rows.iter().map(|rows| rows.ncols()).find(|&length| length != expected).unwrap_or(expected);
            concatenate(Axis(0), &rows).map_err(|_| Error::RowLength { what: "products of Jacobians", expected, found })
        };
        Ok(CrossGrams {
            cross: join(|tile| &tile.cross)?,
            own: join(|tile| &tile.own)?,
            energies: join(|tile| &tile.energies)?,
        })
    }

    /// ‖J_T‖²_F of each sample.
    pub fn target_energy(&self) -> Array1<f64> {
        self.energies.sum_axis(Axis(1))
    }

    /// ‖J_S‖²_F of each sample, the trace of J_S J_Sᵀ.
    pub fn source_energy(&self) -> Array1<f64> {
        let diagonal = self.own.ncols().isqrt() + 1;
        self.own.map_axis(Axis(1), |gram| gram.iter().step_by(diagonal).sum())
    }
}

/// The minimum and its interpretable scale.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GradientMatching {
    /// Square root of the minimum, in output units per pixel unit.
    pub distance: Estimate,
    /// tr(P Q^† Pᵀ)/E‖J_T‖²_F, 0..1.
    pub explained: Estimate,
    /// Where random output probes stand for the target's outputs.
    pub probes: Option<ProbeErrors>,
}

/// What the choice of random output probes adds to the uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeErrors {
    pub n_probes: usize,
    /// Standard error of the distance over the draw of the probes.
    pub distance: f64,
    /// Standard error of the explained share over the draw of the probes.
    pub explained: f64,
}

/// Numbers that a resample may go through while the best g is found anew on it; above, its effect is taken to first order.
const REFIT_NUMBERS: usize = 1 << 23;

/// Matches gradients, with intervals from resampled moments.
///
/// The best g is found anew on each resample, which explains more there than g does on the samples; the intervals are
/// recentred for that, see [`Resamples::recentred`] (the distance on its square). Where that would be slow (from about 100
/// outputs on), the explained energy of a resample is taken to first order around that of all samples: with G = P Q^†,
/// d tr(P Q^† Pᵀ) = 2⟨G, dP⟩ − ⟨GᵀG, dQ⟩, so that each sample or group of samples has one number.
///
/// # Errors
/// When samples are missing, or the target has no gradients at all.
pub fn gradient_matching(moments: &GradientMoments, resamples: &Resamples) -> Result<GradientMatching, Error> {
    check_samples("products of Jacobians", resamples.n_samples(), moments.n_samples())?;
    let Fitted { energies, inverse, fit } = Fitted::of(moments)?;
    let energy = energies.sum();
    let matched = fit.iter().map(|x| x * x).sum::<f64>().clamp(0.0, energy);

    let replicates = replicates(moments, &inverse, fit.view(), resamples)?;
    let (explained, squared) = replicates.into_iter().map(|one| (one.explained, one.squared)).unzip();
    let squared = resamples.recentred(energy - matched, squared, 0.0..=f64::INFINITY);
    Ok(GradientMatching {
        distance: Estimate {
            value: squared.value.sqrt(),
            lower: squared.lower.sqrt(),
            upper: squared.upper.sqrt(),
            replicates: squared.replicates.map(f64::sqrt),
            ..squared
        },
        explained: resamples.recentred(matched / energy, explained, 0.0..=1.0),
        probes: None,
    })
}

/// Matches gradients where the target's rows are r random output probes w_kᵀJ_T/√r, with E[w wᵀ] = I.
///
/// With w_kᵀJ_T in place of J_T both E‖J_T‖²_F and tr(P Q^† Pᵀ) are unbiased, each a mean over probes of E‖w_kᵀJ_T‖² and
/// of w_kᵀP Q^† Pᵀw_k. The standard errors are of the jackknife over probes (Efron and Stein 1981), beside the intervals,
/// which are over samples. Where the source's rows are probes too, what they match is a lower bound of what all its
/// outputs would.
///
/// # Errors
/// As [`gradient_matching`], and with fewer than two probes.
pub fn gradient_matching_by_probes(
    moments: &GradientMoments,
    resamples: &Resamples,
) -> Result<GradientMatching, Error> {
    let matching = gradient_matching(moments, resamples)?;
    let n_probes = moments.outputs().0;
    if n_probes < 2 {
        return Err(Error::TooFewProbes);
    }
    let Fitted { energies, fit, .. } = Fitted::of(moments)?;
    let matched = fit.map_axis(Axis(1), |row| row.dot(&row));
    let (all_energy, all_matched) = (energies.sum(), matched.sum());
    let r = n_probes as f64;
    let left_out = energies.iter().zip(&matched).map(|(energy, matched)| {
        let (energy, matched) = (all_energy - energy, all_matched - matched);
        (((energy - matched).max(0.0) * r / (r - 1.0)).sqrt(), matched / energy)
    });
    let (distances, explained): (Vec<f64>, Vec<f64>) = left_out.unzip();
    let probes =
        ProbeErrors { n_probes, distance: jackknife_error(&distances), explained: jackknife_error(&explained) };
    Ok(GradientMatching { probes: Some(probes), ..matching })
}

/// √((r − 1)/r Σ(θ_k − θ̄)²) for the values θ_k with each of r left out.
fn jackknife_error(left_out: &[f64]) -> f64 {
    let r = left_out.len() as f64;
    let mean = left_out.iter().sum::<f64>() / r;
    ((r - 1.0) / r * left_out.iter().map(|value| (value - mean).powi(2)).sum::<f64>()).sqrt()
}

/// The best g on all samples.
struct Fitted {
    /// E of the squared length of each row of J_T.
    energies: Array1<f64>,
    inverse: MomentInverse,
    /// P R for Q^† = R Rᵀ: the squared length of row k is what is matched of the k-th row of J_T.
    fit: Array2<f64>,
}

impl Fitted {
    fn of(moments: &GradientMoments) -> Result<Self, Error> {
        check_samples("products of Jacobians", moments.n_samples(), moments.n_added())?;
        let total = moments.parts(moments.sums().sum_axis(Axis(0)).view());
        if total.energy <= 0.0 {
            return Err(Error::NoGradients);
        }
        let inverse = MomentInverse::of((&total.own / total.n_samples).view(), ROUNDING)?;
        let fit = product((&total.cross / total.n_samples).view(), inverse.root().view());
        Ok(Fitted { energies: total.energies / total.n_samples, inverse, fit })
    }
}

/// What one resample gives.
struct Replicate {
    explained: f64,
    squared: f64,
}

impl Replicate {
    /// From sums over a resample: of ‖J_T‖²_F, of what is matched of it, and of samples.
    fn of(energy: f64, matched: f64, n_samples: f64) -> Self {
        Replicate { explained: (matched / energy).clamp(0.0, 1.0), squared: ((energy - matched) / n_samples).max(0.0) }
    }
}

/// The replicates in the order of the resamples; `fit` is P R for Q^† = R Rᵀ.
fn replicates(
    moments: &GradientMoments,
    inverse: &MomentInverse,
    fit: ArrayView2<'_, f64>,
    resamples: &Resamples,
) -> Result<Vec<Replicate>, Error> {
    let grouped;
    let draws = if moments.n_groups() == resamples.n_samples() {
        resamples
    } else {
        grouped = Resamples::new(moments.n_groups(), resamples.confidence(), resamples.seed())?;
        &grouped
    };
    let (d_target, d_source) = moments.outputs();
    let cost = moments.sums().len() + d_source * d_source * (2 * d_source + d_target);
    if cost <= REFIT_NUMBERS {
        let rows = |groups: Range<usize>| CowArray::from(moments.sums().slice_move(s![groups, ..]));
        let refits = draws.map_means(moments.sums().ncols(), rows, |means| {
            let MomentParts { cross, own, energy, n_samples, .. } = moments.parts(means);
            let root = inverse.resampled_root(own.view())?;
            // tr(P Q^† Pᵀ) = ‖P R‖²_F for Q^† = R Rᵀ.
            let matched = product(cross.view(), root.view()).iter().map(|x| x * x).sum();
            Ok(Replicate::of(energy, matched, n_samples))
        });
        return refits.into_iter().collect();
    }
    let best = product(fit, inverse.root().t());
    let matched = moments.pairings((&best * 2.0).view(), product(best.t(), best.view()).view());
    let (energies, sizes) = moments.energies_and_sizes();
    let numbers = ndarray::stack(Axis(1), &[energies.view(), matched.view(), sizes]).unwrap_or_default();
    let rows = |groups: Range<usize>| CowArray::from(numbers.slice(s![groups, ..]));
    let of = |means: ArrayView1<'_, f64>| match means.as_slice() {
        Some(&[energy, matched, n_samples]) => Replicate::of(energy, matched, n_samples),
        _ => Replicate::of(f64::NAN, f64::NAN, f64::NAN),
    };
    Ok(draws.map_means(numbers.ncols(), rows, of))
}

/// The entries as a matrix.
pub(super) fn square(entries: ArrayView1<'_, f64>, rows: usize, columns: usize) -> Array2<f64> {
    let view: Result<ArrayView2<'_, f64>, _> = entries.into_shape_with_order((rows, columns));
    view.map_or_else(|_| Array2::zeros((rows, columns)), |view| view.to_owned())
}
