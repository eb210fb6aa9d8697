//! A card without memory, and one that is lost.

use transferscore::{
    cancel::Cancel,
    config::DeviceConfig,
    error::{Kind, Reason},
    scoring::{Scorer, Scoring, types::*},
};

use super::{rehearsed, rehearsed_with, scorer};
use crate::scoring::{attack, options, pair};

fn score(scorer: &Scorer, method: AttackMethod) -> transferscore::error::Result<PairScores> {
    let options = ScoreOptions { attack: attack(method), seed: 3, ..options() };
    scorer.score(&pair("digits-50", options), &Cancel::default())
}

fn told(scores: PairScores) -> String {
    format!("{scores:?}")
}

const METHODS: [AttackMethod; 3] = [AttackMethod::Virtual, AttackMethod::Pgd, AttackMethod::DeepFool];

#[test]
fn where_memory_is_short_batches_are_halved() {
    for method in METHODS {
        let (plenty, short) = (rehearsed(), rehearsed());
        short.troubles().short_of_memory_beyond(100);
        let (expected, given) = (score(&scorer(&plenty), method).unwrap(), score(&scorer(&short), method).unwrap());
        let alphas = |scores: &PairScores| (scores.source_to_reference.alpha1.value, scores.provenance.n_samples);
        let ((expected, n), (given, m)) = (alphas(&expected), alphas(&given));
        let difference = (expected - given).abs();
        assert!(n == m && difference < 1e-4, "{method:?}: {given:?} is not {expected:?}");
    }
}

#[test]
fn memory_that_is_short_in_the_middle_of_a_call_halves_batches_from_there_on() {
    let card = rehearsed();
    let scorer = scorer(&card);
    let before = score(&scorer, AttackMethod::Virtual).unwrap();
    card.troubles().short_of_memory_beyond(7);
    let after = score(&scorer, AttackMethod::Pgd).unwrap();
    assert_eq!(before.provenance.provider, after.provenance.provider);
}

#[test]
fn a_model_for_which_there_is_no_memory_at_all_is_refused() {
    let card = rehearsed();
    card.troubles().short_of_memory_beyond(0);
    let scorer = scorer(&card);
    let error = score(&scorer, AttackMethod::Virtual).unwrap_err();
    assert_eq!((error.reason, error.kind()), (Reason::DeviceMemoryExhausted, Kind::ResourceExhausted));
    assert!(error.message.contains("rehearsal has not enough memory"), "{}", error.message);
    // Others have given theirs back.
    card.troubles().short_of_memory_beyond(usize::MAX);
    assert!(score(&scorer, AttackMethod::Virtual).is_ok());
}

#[test]
fn what_a_lost_card_was_at_is_done_again() {
    for method in METHODS {
        let expected = told(score(&scorer(&rehearsed()), method).unwrap());
        let card = rehearsed();
        let scorer = scorer(&card);
        scorer.load_model("digits-50", Some("digits"), &Cancel::default()).unwrap();
        card.troubles().lose(1);
        assert_eq!(told(score(&scorer, method).unwrap()), expected, "{method:?}");
        assert!(!card.is_lost() && scorer.can_run());
    }
}

#[test]
fn a_card_that_is_lost_again_and_again_is_given_up() {
    let card = rehearsed();
    let scorer = scorer(&card);
    card.troubles().lose(usize::MAX);
    let error = score(&scorer, AttackMethod::Virtual).unwrap_err();
    assert_eq!((error.reason, error.kind()), (Reason::DeviceLost, Kind::Unavailable));
    assert!(card.is_lost() && !scorer.can_run());
    card.troubles().lose(0);
    assert_eq!(score(&scorer, AttackMethod::Pgd).unwrap_err().reason, Reason::DeviceLost);
}

#[test]
fn within_a_limit_of_memory_sessions_make_room_for_each_other() {
    // Half of it for weights: less than those of the two models.
    let narrow = rehearsed_with(DeviceConfig { memory_bytes: Some(64 << 10), ..DeviceConfig::default() });
    let (scorer, plenty) = (scorer(&narrow), scorer(&rehearsed()));
    for method in METHODS {
        assert_eq!(told(score(&scorer, method).unwrap()), told(score(&plenty, method).unwrap()), "{method:?}");
    }
}
