use std::collections::HashSet;

use ndarray::{Array2, array};
use proptest::prelude::*;
use transferscore::stats::{
    Confidence, Error, Estimate, FactoredEigen, LeftSingular, Purpose, Replicates, Resamples, ShuffledNull,
    SymmetricEigen, below, best_first, cyclic_permutation, gram_of_columns, half_solve, kendall, pearson, permutation,
    probabilities_above, probability_above, probability_best, quantile, spearman, standard_normal, stream,
};

use super::support::{close, contains_its_value, golden, normal, number, numbers, resamples};

#[test]
fn correlations_agree_with_scipy_ties_included() {
    for case in golden()["correlations"].as_array().unwrap() {
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        close(pearson(&x, &y).unwrap(), number(&case["pearson"]), 1e-14);
        close(spearman(&x, &y).unwrap(), number(&case["spearman"]), 1e-14);
        close(kendall(&x, &y).unwrap(), number(&case["kendall"]), 1e-14);
    }
}

#[test]
fn correlations_of_nothing_are_absent() {
    for (x, y) in [
        (vec![], vec![]),
        (vec![1.0], vec![2.0]),
        (vec![1.0, 1.0], vec![1.0, 2.0]),
        (vec![1.0, 2.0], vec![0.1, 0.1]),
        (vec![1.0, 2.0, 3.0], vec![1.0, 2.0]),
        (vec![1.0, f64::NAN], vec![1.0, 2.0]),
    ] {
        assert_eq!((pearson(&x, &y), spearman(&x, &y), kendall(&x, &y)), (None, None, None), "{x:?} {y:?}");
    }
}

#[test]
fn quantiles_agree_with_numpy() {
    let golden = &golden()["quantiles"];
    for (share, expected) in numbers(&golden["shares"]).into_iter().zip(numbers(&golden["expected"])) {
        close(quantile(&numbers(&golden["values"]), share).unwrap(), expected, 1e-15);
    }
    assert_eq!(quantile(&[], 0.5), None);
}

#[test]
fn every_resample_draws_as_many_samples_as_there_are() {
    let resamples = resamples(300);
    let kept: Vec<usize> = (0..300).collect();
    let sums: Vec<f64> = resamples
        .blocks(&kept)
        .flat_map(|block| block.rows().into_iter().map(|row| row.sum()).collect::<Vec<_>>())
        .collect();
    assert_eq!(sums, vec![300.0; 200]);
}

#[test]
fn the_same_seed_gives_the_same_interval_on_any_number_of_threads() {
    let values = normal((500, 1), 1).into_raw_vec_and_offset().0;
    let of = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| resamples(500).mean(&values).unwrap())
    };
    assert_eq!(of(1), of(3));
    let other = Resamples::new(500, Confidence { level: 0.95, resamples: 200 }, 12).unwrap().mean(&values).unwrap();
    assert_ne!(of(1).lower, other.lower);
}

#[test]
fn intervals_of_a_mean_cover_it_as_often_as_they_say() {
    let covered = (0..400_u64)
        .filter(|&trial| {
            let values = normal((60, 1), trial).into_raw_vec_and_offset().0;
            let resamples = Resamples::new(60, Confidence { level: 0.9, resamples: 300 }, trial).unwrap();
            let estimate = resamples.mean(&values).unwrap();
            estimate.lower <= 0.0 && 0.0 <= estimate.upper
        })
        .count();
    // 0.9 of 400 is 360, with a standard deviation of 6; the percentile interval of 60 samples is slightly narrow.
    assert!((336..=378).contains(&covered), "{covered} of 400");
}

#[test]
fn the_width_of_an_interval_is_that_of_the_normal_theory() {
    let values = normal((2000, 1), 3).into_raw_vec_and_offset().0;
    let resamples = Resamples::new(2000, Confidence { level: 0.95, resamples: 4000 }, 5).unwrap();
    let estimate = resamples.mean(&values).unwrap();
    close((estimate.upper - estimate.lower) * 2000_f64.sqrt() / (2.0 * 1.96), 1.0, 0.06);
}

#[test]
fn samples_that_do_not_vary_have_an_interval_of_no_width() {
    let estimate = resamples(9).mean(&[0.1; 9]).unwrap();
    assert_eq!((estimate.lower, estimate.upper), (estimate.value, estimate.value));
    assert_eq!(estimate.value, 0.1);
}

#[test]
fn dead_samples_leave_the_mean() {
    let values = [Some(1.0), None, Some(3.0), None];
    let estimate = resamples(4).mean_of_live(&values).unwrap();
    assert_eq!((estimate.value, estimate.lower, estimate.upper), (2.0, 1.0, 3.0));
    assert_eq!(resamples(2).mean_of_live(&[None, None]), Err(Error::NothingToAverage));
}

#[test]
fn a_recentred_interval_lies_around_its_value_and_within_its_range() {
    let resamples = resamples(4);
    let estimate = resamples.recentred(0.9, (0..=100).map(|i| 2.0 + f64::from(i) / 100.0).collect(), 0.0..=1.0);
    close(estimate.lower, 0.9 - 0.475, 1e-12);
    assert_eq!(estimate.upper, 1.0);
}

#[test]
fn replicates_that_are_not_numbers_are_left_out() {
    let estimate = resamples(4).percentile(1.0, vec![f64::NAN, f64::INFINITY]);
    assert_eq!((estimate.lower, estimate.upper), (1.0, 1.0));
}

/// An estimate with these replicates.
fn replicated(values: &[f64]) -> Estimate {
    Estimate { replicates: Replicates::new(values), ..Estimate::of(0.0, 0.0, 0.0) }
}

#[test]
fn estimates_are_compared_resample_by_resample() {
    // Each source is above the other on half of the resamples as a whole, but the first on three of four pairs.
    let (a, b) = (replicated(&[1.0, 2.0, 3.0, 9.0]), replicated(&[0.0, 1.0, 3.0, 10.0]));
    assert_eq!(probability_above(&a, &b), Some((2.0 + 0.5) / 4.0));
    assert_eq!(probability_above(&b, &a), Some((1.0 + 0.5) / 4.0));
    let c = replicated(&[1.0, f64::NAN, 0.0, 0.0]);
    assert_eq!(probability_above(&a, &c), Some((0.5 + 1.0 + 1.0) / 3.0));
    let all = [a, b, c];
    assert_eq!(probability_best(&all), Some(vec![1.0 / 3.0, 0.5, 1.0 / 6.0]));
    let rows = probabilities_above(&all).unwrap();
    assert_eq!((rows[0][1], rows[1][0], rows[2][2]), (0.625, 0.375, 0.5));
}

#[test]
fn estimates_of_other_resamples_are_not_compared() {
    let (a, short) = (replicated(&[1.0, 2.0]), replicated(&[1.0]));
    let dropped = a.clone().without_replicates();
    assert_eq!(probability_above(&a, &short), None);
    assert_eq!(probability_above(&a, &dropped), None);
    assert_eq!(probability_above(&dropped, &dropped), None);
    assert_eq!(probabilities_above(&[a.clone(), short.clone()]), None);
    assert_eq!(probability_best(&[a.clone(), short]), None);
    assert_eq!(probability_best(&[]), None);
    assert_eq!(probability_above(&a, &replicated(&[f64::NAN, f64::NAN])), None);
}

#[test]
fn what_two_sources_share_falls_out_of_their_comparison() {
    // The difference is a tenth of the spread that they share.
    let shared = normal((200, 1), 1).into_raw_vec_and_offset().0;
    let noise = normal((200, 1), 2).into_raw_vec_and_offset().0;
    let better: Vec<f64> = shared.iter().zip(&noise).map(|(x, e)| x + 0.1 + 0.1 * e).collect();
    let resamples = resamples(200);
    let (a, b) = (resamples.mean(&better).unwrap(), resamples.mean(&shared).unwrap());
    assert!(a.lower < b.upper, "the intervals overlap");
    assert_eq!(probability_above(&a, &b), Some(1.0));
}

#[test]
fn the_interval_is_made_of_the_replicates() {
    let values = normal((50, 1), 4).into_raw_vec_and_offset().0;
    let estimate = resamples(50).mean(&values).unwrap();
    let mut sorted = estimate.replicates.values().to_vec();
    assert_eq!(sorted.len(), 200);
    sorted.sort_by(f64::total_cmp);
    assert_eq!(estimate.lower, quantile(&sorted, 0.025).unwrap());
    assert_eq!(estimate.upper, quantile(&sorted, 0.975).unwrap());
}

#[test]
fn wrong_input_is_refused() {
    let confidence = Confidence { level: 0.95, resamples: 10 };
    let error = |n, confidence| Resamples::new(n, confidence, 0).unwrap_err();
    assert_eq!(error(0, confidence), Error::NoSamples);
    assert_eq!(error(3, Confidence { resamples: 0, ..confidence }), Error::NoResamples);
    assert_eq!(error(3, Confidence { level: 1.0, ..confidence }), Error::Level(1.0));
    assert!(matches!(error(3, Confidence { level: f64::NAN, ..confidence }), Error::Level(_)));
    assert_eq!(resamples(3).mean(&[1.0]), Err(Error::Length { expected: 3, found: 1 }));
    assert_eq!(resamples(2).mean(&[1.0, f64::NAN]), Err(Error::NotFinite { sample: 1 }));
}

#[test]
fn a_shuffled_null_is_summarised_by_mean_and_quantile() {
    let null = ShuffledNull::of(vec![3.0, 1.0, 2.0, 5.0, 4.0], 0.75).unwrap();
    assert_eq!((null.mean, null.upper), (3.0, 4.5));
    // Past the last of so few, the largest.
    assert_eq!(ShuffledNull::of(vec![3.0, 1.0, 2.0], 0.9).unwrap().upper, 3.0);
    assert_eq!(ShuffledNull::of(vec![4.0], 0.9).unwrap().upper, 4.0);
    assert_eq!(ShuffledNull::of(vec![], 0.9), None);
}

#[test]
fn a_value_without_relation_is_above_its_null_as_often_as_the_level_says() {
    let mut rng = stream(3, Purpose::Subsample, 0);
    let n_trials = 20_000;
    for (level, n_shuffles) in [(0.95, 20), (0.9, 20), (0.99, 100)] {
        let mut is_above = || {
            let shuffled = (0..n_shuffles).map(|_| standard_normal(&mut rng)).collect();
            let upper = ShuffledNull::of(shuffled, level).unwrap().upper;
            standard_normal(&mut rng) > upper
        };
        let share = (0..n_trials).filter(|_| is_above()).count() as f64 / f64::from(n_trials);
        close(share, 1.0 - level, 0.006);
    }
}

#[test]
fn of_equal_values_the_more_probable_one_comes_first() {
    let hits = |places: &[usize]| {
        let hits: Vec<Option<bool>> = (0..40).map(|sample| Some(places.contains(&sample))).collect();
        resamples(40).share(&hits).unwrap()
    };
    // The second and third have the same hits, so that the first, which has others, is the largest more often than either.
    let estimates = [hits(&[9, 10]), hits(&[0, 1, 2]), hits(&[0, 1, 2]), hits(&[5, 6, 7])];
    assert_eq!(best_first(&estimates), [3, 1, 2, 0]);
    let without: Vec<Estimate> = estimates.into_iter().map(Estimate::without_replicates).collect();
    assert_eq!(best_first(&without), [1, 2, 3, 0]);
}

/// The same number of hits, wherever they fall, must tie.
#[test]
fn as_many_hits_have_the_same_share_to_the_last_bit() {
    let resamples = resamples(100);
    for n_hits in 0..=100 {
        let from = |first: usize| {
            let hits: Vec<Option<bool>> = (0..100).map(|sample| Some((sample + first) % 100 < n_hits)).collect();
            resamples.share(&hits).unwrap()
        };
        assert_eq!(from(0).value.to_bits(), (n_hits as f64 / 100.0).to_bits());
        assert_eq!(from(0).value.to_bits(), from(41).value.to_bits());
    }
}

#[test]
fn a_share_of_none_or_all_has_the_exact_binomial_end() {
    let resamples = resamples(30);
    let all = resamples.share(&[Some(true); 30]).unwrap();
    // 0.975 of binomial(30, 0.8843) would not be all 30: 0.8843³⁰ = 0.025.
    close(all.lower, 0.884_296_7, 1e-7);
    assert_eq!((all.value, all.upper), (1.0, 1.0));
    let none = resamples.share(&[Some(false); 30]).unwrap();
    close(none.upper, 1.0 - 0.884_296_7, 1e-7);
    assert_eq!((none.value, none.lower), (0.0, 0.0));
    // Samples without an answer do not count.
    let mut few = [None; 30];
    few[4] = Some(true);
    close(resamples.share(&few).unwrap().lower, 0.025, 1e-12);
}

#[test]
fn purposes_and_indices_have_streams_of_their_own() {
    let first = |purpose, index| below(&mut stream(1, purpose, index), usize::MAX);
    let draws: HashSet<usize> = [Purpose::Bootstrap, Purpose::Pairing, Purpose::RandomStart]
        .into_iter()
        .flat_map(|purpose| (0..50).map(move |index| first(purpose, index)))
        .collect();
    assert_eq!(draws.len(), 150);
}

#[test]
fn normal_numbers_have_the_normal_moments() {
    let mut rng = stream(2, Purpose::Subsample, 0);
    let draws: Vec<f64> = (0..100_000).map(|_| standard_normal(&mut rng)).collect();
    let moment = |power| draws.iter().map(|x| x.powi(power)).sum::<f64>() / 1e5;
    close(moment(1), 0.0, 0.015);
    close(moment(2), 1.0, 0.02);
    close(moment(4), 3.0, 0.15);
}

#[test]
fn decompositions_reproduce_their_matrix() {
    let a = normal((7, 4), 8);
    let gram = a.t().dot(&a);
    let eigen = SymmetricEigen::of(gram.view()).unwrap();
    let back = (&eigen.vectors * &eigen.values).dot(&eigen.vectors.t());
    assert!((&back - &gram).iter().all(|x| x.abs() < 1e-12));
    assert!(eigen.values.windows(2).into_iter().all(|pair| pair[0] >= pair[1]));

    let LeftSingular { left, values } = LeftSingular::of(a.view()).unwrap();
    for (value, square) in values.iter().zip(&eigen.values) {
        close(value * value, *square, 1e-12);
    }
    // U Uᵀ projects onto the columns.
    assert!((left.dot(&left.t().dot(&a)) - &a).iter().all(|x| x.abs() < 1e-12));
}

/// Around the width of the band and past the size from which threads share the work; of full and of deficient rank.
#[test]
fn factored_eigenvectors_are_those_of_the_matrix() {
    for (d, rank) in [(1, 1), (2, 2), (3, 3), (32, 32), (33, 33), (34, 10), (65, 65), (97, 3), (600, 600), (40, 0)] {
        let gram = gram_of_columns(normal((rank, d), d as u64).view());
        let (whole, factored) = (SymmetricEigen::of(gram.view()).unwrap(), FactoredEigen::of(gram.view()).unwrap());
        let size = whole.values[0].max(1.0);
        assert!((&whole.values - &factored.values).iter().all(|x| x.abs() < 1e-12 * size), "{d}");
        // Orthonormal, and each a multiple of itself under the matrix.
        let leading = factored.leading(d);
        assert!((leading.t().dot(&leading) - Array2::<f64>::eye(d)).iter().all(|x| x.abs() < 1e-12), "{d}");
        let images = gram.dot(&leading) - &leading * &factored.values;
        assert!(images.iter().all(|x| x.abs() < 1e-12 * size), "{d}");
        let rows = normal((3, d), 77);
        let along = factored.along(rows.view());
        assert!((along - rows.dot(&leading)).iter().all(|x| x.abs() < 1e-11), "{d}");
        let first = factored.leading(1) - leading.slice(ndarray::s![.., ..1]);
        assert!(first.iter().all(|x| x.abs() < 1e-12), "{d}");
    }
}

#[test]
fn empty_matrices_have_empty_decompositions() {
    let empty = ndarray::Array2::<f64>::zeros((0, 0));
    assert_eq!(SymmetricEigen::of(empty.view()).unwrap().values.len(), 0);
    assert_eq!(LeftSingular::of(normal((3, 0), 1).view()).unwrap().left.dim(), (3, 0));
}

#[test]
fn a_pseudo_inverse_ignores_directions_without_variance() {
    let gram = array![[2.0, 2.0], [2.0, 2.0]];
    let inverse = SymmetricEigen::of(gram.view()).unwrap().inverse_root(1e-12);
    let inverse = inverse.dot(&inverse.t());
    assert!((&inverse - &array![[0.125, 0.125], [0.125, 0.125]]).iter().all(|x| x.abs() < 1e-15));
}

#[test]
fn a_cholesky_factor_solves_and_refuses_singular_matrices() {
    let (matrix, right) = (array![[4.0, 2.0], [2.0, 5.0]], array![[1.0], [3.0]]);
    let solved = half_solve(matrix.view(), right.view(), 1e-6).unwrap();
    // Bᵀ M⁻¹ B by hand: M⁻¹ = [5 −2; −2 4]/16.
    close(solved.iter().map(|x| x * x).sum(), (5.0 - 12.0 + 36.0) / 16.0, 1e-14);
    assert_eq!(half_solve(array![[1.0, 1.0], [1.0, 1.0]].view(), right.view(), 1e-6), None);
}

proptest! {
    #[test]
    fn permutations_are_permutations_and_cycles_move_everything(length in 2_usize..60, seed: u64) {
        let mut rng = stream(seed, Purpose::Shuffle, 0);
        for (order, cyclic) in [(permutation(&mut rng, length), false), (cyclic_permutation(&mut rng, length), true)] {
            prop_assert_eq!(order.iter().collect::<HashSet<_>>().len(), length);
            prop_assert!(order.iter().all(|&to| to < length));
            prop_assert!(!cyclic || order.iter().enumerate().all(|(from, &to)| from != to));
        }
    }

    #[test]
    fn intervals_contain_their_value(values in prop::collection::vec(-1e6_f64..1e6, 1..40)) {
        contains_its_value(&resamples(values.len()).mean(&values).unwrap());
    }

    #[test]
    fn rank_correlations_ignore_monotone_maps(
        pairs in prop::collection::vec((-8_i32..8, -8_i32..8), 3..20),
    ) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
        let cubed: Vec<f64> = x.iter().map(|a| a * a * a + 2.0).collect();
        prop_assert_eq!(kendall(&x, &y), kendall(&cubed, &y));
        prop_assert_eq!(spearman(&x, &y), spearman(&cubed, &y));
        prop_assert_eq!(kendall(&x, &y), kendall(&y, &x));
    }
}
