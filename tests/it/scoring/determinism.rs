//! The same request and seed give the same bits, whatever runs beside and however much at once.

use transferscore::{
    cancel::Cancel,
    scoring::{Scoring, types::*},
};

use super::{attack, bundled_with, options, pair};

/// Debug output of every field: f64 prints its shortest exact form, so equal text is equal bits.
fn fingerprint(threads: usize, batch_size: usize, attack: AttackOptions) -> String {
    let options = ScoreOptions { attack, seed: 7, ..options() };
    let scores = bundled_with(threads, batch_size).score(&pair("digits-50", options), &Cancel::default()).unwrap();
    format!("{scores:?}")
}

fn check(attack: AttackOptions) {
    let expected = fingerprint(1, 1, attack.clone());
    for (threads, batch_size) in [(1, 64), (2, 1), (2, 64), (2, 1_000)] {
        assert_eq!(fingerprint(threads, batch_size, attack.clone()), expected, "{threads} threads, batch {batch_size}");
    }
}

#[test]
fn virtual_attack() {
    check(attack(AttackMethod::Virtual));
}

#[test]
fn projected_gradient_from_a_random_start() {
    check(AttackOptions { random_start: true, steps: 3, ..attack(AttackMethod::Pgd) });
}

#[test]
fn another_seed_gives_other_intervals_and_the_same_values() {
    let scorer = bundled_with(2, 64);
    let score = |seed| {
        let options = ScoreOptions { seed, ..options() };
        scorer.score(&pair("digits-50", options), &Cancel::default()).unwrap().source_to_reference.alpha1
    };
    let (first, second) = (score(1), score(2));
    assert_eq!(first.value, second.value);
    assert_ne!((first.lower, first.upper), (second.lower, second.upper));
}
