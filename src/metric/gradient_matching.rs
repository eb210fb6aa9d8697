//! How well an affine function g of the source can match the target's gradients.
//!
//! P = E[J_T J_Sᵀ], Q = E[J_S J_Sᵀ]: min over g of E‖J_T − J_{g∘f_S}‖²_F = E‖J_T‖²_F − tr(P Q^† Pᵀ).

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3, Axis, CowArray, concatenate, s};

use super::{
    Error, GradientMoments, error::check_samples, gradient_moments::MomentParts, moment_inverse::MomentInverse,
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
    /// ‖J_T‖²_F, (N).
    pub energy: Array1<f64>,
}

impl CrossGrams {
    /// The products of one tile, from the Jacobians (N, d_T, n) of the target and (N, d_S, n) of the source, over the same
    /// pixels.
    ///
    /// # Errors
    /// When the Jacobians do not belong together, or a number is not finite.
    pub fn of(target: ArrayView3<'_, f32>, source: ArrayView3<'_, f32>) -> Result<Self, Error> {
        let square = |x: &f32| f64::from(*x) * f64::from(*x);
        let energy = target.axis_iter(Axis(0)).map(|jacobian| jacobian.iter().map(square).sum::<f64>()).collect();
        Ok(CrossGrams { cross: sample_grams(target, source)?, own: sample_grams(source, source)?, energy })
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
        let energy = tiles.iter().flat_map(|tile| tile.energy.iter().copied()).collect();
        Ok(CrossGrams { cross: join(|tile| &tile.cross)?, own: join(|tile| &tile.own)?, energy })
    }

    /// ‖J_S‖²_F of each sample, the trace of J_S J_Sᵀ; ‖J_T‖²_F is `energy`.
    pub fn source_energy(&self) -> Array1<f64> {
        let diagonal = self.own.ncols().isqrt() + 1;
        self.own.map_axis(Axis(1), |gram| gram.iter().step_by(diagonal).sum())
    }
}

/// The minimum and its interpretable scale.
#[derive(Clone, Debug, PartialEq)]
pub struct GradientMatching {
    /// Square root of the minimum, in output units per pixel unit.
    pub distance: Estimate,
    /// tr(P Q^† Pᵀ)/E‖J_T‖²_F, 0..1.
    pub explained: Estimate,
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
    check_samples("products of Jacobians", moments.n_samples(), moments.n_added())?;
    let total = moments.parts(moments.sums().sum_axis(Axis(0)).view());
    let energy = total.energy / total.n_samples;
    if energy <= 0.0 {
        return Err(Error::NoGradients);
    }
    let inverse = MomentInverse::of((&total.own / total.n_samples).view())?;
    let fit = product((&total.cross / total.n_samples).view(), inverse.root().view());
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
    })
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
            let MomentParts { cross, own, energy, n_samples } = moments.parts(means);
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
    let numbers = ndarray::stack(Axis(1), &[energies, matched.view(), sizes]).unwrap_or_default();
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
