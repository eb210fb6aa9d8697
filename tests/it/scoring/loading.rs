//! Models that are made ready and dropped by call.

use transferscore::{
    cancel::Cancel,
    error::Reason,
    scoring::{Scorer, Scoring, types::*},
};

use super::{bundled, options, pair};

fn scored(scorer: &Scorer, source: &str, seed: u64) -> PairScores {
    scorer.score(&pair(source, ScoreOptions { seed, ..options() }), &Cancel::default()).unwrap()
}

#[test]
fn a_model_is_loaded_dropped_and_loaded_again() {
    let scorer = bundled();
    let loaded = scorer.load_model("digits-50", None, &Cancel::default()).unwrap();
    assert_eq!((loaded.sample_shape, loaded.output_shape), (vec![1, 8, 8], vec![4]));
    assert_eq!(scorer.load_model("digits-50", Some("digits"), &Cancel::default()).unwrap().sample_shape, [1, 8, 8]);
    let unloaded = scorer.unload_model("digits-50").unwrap();
    assert_eq!(unloaded, UnloadedModel { was_loaded: true, in_use: false });
    assert!(!scorer.unload_model("digits-50").unwrap().was_loaded);

    let expected = scored(&scorer, "digits-50", 1);
    scorer.unload_model("digits-50").unwrap();
    scorer.unload_model("digits-reference").unwrap();
    // Another seed, so that no answer that is kept is taken.
    assert_ne!(scored(&scorer, "digits-50", 2).provenance.seed, expected.provenance.seed);
    assert_eq!(scored(&bundled(), "digits-50", 1), expected);

    let nothing = scorer.unload_model("digits-51").unwrap_err();
    assert_eq!((nothing.reason, nothing.field.as_deref()), (Reason::ModelNotFound, Some("name")));
    assert_eq!(scorer.load_model("digits-51", None, &Cancel::default()).unwrap_err().reason, Reason::ModelNotFound);
    assert_eq!(
        scorer.load_model("digits-50", Some("none"), &Cancel::default()).unwrap_err().field.as_deref(),
        Some("dataset")
    );
}

#[test]
fn a_call_that_is_left_loads_no_further_model() {
    let (scorer, left) = (bundled(), Cancel::default());
    left.cancel();
    let error = scorer.score(&pair("digits-50", options()), &left).unwrap_err();
    assert_eq!(error.reason, Reason::Cancelled);
    assert!(!scorer.unload_model("digits-50").unwrap().was_loaded);
}
