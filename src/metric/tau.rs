//! tau1 and tau2, of the paper's first version (arXiv 2006.14512v1).

use ndarray::{Array2, ArrayView1, ArrayView2, Axis, Zip, parallel::prelude::*};

use super::{
    AttackSign, Error,
    alpha::mean_null,
    error::{check_finite, check_samples},
    gradient_matching::square,
    moment_inverse::MomentInverse,
    outer_mean::shuffled_rows,
};
use crate::{
    attack::DEAD_LENGTH,
    limits::NULL_SHUFFLES,
    stats::{Estimate, Resamples, ShuffledNull, largest_eigenvalue, product},
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

/// tau2 = ⟨2Δ_{1→2} − AΔ_{1→1}, AΔ_{1→1}⟩_D/‖Δ_{1→2}‖²_D: the share of model 2's deviation under model 1's attack that a
/// bounded linear map A of model 1's explains; at most 1, and 0 where model 2 stands still.
///
/// A = E[Δ_{1→2}Δ_{1→1}ᵀ] E[Δ_{1→1}Δ_{1→1}ᵀ]^†, scaled down to the spectral norm ‖Δ_{1→2}‖_D/‖Δ_{1→1}‖_D where above it.
/// `white` is Δ_{1→1} (N, d1), `black` is Δ_{1→2} (N, d2). A is found anew on each resample and on each shuffle; the interval
/// is recentred for that, see [`Resamples::recentred`].
///
/// # Errors
/// When the rows do not belong together, a number is not finite, or the attack moves no sample.
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
    let (d1, d2) = (white.ncols(), black.ncols());
    let energy = |rows: ArrayView2<'_, f64>| rows.iter().map(|x| x * x).sum::<f64>() / n as f64;
    let of_all =
        Moments { cross: product(black.t(), white) / n as f64, energy_1: energy(white), energy_2: energy(black) };
    let inverse = MomentInverse::of((product(white.t(), white) / n as f64).view())?;
    let value = of_all.share(inverse.root())?;

    let (cross, own) = (outer_rows(black, white), outer_rows(white, white));
    let energies = |rows: ArrayView2<'_, f64>| rows.map_axis(Axis(1), |row| row.dot(&row)).insert_axis(Axis(1));
    let (energies_1, energies_2) = (energies(white), energies(black));
    let (mut replicates, mut failure) = (Vec::new(), None);
    resamples.for_each_mean(&[cross.view(), own.view(), energies_1.view(), energies_2.view()], |parts| {
        let &[cross, own, energy_1, energy_2] = parts else { return };
        let moments = Moments { cross: square(cross, d2, d1), energy_1: energy_1.sum(), energy_2: energy_2.sum() };
        let root = inverse.resampled_root(square(own, d1, d1).view());
        match root.and_then(|root| moments.share(&root)) {
            Ok(share) => replicates.push(share),
            Err(error) => failure = Some(error),
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let shuffled: Result<Vec<f64>, Error> = (0..NULL_SHUFFLES as u64)
        .into_par_iter()
        .map(|shuffle| {
            let black = shuffled_rows(black, sign, resamples.seed(), shuffle);
            Moments { cross: product(black.t(), white.view()) / n as f64, ..of_all }.share(inverse.root())
        })
        .collect();
    Ok(Estimate {
        shuffled: ShuffledNull::of(shuffled?, resamples.confidence().level),
        ..resamples.recentred(value, replicates, f64::NEG_INFINITY..=1.0)
    })
}

struct Moments {
    /// E[Δ_{1→2} Δ_{1→1}ᵀ], (d2, d1).
    cross: Array2<f64>,

    /// ‖Δ_{1→1}‖²_D.
    energy_1: f64,
    /// ‖Δ_{1→2}‖²_D.
    energy_2: f64,
}

impl Moments {
    /// The share explained, given R with E[Δ_{1→1} Δ_{1→1}ᵀ]^† = R Rᵀ.
    ///
    /// With X = E[Δ_{1→2} Δ_{1→1}ᵀ], A = X R Rᵀ before it is scaled by s, and both ⟨Δ_{1→2}, AΔ_{1→1}⟩_D and ‖AΔ_{1→1}‖²_D
    /// are ‖X R‖²_F, so the share is (2s − s²)‖X R‖²_F/‖Δ_{1→2}‖²_D.
    fn share(&self, root: &Array2<f64>) -> Result<f64, Error> {
        if self.energy_2 <= 0.0 || self.energy_1 <= 0.0 {
            return Ok(0.0);
        }
        let fit = product(self.cross.view(), root.view());
        let bound = (self.energy_2 / self.energy_1).sqrt();
        let norm = spectral_norm(&product(fit.view(), root.t()), bound)?;
        let scale = if norm > bound { bound / norm } else { 1.0 };
        let squares = fit.iter().map(|x| x * x).sum::<f64>();
        Ok(((2.0 - scale) * scale * squares / self.energy_2).min(1.0))
    }
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

/// a bᵀ of each sample, a row each.
fn outer_rows(a: ArrayView2<'_, f64>, b: ArrayView2<'_, f64>) -> Array2<f64> {
    let mut products = Array2::zeros((a.nrows(), a.ncols() * b.ncols()));
    for ((mut row, a), b) in products.rows_mut().into_iter().zip(a.rows()).zip(b.rows()) {
        fill_outer(row.iter_mut(), a, b);
    }
    products
}

fn fill_outer<'a>(to: impl Iterator<Item = &'a mut f64>, a: ArrayView1<'_, f64>, b: ArrayView1<'_, f64>) {
    let products = a.iter().flat_map(|x| b.iter().map(move |y| x * y));
    to.zip(products).for_each(|(to, product)| *to = product);
}
