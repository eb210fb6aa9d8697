//! SFDA (Shao et al. 2022): regularised Fisher discriminant analysis, judged after the samples have been mixed with the other
//! classes' means as far as they are not told apart.

use ndarray::{Array1, Array2, ArrayView2, Axis};

use super::Task;
use crate::{
    knowledge::{Classes, Error, Score},
    stats::{gram_of_columns, largest_eigenvalue, product, solve_positive},
};

/// The shrinkage is exp(−5 λ), λ the largest eigenvalue of the scatter within classes, and at least 1e-10.
const TEMPERATURE: f64 = 5.0;
const LEAST_SHRINKAGE: f64 = 1e-10;
/// Double steps of the power iteration for λ in the authors' code, which stops there.
const POWER_STEPS: usize = 3;

/// SFDA: the mean probability of a sample's own class, without a logarithm, as in the authors' code: a discriminant is fitted
/// to the features; each sample becomes p x + (1 − p) μ̄, p its own class's entry in the softmax of the probabilities, μ̄ the
/// sum of the other classes' means over C − 1; a second discriminant with the same shrinkage is fitted to these and judged on
/// them.
///
/// The interval holds both discriminants fixed.
pub(super) fn sfda(task: &Task<'_>) -> Result<Score, Error> {
    let (classes, rows) = (task.classes()?, task.rows()?);
    let discriminant = Discriminant { classes, n_features: rows.n_features as f64 };
    let means = classes.means(rows.centred.view());
    let within = discriminant.within_of(&rows.scatter, &means);
    let shrinkage = shrinkage(&within, &rows.ones)?;
    let mut confidence = discriminant.probabilities(rows.centred.view(), &means, within, shrinkage)?;
    softmax(&mut confidence);
    let others = (&means.sum_axis(Axis(0)) - &means) / (classes.count() - 1) as f64;
    let mut mixed = rows.centred.clone();
    for ((mut row, confidence), &class) in mixed.rows_mut().into_iter().zip(confidence.rows()).zip(classes.of_samples())
    {
        let own = confidence.get(class).copied().unwrap_or(0.0);
        row *= own;
        row.scaled_add(1.0 - own, &others.row(class));
    }
    drop(confidence);
    let (within, means) = (discriminant.within(mixed.view()), classes.means(mixed.view()));
    let probabilities = discriminant.probabilities(mixed.view(), &means, within, shrinkage)?;
    let own: Vec<f64> = probabilities
        .rows()
        .into_iter()
        .zip(classes.of_samples())
        .map(|(row, &class)| row.get(class).copied().unwrap_or(0.0))
        .collect();
    Ok(Score::with_interval(task.resamples().mean(&own)?))
}

/// The largest eigenvalue of a scatter matrix (p, p) as the authors estimate it: by a power iteration from its row sums. Where
/// those vanish, exactly.
fn shrinkage(within: &Array2<f64>, ones: &Array1<f64>) -> Result<f64, Error> {
    let unit = |vector: Array1<f64>| {
        let length = vector.dot(&vector).sqrt();
        (length > 0.0).then(|| vector / length)
    };
    let mut iterate = Some((within.dot(ones), Array1::zeros(0)));
    for _ in 0..POWER_STEPS {
        iterate = iterate.and_then(|(x, _)| {
            let y = unit(within.dot(&x))?;
            Some((unit(within.dot(&y))?, y))
        });
    }
    let largest = match iterate {
        Some((x, y)) => x.dot(&within.dot(&y)),
        None => largest_eigenvalue(within.view())?,
    };
    Ok((-TEMPERATURE * largest).exp().max(LEAST_SHRINKAGE))
}

/// Linear discriminant analysis of centred rows (N, p) that stand for `n_features` features.
struct Discriminant<'a> {
    classes: &'a Classes,
    n_features: f64,
}

impl Discriminant<'_> {
    /// The mean covariance within classes, weighted by their sizes: (p, p); of the scatter of centred rows and their means,
    /// by S_w = S − Σ_c n_c m_c m_cᵀ.
    fn within_of(&self, scatter: &Array2<f64>, means: &Array2<f64>) -> Array2<f64> {
        let sizes = Array1::from_iter(self.classes.sizes().iter().map(|&size| (size as f64).sqrt()));
        let between = gram_of_columns((means * &sizes.insert_axis(Axis(1))).view());
        (scatter - &between) / self.classes.of_samples().len() as f64
    }

    /// The same of rows that need not be centred.
    fn within(&self, rows: ArrayView2<'_, f64>) -> Array2<f64> {
        let means = self.classes.means(rows);
        let mut deviations = rows.to_owned();
        for (mut row, &class) in deviations.rows_mut().into_iter().zip(self.classes.of_samples()) {
            row -= &means.row(class);
        }
        gram_of_columns(deviations.view()) / rows.nrows() as f64
    }

    /// softmax over classes of xᵀW⁻¹m_c − ½ m_cᵀW⁻¹m_c + ln(n_c/N), W = (1 − s)S + s·(tr S/D)·I: (N, C). All D discriminant
    /// directions count, as in the authors' code, so that no eigenvectors are needed.
    fn probabilities(
        &self,
        rows: ArrayView2<'_, f64>,
        means: &Array2<f64>,
        within: Array2<f64>,
        shrinkage: f64,
    ) -> Result<Array2<f64>, Error> {
        let variance = within.diag().sum() / self.n_features;
        let mut shrunk = within * (1.0 - shrinkage);
        shrunk.diag_mut().mapv_inplace(|x| x + shrinkage * variance);
        let coefficients = solve_positive(shrunk.view(), means.t()).ok_or(Error::NotANumber)?;
        let n = rows.nrows() as f64;
        let offsets = means.rows().into_iter().zip(coefficients.columns()).zip(self.classes.sizes());
        let offsets: Array1<f64> = offsets
            .map(|((mean, coefficients), &size)| (size as f64 / n).ln() - 0.5 * mean.dot(&coefficients))
            .collect();
        let mut scores = product(rows, coefficients.view()) + &offsets;
        softmax(&mut scores);
        Ok(scores)
    }
}

/// softmax of each row, in place.
fn softmax(rows: &mut Array2<f64>) {
    for mut row in rows.rows_mut() {
        let largest = row.fold(f64::NEG_INFINITY, |largest, &x| largest.max(x));
        row.mapv_inplace(|x| (x - largest).exp());
        let sum = row.sum();
        row /= sum;
    }
}
