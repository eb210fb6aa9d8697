//! alpha1, alpha2 and combined: how an attack made on model 1 moves model 2 (Liang et al. 2021, section 3).

use ndarray::{Array1, ArrayView1, ArrayView2, Axis, CowArray};

use super::{
    Error,
    coordinates::coordinates,
    error::{check_finite, check_samples},
    outer_mean::OuterPairs,
};
use crate::{
    attack::DEAD_LENGTH,
    limits::{MOMENT_OUTPUTS, NULL_SHUFFLES},
    stats::{Estimate, Purpose, Resamples, ShuffledNull, below, stream},
};

/// Most numbers of a mean of outer products that is computed as it is.
const OUTER_NUMBERS: usize = 1 << 24;
/// Most numbers of one that is computed as it is although there are fewer samples than outputs.
const CHEAP_OUTER_NUMBERS: usize = 1 << 18;

/// Output changes of the two models, a row a sample, first-order or measured.
#[derive(Clone, Copy, Debug)]
pub struct Deviations<'a> {
    /// Δ_{1→1}: of model 1 under its own attack, (N, d1).
    pub white: ArrayView2<'a, f64>,
    /// Δ_{1→2}: of model 2 under model 1's attack, (N, d2).
    pub black: ArrayView2<'a, f64>,
    /// Δ_{2→2}: of model 2 under its own attack, (N, d2).
    pub black_own: ArrayView2<'a, f64>,
}

/// Whether the sign of the attack means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttackSign {
    /// The virtual attack: δ and −δ are equally good, so the shuffled null draws signs at random.
    Arbitrary,
    /// FGSM, PGD: −δ lowers the loss that δ raises, so the shuffled null keeps the signs.
    Meaningful,
}

/// What the caller knows about unrelated models.
#[derive(Clone, Copy, Debug)]
pub struct Nulls<'a> {
    pub sign: AttackSign,
    /// alpha1 of a random direction, as [`alpha1_floor`] gives it; `None` where unknown.
    pub alpha1_floor: Option<f64>,
    /// Deviations of model 2 at each sample under model 1's attack on *another* sample, (N, d2); `None` where unknown.
    pub mispaired: Option<ArrayView2<'a, f64>>,
}

/// The three alphas of one direction.
#[derive(Clone, Debug, PartialEq)]
pub struct Alphas {
    /// E[‖Δ_{1→2}‖ / ‖Δ_{2→2}‖].
    pub alpha1: Estimate,
    /// ‖E[û_{1→1} û_{1→2}ᵀ]‖_F, 0..1.
    pub alpha2: Estimate,
    /// ‖E[alpha1(x) û_{1→1} û_{1→2}ᵀ]‖_F.
    pub combined: Estimate,
    /// Samples whose own attack, of model 1 or of model 2, moves nothing: they take no part in the means.
    pub n_dead_samples: usize,
}

/// Computes the alphas of the attack 1 → 2, with intervals, floors and shuffled nulls.
///
/// A sample is dead where Δ_{1→1} or Δ_{2→2} is zero. Where only Δ_{1→2} is zero, model 2 stands still under an attack that
/// works: the sample counts, with a ratio of 0 and no direction.
///
/// Floors for unrelated models with n live samples, each the root mean square over random signs: alpha2 1/√n, combined
/// √(E[alpha1(x)²]/n). The shuffled nulls re-pair Δ_{1→1}(x) with Δ_{1→2}(x′); that of alpha1 resamples
/// the ratios that `nulls.mispaired` gives.
///
/// # Errors
/// When the rows do not belong together, a number is not finite, every sample is dead, or both the outputs and the samples
/// are too many.
pub fn alphas(deviations: &Deviations<'_>, nulls: &Nulls<'_>, resamples: &Resamples) -> Result<Alphas, Error> {
    check(deviations, nulls, resamples.n_samples())?;
    let (white, black, own) = (lengths(deviations.white), lengths(deviations.black), lengths(deviations.black_own));
    let ratios: Vec<Option<f64>> = white
        .iter()
        .zip(&black)
        .zip(&own)
        .map(|((&white, &black), &own)| (white > DEAD_LENGTH && own > DEAD_LENGTH).then(|| black / own))
        .collect();
    let live: Vec<usize> = (0..ratios.len()).filter(|&i| ratios.get(i).copied().flatten().is_some()).collect();
    if live.is_empty() {
        return Err(Error::AllDead);
    }
    let n_dead_samples = ratios.len() - live.len();
    let mut alpha1 = resamples.mean_of_live(&ratios)?;
    alpha1.null_floor = nulls.alpha1_floor;
    alpha1.shuffled = nulls.mispaired.and_then(|mispaired| {
        let ratios = lengths(mispaired) / &own;
        mean_null(
            &live.iter().filter_map(|&sample| ratios.get(sample).copied()).collect::<Vec<_>>(),
            live.len(),
            resamples,
        )
    });

    let ones: Array1<f64> = ratios.iter().map(|ratio| if ratio.is_some() { 1.0 } else { 0.0 }).collect();
    let weightings = [ones.clone(), ratios.iter().map(|ratio| ratio.unwrap_or(0.0)).collect()];
    // No rotation of the outputs changes the norms, so rows of many are taken in as many coordinates as samples.
    let outer = deviations.white.ncols().saturating_mul(deviations.black.ncols());
    let is_large = outer > OUTER_NUMBERS || (outer > CHEAP_OUTER_NUMBERS && ratios.len() <= MOMENT_OUTPUTS);
    let turned = |rows| if is_large { coordinates(rows) } else { Ok(CowArray::from(rows)) };
    let (left, right) = (turned(deviations.white)?, turned(deviations.black)?);
    let pairs = OuterPairs::new((left.view(), white.view()), (right.view(), black.view()), ones);
    let level = resamples.confidence().level;
    let shuffled = pairs.shuffled_norms(&weightings, nulls.sign, resamples);
    let estimates = pairs.norms_of_means(&weightings, resamples);
    let mut estimates =
        estimates.into_iter().zip(shuffled).zip(&weightings).map(|((estimate, shuffled), weights)| Estimate {
            null_floor: Some(pairs.squared_lengths(weights.view()).sqrt() / live.len() as f64),
            shuffled: ShuffledNull::of(shuffled, level),
            ..estimate
        });
    let (Some(alpha2), Some(combined)) = (estimates.next(), estimates.next()) else { return Err(Error::AllDead) };
    // A mean of unit products has a norm of at most 1; rounding goes beyond.
    let [value, lower, upper] = [alpha2.value, alpha2.lower, alpha2.upper].map(|norm| norm.min(1.0));
    Ok(Alphas { alpha1, alpha2: Estimate { value, lower, upper, ..alpha2 }, combined, n_dead_samples })
}

fn check(deviations: &Deviations<'_>, nulls: &Nulls<'_>, n_samples: usize) -> Result<(), Error> {
    let Deviations { white, black, black_own } = *deviations;
    let expected = black_own.ncols();
    for (what, rows, expected) in [
        ("model 1's own deviation", white, white.ncols()),
        ("model 2's deviation under model 1's attack", black, expected),
        ("model 2's own deviation", black_own, expected),
        ("model 2's deviation under another sample's attack", nulls.mispaired.unwrap_or(black_own), expected),
    ] {
        check_samples(what, n_samples, rows.nrows())?;
        check_finite(what, rows)?;
        if rows.ncols() != expected {
            return Err(Error::RowLength { what, expected, found: rows.ncols() });
        }
    }
    Ok(())
}

/// alpha1 of a random direction, to first order: E[‖J₂‖_F/(√n ‖Δ_{2→2}‖)] over the samples where model 2 responds.
///
/// `energies` holds ‖J₂‖²_F of each sample, `own` Δ_{2→2} = J₂ v₂ (N, d2), and n is the number of pixels: a uniformly random
/// unit direction moves model 2 by ‖J₂‖_F/√n in root mean square. `None` where model 2 responds nowhere.
pub fn alpha1_floor(energies: ArrayView1<'_, f64>, own: ArrayView2<'_, f64>, n_pixels: usize) -> Option<f64> {
    let pixels = n_pixels.max(1) as f64;
    let own = lengths(own);
    let live = energies.iter().zip(&own).filter(|(_, own)| **own > DEAD_LENGTH);
    let ratios: Vec<f64> = live.map(|(energy, own)| (energy / pixels).sqrt() / own).collect();
    (!ratios.is_empty()).then(|| ratios.iter().sum::<f64>() / ratios.len() as f64)
}

/// The null of a mean over `n` samples from one re-pairing of them, whose ratios are `values`; `None` without values.
///
/// Another pairing is as far from this one's mean as this one is from that of all pairings. So the means of `n` draws with
/// replacement, [`NULL_SHUFFLES`] of them, are spread around their own mean by √2 as much as they fall, which is how a fresh
/// pairing falls.
pub(super) fn mean_null(values: &[f64], n: usize, resamples: &Resamples) -> Option<ShuffledNull> {
    if values.is_empty() || !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let centre = values.iter().sum::<f64>() / values.len() as f64;
    let means = (0..NULL_SHUFFLES as u64).map(|draw| {
        let mut rng = stream(resamples.seed(), Purpose::Mispairing, draw);
        let sum: f64 = (0..n).filter_map(|_| values.get(below(&mut rng, values.len()))).map(|x| x - centre).sum();
        centre + std::f64::consts::SQRT_2 * sum / n as f64
    });
    ShuffledNull::of(means.collect(), resamples.confidence().level)
}

fn lengths(rows: ArrayView2<'_, f64>) -> Array1<f64> {
    rows.map_axis(Axis(1), |row| row.dot(&row).sqrt())
}
