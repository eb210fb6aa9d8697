//! Both sides of the theorems, against singular value decompositions and cases where they are known.

use ndarray::{Array2, Array3, Axis, s};
use transferscore::metric::{
    Error, TaskOutputs, TheoremCheck, TheoryChecks, TheoryMoments, joint_grams, theory_checks,
};

use super::support::{
    close, jacobians, matching, matrix, metrics, normal, normal_jacobians, number, numbers, resamples,
};

fn moments(target: &Array3<f32>, source: &Array3<f32>) -> TheoryMoments {
    let mut moments = TheoryMoments::new(target.dim().0, target.dim().1, source.dim().1).unwrap();
    let grams = joint_grams(target.view(), source.view()).unwrap();
    moments.add(&(0..target.dim().0).collect::<Vec<_>>(), grams.view()).unwrap();
    moments
}

fn checks(target: &Array3<f32>, source: &Array3<f32>) -> TheoryChecks {
    theory_checks(&moments(target, source), None).unwrap()
}

#[test]
fn both_sides_agree_with_numpy() {
    for case in metrics()["theorems"].as_array().unwrap() {
        let (source, target) = (jacobians(&case["source"]), jacobians(&case["target"]));
        let rows = |name: &str| matrix(&case[name]).mapv(|x| x as f32);
        let (outputs_source, outputs_target) = (rows("outputs_source"), rows("outputs_target"));
        let truth = matrix(&case["targets"]);
        let task = TaskOutputs {
            source: outputs_source.view(),
            target: outputs_target.view(),
            truth: truth.view(),
            radius: number(&case["radius"]),
            smoothness: number(&case["smoothness"]),
        };
        let found = theory_checks(&moments(&target, &source), Some(&task)).unwrap();
        let agree = |found: TheoremCheck, name: &str| {
            let expected = numbers(&case[name]);
            close(found.left, expected[0], 1e-9 * expected[0]);
            close(found.right, expected[1], 1e-9 * expected[1]);
        };
        agree(found.second, "second");
        agree(found.third.unwrap(), "third");
        assert!(found.second.slack() > 0.0 && found.third.unwrap().slack() > 0.0);
        assert_eq!(found.first.is_some(), source.dim().1 == 1 && target.dim().1 == 1);
        if let Some(first) = found.first {
            agree(first, "first");
            close(first.slack(), 0.0, 1e-12 * first.right);
        }
    }
}

#[test]
fn the_first_theorem_is_an_equality_with_dead_samples_too() {
    let (mut source, noise) = (normal_jacobians((40, 1, 5), 4), normal_jacobians((40, 1, 5), 5));
    let mut target = &source * 0.7 + noise;
    source.slice_mut(s![3, .., ..]).fill(0.0);
    target.slice_mut(s![7, .., ..]).fill(0.0);
    let first = checks(&target, &source).first.unwrap();
    close(first.slack(), 0.0, 1e-12 * first.right);
    let distance = matching(&target, &source, &resamples(40)).unwrap().distance.value;
    close(first.right, distance * distance, 1e-9);
}

#[test]
fn a_scaled_copy_leaves_nothing_and_the_spectral_norm_is_below_the_frobenius() {
    let source = normal_jacobians((20, 3, 6), 1);
    let found = checks(&source.mapv(|x| 2.0 * x), &source).second;
    close(found.left, 0.0, 1e-12);
    let target = normal_jacobians((20, 4, 6), 2);
    let distance = matching(&target, &source, &resamples(20)).unwrap().distance.value;
    let left = checks(&target, &source).second.left;
    assert!(left < distance * distance && left > distance * distance / 4.0);
}

#[test]
fn chunks_and_order_change_nothing() {
    let (source, target) = (normal_jacobians((30, 2, 6), 1), normal_jacobians((30, 3, 6), 2));
    let mut pieces = TheoryMoments::new(30, 3, 2).unwrap();
    for positions in [(10..30).rev().collect::<Vec<_>>(), (0..10).collect()] {
        let of = |jacobians: &Array3<f32>| jacobians.select(Axis(0), &positions);
        let grams = joint_grams(of(&target).view(), of(&source).view()).unwrap();
        pieces.add(&positions, grams.view()).unwrap();
    }
    assert_eq!(theory_checks(&pieces, None).unwrap(), checks(&target, &source));
}

#[test]
fn what_cannot_be_checked_is_refused() {
    let (source, target) = (normal_jacobians((8, 2, 6), 1), normal_jacobians((8, 3, 6), 2));
    let grams = joint_grams(target.view(), source.view()).unwrap();
    let mut moments = TheoryMoments::new(9, 3, 2).unwrap();
    assert!(matches!(moments.add(&[0, 1], grams.view()), Err(Error::SampleCount { .. })));
    let positions: Vec<usize> = (0..8).collect();
    moments.add(&positions, grams.view()).unwrap();
    assert_eq!(moments.add(&positions, grams.view()), Err(Error::Position { position: 0, n_samples: 9 }));
    assert!(matches!(theory_checks(&moments, None), Err(Error::NotFinite { sample: 8, .. })), "a sample is missing");
    let other = TheoryMoments::new(8, 3, 3).unwrap().add(&positions, grams.view());
    assert!(matches!(other, Err(Error::RowLength { expected: 36, found: 25, .. })));
    let narrow = normal_jacobians((8, 2, 5), 1);
    assert!(matches!(joint_grams(target.view(), narrow.view()), Err(Error::Jacobian(_))));
    assert!(matches!(TheoryMoments::new(100_000, 10, 10), Err(Error::TooManySamples { limit: 41_943, .. })));

    let still = Array3::<f32>::zeros((8, 2, 6));
    let of = |target: &Array3<f32>, source: &Array3<f32>| theory_checks(&self::moments(target, source), None);
    assert_eq!(of(&still, &source), Err(Error::NoGradients));
    assert_eq!(of(&source, &still), Err(Error::AllDead));
    let (rows, wrong) = (Array2::<f32>::zeros((8, 2)), normal((8, 3), 1));
    let task =
        TaskOutputs { source: rows.view(), target: rows.view(), truth: wrong.view(), radius: 1.0, smoothness: 1.0 };
    let found = theory_checks(&self::moments(&source, &source), Some(&task));
    assert!(matches!(found, Err(Error::RowLength { expected: 2, found: 3, .. })));
}
