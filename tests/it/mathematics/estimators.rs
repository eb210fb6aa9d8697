//! Estimators of transferability against the authors' own functions, TLlib, scikit-learn and definitions in NumPy.

use ndarray::{Array2, Axis, concatenate, s};
use serde_json::Value;
use transferscore::{
    knowledge::{Error, Estimator, Mixture, Score, Task, TaskOptions, class_probabilities},
    stats::{FactoredEigen, Resamples, SymmetricEigen, gram_of_columns, gram_of_rows, log_determinant, solve_positive},
};

use super::support::{close, contains_its_value, matrix, normal, number, numbers, resamples};

fn golden() -> Value {
    serde_json::from_str(include_str!("../../golden/estimators.json")).unwrap()
}

/// Arrays of a task.
struct Case {
    features: Array2<f64>,
    labels: Vec<u32>,
    targets: Array2<f64>,
    source_probabilities: Array2<f64>,
}

impl Case {
    fn of(value: &Value) -> Self {
        Case {
            features: matrix(&value["features"]),
            labels: numbers(&value["labels"]).into_iter().map(|label| label as u32).collect(),
            targets: matrix(&value["targets"]),
            source_probabilities: matrix(&value["source_probabilities"]),
        }
    }

    fn score(&self, estimator: Estimator) -> Score {
        self.try_score(estimator, 1).unwrap()
    }

    fn try_score(&self, estimator: Estimator, n_neighbors: usize) -> Result<Score, Error> {
        let resamples = resamples(self.labels.len());
        estimator.score(&self.task(Some(&self.labels), n_neighbors, &resamples)?)
    }

    fn task<'a>(
        &'a self,
        labels: Option<&[u32]>,
        n_neighbors: usize,
        resamples: &'a Resamples,
    ) -> Result<Task<'a>, Error> {
        Task::new(
            self.features.view(),
            labels,
            Some(self.targets.clone()),
            Some(self.source_probabilities.clone()),
            TaskOptions { seed: 7, n_neighbors },
            resamples,
        )
    }

    fn regression(&self) -> f64 {
        let resamples = resamples(self.labels.len());
        Estimator::LogMe.score(&self.task(None, 1, &resamples).unwrap()).unwrap().value()
    }
}

#[track_caller]
fn relative(found: f64, expected: f64, tolerance: f64) {
    close(found / expected, 1.0, tolerance);
}

#[test]
fn every_published_value_is_matched() {
    let golden = &golden()["published"];
    let case = Case::of(golden);
    for (name, value) in golden["values"].as_object().unwrap() {
        let found = match name.as_str() {
            "tllib.h_score" => case.score(Estimator::HScore).value(),
            "tllib.regularized_h_score" => case.score(Estimator::RegularizedHScore).value(),
            "tllib.leep" => case.score(Estimator::Leep).value(),
            "tllib.nce(argmax)" => case.score(Estimator::Nce).value(),
            "tllib.logme" | "thuml.LogME(default _fit)" | "sfda.LogME(eps 1e-5)" => {
                case.score(Estimator::LogMe).value()
            }
            "tllib.logme_regression" | "thuml.LogME_regression" => case.regression(),
            "tllib.transrate(eps=1e-4)" => case.score(Estimator::TransRate).value(),
            "sfda.SFDA_Score" => case.score(Estimator::Sfda).value(),
            "own.gbc_diag(unordered pairs,pop var)" => case.score(Estimator::Gbc).value(),
            other => panic!("{other} is not compared"),
        };
        println!("{name}: {found} {value}");
        relative(found, number(value), 1e-6);
    }
}

/// With more samples than features and with fewer.
#[test]
fn definitions_in_numpy_are_matched() {
    for name in ["tall", "wide"] {
        let golden = &golden()[name];
        let case = Case::of(golden);
        for (estimator, key) in [
            (Estimator::Leep, "leep"),
            (Estimator::Nce, "nce"),
            (Estimator::LogMe, "log_me"),
            (Estimator::HScore, "h_score"),
            (Estimator::RegularizedHScore, "regularized_h_score"),
            (Estimator::TransRate, "trans_rate"),
            (Estimator::Gbc, "gbc"),
            (Estimator::Sfda, "sfda"),
            (Estimator::Parc, "parc"),
            (Estimator::Knn, "knn_1"),
        ] {
            let found = case.score(estimator).value();
            println!("{name} {key}: {found} {}", golden[key]);
            relative(found, number(&golden[key]), 1e-6);
        }
        relative(case.regression(), number(&golden["log_me_regression"]), 1e-6);
    }
}

#[test]
fn a_mixture_goes_the_way_of_scikit_learn() {
    let golden = &golden()["mixture"];
    let points = matrix(&golden["points"]);
    let start = &golden["start"];
    for run in golden["runs"].as_array().unwrap() {
        let start = Mixture {
            weights: numbers(&start["weights"]).into(),
            means: matrix(&start["means"]),
            variances: matrix(&start["variances"]),
        };
        let steps = number(&run["steps"]) as usize;
        let mixture = start.fitted(points.view(), 1e-6, number(&run["tolerance"]), steps);
        let (posterior, likelihood) = mixture.posterior(points.view());
        close(likelihood, number(&run["log_likelihood"]), 1e-10);
        assert!((mixture.means - matrix(&run["means"])).iter().all(|x| x.abs() < 1e-8));
        assert!((posterior - matrix(&run["posterior"])).iter().all(|x| x.abs() < 1e-8));
    }
}

#[test]
fn leep_of_a_mixture_is_that_of_its_posterior() {
    let golden = &golden()["mixture"];
    let case = Case {
        features: matrix(&golden["points"]),
        labels: numbers(&golden["labels"]).into_iter().map(|label| label as u32).collect(),
        targets: Array2::zeros((120, 1)),
        source_probabilities: matrix(&golden["runs"][2]["posterior"]),
    };
    relative(case.score(Estimator::Leep).value(), number(&golden["leep"]), 1e-12);
    // Its own mixture, of other components, says something else.
    let own = case.score(Estimator::NLeep);
    assert!(own.value() < 0.0 && own.value() > case.score(Estimator::Leep).value());
}

/// Classes in `n_axes` dimensions, `distance` apart.
fn clouds(n: usize, n_axes: usize, n_classes: usize, distance: f64, seed: u64) -> Case {
    let labels: Vec<u32> = (0..n).map(|sample| (sample % n_classes) as u32).collect();
    // Of unequal spread, so that no covariance is shrunk to the identity.
    let mut features =
        normal((n, n_axes), seed) * ndarray::Array1::from_iter((0..n_axes).map(|axis| 0.5 + (axis % 7) as f64 / 4.0));
    for (mut row, &label) in features.rows_mut().into_iter().zip(&labels) {
        row[label as usize] += distance;
    }
    let source_probabilities = class_probabilities(features.view());
    Case { features, labels, targets: normal((n, 1), seed + 1), source_probabilities }
}

#[test]
fn classes_that_lie_apart_score_higher_and_chance_is_told() {
    let (near, far) = (clouds(240, 8, 4, 0.0, 1), clouds(240, 8, 4, 6.0, 1));
    for estimator in Estimator::all() {
        let (near, far) = (near.score(estimator), far.score(estimator));
        assert!(far.value() > near.value(), "{estimator:?}: {} {}", far.value(), near.value());
        if let Some(null) = far.shuffled() {
            assert!(null.upper < far.value() && null.mean <= null.upper, "{estimator:?} {null:?}");
            assert!((near.value() - null.mean).abs() < (far.value() - null.mean) / 2.0, "{estimator:?}");
        }
        if let Some(floor) = near.null_floor() {
            assert!(floor < far.value() && (near.value() / floor - 1.0).abs() < 0.5, "{estimator:?} {floor}");
        }
        if let Some(estimate) = far.estimate() {
            contains_its_value(estimate);
        }
    }
    let with_interval = |estimator: &Estimator| far.score(*estimator).estimate().is_some();
    let found: Vec<Estimator> = Estimator::all().filter(with_interval).collect();
    assert_eq!(found, [Estimator::Leep, Estimator::NLeep, Estimator::Nce, Estimator::Sfda, Estimator::Knn]);
}

/// The closed form is the mean over all ways to deal the labels, so the mean over many comes near.
#[test]
fn the_floors_of_h_scores_are_means_over_shuffles() {
    let case = clouds(40, 5, 3, 1.0, 2);
    for estimator in [Estimator::HScore, Estimator::RegularizedHScore] {
        let floor = case.score(estimator).null_floor().unwrap();
        let shuffles = 300;
        let shuffled = (0..shuffles).map(|shuffle| {
            let mut rng = transferscore::stats::stream(9, transferscore::stats::Purpose::Folds, shuffle);
            let order = transferscore::stats::permutation(&mut rng, 40);
            let labels = order.iter().map(|&sample| case.labels[sample]).collect();
            let case = Case { labels, ..clouds(40, 5, 3, 1.0, 2) };
            case.score(estimator).value()
        });
        relative(shuffled.sum::<f64>() / shuffles as f64, floor, 0.06);
    }
}

/// Missing classes, one class with one sample, constant features and repeated ones leave every estimator a value, and the
/// names of the classes do not matter.
#[test]
fn odd_tasks_have_values() {
    let plain = clouds(60, 6, 3, 2.0, 3);
    let dull = Array2::from_elem((60, 2), 0.3);
    let features = concatenate(Axis(1), &[plain.features.view(), dull.view()]).unwrap();
    let mut labels: Vec<u32> = plain.labels.iter().map(|label| 7 + 90 * label).collect();
    let renamed = Case { features, labels: labels.clone(), ..clouds(60, 6, 3, 2.0, 3) };
    for estimator in Estimator::all() {
        let (found, expected) = (renamed.score(estimator).value(), plain.score(estimator).value());
        // Shrinkage goes towards the mean over all features, PARC correlates over all of them, a constant turns cosines and is
        // an intercept to LogME.
        let heeds = [Estimator::RegularizedHScore, Estimator::Parc, Estimator::Sfda, Estimator::Knn, Estimator::LogMe];
        if !heeds.contains(&estimator) {
            relative(found, expected, 1e-6);
        }
    }
    labels[0] = 1_000;
    let lonely = Case { labels, ..clouds(60, 6, 3, 2.0, 3) };
    for estimator in Estimator::all() {
        assert!(lonely.score(estimator).value().is_finite(), "{estimator:?}");
    }
    let mut zero = clouds(60, 6, 3, 2.0, 3);
    zero.features.row_mut(5).fill(0.0);
    for estimator in Estimator::all() {
        assert!(zero.score(estimator).value().is_finite(), "{estimator:?}");
    }
}

#[test]
fn what_has_no_value_says_why() {
    let case = clouds(30, 4, 2, 1.0, 4);
    let of = |case: &Case, estimator| case.try_score(estimator, 5).unwrap_err();
    let single = Case { labels: vec![3; 30], ..clouds(30, 4, 2, 1.0, 4) };
    let constant = Case { features: Array2::from_elem((30, 4), 0.1), ..clouds(30, 4, 2, 1.0, 4) };
    for estimator in Estimator::all() {
        assert_eq!(of(&single, estimator), Error::SingleClass, "{estimator:?}");
        if !matches!(estimator, Estimator::Leep | Estimator::Nce) {
            assert_eq!(of(&constant, estimator), Error::ConstantFeatures, "{estimator:?}");
        }
    }
    assert_eq!(case.try_score(Estimator::Knn, 30).unwrap_err(), Error::Neighbors { neighbors: 30, n_samples: 30 });
    let resamples = resamples(30);
    let options = TaskOptions { seed: 1, n_neighbors: 1 };
    let of_embedding = Task::new(case.features.view(), Some(&case.labels), None, None, options, &resamples).unwrap();
    assert_eq!(Estimator::Leep.score(&of_embedding), Err(Error::NoSourceProbabilities));
    assert!(Estimator::NLeep.score(&of_embedding).is_ok());
    let unlabelled = Task::new(case.features.view(), None, None, None, options, &resamples).unwrap();
    for estimator in Estimator::all() {
        let error = Estimator::score(estimator, &unlabelled).unwrap_err();
        assert!(matches!(error, Error::NoLabels | Error::NoSourceProbabilities), "{estimator:?} {error}");
    }
    let mut broken = case.features.clone();
    broken[[3, 1]] = f64::NAN;
    let refused = Task::new(broken.view(), Some(&case.labels), None, None, options, &resamples).err();
    assert_eq!(refused, Some(Error::NotFinite { what: "the feature", sample: 3 }));
    let short = Task::new(case.features.view(), Some(&case.labels[1..]), None, None, options, &resamples).err();
    assert_eq!(short, Some(Error::SampleCount { what: "labels", expected: 30, found: 29 }));
}

#[test]
fn scores_are_the_same_on_any_number_of_threads() {
    // Above the sizes from which work is shared out, and more features than samples.
    for case in [clouds(700, 300, 5, 1.0, 5), clouds(90, 400, 3, 1.0, 6)] {
        let all = |threads| -> Vec<Score> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Estimator::all().map(|estimator| case.score(estimator)).collect())
        };
        assert_eq!(all(1), all(3));
    }
}

#[test]
fn large_decompositions_are_the_same_on_any_number_of_threads() {
    let gram = gram_of_columns(normal((650, 600), 12).view());
    let of = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| SymmetricEigen::of(gram.view()).unwrap())
    };
    let (one, three) = (of(1), of(3));
    assert_eq!((&one.values, &one.vectors), (&three.values, &three.vectors));
    let factored = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| FactoredEigen::of(gram.view()).map(|eigen| (eigen.leading(600), eigen.values)).unwrap())
    };
    assert_eq!(factored(1), factored(3));
    let again = (&one.vectors * &one.values).dot(&one.vectors.t());
    assert!((&again - &gram).iter().all(|x| x.abs() < 1e-9));
}

/// What depends on lengths and inner products alone is the same in any rotation, and where there are fewer samples than
/// features the samples' own coordinates stand for the features.
#[test]
fn rotations_change_nothing_that_depends_on_lengths() {
    let case = clouds(50, 12, 3, 2.0, 8);
    let mirror = {
        // I − 2vvᵀ/‖v‖².
        let v = normal((12, 1), 9);
        Array2::eye(12) - v.dot(&v.t()) * (2.0 / v.iter().map(|x| x * x).sum::<f64>())
    };
    let rotated = Case { features: case.features.dot(&mirror), ..clouds(50, 12, 3, 2.0, 8) };
    for estimator in [
        Estimator::LogMe,
        Estimator::HScore,
        Estimator::RegularizedHScore,
        Estimator::TransRate,
        Estimator::Knn,
        Estimator::NLeep,
    ] {
        relative(rotated.score(estimator).value(), case.score(estimator).value(), 1e-8);
    }
}

#[test]
fn probabilities_of_outputs() {
    let outputs = normal((5, 3), 1);
    let softmax = class_probabilities(outputs.view());
    for (row, outputs) in softmax.rows().into_iter().zip(outputs.rows()) {
        close(row.sum(), 1.0, 1e-12);
        close((row[0] / row[1]).ln(), outputs[0] - outputs[1], 1e-12);
    }
    let again = class_probabilities(softmax.view());
    assert!((&again - &softmax).iter().all(|x| x.abs() < 1e-12));
    let large = class_probabilities((&outputs * 1e6).view());
    assert!(large.iter().all(|x| x.is_finite()));
}

#[test]
fn gram_matrices_and_cholesky_solutions() {
    let x = normal((30, 600), 3);
    assert!((gram_of_columns(x.view()) - x.t().dot(&x)).iter().all(|x| x.abs() < 1e-10));
    assert!((gram_of_rows(x.view()) - x.dot(&x.t())).iter().all(|x| x.abs() < 1e-10));
    let part = x.slice(s![.., 3..20]);
    let gram = gram_of_columns(part);
    assert!((&gram - &part.t().dot(&part)).iter().all(|x| x.abs() < 1e-10));
    let right = normal((17, 2), 4);
    let solution = solve_positive(gram.view(), right.view()).unwrap();
    assert!((gram.dot(&solution) - &right).iter().all(|x| x.abs() < 1e-9));
    let diagonal = Array2::from_diag(&ndarray::array![2.0, 3.0, 4.0]);
    close(log_determinant(diagonal.view()).unwrap(), 24_f64.ln(), 1e-12);
    assert_eq!(log_determinant((-diagonal).view()), None);
}

/// One feature a hundred million times as large as the others hides nothing of them.
#[test]
fn coding_rates_take_features_of_any_scale() {
    let case = clouds(60, 4, 3, 2.0, 21);
    let scale = ndarray::arr1(&[1e8, 1.0, 1.0, 1e-2]);
    let case = Case { features: &case.features * &scale, ..case };
    // ½ ln|I + FᵀF/(Nε)| by the features' own scale: ln|I + S G S| = ln|S⁻² + G| + 2 ln|S|, which is well conditioned.
    let rate = |rows: Array2<f64>| {
        let unit = &rows / &scale;
        let mut matrix = unit.t().dot(&unit) / (rows.nrows() as f64 * 1e-4);
        matrix.diag_mut().zip_mut_with(&scale, |entry, scale| *entry += scale.powi(-2));
        0.5 * log_determinant(matrix.view()).unwrap() + scale.mapv(f64::ln).sum()
    };
    let centred = &case.features - &case.features.mean_axis(Axis(0)).unwrap();
    let of_class = |class: u32| {
        let members: Vec<usize> = (0..60).filter(|&sample| case.labels[sample] == class).collect();
        rate(centred.select(Axis(0), &members))
    };
    let expected = rate(centred.clone()) - (0..3).map(of_class).sum::<f64>() / 3.0;
    close(case.score(Estimator::TransRate).value(), expected, 1e-6);
}

/// A common mean a thousand times the spread leaves cosines that differ by less than single precision tells.
#[test]
fn neighbours_are_told_apart_in_double_precision() {
    let case = clouds(120, 6, 3, 1.0, 22);
    let case = Case { features: case.features.mapv(|x| 1_000.0 + x), ..case };
    let unit = {
        let lengths = case.features.map_axis(Axis(1), |row| row.dot(&row).sqrt());
        &case.features / &lengths.insert_axis(Axis(1))
    };
    // 1 − cosine = ‖a − b‖²/2, which does not cancel.
    let distance = |a: usize, b: usize| (&unit.row(a) - &unit.row(b)).mapv(|x| x * x).sum();
    let nearest = |sample: usize| {
        let others = (0..120).filter(|&other| other != sample);
        others.min_by(|&a, &b| distance(sample, a).total_cmp(&distance(sample, b))).unwrap()
    };
    let hits = (0..120).filter(|&sample| case.labels[nearest(sample)] == case.labels[sample]).count();
    let found = case.try_score(Estimator::Knn, 1).unwrap().value();
    assert_eq!(found, hits as f64 / 120.0);
}

#[test]
fn classes_of_one_sample_each_say_nothing() {
    let case = Case { labels: (0..60).collect(), ..clouds(60, 4, 3, 2.0, 21) };
    assert_eq!(case.try_score(Estimator::Gbc, 5).unwrap_err(), Error::EveryClassOnce);
}
