//! Correlations of paired values, such as a score and a measured transfer over the sources of a ranking.
//!
//! Each is `None` for fewer than two pairs, for unequal lengths, for values that are not finite, and where one side is
//! constant.

use super::pairs::Pairs;

/// The four coefficients, each -1..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correlations {
    /// The product-moment correlation.
    pub pearson: f64,
    /// That of the ranks; ties share their average rank.
    pub spearman: f64,
    /// Tau-b (Kendall 1945).
    pub kendall: f64,
    /// Kendall's with pairs weighted by their ranks (Vigna 2015): a pair counts 1/(1 + r) for each of its members of rank r
    /// from 0, best first, so that mistakes among the best cost most. Ranks are those by one side, ties broken by the
    /// other; the coefficient is the mean over both ways. SciPy's `weightedtau`.
    pub weighted_kendall: f64,
}

impl Correlations {
    pub fn of(x: &[f64], y: &[f64]) -> Option<Correlations> {
        Pairs::new(x, y)?.correlations(&vec![1; x.len()])
    }
}

/// Pearson's product-moment correlation.
pub fn pearson(x: &[f64], y: &[f64]) -> Option<f64> {
    Some(Correlations::of(x, y)?.pearson)
}

/// Spearman's rank correlation.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    Some(Correlations::of(x, y)?.spearman)
}

/// Kendall's tau-b.
pub fn kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    Some(Correlations::of(x, y)?.kendall)
}

/// Kendall's tau weighted by rank.
pub fn weighted_kendall(x: &[f64], y: &[f64]) -> Option<f64> {
    Some(Correlations::of(x, y)?.weighted_kendall)
}
