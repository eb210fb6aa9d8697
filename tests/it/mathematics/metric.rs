use ndarray::{Array2, Array3, ArrayView2, Axis, s};
use proptest::prelude::*;
use serde_json::Value;
use transferscore::{
    attack::{TopSingular, top_singular},
    metric::{
        Alphas, AttackSign, CrossGrams, Deviations, Error, Nulls, alpha1_floor, alphas, first_order_deviations,
        gradient_matching, squared_cosines, tau1, tau2,
    },
    stats::{Confidence, Resamples},
};

use super::support::{
    close, contains_its_value, golden, jacobians, matching, moments, normal, normal_jacobians, number, resamples,
};

const NO_NULLS: Nulls<'static> = Nulls { sign: AttackSign::Arbitrary, alpha1_floor: None, mispaired: None };

/// What the two models do under each other's first-order attacks.
struct Pair {
    directions: [Array2<f32>; 2],
    d11: Array2<f64>,
    d12: Array2<f64>,
    d22: Array2<f64>,
    d21: Array2<f64>,
}

impl Pair {
    fn of(jacobians_1: &Array3<f32>, jacobians_2: &Array3<f32>, level: usize) -> Self {
        let attack = |jacobians: &Array3<f32>| {
            let top: TopSingular = top_singular(jacobians.view(), level).unwrap();
            top.directions(jacobians.view()).unwrap()
        };
        let directions = [attack(jacobians_1), attack(jacobians_2)];
        let moved = |jacobians: &Array3<f32>, by: usize| {
            first_order_deviations(jacobians.view(), directions[by].view()).unwrap()
        };
        Pair {
            d11: moved(jacobians_1, 0),
            d12: moved(jacobians_2, 0),
            d22: moved(jacobians_2, 1),
            d21: moved(jacobians_1, 1),
            directions,
        }
    }

    fn alphas_12(&self) -> Alphas {
        alphas_of(self.d11.view(), self.d12.view(), self.d22.view())
    }

    fn alphas_21(&self) -> Alphas {
        alphas_of(self.d22.view(), self.d21.view(), self.d11.view())
    }
}

fn alphas_of(white: ArrayView2<'_, f64>, black: ArrayView2<'_, f64>, black_own: ArrayView2<'_, f64>) -> Alphas {
    alphas(&Deviations { white, black, black_own }, &NO_NULLS, &resamples(white.nrows())).unwrap()
}

fn agree(found: &Alphas, expected: &Value) {
    close(found.alpha1.value, number(&expected["alpha1"]), 1e-6);
    close(found.alpha2.value, number(&expected["alpha2"]), 1e-6);
    close(found.combined.value, number(&expected["combined"]), 1e-6);
}

#[test]
fn alphas_and_taus_agree_with_the_oracle() {
    let mut seen = [false; 2];
    for case in golden()["pairs"].as_array().unwrap() {
        let (first, second) = (jacobians(&case["jacobians_1"]), jacobians(&case["jacobians_2"]));
        let pair = Pair::of(&first, &second, 0);
        agree(&pair.alphas_12(), &case["1_to_2"]);
        agree(&pair.alphas_21(), &case["2_to_1"]);
        if !case["level_1"].is_null() {
            agree(&Pair::of(&first, &second, 1).alphas_12(), &case["level_1"]);
        }
        let resamples = resamples(first.dim().0);
        let cosines = squared_cosines(pair.directions[0].view(), pair.directions[1].view()).unwrap();
        let found = tau1(&cosines, first.dim().2, &[], &resamples).unwrap();
        close(found.value, number(&case["tau1"]), 1e-6);
        close(found.null_floor.unwrap(), 1.0 / first.dim().2 as f64, 1e-15);
        for (white, black, expected) in
            [(&pair.d11, &pair.d12, &case["1_to_2"]), (&pair.d22, &pair.d21, &case["2_to_1"])]
        {
            let found = tau2(white.view(), black.view(), AttackSign::Arbitrary, &resamples).unwrap();
            close(found.value, number(&expected["tau2"]), 1e-6);
            contains_its_value(&found);
            seen[usize::from(expected["proj_is_active"].as_bool().unwrap())] = true;
        }
    }
    assert_eq!(seen, [true; 2], "the golden pairs have the bound of tau2 both active and not");
}

#[test]
fn gradient_matching_agrees_with_the_oracle() {
    for case in golden()["pairs"].as_array().unwrap() {
        let (source, target) = (jacobians(&case["jacobians_1"]), jacobians(&case["jacobians_2"]));
        let found = matching(&target, &source, &resamples(source.dim().0)).unwrap();
        close(found.distance.value, number(&case["gradient_matching"]["distance"]), 1e-9);
        close(found.explained.value, number(&case["gradient_matching"]["explained"]), 1e-9);
        contains_its_value(&found.distance);
        contains_its_value(&found.explained);
    }
}

#[test]
fn scalar_linear_models_give_their_cosine() {
    // f_i(x) = ⟨w_i, x⟩: alpha1 = combined = |cos|, alpha2 = 1, tau1 = cos².
    let (w1, w2) = ([1.0_f32, 2.0, -2.0], [3.0_f32, 0.0, 4.0]);
    let cosine = 5.0 / (3.0 * 5.0);
    let model = |w: [f32; 3]| Array3::from_shape_fn((12, 1, 3), |(_, _, i)| w[i]);
    let pair = Pair::of(&model(w1), &model(w2), 0);
    let found = pair.alphas_12();
    close(found.alpha1.value, cosine, 1e-7);
    close(found.alpha2.value, 1.0, 1e-12);
    close(found.combined.value, cosine, 1e-7);
    assert_eq!((found.alpha1.lower, found.alpha1.upper), (found.alpha1.value, found.alpha1.value));
    let cosines = squared_cosines(pair.directions[0].view(), pair.directions[1].view()).unwrap();
    close(tau1(&cosines, 3, &[], &resamples(12)).unwrap().value, cosine * cosine, 1e-7);
}

#[test]
fn a_scaled_copy_is_fully_transferable() {
    let source = normal_jacobians((30, 3, 8), 1);
    let target = source.mapv(|x| -2.0 * x);
    let pair = Pair::of(&source, &target, 0);
    close(pair.alphas_12().alpha1.value, 1.0, 1e-6);
    close(pair.alphas_21().alpha1.value, 1.0, 1e-6);
    let found = matching(&target, &source, &resamples(30)).unwrap();
    close(found.explained.value, 1.0, 1e-12);
    close(found.explained.lower, 1.0, 1e-9);
    let tau2 = tau2(pair.d11.view(), pair.d12.view(), AttackSign::Arbitrary, &resamples(30)).unwrap();
    close(tau2.value, 1.0, 1e-6);
    contains_its_value(&tau2);
}

#[test]
fn gradient_matching_of_a_source_with_dependent_outputs_uses_the_pseudo_inverse() {
    // The third output is the sum of the others, and the target is a linear function of them.
    let base = normal_jacobians((25, 2, 6), 2);
    let sum = base.sum_axis(Axis(1)).insert_axis(Axis(1));
    let source = ndarray::concatenate(Axis(1), &[base.view(), sum.view()]).unwrap();
    let target = base.slice(s![.., 0..1, ..]).mapv(|x| 3.0 * x) - base.slice(s![.., 1..2, ..]);
    let found = matching(&target, &source, &resamples(25)).unwrap();
    close(found.explained.value, 1.0, 1e-7);
}

#[test]
fn a_source_that_stands_still_explains_nothing_and_a_reference_that_does_is_refused() {
    let (zero, live) = (Array3::<f32>::zeros((9, 2, 4)), normal_jacobians((9, 2, 4), 3));
    let found = matching(&live, &zero, &resamples(9)).unwrap();
    assert_eq!((found.explained.value, found.explained.upper), (0.0, 0.0));
    let energy: f64 = live.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 9.0;
    close(found.distance.value, energy.sqrt(), 1e-12);
    let refused = matching(&zero, &live, &resamples(9));
    assert_eq!(refused, Err(Error::NoGradients));
}

#[test]
fn the_first_theorem_holds_for_scalar_outputs() {
    // E[(1 − τ₁(x) τ₂) ‖∇f_T‖²] is the minimum of gradient matching.
    let (source, noise) = (normal_jacobians((40, 1, 5), 4), normal_jacobians((40, 1, 5), 5));
    let target = &source * 0.7 + noise;
    let pair = Pair::of(&source, &target, 0);
    let resamples = resamples(40);
    let tau2 = tau2(pair.d11.view(), pair.d12.view(), AttackSign::Arbitrary, &resamples).unwrap().value;
    let cosines = squared_cosines(pair.directions[0].view(), pair.directions[1].view()).unwrap();
    let moments = moments(&target, &source, &resamples);
    let left: f64 =
        cosines.iter().zip(moments.target_energies()).map(|(c, energy)| (1.0 - c.unwrap() * tau2) * energy).sum();
    let distance = gradient_matching(&moments, &resamples).unwrap().distance.value;
    close((left / 40.0).sqrt(), distance, 1e-6);
}

#[test]
fn unrelated_models_reach_the_floor_and_the_shuffled_null_finds_it() {
    let n = 400;
    let (first, second) = (normal_jacobians((n, 3, 30), 6), normal_jacobians((n, 4, 30), 7));
    let pair = Pair::of(&first, &second, 0);
    let order: Vec<usize> = (0..n).map(|i| (i + 1) % n).collect();
    let others = pair.directions[0].select(Axis(0), &order);
    let mispaired = first_order_deviations(second.view(), others.view()).unwrap();
    let grams = CrossGrams::of(second.view(), first.view()).unwrap();
    let nulls = Nulls {
        sign: AttackSign::Arbitrary,
        alpha1_floor: alpha1_floor(grams.target_energy().view(), pair.d22.view(), 30),
        mispaired: Some(mispaired.view()),
    };
    let deviations = Deviations { white: pair.d11.view(), black: pair.d12.view(), black_own: pair.d22.view() };
    let found = alphas(&deviations, &nulls, &resamples(n)).unwrap();
    close(found.alpha2.null_floor.unwrap(), 0.05, 1e-12);
    for estimate in [&found.alpha1, &found.alpha2, &found.combined] {
        contains_its_value(estimate);
        let (floor, shuffled) = (estimate.null_floor.unwrap(), estimate.shuffled.unwrap());
        // The norm of a mean of 12 numbers spreads by about a fifth of itself; the mean over shuffles by much less.
        close(shuffled.mean / floor, 1.0, 0.08);
        assert!(shuffled.upper >= shuffled.mean);
        close(estimate.value / floor, 1.0, 0.6);
    }
}

#[test]
fn a_relation_stands_out_from_the_shuffled_null() {
    let source = normal_jacobians((60, 2, 10), 8);
    let target = &source + &(normal_jacobians((60, 2, 10), 9) * 0.3);
    let found = Pair::of(&source, &target, 0).alphas_12();
    for estimate in [found.alpha2, found.combined] {
        let null = estimate.shuffled.unwrap();
        assert!(estimate.value > 3.0 * null.upper, "{} against {}", estimate.value, null.upper);
    }
}

#[test]
fn meaningful_signs_stay_in_the_shuffled_null() {
    // Every deviation points the same way, so a shuffle that keeps signs changes nothing.
    let ones = Array2::<f64>::ones((50, 2));
    let deviations = Deviations { white: ones.view(), black: ones.view(), black_own: ones.view() };
    let null =
        |sign| alphas(&deviations, &Nulls { sign, ..NO_NULLS }, &resamples(50)).unwrap().alpha2.shuffled.unwrap();
    close(null(AttackSign::Meaningful).mean, 1.0, 1e-12);
    assert!(null(AttackSign::Arbitrary).mean < 0.2);
}

#[test]
fn intervals_of_norms_are_centred_on_their_value() {
    let (first, second) = (normal_jacobians((80, 3, 12), 10), normal_jacobians((80, 4, 12), 11));
    for share in [0.0, 1.0] {
        let related = first.sum_axis(Axis(1)).insert_axis(Axis(1)) * share;
        let found = Pair::of(&first, &(&second + &related), 0).alphas_12();
        for estimate in [&found.alpha2, &found.combined] {
            let (below, above) = (estimate.value - estimate.lower, estimate.upper - estimate.value);
            // Resamples of unrelated models have norms about √2 times the value: uncorrected, all of them lie above it.
            assert!(below > 0.3 * above && above > 0.3 * below, "{estimate:?}");
        }
    }
}

#[test]
fn both_routes_to_a_resampled_norm_agree() {
    // With 40 samples, 3×4 products are few and 8×9 are many: padding with zeros changes the route, not the numbers.
    let (white, black, own) = (normal((40, 3), 1), normal((40, 4), 2), normal((40, 4), 3));
    let wide = |rows: &Array2<f64>, width: usize| {
        let mut padded = Array2::zeros((rows.nrows(), width));
        padded.slice_mut(s![.., ..rows.ncols()]).assign(rows);
        padded
    };
    let by_features = alphas_of(white.view(), black.view(), own.view());
    let by_gram = alphas_of(wide(&white, 8).view(), wide(&black, 9).view(), wide(&own, 9).view());
    for (one, other) in [(by_features.alpha2, by_gram.alpha2), (by_features.combined, by_gram.combined)] {
        close(one.value, other.value, 1e-12);
        close(one.lower, other.lower, 1e-12);
        close(one.upper, other.upper, 1e-12);
        close(one.shuffled.unwrap().mean, other.shuffled.unwrap().mean, 1e-12);
    }
}

#[test]
fn outputs_far_beyond_the_samples_are_taken_as_their_coordinates() {
    let (white, black, own) = (normal((12, 3), 81), normal((12, 4), 82), normal((12, 4), 83));
    // Each column 1,500 times over √1500: the same lengths and products.
    let widened = |rows: &Array2<f64>| {
        Array2::from_shape_fn((12, rows.ncols() * 1_500), |(row, i)| rows[[row, i / 1_500]] / 1_500_f64.sqrt())
    };
    let narrow = alphas_of(white.view(), black.view(), own.view());
    let wide = alphas_of(widened(&white).view(), widened(&black).view(), widened(&own).view());
    for (narrow, wide) in [(narrow.alpha1, wide.alpha1), (narrow.alpha2, wide.alpha2), (narrow.combined, wide.combined)]
    {
        close(wide.value, narrow.value, 1e-9);
        close(wide.lower, narrow.lower, 1e-9);
        close(wide.upper, narrow.upper, 1e-9);
    }
}

#[test]
fn dead_samples_leave_the_means_and_are_counted() {
    let (mut white, mut black, mut own) = (normal((30, 2), 4), normal((30, 3), 5), normal((30, 3), 6));
    let kept = |rows: &Array2<f64>| rows.slice(s![2.., ..]).to_owned();
    let without = alphas_of(kept(&white).view(), kept(&black).view(), kept(&own).view());
    white.row_mut(0).fill(0.0);
    black.row_mut(0).fill(0.0);
    own.row_mut(1).fill(0.0);
    let found = alphas_of(white.view(), black.view(), own.view());
    assert_eq!(found.n_dead_samples, 2);
    close(found.alpha1.value, without.alpha1.value, 1e-12);
    close(found.alpha2.value, without.alpha2.value, 1e-12);
    close(found.combined.value, without.combined.value, 1e-12);
    for estimate in [found.alpha1, found.alpha2, found.combined] {
        contains_its_value(&estimate);
    }
}

#[test]
fn a_model_that_stands_still_under_a_working_attack_counts_with_zero() {
    let (white, own) = (normal((10, 2), 7), normal((10, 2), 8));
    let found = alphas_of(white.view(), Array2::zeros((10, 2)).view(), own.view());
    assert_eq!((found.alpha1.value, found.alpha2.value, found.combined.value), (0.0, 0.0, 0.0));
    assert_eq!(found.n_dead_samples, 0);
    let still = tau2(white.view(), Array2::zeros((10, 2)).view(), AttackSign::Arbitrary, &resamples(10)).unwrap();
    assert_eq!((still.value, still.lower, still.upper), (0.0, 0.0, 0.0));
}

#[test]
fn wrong_input_is_refused() {
    let (white, black, own) = (normal((10, 2), 1), normal((10, 3), 2), normal((10, 3), 3));
    let of = |white: &Array2<f64>, black: &Array2<f64>, own: &Array2<f64>| {
        let deviations = Deviations { white: white.view(), black: black.view(), black_own: own.view() };
        alphas(&deviations, &NO_NULLS, &resamples(10)).unwrap_err()
    };
    assert!(matches!(of(&normal((9, 2), 1), &black, &own), Error::SampleCount { expected: 10, found: 9, .. }));
    assert!(matches!(of(&white, &white, &own), Error::RowLength { expected: 3, found: 2, .. }));
    let mut broken = black.clone();
    broken[[4, 1]] = f64::NAN;
    assert!(matches!(of(&white, &broken, &own), Error::NotFinite { sample: 4, .. }));
    assert_eq!(of(&Array2::zeros((10, 2)), &black, &own), Error::AllDead);
    assert_eq!(tau1(&[None; 10], 5, &[], &resamples(10)), Err(Error::AllDead));
    let one = Array2::<f32>::ones((2, 3));
    assert!(matches!(squared_cosines(one.view(), Array2::ones((2, 4)).view()), Err(Error::RowLength { .. })));
    assert!(matches!(squared_cosines(one.view(), (&one * f32::NAN).view()), Err(Error::NotFinite { .. })));
    assert_eq!(squared_cosines(one.view(), Array2::zeros((2, 3)).view()).unwrap(), vec![None, None]);
}

#[test]
fn tiles_of_products_join_to_the_whole() {
    let (source, target) = (normal_jacobians((7, 2, 9), 1), normal_jacobians((7, 3, 9), 2));
    let whole = CrossGrams::of(target.view(), source.view()).unwrap();
    let tile = |rows: std::ops::Range<usize>| {
        CrossGrams::of(target.slice(s![rows.clone(), .., ..]), source.slice(s![rows, .., ..])).unwrap()
    };
    assert_eq!(CrossGrams::concatenate(&[tile(0..3), tile(3..7)]).unwrap(), whole);
    let energy: f64 = source.slice(s![4, .., ..]).iter().map(|&x| f64::from(x).powi(2)).sum();
    close(whole.source_energy()[4], energy, 1e-12);
    assert!(CrossGrams::concatenate(&[]).is_err());
}

#[test]
fn intervals_do_not_depend_on_the_thread_count() {
    let (source, target) = (normal_jacobians((50, 3, 20), 1), normal_jacobians((50, 8, 20), 2));
    let all = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let pair = Pair::of(&source, &target, 0);
            let tau2 = tau2(pair.d11.view(), pair.d12.view(), AttackSign::Arbitrary, &resamples(50)).unwrap();
            (pair.alphas_12(), pair.alphas_21(), tau2, matching(&target, &source, &resamples(50)).unwrap())
        })
    };
    assert_eq!(all(1), all(4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_of_samples_and_outputs_signs_and_scales_do_not_matter(seed in 0_u64..10_000, scale in 0.01_f64..100.0) {
        let (white, black, own) = (normal((12, 3), seed), normal((12, 2), seed + 1), normal((12, 2), seed + 2));
        let plain = alphas_of(white.view(), black.view(), own.view());
        let order: Vec<usize> = (0..12).rev().collect();
        let turned = |rows: &Array2<f64>, columns: &[usize], factor: f64| {
            let mut rows = rows.select(Axis(0), &order).select(Axis(1), columns) * factor;
            // The attack on the first sample with its other sign.
            rows.row_mut(0).mapv_inplace(|x| -x);
            rows
        };
        let changed = alphas_of(
            turned(&white, &[2, 0, 1], scale).view(),
            turned(&black, &[1, 0], scale).view(),
            turned(&own, &[1, 0], scale).view(),
        );
        for (one, other) in [(&plain.alpha1, &changed.alpha1), (&plain.alpha2, &changed.alpha2), (&plain.combined, &changed.combined)] {
            prop_assert!((one.value - other.value).abs() < 1e-12);
            contains_its_value(one);
        }
        prop_assert!(plain.alpha2.value <= 1.0 + 1e-12);
        let tau = |white: &Array2<f64>, black: &Array2<f64>| {
            tau2(white.view(), black.view(), AttackSign::Arbitrary, &resamples(12)).unwrap()
        };
        let (one, other) = (tau(&white, &black), tau(&turned(&white, &[2, 0, 1], scale), &turned(&black, &[1, 0], scale)));
        prop_assert!((one.value - other.value).abs() < 1e-9);
        prop_assert!(one.value <= 1.0);
        contains_its_value(&one);
    }

    #[test]
    fn the_explained_share_is_a_share_and_no_affine_map_of_the_source_changes_it(seed in 0_u64..10_000) {
        let (source, target) = (normal_jacobians((9, 2, 5), seed), normal_jacobians((9, 3, 5), seed + 1));
        let resamples = Resamples::new(9, Confidence { level: 0.9, resamples: 100 }, seed).unwrap();
        let explained = |source: &Array3<f32>| {
            matching(&target, source, &resamples).unwrap().explained
        };
        let mut mixed = source.clone();
        let second = source.slice(s![.., 1, ..]).mapv(|x| 4.0 * x) + source.slice(s![.., 0, ..]);
        mixed.slice_mut(s![.., 1, ..]).assign(&second);
        let (one, other) = (explained(&source), explained(&mixed));
        prop_assert!((0.0..=1.0).contains(&one.value));
        prop_assert!((one.value - other.value).abs() < 1e-6);
        prop_assert!((one.lower - other.lower).abs() < 1e-6);
        contains_its_value(&one);
    }
}

#[test]
fn noise_beside_the_deviations_leaves_tau2_alone() {
    // One direction in a space of forty, as linear models have it, and what float32 adds in the others.
    let signs = normal((60, 1), 71).mapv(f64::signum);
    let noise = |d: usize, seed: u64| normal((60, d), seed) * 1e-5;
    let white = signs.dot(&normal((1, 40), 72)) + noise(40, 73);
    let black = signs.dot(&normal((1, 3), 74)) + noise(3, 75);
    let found = tau2(white.view(), black.view(), AttackSign::Arbitrary, &resamples(60)).unwrap();
    close(found.value, 1.0, 1e-6);
    assert!(found.lower > 1.0 - 1e-6, "{found:?}");
}

#[test]
fn one_pairing_of_unrelated_attacks_is_rarely_exceeded_by_another() {
    let squares =
        |seed: u64| -> Vec<Option<f64>> { normal((80, 1), seed).iter().map(|x| Some(x * x / 20.0)).collect() };
    let n_draws = 400;
    let beyond = (0..n_draws).filter(|&draw| {
        let (paired, mispaired) = (squares(2 * draw), squares(2 * draw + 1));
        let found = tau1(&paired, 20, &mispaired, &resamples(80)).unwrap();
        found.value > found.shuffled.unwrap().upper
    });
    let rate = beyond.count() as f64 / n_draws as f64;
    assert!((0.02..0.085).contains(&rate), "{rate}");
}
