//! Work that was broken off goes on where it was, and comes to the same to the bit.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use transferscore::{
    cancel::Cancel,
    error::{Reason, Result},
    scoring::{Scorer, ScorerConfig, Scoring, Units, types::*},
};

use super::{attack, config, options};
use crate::{server_process::repository, support};

/// Units in memory, which may break the work off.
#[derive(Default)]
struct Shelf {
    units: Mutex<HashMap<String, Vec<u8>>>,
    names: Mutex<Vec<String>>,
    /// Units after which the work is cancelled; 0 for never.
    most: AtomicUsize,
    cancel: Cancel,
}

impl Shelf {
    fn breaking_off_after(units: usize) -> Self {
        Shelf { most: AtomicUsize::new(units), ..Shelf::default() }
    }

    /// Breaks nothing off any more.
    fn go_on(&mut self) {
        self.most = AtomicUsize::new(0);
        self.cancel = Cancel::default();
    }

    /// What was kept since the last call.
    fn names(&self) -> Vec<String> {
        std::mem::take(&mut *self.names.lock().unwrap())
    }
}

impl Units for Shelf {
    fn are_kept(&self) -> bool {
        true
    }

    fn kept(&self, key: &str) -> Option<Vec<u8>> {
        self.units.lock().unwrap().get(key).cloned()
    }

    fn keep(&self, key: &str, name: &str, unit: &[u8]) -> Result<()> {
        self.units.lock().unwrap().insert(key.to_owned(), unit.to_vec());
        let mut names = self.names.lock().unwrap();
        names.push(name.to_owned());
        if names.len() == self.most.load(Ordering::Relaxed) {
            self.cancel.cancel();
        }
        Ok(())
    }
}

/// A scorer that has answered nothing yet.
fn scorer_with(group_bytes: usize, models: &Path) -> Scorer {
    let config = config(vec![models.to_owned()], vec![repository("models/datasets")], 64);
    Scorer::open(ScorerConfig { group_bytes, ..config }, support::runtime()).unwrap()
}

fn scorer(group_bytes: usize) -> Scorer {
    scorer_with(group_bytes, &repository("models"))
}

fn ranking(attack: AttackOptions) -> RankingRequest {
    RankingRequest {
        source_models: ["digits-0", "digits-25", "digits-50", "digits-75", "digits-100"].map(str::to_owned).into(),
        reference_model: "digits-reference".to_owned(),
        probe: Probe::Dataset("digits".to_owned()),
        options: ScoreOptions { attack, theory: Some(TheoryOptions { smoothness: Some(1.0) }), ..options() },
        rank_by: RankingMetric::Recommended,
        recommend_from: Vec::new(),
    }
}

type Rows = Vec<(String, PairScores)>;

fn rank(scorer: &Scorer, request: &RankingRequest, shelf: &Shelf) -> Result<(Rows, Ranking)> {
    let mut rows = Vec::new();
    let mut on_event = |event| {
        if let RankingEvent::Row { source_model, scores } = event {
            rows.push((source_model, *scores));
        }
    };
    let ranking = scorer.rank_in_units(request, shelf, &mut on_event, &shelf.cancel)?;
    Ok((rows, ranking))
}

fn plain(scorer: &Scorer, request: &RankingRequest) -> (Rows, Ranking) {
    let mut rows = Vec::new();
    let mut on_event = |event| {
        if let RankingEvent::Row { source_model, scores } = event {
            rows.push((source_model, *scores));
        }
    };
    let ranking = scorer.rank(request, &mut on_event, &Cancel::default()).unwrap();
    (rows, ranking)
}

#[test]
fn a_ranking_goes_on_where_it_was_broken_off() {
    for (attack, group_bytes, first) in [
        (attack(AttackMethod::Virtual), 1 << 30, 2),
        (AttackOptions { epsilons: vec![0.05, 0.1], ..attack(AttackMethod::Fgsm) }, 1 << 30, 2),
        // In several groups sources are finished four at a time.
        (attack(AttackMethod::Virtual), 1, 4),
    ] {
        let request = ranking(attack);
        let undisturbed = plain(&scorer(group_bytes), &request);

        let mut shelf = Shelf::breaking_off_after(first);
        assert_eq!(rank(&scorer(group_bytes), &request, &shelf).unwrap_err().reason, Reason::Cancelled);
        assert_eq!(shelf.names(), request.source_models[..first]);

        // Another process, as it were: nothing is known but the units.
        shelf.go_on();
        let resumed = rank(&scorer(group_bytes), &request, &shelf).unwrap();
        assert_eq!(shelf.names(), request.source_models[first..]);
        assert_eq!(resumed, undisturbed);

        let again = rank(&scorer(group_bytes), &request, &shelf).unwrap();
        assert!(shelf.names().is_empty(), "everything was kept");
        assert_eq!(again, undisturbed);
    }
}

#[test]
fn what_an_earlier_call_answered_is_kept_too() {
    let (scorer, request, shelf) = (scorer(1 << 30), ranking(attack(AttackMethod::Virtual)), Shelf::default());
    let undisturbed = plain(&scorer, &request);
    assert_eq!(rank(&scorer, &request, &shelf).unwrap(), undisturbed);
    assert_eq!(shelf.names(), request.source_models);
}

#[test]
fn units_of_other_models_or_options_are_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["digits-0", "digits-25", "digits-reference"] {
        let place = folder.path().join(name);
        std::fs::create_dir(&place).unwrap();
        for file in ["model.onnx", "model.toml"] {
            std::fs::copy(repository("models").join(name).join(file), place.join(file)).unwrap();
        }
    }
    let mut request = ranking(attack(AttackMethod::Virtual));
    request.source_models = vec!["digits-0".to_owned(), "digits-25".to_owned()];
    let shelf = Shelf::default();
    let (before, _) = rank(&scorer_with(1 << 30, folder.path()), &request, &shelf).unwrap();
    assert_eq!(shelf.names(), request.source_models);

    // The file of one source is another's now.
    std::fs::copy(repository("models/digits-50/model.onnx"), folder.path().join("digits-25/model.onnx")).unwrap();
    let scorer = scorer_with(1 << 30, folder.path());
    let (after, _) = rank(&scorer, &request, &shelf).unwrap();
    assert_eq!(shelf.names(), ["digits-25"]);
    assert_eq!(after[0], before[0]);
    let digest = |row: &(String, PairScores)| row.1.provenance.source_model.digest.clone();
    assert_ne!(digest(&after[1]), digest(&before[1]));
    assert_ne!(after[1].1.tau1, before[1].1.tau1);

    request.options.seed = 1;
    rank(&scorer, &request, &shelf).unwrap();
    assert_eq!(shelf.names(), request.source_models);
}

#[test]
fn units_that_cannot_be_read_are_computed_again() {
    let (request, shelf) = (ranking(attack(AttackMethod::Virtual)), Shelf::default());
    let undisturbed = rank(&scorer(1 << 30), &request, &shelf).unwrap();
    shelf.names();
    shelf.units.lock().unwrap().values_mut().for_each(|unit| unit.truncate(unit.len() / 2));
    assert_eq!(rank(&scorer(1 << 30), &request, &shelf).unwrap(), undisturbed);
    assert_eq!(shelf.names(), request.source_models);
}

fn comparison(attack: AttackOptions) -> ComparisonRequest {
    let ScoreOptions { seed, confidence, .. } = options();
    ComparisonRequest {
        models: ["digits-reference", "digits-100", "digits-0"].map(str::to_owned).to_vec(),
        probe: Probe::Dataset("digits".to_owned()),
        max_samples: 0,
        attack,
        seed,
        confidence,
        cluster_by: TaskMatrix::Affinity,
        n_groups: 2,
        known_groups: Vec::new(),
    }
}

#[test]
fn a_comparison_goes_on_where_it_was_broken_off() {
    for attack in [attack(AttackMethod::Virtual), AttackOptions { epsilon: Some(0.1), ..attack(AttackMethod::Fgsm) }] {
        let request = comparison(attack);
        let undisturbed = scorer(1).compare(&request, &mut |_| (), &Cancel::default()).unwrap();

        let mut shelf = Shelf::breaking_off_after(3);
        let compare = |shelf: &Shelf, request: &ComparisonRequest, progress: &mut Vec<Progress>| {
            scorer(1).compare_in_units(request, shelf, &mut |now| progress.push(now), &shelf.cancel)
        };
        let error = compare(&shelf, &request, &mut Vec::new()).unwrap_err();
        assert_eq!(error.reason, Reason::Cancelled);
        let first = shelf.names();
        assert_eq!(first.len(), 3, "{first:?}");

        shelf.go_on();
        let mut progress = Vec::new();
        assert_eq!(compare(&shelf, &request, &mut progress).unwrap(), undisturbed);
        let rest = shelf.names();
        // 182 samples, at least 16 a group.
        assert_eq!(
            [first, rest].concat(),
            (1..=12).map(|part| format!("samples, part {part} of 12")).collect::<Vec<_>>()
        );
        let (known, last) = (&progress[..3], progress.last().unwrap());
        assert!(known.iter().all(|now| now.stage == "finished before"), "{known:?}");
        assert_eq!((last.done, last.total), (182 * 9, 182 * 9));

        // Another question about the same matrices.
        let other = ComparisonRequest { cluster_by: TaskMatrix::Combined, ..request.clone() };
        let expected = scorer(1).compare(&other, &mut |_| (), &Cancel::default()).unwrap();
        assert_eq!(compare(&shelf, &other, &mut Vec::new()).unwrap(), expected);
        assert!(shelf.names().is_empty());
        let other = ComparisonRequest { seed: 1, ..request };
        compare(&shelf, &other, &mut Vec::new()).unwrap();
        assert_eq!(shelf.names().len(), 12, "another seed draws other pairs");
    }
}
