//! A source's features on a task, and what the estimators share: each factorisation is made once, by the first that asks.

use std::cell::OnceCell;

use ndarray::{Array2, ArrayView2, parallel::prelude::*};

use super::spectrum::{Rows, Spectrum};
use crate::{
    knowledge::{Classes, Error, error::check_finite},
    limits,
    stats::{Resamples, ShuffledNull},
};

/// What the estimators are told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskOptions {
    /// Of the random draws: shuffled labels, the start of the mixture, the samples of PARC.
    pub seed: u64,
    /// Neighbours that vote in k-NN, at least 1.
    pub n_neighbors: usize,
}

/// A source's features, and the labels or targets that they are to serve.
pub struct Task<'a> {
    features: ArrayView2<'a, f64>,
    classes: Result<Classes, Error>,
    targets: Option<Array2<f64>>,
    source_probabilities: Option<Array2<f64>>,
    options: TaskOptions,
    resamples: &'a Resamples,
    rows: OnceCell<Result<Rows<'a>, Error>>,
    spectrum: OnceCell<Result<Spectrum, Error>>,
}

impl<'a> Task<'a> {
    /// The task of features (N, D) with labels or targets (N, d), or neither. `source_probabilities` (N, source classes) are
    /// those that the source gives its own classes: in each row 0 or more, summing to 1.
    ///
    /// # Errors
    /// When there is not one of each for each sample, a number is not finite, or there are no features.
    pub fn new(
        features: ArrayView2<'a, f64>,
        labels: Option<&[u32]>,
        targets: Option<Array2<f64>>,
        source_probabilities: Option<Array2<f64>>,
        options: TaskOptions,
        resamples: &'a Resamples,
    ) -> Result<Self, Error> {
        let n = resamples.n_samples();
        let lengths = [
            ("features", Some(features.nrows())),
            ("labels", labels.map(<[u32]>::len)),
            ("targets", targets.as_ref().map(Array2::nrows)),
            ("source probabilities", source_probabilities.as_ref().map(Array2::nrows)),
        ];
        for (what, found) in lengths {
            if let Some(found) = found.filter(|found| *found != n) {
                return Err(Error::SampleCount { what, expected: n, found });
            }
        }
        check_finite("the feature", features)?;
        for (what, rows) in [("the target", &targets), ("the probability", &source_probabilities)] {
            rows.as_ref().map_or(Ok(()), |rows| check_finite(what, rows.view()))?;
        }
        if features.ncols() == 0 {
            return Err(Error::NoFeatures);
        }
        Ok(Task {
            features,
            classes: labels.map_or(Err(Error::NoLabels), |labels| match Classes::new(labels)? {
                classes if classes.count() == labels.len() => Err(Error::EveryClassOnce),
                classes => Ok(classes),
            }),
            targets,
            source_probabilities,
            options,
            resamples,
            rows: OnceCell::new(),
            spectrum: OnceCell::new(),
        })
    }

    /// (N, D).
    pub(super) fn features(&self) -> ArrayView2<'a, f64> {
        self.features
    }

    pub(super) fn options(&self) -> TaskOptions {
        self.options
    }

    pub(super) fn resamples(&self) -> &'a Resamples {
        self.resamples
    }

    /// # Errors
    /// Without labels, with one class, or where each class has one sample.
    pub(super) fn classes(&self) -> Result<&Classes, Error> {
        self.classes.as_ref().map_err(Clone::clone)
    }

    pub(super) fn targets(&self) -> Option<ArrayView2<'_, f64>> {
        self.targets.as_ref().map(|targets| targets.view())
    }

    /// # Errors
    /// Where the source is no classifier.
    pub(super) fn source_probabilities(&self) -> Result<ArrayView2<'_, f64>, Error> {
        self.source_probabilities.as_ref().map(|rows| rows.view()).ok_or(Error::NoSourceProbabilities)
    }

    /// The features in at most as many coordinates as there are samples.
    ///
    /// # Errors
    /// When there are too many of both.
    pub(super) fn rows(&self) -> Result<&Rows<'a>, Error> {
        self.rows.get_or_init(|| Rows::new(self.features)).as_ref().map_err(Clone::clone)
    }

    /// The principal axes of the features.
    ///
    /// # Errors
    /// When there are too many features and samples, or no feature varies.
    pub(super) fn spectrum(&self) -> Result<&Spectrum, Error> {
        self.spectrum.get_or_init(|| Spectrum::new(self.rows()?)).as_ref().map_err(Clone::clone)
    }

    /// A score's null: its values for shuffled labels, so many that the largest is not exceeded by chance more often than the
    /// confidence level says.
    pub(super) fn shuffled(&self, classes: &Classes, value: impl Fn(&Classes) -> f64 + Sync) -> Option<ShuffledNull> {
        let seed = self.options.seed;
        let level = self.resamples.confidence().level;
        let [fewest, most] = limits::LABEL_SHUFFLES;
        let count = ((1.0 / (1.0 - level)).round() as usize).clamp(fewest, most);
        let of_shuffle = |shuffle| value(&classes.shuffled(seed, shuffle));
        let mut values: Vec<f64> = (0..count).into_par_iter().map(of_shuffle).collect();
        values.retain(|value| value.is_finite());
        ShuffledNull::of(values, level)
    }
}
