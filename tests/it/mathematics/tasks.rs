//! What orders and groups many tasks: tournaments and clusters.

use ndarray::{Array2, array};
use proptest::prelude::*;
use transferscore::{
    metric::{Error, tournament},
    stats::{
        Confidence, Merge, adjusted_rand_index, cophenetic_correlation, cophenetic_distances, flat_groups,
        group_agreement, ward,
    },
};

use super::support::{close, groups, matrix, metrics, normal, number, numbers};

#[test]
fn tournaments_agree_with_numpy() {
    let case = &metrics()["tournament"];
    let found = tournament(matrix(&case["hurt"]).view()).unwrap();
    assert!((&found.shares - &matrix(&case["shares"])).iter().all(|x| x.abs() < 1e-15), "{:?}", found.shares);
    for (weight, expected) in found.weights.iter().zip(numbers(&case["weights"])) {
        close(*weight, expected, 1e-12);
    }
}

#[test]
fn equal_sources_draw_and_a_stronger_one_wins() {
    let found = tournament(Array2::<f64>::ones((3, 7)).view()).unwrap();
    assert!(found.weights.iter().all(|weight| (weight - 1.0 / 3.0).abs() < 1e-15));
    assert!(found.shares.iter().all(|&share| share == 0.5));
    let found = tournament(array![[2.0, 3.0], [1.0, 1.0]].view()).unwrap();
    // The eigenvector of [1 999; 1/999 1].
    assert_eq!((found.shares[[0, 1]], found.shares[[1, 0]]), (0.999, 0.001));
    close(found.weights[0], 0.999, 1e-12);
}

#[test]
fn tournaments_of_nothing_are_refused() {
    assert!(matches!(tournament(Array2::zeros((0, 3)).view()), Err(Error::SampleCount { .. })));
    assert!(matches!(tournament(Array2::zeros((2, 0)).view()), Err(Error::SampleCount { .. })));
    let broken = array![[1.0, 2.0], [f64::NAN, 0.0]];
    assert!(matches!(tournament(broken.view()), Err(Error::NotFinite { sample: 1, .. })));
}

#[test]
fn clusters_agree_with_scipy() {
    let case = &metrics()["clusters"];
    let merges = ward(matrix(&case["rows"]).view()).unwrap();
    let expected = matrix(&case["merges"]);
    assert_eq!(merges.len(), expected.nrows());
    for (merge, expected) in merges.iter().zip(expected.rows()) {
        assert_eq!(
            [merge.first as f64, merge.second as f64, merge.size as f64],
            [expected[0], expected[1], expected[3]]
        );
        close(merge.height, expected[2], 1e-12);
    }
    for (n_groups, expected) in case["groups"].as_object().unwrap() {
        let found = flat_groups(&merges, 9, n_groups.parse().unwrap());
        let expected = numbers(expected);
        for (a, b) in (0..9).flat_map(|a| (0..9).map(move |b| (a, b))) {
            assert_eq!(found[a] == found[b], expected[a] == expected[b], "{n_groups} groups: rows {a} and {b}");
        }
        assert_eq!(found[0], 0);
    }
}

#[test]
fn few_rows_have_few_merges() {
    assert_eq!(ward(Array2::zeros((0, 3)).view()), Some(vec![]));
    assert_eq!(ward(Array2::zeros((1, 3)).view()), Some(vec![]));
    let pair = ward(array![[0.0, 0.0], [3.0, 4.0]].view());
    assert_eq!(pair, Some(vec![Merge { first: 0, second: 1, height: 5.0, size: 2 }]));
    assert_eq!(ward(array![[0.0], [f64::INFINITY]].view()), None);
    assert_eq!(flat_groups(&[], 0, 3), Vec::<usize>::new());
    assert_eq!(flat_groups(&pair.unwrap(), 2, 0), vec![0, 0]);
}

fn parts(value: &serde_json::Value) -> Vec<usize> {
    numbers(value).into_iter().map(|part| part as usize).collect()
}

#[test]
fn rand_indices_agree_with_scikit_learn() {
    for case in groups()["partitions"].as_array().unwrap() {
        let (a, b) = (parts(&case["a"]), parts(&case["b"]));
        close(adjusted_rand_index(&a, &b).unwrap(), number(&case["index"]), 1e-12);
        close(adjusted_rand_index(&b, &a).unwrap(), number(&case["index"]), 1e-12);
    }
    assert_eq!(adjusted_rand_index(&[], &[]), None);
    assert_eq!(adjusted_rand_index(&[0, 1], &[0]), None);
    // Far apart as numbers, the same as parts.
    assert_eq!(adjusted_rand_index(&[usize::MAX, 3, 3], &[0, 1, 1]), Some(1.0));
}

const OFTEN: Confidence = Confidence { level: 0.95, resamples: 4_000 };

#[test]
fn cophenetic_distances_and_group_agreement_agree_with_scipy_and_enumeration() {
    for case in groups()["clusterings"].as_array().unwrap() {
        let (rows, members) = (matrix(&case["rows"]), parts(&case["groups"]));
        let merges = ward(rows.view()).unwrap();
        let heights = cophenetic_distances(&merges, members.len());
        for (height, expected) in heights.iter().zip(numbers(&case["cophenetic_distances"])) {
            close(*height, expected, 1e-12);
        }
        let correlation = cophenetic_correlation(&merges, rows.view()).unwrap();
        close(correlation, number(&case["cophenetic_correlation"]), 1e-12);

        let found = group_agreement(&merges, &members, OFTEN, 1).unwrap();
        let both = [
            (found.adjusted_rand_index, &case["adjusted_rand_index"]),
            (found.cophenetic_correlation.unwrap(), &case["group_correlation"]),
        ];
        for (found, expected) in both {
            close(found.value, number(&expected["value"]), 1e-12);
            // Every order is tried where they are few.
            if let Some(mean) = expected["mean"].as_f64() {
                close(found.chance.mean, mean, 1e-12);
                close(found.chance.upper, number(&expected["upper"]), 1e-12);
                close(found.p_value, number(&expected["p_value"]), 1e-12);
            } else {
                assert!(found.chance.mean.abs() < 0.02, "{found:?}");
                assert!(found.p_value > 0.0 && found.p_value < 0.01, "{found:?}");
            }
        }
        let n_orders = (1..=members.len()).product::<usize>();
        assert_eq!(found.n_permutations, if members.len() <= 8 { n_orders } else { 4_000 });
        assert_eq!(found, group_agreement(&merges, &members, OFTEN, 1).unwrap(), "seeded");
    }
}

#[test]
fn groups_that_say_nothing_have_no_correlation() {
    let merges = ward(array![[0.0], [1.0], [5.0]].view()).unwrap();
    for members in [[0, 0, 0], [0, 1, 2]] {
        let found = group_agreement(&merges, &members, OFTEN, 0).unwrap();
        assert_eq!((found.cophenetic_correlation, found.adjusted_rand_index.p_value), (None, 1.0), "{members:?}");
    }
    let equal = ward(Array2::zeros((4, 2)).view()).unwrap();
    assert_eq!(group_agreement(&equal, &[0, 0, 1, 1], OFTEN, 0).unwrap().cophenetic_correlation, None);
    assert_eq!(cophenetic_correlation(&equal, Array2::zeros((4, 2)).view()), None);
    assert_eq!(group_agreement(&[], &[], OFTEN, 0), None);
    let pair = array![[0.0], [1.0]];
    assert_eq!(cophenetic_correlation(&ward(pair.view()).unwrap(), pair.view()), None);
}

proptest! {
    #[test]
    fn groups_are_as_many_as_asked_for_and_nested(n in 1_usize..14, seed in 0_u64..1_000) {
        let merges = ward(normal((n, 3), seed).view()).unwrap();
        prop_assert!(merges.windows(2).all(|pair| pair[0].height <= pair[1].height));
        let mut finer = flat_groups(&merges, n, n);
        for n_groups in (1..=n).rev() {
            let groups = flat_groups(&merges, n, n_groups);
            prop_assert_eq!(groups.iter().max(), Some(&(n_groups - 1)));
            for (a, b) in (0..n).flat_map(|a| (0..n).map(move |b| (a, b))) {
                prop_assert!(finer[a] != finer[b] || groups[a] == groups[b]);
            }
            finer = groups;
        }
    }
}
