//! tau2, of the paper's first version (arXiv 2006.14512v1): how much of one model's deviation a map of the other's explains.

use std::ops::Range;

use ndarray::{Array1, Array2, ArrayView2, CowArray, Ix2, parallel::prelude::*, s};

use super::{
    AttackSign, Error,
    coordinates::coordinates,
    error::{check_finite, check_samples},
    gradient_matching::square,
    moment_inverse::MomentInverse,
    shuffle::{Shuffle, gathered, n_shuffles},
};
use crate::{
    attack::DEAD_LENGTH,
    stats::{Estimate, Resamples, ShuffledNull, SymmetricEigen, accumulate_product, largest_eigenvalue, product},
};

/// Directions in which the deviations' energy is at most this share of the largest count as none: deviations measured by
/// running a model, or found by Lanczos, carry noise of up to 1e-4 of their length, and a map that explains noise by noise
/// has a norm without bounds, by which all of it would be scaled down.
const DIRECTION_CUT: f64 = 1e-8;
/// Numbers that a resample may go through while A is found anew on it; above, its effect is taken to first order.
const REFIT_NUMBERS: usize = 1 << 23;
/// Numbers of a block of rows that exist at once.
const BLOCK_NUMBERS: usize = 1 << 20;

/// tau2 = ⟨2Δ_{1→2} − AΔ_{1→1}, AΔ_{1→1}⟩_D/‖Δ_{1→2}‖²_D: the share of model 2's deviation under model 1's attack that a
/// bounded linear map A of model 1's explains; at most 1, and 0 where model 2 stands still.
///
/// A = E[Δ_{1→2}Δ_{1→1}ᵀ] E[Δ_{1→1}Δ_{1→1}ᵀ]^†, scaled down to the spectral norm ‖Δ_{1→2}‖_D/‖Δ_{1→1}‖_D where above it.
/// `white` is Δ_{1→1} (N, d1), `black` is Δ_{1→2} (N, d2). A is found anew on each resample; where that would be slow, a
/// resample's effect on it is taken to first order. It is found anew on each shuffle. The interval is recentred for what
/// fitting gains, see [`Resamples::recentred`].
///
/// Models with more outputs than samples are first turned, exactly, into coordinates of as many outputs as samples.
///
/// # Errors
/// When the rows do not belong together, a number is not finite, the attack moves no sample, or both the outputs and the
/// samples are too many to invert the moment.
pub fn tau2(
    white: ArrayView2<'_, f64>,
    black: ArrayView2<'_, f64>,
    sign: AttackSign,
    resamples: &Resamples,
) -> Result<Estimate, Error> {
    let n = resamples.n_samples();
    check_samples("model 1's own deviation", n, white.nrows())?;
    check_samples("model 2's deviation under model 1's attack", n, black.nrows())?;
    check_finite("model 1's own deviation", white)?;
    check_finite("model 2's deviation under model 1's attack", black)?;
    if white.iter().all(|x| x.abs() <= DEAD_LENGTH) {
        return Err(Error::AllDead);
    }
    let (white, black) = (coordinates(white)?, coordinates(black)?);
    let (white, black) = (white.view(), black.view());
    let (of_all, inverse) = moments(white, black)?;
    let fit = of_all.fit(inverse.root())?;
    let value = fit.share;
    let (d1, d2) = (white.ncols(), black.ncols());
    let cost = n * (d1 + d2) * d1 + d1 * d1 * (2 * d1 + d2);
    let replicates = if cost <= REFIT_NUMBERS {
        refitted(white, black, &inverse, resamples)?
    } else {
        to_first_order(white, black, &inverse, &fit, resamples)?
    };
    let kept: Vec<usize> = (0..n).collect();
    let shuffled: Result<Vec<f64>, Error> = (0..n_shuffles(cost))
        .into_par_iter()
        .map(|index| {
            let shuffle = Shuffle::new(&kept, sign, resamples.seed(), index);
            let cross = shuffled_cross(white, black, &kept, &shuffle) / n as f64;
            Ok(Moments { cross, ..of_all }.fit(inverse.root())?.share)
        })
        .collect();
    Ok(Estimate {
        shuffled: ShuffledNull::of(shuffled?, resamples.confidence().level),
        ..resamples.recentred(value, replicates, f64::NEG_INFINITY..=1.0)
    })
}

/// tau2 itself, from deviations (N, d1) and (N, d2) of no more outputs than can be inverted.
pub(super) fn explained_share(white: ArrayView2<'_, f64>, black: ArrayView2<'_, f64>) -> Result<f64, Error> {
    let (of_all, inverse) = moments(white, black)?;
    Ok(of_all.fit(inverse.root())?.share)
}

/// The moments of all samples, and the inverse of E[Δ_{1→1} Δ_{1→1}ᵀ].
fn moments(white: ArrayView2<'_, f64>, black: ArrayView2<'_, f64>) -> Result<(Moments, MomentInverse), Error> {
    let n = white.nrows() as f64;
    let energy = |rows: ArrayView2<'_, f64>| rows.iter().map(|x| x * x).sum::<f64>() / n;
    let of_all = Moments { cross: product(black.t(), white) / n, energy_1: energy(white), energy_2: energy(black) };
    Ok((of_all, MomentInverse::of((product(white.t(), white) / n).view(), DIRECTION_CUT)?))
}

struct Moments {
    /// E[Δ_{1→2} Δ_{1→1}ᵀ], (d2, d1).
    cross: Array2<f64>,
    /// ‖Δ_{1→1}‖²_D.
    energy_1: f64,
    /// ‖Δ_{1→2}‖²_D.
    energy_2: f64,
}

struct Fit {
    share: f64,
    /// X M^† before it is scaled, (d2, d1).
    map: Array2<f64>,
}

impl Moments {
    /// The share explained, given R with E[Δ_{1→1} Δ_{1→1}ᵀ]^† = M^† = R Rᵀ.
    ///
    /// With X = E[Δ_{1→2} Δ_{1→1}ᵀ], A = X R Rᵀ before it is scaled by s, and both ⟨Δ_{1→2}, AΔ_{1→1}⟩_D and ‖AΔ_{1→1}‖²_D
    /// are ‖X R‖²_F, so the share is (2s − s²)‖X R‖²_F/‖Δ_{1→2}‖²_D.
    fn fit(&self, root: &Array2<f64>) -> Result<Fit, Error> {
        let half = product(self.cross.view(), root.view());
        let map = product(half.view(), root.t());
        let squares = half.iter().map(|x| x * x).sum::<f64>();
        let share = if self.stands_still() { 0.0 } else { self.share(squares, spectral_norm(&map, self.bound())?) };
        Ok(Fit { share, map })
    }

    fn stands_still(&self) -> bool {
        self.energy_2 <= 0.0 || self.energy_1 <= 0.0
    }

    /// ‖Δ_{1→2}‖_D/‖Δ_{1→1}‖_D.
    fn bound(&self) -> f64 {
        (self.energy_2 / self.energy_1).sqrt()
    }

    /// The share from ‖X R‖²_F and the spectral norm of X M^†.
    fn share(&self, squares: f64, norm: f64) -> f64 {
        let bound = self.bound();
        let scale = if norm > bound { bound / norm } else { 1.0 };
        ((2.0 - scale) * scale * squares / self.energy_2).min(1.0)
    }
}

/// tau2 of each resample, with A of that resample.
fn refitted(
    white: ArrayView2<'_, f64>,
    black: ArrayView2<'_, f64>,
    inverse: &MomentInverse,
    resamples: &Resamples,
) -> Result<Vec<f64>, Error> {
    let (d1, d2) = (white.ncols(), black.ncols());
    let (cross_end, own_end) = (d2 * d1, (d2 + d1) * d1);
    let features = |samples: Range<usize>| {
        let mut features = Array2::zeros((samples.len(), own_end + 2));
        let rows = white.slice(s![samples.clone(), ..]);
        for ((mut to, white), black) in
            features.rows_mut().into_iter().zip(rows.rows()).zip(black.slice(s![samples, ..]).rows())
        {
            let products = black.iter().chain(white).flat_map(|x| white.iter().map(move |y| x * y));
            let energies = [white.dot(&white), black.dot(&black)];
            to.iter_mut().zip(products.chain(energies)).for_each(|(to, product)| *to = product);
        }
        CowArray::<f64, Ix2>::from(features)
    };
    let shares = resamples.map_means(own_end + 2, features, |means| {
        let at = |index: usize| means.get(index).copied().unwrap_or_default();
        let cross = square(means.slice(s![..cross_end]), d2, d1);
        let moments = Moments { cross, energy_1: at(own_end), energy_2: at(own_end + 1) };
        let root = inverse.resampled_root(square(means.slice(s![cross_end..own_end]), d1, d1).view())?;
        Ok(moments.fit(&root)?.share)
    });
    shares.into_iter().collect()
}

/// tau2 of each resample, with what A gains on it to first order around the A of all samples.
///
/// d‖X R‖²_F = 2⟨A, dX⟩ − ⟨AᵀA, dM⟩ and, for the top singular vectors u and v of A, dσ₁(A) = uᵀ(dX − A dM)M^† v: each
/// sample has its own number of both, and the share is made of their resampled means.
fn to_first_order(
    white: ArrayView2<'_, f64>,
    black: ArrayView2<'_, f64>,
    inverse: &MomentInverse,
    fit: &Fit,
    resamples: &Resamples,
) -> Result<Vec<f64>, Error> {
    let top = Top::of(fit.map.view(), inverse.root())?;
    // Of each sample: 2Δ₂ᵀAΔ₁ − ‖AΔ₁‖², its part of dσ₁, ‖Δ₁‖², ‖Δ₂‖².
    let mut numbers = Array2::zeros((white.nrows(), 4));
    let step = (BLOCK_NUMBERS / (white.ncols() + black.ncols()).max(1)).max(1);
    for start in (0..white.nrows()).step_by(step) {
        let range = start..(start + step).min(white.nrows());
        let (white, black) = (white.slice(s![range.clone(), ..]), black.slice(s![range.clone(), ..]));
        let mapped = product(white, fit.map.t());
        let mut parts = numbers.slice_mut(s![range, ..]);
        let rows = white.rows().into_iter().zip(black.rows()).zip(mapped.rows());
        for (mut to, ((white, black), mapped)) in parts.rows_mut().into_iter().zip(rows) {
            let along = (top.left.dot(&black) - top.left.dot(&mapped)) * top.right.dot(&white);
            let own = 2.0 * black.dot(&mapped) - mapped.dot(&mapped);
            to.assign(&Array1::from(vec![own, along, white.dot(&white), black.dot(&black)]));
        }
    }
    let rows = |samples: Range<usize>| CowArray::from(numbers.slice(s![samples, ..]));
    Ok(resamples.map_means(4, rows, |means| {
        let Some(&[squares, along, energy_1, energy_2]) = means.as_slice() else { return f64::NAN };
        let moments = Moments { cross: Array2::zeros((0, 0)), energy_1, energy_2 };
        if moments.stands_still() { 0.0 } else { moments.share(squares, top.value + along) }
    }))
}

/// The largest singular value of A with its vectors, the right one as M^† v.
struct Top {
    value: f64,
    left: Array1<f64>,
    right: Array1<f64>,
}

impl Top {
    fn of(map: ArrayView2<'_, f64>, root: &Array2<f64>) -> Result<Self, Error> {
        let by_rows = map.nrows() <= map.ncols();
        let gram = if by_rows { product(map, map.t()) } else { product(map.t(), map) };
        let eigen = SymmetricEigen::of(gram.view())?;
        let value = eigen.values.first().copied().unwrap_or_default().max(0.0).sqrt();
        let vector = if eigen.vectors.is_empty() { Array1::zeros(0) } else { eigen.vectors.column(0).to_owned() };
        let other = |of: ArrayView2<'_, f64>| of.dot(&vector) / value.max(f64::MIN_POSITIVE);
        let (left, right) = if by_rows { (vector.clone(), other(map.t())) } else { (other(map), vector.clone()) };
        Ok(Top { value, left, right: root.dot(&root.t().dot(&right)) })
    }
}

/// Σ Δ_{1→2}(x′) Δ_{1→1}(x)ᵀ over the pairs of a shuffle, (d2, d1).
fn shuffled_cross(
    white: ArrayView2<'_, f64>,
    black: ArrayView2<'_, f64>,
    kept: &[usize],
    shuffle: &Shuffle,
) -> Array2<f64> {
    let mut sum = Array2::zeros((black.ncols(), white.ncols()));
    let step = (BLOCK_NUMBERS / (white.ncols() + black.ncols()).max(1)).max(1);
    for start in (0..kept.len()).step_by(step) {
        let range = start..(start + step).min(kept.len());
        let (from, signs) = shuffle.part(kept, range.clone());
        let rows = gathered(black, from.iter().zip(signs).map(|(&place, &sign)| (place, [sign])));
        accumulate_product(rows.t(), white.slice(s![range, ..]), &mut sum);
    }
    sum
}

/// The largest singular value, or the Frobenius norm where that is within `enough` already.
fn spectral_norm(map: &Array2<f64>, enough: f64) -> Result<f64, Error> {
    let frobenius = map.iter().map(|x| x * x).sum::<f64>().sqrt();
    if frobenius <= enough {
        return Ok(frobenius);
    }
    let gram = if map.nrows() <= map.ncols() { product(map.view(), map.t()) } else { product(map.t(), map.view()) };
    Ok(largest_eigenvalue(gram.view())?.max(0.0).sqrt())
}
