//! Which samples are trained on, which say when to stop, and which judge.

use crate::stats::{Purpose, permutation, stream};

/// A run's samples, ascending; no sample is in two parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    pub training: Vec<usize>,
    /// Say when to stop; empty without early stopping.
    pub validation: Vec<usize>,
    /// Judge the result, and have no say in it.
    pub held_out: Vec<usize>,
}

/// Share of what is not held out that says when to stop.
const VALIDATION_SHARE: f64 = 0.1;

impl Split {
    /// Takes the samples that say when to stop from those trained on, if there is to be early stopping.
    #[must_use]
    pub fn with_validation(self, classes: &[usize], seed: u64, run: usize) -> Split {
        let Split { training, held_out, .. } = self;
        let of_training: Vec<usize> = training.iter().map(|&at| classes.get(at).copied().unwrap_or(0)).collect();
        let chosen = drawn(&of_training, VALIDATION_SHARE, seed, Purpose::Validation, run as u64);
        let part = |wanted: bool| {
            let pairs = training.iter().zip(&chosen).filter(move |(_, chosen)| **chosen == wanted);
            pairs.map(|(&sample, _)| sample).collect()
        };
        Split { training: part(false), validation: part(true), held_out }
    }
}

/// One run that holds a share of the samples out, about the same share of each class.
///
/// `classes` has a class for each sample; one class for all is no stratification. At least one sample stays in each part.
pub fn share(classes: &[usize], held_out: f64, seed: u64) -> Split {
    let chosen = drawn(classes, held_out, seed, Purpose::HeldOut, 0);
    let part = |wanted: bool| (0..classes.len()).filter(|&at| chosen.get(at) == Some(&wanted)).collect();
    Split { training: part(false), validation: Vec::new(), held_out: part(true) }
}

/// A run for each fold, which it holds out. `fold_of` has a fold in `0..n_folds` for each sample.
pub fn folds(fold_of: &[usize], n_folds: usize) -> Vec<Split> {
    let run = |fold: usize| {
        let (held_out, training) = (0..fold_of.len()).partition(|&sample| fold_of.get(sample) == Some(&fold));
        Split { training, validation: Vec::new(), held_out }
    };
    (0..n_folds).map(run).collect()
}

/// Draws a share of the samples, evenly over the classes: the members of each class are shuffled and put in a row, class
/// after class, of which every (1/share)-th is taken.
fn drawn(classes: &[usize], share: f64, seed: u64, purpose: Purpose, run: u64) -> Vec<bool> {
    let n = classes.len();
    let n_classes = classes.iter().max().map_or(0, |&largest| largest + 1);
    let mut members = vec![Vec::new(); n_classes];
    for (sample, &class) in classes.iter().enumerate() {
        if let Some(members) = members.get_mut(class) {
            members.push(sample);
        }
    }
    let mut row = Vec::with_capacity(n);
    for (class, members) in members.iter().enumerate() {
        let mut rng = stream(seed, purpose, (run << 32) | class as u64);
        row.extend(permutation(&mut rng, members.len()).into_iter().filter_map(|at| members.get(at).copied()));
    }
    let count = ((n as f64 * share).round() as usize).clamp(1.min(n), n.saturating_sub(1).max(1.min(n)));
    let mut chosen = vec![false; n];
    for (place, sample) in row.into_iter().enumerate() {
        // The place is taken where the number of those taken so far rises.
        if (place + 1) * count / n > place * count / n
            && let Some(chosen) = chosen.get_mut(sample)
        {
            *chosen = true;
        }
    }
    chosen
}
