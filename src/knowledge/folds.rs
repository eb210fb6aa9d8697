//! Stratified folds: every fold has its share of every class.

use super::Error;
use crate::stats::{Purpose, permutation, stream};

/// The fold, in `0..folds`, of each sample, given its class in `0..n_classes`.
///
/// The members of each class are shuffled by the seed and dealt out in turn, each class going on where the one before it
/// stopped: the folds' sizes differ by at most 1, and so do a class's shares of them.
///
/// # Errors
/// With fewer than 2 folds, or fewer samples than folds.
pub fn stratified_folds(classes: &[usize], n_classes: usize, folds: usize, seed: u64) -> Result<Vec<usize>, Error> {
    if folds < 2 {
        return Err(Error::Folds(folds));
    }
    if classes.len() < folds {
        return Err(Error::TooFewSamples { needed: folds, found: classes.len() });
    }
    let mut members = vec![Vec::new(); n_classes];
    for (sample, &class) in classes.iter().enumerate() {
        if let Some(members) = members.get_mut(class) {
            members.push(sample);
        }
    }
    let mut dealt: Vec<(usize, usize)> = Vec::with_capacity(classes.len());
    for (class, members) in members.iter().enumerate() {
        let mut rng = stream(seed, Purpose::Folds, class as u64);
        for member in permutation(&mut rng, members.len()) {
            if let Some(&sample) = members.get(member) {
                dealt.push((sample, dealt.len() % folds));
            }
        }
    }
    dealt.sort_unstable();
    Ok(dealt.into_iter().map(|(_, fold)| fold).collect())
}
