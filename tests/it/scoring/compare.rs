//! Comparisons of tasks with real models, against the pairs that they are made of.

use transferscore::{
    cancel::Cancel,
    error::Reason,
    scoring::{Scorer, Scoring, types::*},
};

use super::{attack, bundled, bundled_with, knowledge, options};

const MODELS: [&str; 4] = ["digits-reference", "digits-100", "digits-25", "digits-0"];

fn request(attack: AttackOptions) -> ComparisonRequest {
    let ScoreOptions { seed, confidence, .. } = options();
    ComparisonRequest {
        models: MODELS.map(str::to_owned).to_vec(),
        probe: Probe::Dataset("digits".to_owned()),
        max_samples: 0,
        attack,
        seed,
        confidence,
        cluster_by: TaskMatrix::Alpha1,
        n_groups: 2,
        known_groups: Vec::new(),
    }
}

fn compare(scorer: &Scorer, request: &ComparisonRequest) -> TaskComparison {
    scorer.compare(request, &mut |_| (), &Cancel::default()).unwrap()
}

/// Every entry off the diagonal is what a pair of its own gives.
fn agrees_with_its_pairs(attack: &AttackOptions) {
    let scorer = bundled();
    let found = compare(&scorer, &request(attack.clone()));
    for (row, attacked) in MODELS.into_iter().enumerate() {
        for (column, read) in MODELS.into_iter().enumerate().filter(|(column, _)| *column != row) {
            let pair = PairRequest {
                source_model: attacked.to_owned(),
                reference_model: read.to_owned(),
                probe: Probe::Dataset("digits".to_owned()),
                options: ScoreOptions {
                    attack: attack.clone(),
                    matching: MatchingOptions { skip: true, n_probes: 0 },
                    knowledge: KnowledgeOptions {
                        ridge: Some(0.1),
                        ..knowledge(vec![KnowledgeMeasure::FunctionMatching])
                    },
                    ..options()
                },
            };
            let expected = scorer.score(&pair, &Cancel::default()).unwrap().source_to_reference;
            for (found, expected) in [
                (&found.alpha1[row][column], expected.alpha1),
                (&found.alpha2[row][column], expected.alpha2),
                (&found.combined[row][column], expected.combined),
            ] {
                let of = |e: &Estimate| (e.value, e.lower, e.upper, e.shuffled.map(|null| null.mean));
                assert_eq!(of(found), of(&expected), "{attacked} on {read}");
            }
        }
    }
}

#[test]
fn first_order_comparisons_agree_with_their_pairs() {
    agrees_with_its_pairs(&attack(AttackMethod::Virtual));
}

#[test]
fn comparisons_by_running_models_agree_with_their_pairs() {
    agrees_with_its_pairs(&AttackOptions { epsilon: Some(0.1), ..attack(AttackMethod::Fgsm) });
}

#[test]
fn tasks_are_ordered_and_grouped() {
    let mut progress = Vec::new();
    let asked = request(attack(AttackMethod::Virtual));
    let found = bundled().compare(&asked, &mut |event| progress.push(event), &Cancel::default()).unwrap();
    let total = 182 * 16;
    assert!(progress.windows(2).all(|pair| pair[0].done < pair[1].done));
    assert!(progress.iter().all(|progress| progress.total == total));
    assert_eq!(progress.last().map(|progress| progress.done), Some(total));

    for index in 0..4 {
        assert!((found.alpha1[index][index].value - 1.0).abs() < 1e-12);
        assert_eq!(found.affinity[[index, index]], 0.0);
        assert!((found.affinity.column(index).sum() - 1.0).abs() < 1e-12);
    }
    // The reference's own four digits are all that digits-100 knows, and none of digits-0's.
    let on_reference = |attacked: usize| (found.alpha1[attacked][0].value, found.affinity[[attacked, 0]]);
    assert!(on_reference(1).0 > on_reference(3).0 && on_reference(1).1 > on_reference(3).1);
    assert_eq!(found.merges.len(), 3);
    // Those that share the reference's digits, and those that do not.
    assert_eq!(found.groups, [0, 0, 1, 1], "{:?}", found.merges);
    assert_eq!(found.models[3].name, "digits-0");
}

#[test]
fn known_groups_are_held_against_the_clustering() {
    let group =
        |name: &str, models: [&str; 2]| TaskGroup { name: name.to_owned(), models: models.map(str::to_owned).into() };
    let asked =
        |known_groups| ComparisonRequest { n_groups: 0, known_groups, ..request(attack(AttackMethod::Virtual)) };
    let found = compare(
        &bundled(),
        &asked(vec![
            group("its digits", ["digits-reference", "digits-100"]),
            group("others", ["digits-0", "digits-25"]),
        ]),
    );
    let agreement = found.group_agreement.unwrap();
    // As many clusters as known groups, without saying so.
    assert_eq!((&found.groups, &agreement.clusters), (&vec![0, 0, 1, 1], &vec![0, 0, 1, 1]));
    // A third of the orders of four models keep two pairs together.
    let index = agreement.adjusted_rand_index;
    assert_eq!((index.value, agreement.n_permutations), (1.0, 24));
    assert!((index.p_value - 1.0 / 3.0).abs() < 1e-12 && index.chance.mean.abs() < 1e-12, "{index:?}");
    assert!(agreement.cophenetic_correlation.unwrap().value > 0.5);
    assert!(found.cophenetic_correlation.unwrap() > 0.5);

    let other = compare(
        &bundled(),
        &asked(vec![group("a", ["digits-reference", "digits-0"]), group("b", ["digits-100", "digits-25"])]),
    );
    assert!(other.group_agreement.unwrap().adjusted_rand_index.value < 0.0);
    assert_eq!(compare(&bundled(), &asked(Vec::new())).group_agreement, None);
}

#[test]
fn threads_and_batches_change_no_bit() {
    let asked = ComparisonRequest { max_samples: 40, ..request(attack(AttackMethod::Virtual)) };
    assert_eq!(compare(&bundled_with(1, 1), &asked), compare(&bundled_with(2, 64), &asked));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let refused = |asked: &ComparisonRequest| {
        let error = bundled().compare(asked, &mut |_| (), &Cancel::default()).expect_err("a refusal");
        (error.reason, error.field.unwrap_or_default())
    };
    let levels = VirtualAttackOptions { levels: 2, ..VirtualAttackOptions::default() };
    let several = AttackOptions { virtual_attack: levels, ..attack(AttackMethod::Virtual) };
    assert_eq!(refused(&request(several)), (Reason::OptionUnsupported, "attack".to_owned()));
    let mut unknown = request(attack(AttackMethod::Virtual));
    unknown.models[2] = "nowhere".to_owned();
    assert_eq!(refused(&unknown), (Reason::ModelNotFound, "models[2]".to_owned()));
}
