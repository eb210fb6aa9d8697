//! The features in few coordinates, and their principal axes.

use ndarray::{Array1, Array2, ArrayView2, Axis, CowArray, Ix2};

use crate::{
    knowledge::Error,
    limits,
    stats::{FactoredEigen, SymmetricEigen, gram_of_columns, gram_of_rows, product},
};

/// Directions with less than this share of the largest sum of squares are rounding: of double precision where the features
/// are used as they are, of the single precision that models compute in where they come from their Gram matrix.
const CUT: f64 = 1e-13;
const GRAM_CUT: f64 = 1e-12;
/// So is variation below this share of the features' own sum of squares: the mean of a constant is rounded.
const VARIATION_CUT: f64 = 1e-24;

/// The features in p coordinates: their own where they are no more than the samples; else coordinates in an orthonormal
/// basis of what the samples span, in which every length and inner product is the same.
pub(super) struct Rows<'a> {
    /// (N, p).
    pub rows: CowArray<'a, f64, Ix2>,
    /// The same less their mean, (N, p).
    pub centred: Array2<f64>,
    /// Their sums of products, (p, p).
    pub scatter: Array2<f64>,
    /// (p).
    pub mean: Array1<f64>,
    /// The coordinates of the vector of ones, as far as the samples span it, (p).
    pub ones: Array1<f64>,
    /// D.
    pub n_features: usize,
}

impl<'a> Rows<'a> {
    pub fn new(features: ArrayView2<'a, f64>) -> Result<Self, Error> {
        let (n, n_features) = features.dim();
        if n.min(n_features) > limits::FITTED_WIDTH {
            return Err(Error::TooWide { what: "features", width: n_features, limit: limits::FITTED_WIDTH });
        }
        let (rows, ones) = if n_features <= n {
            (CowArray::from(features), Array1::ones(n_features))
        } else {
            // X Xᵀ = U S² Uᵀ, X = U S Vᵀ: the coordinates are U S, and those of ones Vᵀ1 = S⁻¹ Uᵀ X 1.
            let eigen = SymmetricEigen::of(gram_of_rows(features).view())?;
            let rank = eigen.rank(GRAM_CUT);
            let left = eigen.vectors.slice(ndarray::s![.., ..rank]);
            let roots = eigen.values.slice(ndarray::s![..rank]).mapv(f64::sqrt);
            let ones = left.t().dot(&features.sum_axis(Axis(1))) / &roots;
            (CowArray::from(&left * &roots), ones)
        };
        let mean = rows.sum_axis(Axis(0)) / n as f64;
        let centred = &rows - &mean;
        let squares = |rows: ArrayView2<'_, f64>| rows.fold(0.0, |sum, x| sum + x * x);
        if squares(centred.view()) <= squares(rows.view()) * VARIATION_CUT {
            return Err(Error::ConstantFeatures);
        }
        let scatter = gram_of_columns(centred.view());
        Ok(Rows { rows, centred, scatter, mean, ones, n_features })
    }
}

/// The principal axes of the centred features.
pub(super) struct Spectrum {
    /// λ: sums of squares along the axes, (p), largest first; what is rounding is 0. Divided by N the variances.
    pub values: Array1<f64>,
    /// Axes with a sum of squares above 0, at least 1.
    pub rank: usize,
    eigen: FactoredEigen,
}

impl Spectrum {
    pub fn new(rows: &Rows<'_>) -> Result<Self, Error> {
        let eigen = FactoredEigen::of(rows.scatter.view())?;
        let cut = eigen.values.first().copied().unwrap_or(0.0) * CUT;
        let values = eigen.values.mapv(|value| if value > cut { value } else { 0.0 });
        let rank = values.iter().take_while(|&&value| value > 0.0).count();
        if rank == 0 {
            return Err(Error::ConstantFeatures);
        }
        Ok(Spectrum { values, rank, eigen })
    }

    /// Rows (m, p), which are centred as the features are, along the axes: (m, p).
    pub fn along(&self, rows: ArrayView2<'_, f64>) -> Array2<f64> {
        self.eigen.along(rows)
    }

    /// The same along the first axes only: (m, n_axes).
    pub fn along_first(&self, rows: ArrayView2<'_, f64>, n_axes: usize) -> Array2<f64> {
        product(rows, self.eigen.leading(n_axes).view())
    }
}
