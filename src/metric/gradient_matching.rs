//! How well an affine function g of the source can match the target's gradients.
//!
//! P = E[J_T J_Sᵀ], Q = E[J_S J_Sᵀ]: min over g of E‖J_T − J_{g∘f_S}‖²_F = E‖J_T‖²_F − tr(P Q^† Pᵀ).

use ndarray::{Array1, Array2, ArrayView1, ArrayView2, ArrayView3, Axis, concatenate};

use super::{
    Error,
    error::{check_finite, check_samples},
    moment_inverse::MomentInverse,
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

/// Matches gradients, with intervals from resampled grams.
///
/// The best g is found anew on each resample, which explains more there than g does on the samples; the intervals are
/// recentred for that, see [`Resamples::recentred`] (the distance on its square).
///
/// # Errors
/// When the moments do not belong together, a number is not finite, or the target has no gradients at all.
pub fn gradient_matching(grams: &CrossGrams, resamples: &Resamples) -> Result<GradientMatching, Error> {
    let n = resamples.n_samples();
    let d_source = grams.own.ncols().isqrt();
    let d_target = grams.cross.ncols() / d_source.max(1);
    check_samples("products of Jacobians", n, grams.cross.nrows())?;
    check_samples("products of Jacobians", n, grams.own.nrows())?;
    check_samples("products of Jacobians", n, grams.energy.len())?;
    for (rows, length) in [(&grams.own, d_source * d_source), (&grams.cross, d_target * d_source)] {
        if rows.ncols() != length {
            return Err(Error::RowLength { what: "products of Jacobians", expected: length, found: rows.ncols() });
        }
        check_finite("the product of Jacobians", rows.view())?;
    }
    let energies = grams.energy.view().insert_axis(Axis(1));
    check_finite("the gradient energy", energies)?;

    let mean = |rows: &Array2<f64>| rows.sum_axis(Axis(0)) / n as f64;
    let energy = grams.energy.sum() / n as f64;
    if energy <= 0.0 {
        return Err(Error::NoGradients);
    }
    let inverse = MomentInverse::of(square(mean(&grams.own).view(), d_source, d_source).view())?;
    // tr(P Q^† Pᵀ) = ‖P R‖²_F for Q^† = R Rᵀ.
    let matched = |cross: ArrayView1<'_, f64>, root: &Array2<f64>| {
        let fit = product(square(cross, d_target, d_source).view(), root.view());
        fit.iter().map(|x| x * x).sum::<f64>()
    };
    let matched_on_all = matched(mean(&grams.cross).view(), inverse.root()).clamp(0.0, energy);

    let (mut explained, mut squared) = (Vec::new(), Vec::new());
    let mut failure = None;
    resamples.for_each_mean(&[grams.cross.view(), grams.own.view(), energies], |parts| {
        let &[cross, own, energy] = parts else { return };
        let energy = energy.sum();
        match inverse.resampled_root(square(own, d_source, d_source).view()) {
            Ok(root) => {
                let matched = matched(cross, &root);
                explained.push((matched / energy).clamp(0.0, 1.0));
                squared.push((energy - matched).max(0.0));
            }
            Err(error) => failure = Some(error),
        }
    });
    if let Some(error) = failure {
        return Err(error);
    }
    let squared = resamples.recentred(energy - matched_on_all, squared, 0.0..=f64::INFINITY);
    Ok(GradientMatching {
        distance: Estimate {
            value: squared.value.sqrt(),
            lower: squared.lower.sqrt(),
            upper: squared.upper.sqrt(),
            ..squared
        },
        explained: resamples.recentred(matched_on_all / energy, explained, 0.0..=1.0),
    })
}

/// The entries as a matrix.
pub(super) fn square(entries: ArrayView1<'_, f64>, rows: usize, columns: usize) -> Array2<f64> {
    let view: Result<ArrayView2<'_, f64>, _> = entries.into_shape_with_order((rows, columns));
    view.map_or_else(|_| Array2::zeros((rows, columns)), |view| view.to_owned())
}
