//! tau1, of the paper's first version (arXiv 2006.14512v1): how far two attacks point the same way.

use ndarray::{ArrayView2, Zip};

use super::{Error, alpha::mean_null, error::check_samples};
use crate::{
    attack::DEAD_LENGTH,
    stats::{Estimate, Resamples},
};

/// ⟨δ₁, δ₂⟩²/(‖δ₁‖²‖δ₂‖²) of each sample, from perturbations (N, n); `None` where one is zero.
///
/// # Errors
/// When the perturbations differ in shape, or a number is not finite.
pub fn squared_cosines(
    perturbations_1: ArrayView2<'_, f32>,
    perturbations_2: ArrayView2<'_, f32>,
) -> Result<Vec<Option<f64>>, Error> {
    check_samples("perturbations of the second model", perturbations_1.nrows(), perturbations_2.nrows())?;
    let (expected, found) = (perturbations_1.ncols(), perturbations_2.ncols());
    if found != expected {
        return Err(Error::RowLength { what: "perturbations of the second model", expected, found });
    }
    let mut cosines = Vec::with_capacity(perturbations_1.nrows());
    for (sample, (first, second)) in perturbations_1.rows().into_iter().zip(perturbations_2.rows()).enumerate() {
        let (mut squares_1, mut squares_2, mut product) = (0.0, 0.0, 0.0);
        Zip::from(first).and(second).for_each(|&a, &b| {
            let (a, b) = (f64::from(a), f64::from(b));
            squares_1 += a * a;
            squares_2 += b * b;
            product += a * b;
        });
        if !(squares_1 + squares_2).is_finite() {
            return Err(Error::NotFinite { what: "the perturbation", sample });
        }
        let (length_1, length_2) = (squares_1.sqrt(), squares_2.sqrt());
        let cosine = product / length_1 / length_2;
        cosines.push((length_1 > DEAD_LENGTH && length_2 > DEAD_LENGTH).then(|| (cosine * cosine).min(1.0)));
    }
    Ok(cosines)
}

/// tau1 = E[⟨δ₁, δ₂⟩²/(‖δ₁‖²‖δ₂‖²)], 0..1, over the samples where both attacks exist.
///
/// The floor of unrelated attacks is 1/n for n pixels. `mispaired` holds the squared cosines between attacks on
/// different samples, for the shuffled null; it may be empty.
///
/// # Errors
/// When there is not one entry for each sample, a number is not finite, or no sample has both attacks.
pub fn tau1(
    squared_cosines: &[Option<f64>],
    n_pixels: usize,
    mispaired: &[Option<f64>],
    resamples: &Resamples,
) -> Result<Estimate, Error> {
    check_samples("squared cosines", resamples.n_samples(), squared_cosines.len())?;
    let live = squared_cosines.iter().flatten().count();
    if live == 0 {
        return Err(Error::AllDead);
    }
    let mispaired: Vec<f64> = mispaired.iter().copied().flatten().collect();
    Ok(Estimate {
        null_floor: Some(1.0 / n_pixels.max(1) as f64),
        shuffled: mean_null(&mispaired, live, resamples),
        ..resamples.mean_of_live(squared_cosines)?
    })
}
