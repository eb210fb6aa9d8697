//! What orders and groups many tasks: tournaments and clusters.

use ndarray::{Array2, array};
use proptest::prelude::*;
use transferscore::{
    metric::{Error, tournament},
    stats::{Merge, flat_groups, ward},
};

use super::support::{close, matrix, metrics, normal, numbers};

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
