//! When an attack on a classifier has succeeded.

use ndarray::{ArrayView1, ArrayView2};
use serde::{Deserialize, Serialize};

/// A rule for the class that a targeted attack aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetClass {
    Given(usize),
    /// The class of the smallest clean logit (Kurakin et al. 2017).
    LeastLikely,
    /// The class of the largest clean logit beside the one to leave.
    NextMostLikely,
}

/// A class for each row: to leave, or to be taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goal {
    classes: Vec<usize>,
    targeted: bool,
}

impl Goal {
    /// Any class but these.
    pub fn away_from(classes: Vec<usize>) -> Self {
        Goal { classes, targeted: false }
    }

    /// These classes.
    pub fn towards(classes: Vec<usize>) -> Self {
        Goal { classes, targeted: true }
    }

    /// The goal of a targeted attack on rows with these clean logits, which leaves `classes`.
    pub fn targeting(target: TargetClass, logits: ArrayView2<'_, f32>, classes: &[usize]) -> Self {
        let aims = logits.rows().into_iter().zip(classes).map(|(row, &own)| match target {
            TargetClass::Given(class) => class,
            TargetClass::LeastLikely => best_but(own, row, |logit| -logit),
            TargetClass::NextMostLikely => best_but(own, row, |logit| logit),
        });
        Goal::towards(aims.collect())
    }

    /// A class for each row.
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    pub fn is_targeted(&self) -> bool {
        self.targeted
    }

    /// Whether the logits of a row are what the attack wants. The first of equal logits wins.
    pub fn is_reached(&self, row: usize, logits: ArrayView1<'_, f32>) -> bool {
        self.classes.get(row).is_some_and(|&class| (argmax(logits.iter()) == class) == self.targeted)
    }
}

/// The class of the largest value of `key` but for one class; the first of equals.
fn best_but(own: usize, logits: ArrayView1<'_, f32>, key: impl Fn(f32) -> f32) -> usize {
    let keys: Vec<f32> =
        logits.iter().enumerate().map(|(class, &z)| if class == own { f32::NEG_INFINITY } else { key(z) }).collect();
    argmax(keys.iter())
}

/// The place of the largest value; the first of equals.
pub fn argmax<'a, T: PartialOrd + Copy + 'a>(values: impl Iterator<Item = &'a T>) -> usize {
    let mut best: Option<(usize, T)> = None;
    for (index, &value) in values.enumerate() {
        if best.is_none_or(|(_, kept)| value > kept) {
            best = Some((index, value));
        }
    }
    best.map_or(0, |(index, _)| index)
}
