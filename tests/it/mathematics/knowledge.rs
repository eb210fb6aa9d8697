use ndarray::{Array2, Axis, s};
use proptest::prelude::*;
use transferscore::{
    knowledge::{
        ClassFigures, Error, LogisticProblem, affine_fit, affine_fit_by_folds, linear_probe, stratified_folds,
    },
    stats::{Purpose, below, stream},
};

use super::support::{close, contains_its_value, golden, matrix, normal, number, numbers, resamples};

#[test]
fn least_squares_agrees_with_numpy() {
    for name in ["tall", "collinear", "lonely", "wide"] {
        let case = &golden()["affine"][name];
        let (features, targets) = (matrix(&case["features"]), matrix(&case["targets"]));
        let fit = affine_fit(features.view(), targets.view(), Some(0.0), &resamples(features.nrows())).unwrap();
        close(fit.distance.value, number(&case["least_squares"]["distance"]), 1e-9);
        close(fit.r2.value, number(&case["least_squares"]["r2"]), 1e-9);
        assert_eq!((fit.ridge, fit.n_features), (0.0, features.ncols()));
    }
}

#[test]
fn leave_one_out_agrees_with_refitting_without_each_sample() {
    for name in ["tall", "collinear", "lonely", "wide"] {
        let case = &golden()["affine"][name];
        let (features, targets) = (matrix(&case["features"]), matrix(&case["targets"]));
        for ridge in case["ridges"].as_array().unwrap() {
            let strength = number(&ridge["strength"]);
            let fit =
                affine_fit(features.view(), targets.view(), Some(strength), &resamples(features.nrows())).unwrap();
            close(fit.distance.value, number(&ridge["distance"]), 1e-9);
            close(fit.held_out_distance.value, number(&ridge["held_out_distance"]), 1e-8);
            close(fit.held_out_r2.value, number(&ridge["held_out_r2"]), 1e-8);
            for estimate in [fit.distance, fit.r2, fit.held_out_distance, fit.held_out_r2] {
                contains_its_value(&estimate);
            }
        }
    }
}

#[test]
fn an_affine_function_is_matched_without_ridge() {
    let features = normal((200, 6), 1);
    let targets = features.dot(&normal((6, 3), 2)) + 4.0;
    let fit = affine_fit(features.view(), targets.view(), None, &resamples(200)).unwrap();
    assert_eq!(fit.ridge, 0.0);
    assert!(fit.distance.upper < 1e-12 && fit.held_out_distance.upper < 1e-12);
    close(fit.r2.value, 1.0, 1e-14);
}

#[test]
fn rows_wider_than_there_are_samples_are_fitted_as_their_coordinates() {
    // Each column 30 times over √30: the same lengths and products in 30 times the width.
    let widened = |rows: &Array2<f64>| {
        Array2::from_shape_fn((rows.nrows(), rows.ncols() * 30), |(row, i)| rows[[row, i / 30]] / 30_f64.sqrt())
    };
    let features = normal((20, 8), 31);
    let targets = features.dot(&normal((8, 3), 32)) + normal((20, 3), 33);
    for ridge in [0.0, 0.1] {
        let of = |features: &Array2<f64>, targets: &Array2<f64>, ridge: f64| {
            affine_fit(features.view(), targets.view(), Some(ridge), &resamples(20)).unwrap()
        };
        let narrow = of(&features, &targets, ridge);
        // The strength is relative to the mean squared feature, which is a thirtieth.
        let wide = of(&widened(&features), &widened(&targets), ridge * 30.0);
        close(wide.distance.value, narrow.distance.value, 1e-7);
        close(wide.held_out_r2.value, narrow.held_out_r2.value, 1e-7);
    }
}

#[test]
fn many_samples_need_no_ridge() {
    let features = normal((2000, 10), 3);
    let targets = features.dot(&normal((10, 2), 4)) + normal((2000, 2), 5) * 3.0;
    let of = |ridge| affine_fit(features.view(), targets.view(), ridge, &resamples(2000)).unwrap();
    assert_eq!(of(None), of(Some(0.0)));
    close(of(None).distance.value, 18_f64.sqrt(), 0.2);
}

#[test]
fn ridge_is_chosen_where_features_are_many_and_targets_noisy() {
    let features = normal((40, 60), 6);
    let targets = features.slice(s![.., ..1]).to_owned() + normal((40, 1), 7) * 2.0;
    let of = |ridge| affine_fit(features.view(), targets.view(), ridge, &resamples(40)).unwrap();
    let (chosen, none) = (of(None), of(Some(0.0)));
    assert!(chosen.ridge > 0.0);
    assert!(chosen.held_out_distance.value < none.held_out_distance.value);
    assert!(none.distance.value < 1e-9 && chosen.distance.value > 0.0);
}

#[test]
fn unrelated_features_explain_nothing_that_is_held_out() {
    let fit = affine_fit(normal((300, 5), 8).view(), normal((300, 1), 9).view(), None, &resamples(300)).unwrap();
    assert!(fit.held_out_r2.value < 0.02 && fit.held_out_r2.value > -0.1, "{:?}", fit.held_out_r2);
}

#[test]
fn constant_features_explain_nothing() {
    let features = Array2::from_elem((20, 3), 0.3);
    let fit = affine_fit(features.view(), normal((20, 2), 1).view(), None, &resamples(20)).unwrap();
    close(fit.r2.value, 0.0, 1e-12);
}

#[test]
fn folds_agree_with_refitting_without_them() {
    let golden: serde_json::Value = serde_json::from_str(include_str!("../../golden/estimators.json")).unwrap();
    let case = &golden["ridge_by_folds"];
    let (features, targets) = (matrix(&case["features"]), matrix(&case["targets"]));
    let fold_of: Vec<usize> = numbers(&case["fold_of"]).into_iter().map(|fold| fold as usize).collect();
    let of = |ridge| affine_fit_by_folds(features.view(), targets.view(), ridge, &fold_of, &resamples(30)).unwrap();
    let mut least = f64::INFINITY;
    for expected in case["held_out"].as_array().unwrap() {
        let fit = of(Some(number(&expected["strength"])));
        close(fit.held_out_distance.value, number(&expected["distance"]), 1e-7);
        least = least.min(fit.held_out_distance.value);
    }
    assert!(of(None).held_out_distance.value <= least * 1.005 + 1e-12);
    // Each sample a fold of its own is leave-one-out.
    let each: Vec<usize> = (0..30).collect();
    let by_folds = affine_fit_by_folds(features.view(), targets.view(), Some(0.1), &each, &resamples(30)).unwrap();
    let alone = affine_fit(features.view(), targets.view(), Some(0.1), &resamples(30)).unwrap();
    close(by_folds.held_out_r2.value, alone.held_out_r2.value, 1e-10);
    let one = affine_fit_by_folds(features.view(), targets.view(), None, &[0; 30], &resamples(30));
    assert_eq!(one, Err(Error::Folds(1)));
}

#[test]
fn affine_input_is_checked() {
    let (features, targets) = (normal((10, 2), 1), normal((10, 1), 2));
    let of = |features: &Array2<f64>, targets: &Array2<f64>, ridge| {
        affine_fit(features.view(), targets.view(), ridge, &resamples(10)).unwrap_err()
    };
    assert!(matches!(of(&normal((9, 2), 1), &targets, None), Error::SampleCount { expected: 10, found: 9, .. }));
    assert_eq!(of(&Array2::zeros((10, 0)), &targets, None), Error::NoFeatures);
    assert_eq!(of(&features, &Array2::ones((10, 1)), None), Error::ConstantTargets);
    assert_eq!(of(&features, &targets, Some(-1.0)), Error::Ridge(-1.0));
    let mut broken = features.clone();
    broken[[3, 1]] = f64::INFINITY;
    assert!(matches!(of(&broken, &targets, None), Error::NotFinite { sample: 3, .. }));
    let two = affine_fit(normal((2, 1), 1).view(), normal((2, 1), 2).view(), None, &resamples(2));
    assert_eq!(two, Err(Error::TooFewSamples { needed: 3, found: 2 }));
}

fn classes() -> Vec<usize> {
    numbers(&golden()["logistic"]["labels"]).into_iter().map(|label| label as usize).collect()
}

#[test]
fn the_logistic_optimum_agrees_with_scikit_learn() {
    let case = &golden()["logistic"];
    let features = matrix(&case["features"]);
    let problem = LogisticProblem::new(features.view(), &classes(), 3).unwrap();
    let mut previous = None;
    for fit in case["fits"].as_array().unwrap() {
        let found = problem.solve(number(&fit["l2"]), previous.as_ref()).unwrap();
        close(found.objective, number(&fit["objective"]), 1e-9);
        assert!(found.gradient <= 1e-6);
        let cold = problem.solve(number(&fit["l2"]), None).unwrap();
        assert!((&cold.weights - &found.weights).slice(s![..4, ..]).iter().all(|w| w.abs() < 1e-3));
        previous = Some(found);
    }
    assert_eq!(problem.solve(0.0, None), Err(Error::Strength(0.0)));
}

/// Three clouds in four dimensions, `distance` apart.
fn clouds(n_samples: usize, distance: f64, seed: u64) -> (Array2<f64>, Vec<u32>) {
    let mut rng = stream(seed, Purpose::Subsample, 3);
    let labels: Vec<u32> = (0..n_samples).map(|_| below(&mut rng, 3) as u32).collect();
    let mut features = normal((n_samples, 4), seed);
    for (mut row, &label) in features.rows_mut().into_iter().zip(&labels) {
        row[label as usize] += distance;
    }
    (features, labels)
}

#[test]
fn distant_classes_are_told_apart_and_unrelated_labels_are_not() {
    let (features, labels) = clouds(300, 12.0, 1);
    let probe = linear_probe(features.view(), &labels, 5, 7, &resamples(300)).unwrap();
    assert_eq!(probe.accuracy.value, 1.0);
    assert!(probe.cross_entropy.value < 0.02);
    assert_eq!((probe.folds, probe.n_features), (5, 4));
    let counts: Vec<usize> = (0..3).map(|class| labels.iter().filter(|&&label| label == class).count()).collect();
    assert_eq!(probe.classes.iter().map(|class| class.n_samples).collect::<Vec<_>>(), counts);
    assert!(probe.classes.iter().all(|class| class.accuracy == 1.0));

    let (features, labels) = clouds(600, 0.0, 2);
    let probe = linear_probe(features.view(), &labels, 5, 7, &resamples(600)).unwrap();
    close(probe.accuracy.value, 1.0 / 3.0, 0.08);
    close(probe.cross_entropy.value, 3_f64.ln(), 0.02);
    let of_classes = |read: fn(&ClassFigures) -> f64| {
        probe.classes.iter().map(|class| class.n_samples as f64 * read(class)).sum::<f64>() / 600.0
    };
    close(of_classes(|class| class.accuracy), probe.accuracy.value, 1e-12);
    close(of_classes(|class| class.cross_entropy), probe.cross_entropy.value, 1e-12);
    contains_its_value(&probe.accuracy);
}

#[test]
fn the_probe_comes_near_the_best_possible_classifier() {
    let (features, labels) = clouds(1500, 2.0, 3);
    let best = features.rows().into_iter().zip(&labels).filter(|(row, label)| {
        let own = row[**label as usize];
        row.iter().take(3).all(|&other| other <= own)
    });
    let best = best.count() as f64 / 1500.0;
    let probe = linear_probe(features.view(), &labels, 5, 7, &resamples(1500)).unwrap();
    close(probe.accuracy.value, best, 0.02);
}

#[test]
fn the_strength_for_a_fold_is_chosen_on_the_other_folds() {
    let (features, labels) = clouds(48, 0.7, 9);
    let probe = linear_probe(features.view(), &labels, 4, 7, &resamples(48)).unwrap();

    let mean = features.mean_axis(Axis(0)).unwrap();
    let standardised = (&features - &mean) / features.std_axis(Axis(0), 0.0);
    let classes: Vec<usize> = labels.iter().map(|&label| label as usize).collect();
    let fold_of = stratified_folds(&classes, 3, 4, 7).unwrap();
    // Summed held-out loss by fold and strength.
    let losses = Array2::from_shape_fn((4, 10), |(fold, index)| {
        let (own, others): (Vec<usize>, Vec<usize>) = (0..48).partition(|&sample| fold_of[sample] == fold);
        let fitted = standardised.select(Axis(0), &others);
        let known: Vec<usize> = others.iter().map(|&sample| classes[sample]).collect();
        let problem = LogisticProblem::new(fitted.view(), &known, 3).unwrap();
        let fit = problem.solve(10_f64.powf(1.0 - index as f64 * 2.0 / 3.0), None).unwrap();
        let log_probabilities = fit.log_probabilities(standardised.select(Axis(0), &own).view());
        own.iter().zip(log_probabilities.rows()).map(|(&sample, row)| -row[classes[sample]]).sum::<f64>()
    });
    let least = |sums: ndarray::Array1<f64>| (0..10).min_by(|&a, &b| sums[a].total_cmp(&sums[b])).unwrap();
    let total = losses.sum_axis(Axis(0));
    let nested: f64 = (0..4).map(|fold| losses[[fold, least(&total - &losses.row(fold))]]).sum();
    let optimistic: f64 = (0..4).map(|fold| losses[[fold, least(losses.row(fold).to_owned())]]).sum();
    assert!(nested > optimistic + 0.1, "the data tell the two rules apart: {nested} {optimistic}");
    close(probe.cross_entropy.value, nested / 48.0, 1e-5);
    close(probe.l2, 10_f64.powf(1.0 - least(total) as f64 * 2.0 / 3.0), 1e-12);
}

#[test]
fn scales_offsets_constant_and_repeated_features_and_label_names_do_not_matter() {
    let (features, labels) = clouds(120, 1.5, 4);
    let plain = linear_probe(features.view(), &labels, 4, 7, &resamples(120)).unwrap();
    let dull = Array2::from_elem((120, 1), 0.1);
    let changed = ndarray::concatenate(Axis(1), &[(&features * 50.0 - 7.0).view(), dull.view()]).unwrap();
    let names: Vec<u32> = labels.iter().map(|&label| 10 + 90 * label).collect();
    let other = linear_probe(changed.view(), &names, 4, 7, &resamples(120)).unwrap();
    close(other.cross_entropy.value, plain.cross_entropy.value, 1e-6);
    assert_eq!((other.accuracy, other.n_features), (plain.accuracy, 4));
}

#[test]
fn more_features_than_samples_are_probed() {
    let (few, labels) = clouds(60, 3.0, 5);
    let features = ndarray::concatenate(Axis(1), &[few.view(), normal((60, 100), 6).view()]).unwrap();
    let probe = linear_probe(features.view(), &labels, 3, 7, &resamples(60)).unwrap();
    assert_eq!(probe.n_features, 104);
    assert!(probe.accuracy.value > probe.majority_accuracy, "{probe:?}");
}

#[test]
fn a_probe_is_the_same_on_any_number_of_threads_and_another_with_other_folds() {
    let (features, labels) = clouds(90, 1.0, 6);
    let of = |threads, seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| linear_probe(features.view(), &labels, 3, seed, &resamples(90)).unwrap())
    };
    assert_eq!(of(1, 7), of(3, 7));
    assert_ne!(of(1, 7), of(1, 8));
}

#[test]
fn probe_input_is_checked() {
    let features = normal((6, 2), 1);
    let of = |features: &Array2<f64>, labels: &[u32], folds| {
        linear_probe(features.view(), labels, folds, 1, &resamples(6)).unwrap_err()
    };
    let labels = [0, 0, 0, 1, 1, 1];
    assert_eq!(of(&features, &[3; 6], 2), Error::SingleClass);
    assert_eq!(of(&features, &[0, 0, 0, 0, 0, 4], 2), Error::LonelyClass { class: 4 });
    assert_eq!(of(&features, &labels, 7), Error::TooFewSamples { needed: 7, found: 6 });
    assert_eq!(of(&features, &labels, 1), Error::Folds(1));
    assert_eq!(of(&Array2::ones((6, 2)), &labels, 2), Error::NoFeatures);
    assert!(matches!(of(&features, &labels[..5], 2), Error::SampleCount { expected: 6, found: 5, .. }));
    let mut broken = features.clone();
    broken[[2, 0]] = f64::NAN;
    assert!(matches!(of(&broken, &labels, 2), Error::NotFinite { sample: 2, .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn folds_share_out_every_class(classes in prop::collection::vec(0_usize..4, 8..80), folds in 2_usize..8, seed: u64) {
        let fold_of = stratified_folds(&classes, 4, folds, seed).unwrap();
        prop_assert_eq!(fold_of.len(), classes.len());
        let spread = |member: &dyn Fn(usize) -> bool| {
            let sizes: Vec<usize> = (0..folds)
                .map(|fold| fold_of.iter().enumerate().filter(|&(sample, &f)| f == fold && member(sample)).count())
                .collect();
            sizes.iter().max().unwrap() - sizes.iter().min().unwrap()
        };
        prop_assert!(spread(&|_| true) <= 1);
        for class in 0..4 {
            prop_assert!(spread(&|sample| classes[sample] == class) <= 1);
        }
    }

    #[test]
    fn the_order_of_samples_and_features_does_not_change_a_fit(seed in 0_u64..10_000) {
        let (features, targets) = (normal((15, 3), seed), normal((15, 2), seed + 1));
        let order: Vec<usize> = (0..15).rev().collect();
        let one = affine_fit(features.view(), targets.view(), Some(0.1), &resamples(15)).unwrap();
        let other = affine_fit(
            features.select(Axis(0), &order).select(Axis(1), &[1, 2, 0]).view(),
            targets.select(Axis(0), &order).view(),
            Some(0.1),
            &resamples(15),
        ).unwrap();
        for (one, other) in [(&one.r2, &other.r2), (&one.held_out_r2, &other.held_out_r2), (&one.distance, &other.distance)] {
            prop_assert!((one.value - other.value).abs() < 1e-10);
            contains_its_value(one);
        }
        prop_assert!(one.r2.value <= 1.0 && one.held_out_r2.value <= one.r2.value);
    }
}
