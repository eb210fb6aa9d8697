//! What a ranking says of its scores: correlations with ties, resamples and permutations, regret, rank aggregation.

use proptest::prelude::*;
use serde_json::Value;
use transferscore::stats::{
    Agreement, Ballot, Confidence, Correlations, Estimate, FewPairs, Pairs, Purpose, Replicates, Resamples,
    SourceDraws, contenders, mean_share_below, permutation, probability_best, regret, stream,
};

use super::support::{close, normal, number, numbers};

const CONFIDENCE: Confidence = Confidence { level: 0.95, resamples: 400 };

fn golden() -> Value {
    serde_json::from_str(include_str!("../../golden/ranking.json")).unwrap()
}

fn agree(found: Correlations, expected: &Value) {
    close(found.pearson, number(&expected["pearson"]), 1e-12);
    close(found.spearman, number(&expected["spearman"]), 1e-12);
    close(found.kendall, number(&expected["kendall"]), 1e-12);
    close(found.weighted_kendall, number(&expected["weighted_kendall"]), 1e-12);
}

fn agreement(x: &[f64], y: &[f64]) -> Option<Agreement> {
    SourceDraws::new(x.len(), CONFIDENCE, 3).unwrap().agreement(x, y)
}

#[test]
fn all_four_correlations_agree_with_scipy_ties_included() {
    for case in golden()["correlations"].as_array().unwrap() {
        let (x, y) = (numbers(&case["x"]), numbers(&case["y"]));
        agree(Correlations::of(&x, &y).unwrap(), case);
        agree(Correlations::of(&y, &x).unwrap(), case);
    }
}

#[test]
fn a_resample_is_correlated_as_its_pairs_repeated() {
    for case in golden()["resamples"].as_array().unwrap() {
        let counts: Vec<usize> = numbers(&case["counts"]).into_iter().map(|count| count as usize).collect();
        let pairs = Pairs::new(&numbers(&case["x"]), &numbers(&case["y"])).unwrap();
        agree(pairs.correlations(&counts).unwrap(), case);
    }
    let pairs = Pairs::new(&[1.0, 2.0, 2.0], &[1.0, 2.0, 3.0]).unwrap();
    assert_eq!(pairs.correlations(&[0, 1, 2]), None, "one value of x is drawn");
    assert_eq!(pairs.correlations(&[1, 2]), None, "not a count for each pair");
}

#[test]
fn every_permutation_of_few_sources_is_tried() {
    for case in golden()["permutation_tests"].as_array().unwrap() {
        let found = agreement(&numbers(&case["x"]), &numbers(&case["y"])).unwrap();
        let expected = &case["p_values"];
        close(found.pearson.p_value, number(&expected["pearson"]), 1e-12);
        close(found.spearman.p_value, number(&expected["spearman"]), 1e-12);
        close(found.kendall.p_value, number(&expected["kendall"]), 1e-12);
        close(found.weighted_kendall.p_value, number(&expected["weighted_kendall"]), 1e-12);
    }
    let rising: Vec<f64> = (0..8).map(f64::from).collect();
    close(agreement(&rising, &rising).unwrap().kendall.p_value, 2.0 / 40_320.0, 1e-15);
}

#[test]
fn permutations_of_more_sources_are_drawn() {
    let rising: Vec<f64> = (0..30).map(f64::from).collect();
    assert_eq!(agreement(&rising, &rising).unwrap().spearman.p_value, 1.0 / 401.0);
    // Student's t of a correlation of 0.3 over 30 pairs has 10.7 % beyond it; 400 draws have a deviation of 1.5 %.
    let noise = normal((30, 1), 4).into_raw_vec_and_offset().0;
    let mean = |values: &[f64]| values.iter().sum::<f64>() / 30.0;
    let inner = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - mean(a)) * (y - mean(b))).sum::<f64>();
    let slope = inner(&rising, &noise) / inner(&rising, &rising);
    let apart: Vec<f64> = noise.iter().zip(&rising).map(|(y, x)| y - slope * x).collect();
    let scale = (inner(&apart, &apart) / inner(&rising, &rising)).sqrt() * 0.3 / (1.0_f64 - 0.09).sqrt();
    let y: Vec<f64> = apart.iter().zip(&rising).map(|(a, x)| a + scale * x).collect();
    let found = agreement(&rising, &y).unwrap().pearson;
    close(found.value, 0.3, 1e-12);
    close(found.p_value, 0.107, 0.045);
}

#[test]
fn intervals_over_sources_leave_out_degenerate_resamples() {
    let (x, y) = ([1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 3.0, 2.0, 5.0, 4.0]);
    let found = agreement(&x, &y).unwrap();
    let distinct = |row: ndarray::ArrayView1<'_, u8>| row.iter().filter(|&&count| count > 0).count();
    let resamples = Resamples::new(5, CONFIDENCE, 3).unwrap();
    let degenerate = resamples.counts().rows().into_iter().filter(|row| distinct(*row) < 3).count();
    assert_eq!(found.n_degenerate, degenerate);
    // (10 · 30 + 5) of 5⁵ resamples.
    close(degenerate as f64 / 400.0, 305.0 / 3125.0, 0.045);
    let (lower, upper) = found.spearman.interval.unwrap();
    assert!(lower < 0.8 && upper == 1.0, "{lower} {upper}");

    // Every resample of a perfect agreement is perfect, which says nothing of how sure it is.
    let perfect = agreement(&x, &x).unwrap();
    close(perfect.spearman.value, 1.0, 1e-15);
    assert_eq!(perfect.spearman.interval, None);
    let few = agreement(&x[..4], &y[..4]).unwrap();
    assert_eq!((few.spearman.interval, few.n_degenerate), (None, 0));
    assert_eq!(agreement(&x, &[1.0; 5]), None);
    assert_eq!(agreement(&x, &[1.0, 2.0, 3.0, 4.0, f64::NAN]), None);
}

#[test]
fn an_interval_over_sources_is_that_of_the_repeated_pairs() {
    let x = normal((12, 1), 1).into_raw_vec_and_offset().0;
    let y: Vec<f64> = normal((12, 1), 2).iter().zip(&x).map(|(noise, x)| x + noise).collect();
    let resamples = Resamples::new(12, CONFIDENCE, 3).unwrap();
    let mut found = Vec::new();
    for row in resamples.counts().rows() {
        let drawn: Vec<usize> =
            row.iter().enumerate().flat_map(|(source, &count)| vec![source; usize::from(count)]).collect();
        let (x, y): (Vec<f64>, Vec<f64>) = drawn.iter().map(|&source| (x[source], y[source])).unzip();
        found.push(Correlations::of(&x, &y).unwrap().weighted_kendall);
    }
    found.sort_by(f64::total_cmp);
    let (lower, upper) = agreement(&x, &y).unwrap().weighted_kendall.interval.unwrap();
    close(lower, transferscore::stats::quantile(&found, 0.025).unwrap(), 1e-12);
    close(upper, transferscore::stats::quantile(&found, 0.975).unwrap(), 1e-12);
}

#[test]
fn a_thousand_sources_are_correlated() {
    let x = normal((1000, 1), 1).into_raw_vec_and_offset().0;
    let y: Vec<f64> = normal((1000, 1), 2).iter().zip(&x).map(|(noise, x)| 0.5 * x + noise).collect();
    let draws = SourceDraws::new(1000, Confidence { level: 0.95, resamples: 100 }, 3).unwrap();
    let found = draws.agreement(&x, &y).unwrap();
    close(found.pearson.value, (0.2_f64).sqrt(), 0.06);
    let (lower, upper) = found.kendall.interval.unwrap();
    assert!(lower < found.kendall.value && found.kendall.value < upper && upper - lower < 0.1);
    assert_eq!(found.kendall.p_value, 1.0 / 101.0);
}

#[test]
fn regret_is_the_mean_over_the_ways_to_break_ties() {
    for case in golden()["regrets"].as_array().unwrap() {
        let (scores, measured) = (numbers(&case["scores"]), numbers(&case["measured"]));
        let found = regret(&scores, &measured, case["top"].as_u64().unwrap() as usize).unwrap();
        close(found.absolute, number(&case["regret"]), 1e-15);
        let best = measured.iter().copied().fold(f64::MIN, f64::max);
        close(found.relative.unwrap(), found.absolute / best, 1e-15);
    }
    assert_eq!(regret(&[1.0, 2.0], &[-0.5, -1.0], 1).unwrap().relative, None, "nothing to be relative to");
    for (scores, measured, top) in
        [(&[][..], &[][..], 1), (&[1.0], &[1.0], 0), (&[1.0], &[f64::NAN], 1), (&[1.0, 2.0], &[1.0], 1)]
    {
        assert_eq!(regret(scores, measured, top), None);
    }
}

fn ballot(weight: f64, values: &[f64]) -> Ballot {
    Ballot { weight, estimates: values.iter().copied().map(Estimate::exact).collect() }
}

#[test]
fn scores_are_aggregated_by_weighted_borda_counts() {
    for case in golden()["borda"].as_array().unwrap() {
        let values = case["ballots"].as_array().unwrap().iter().map(numbers);
        let ballots: Vec<Ballot> =
            values.zip(numbers(&case["weights"])).map(|(values, weight)| ballot(weight, &values)).collect();
        let found = mean_share_below(&ballots, CONFIDENCE, 1).unwrap();
        for (found, expected) in found.iter().zip(numbers(&case["shares"])) {
            close(found.value, expected, 1e-14);
            assert!(found.lower <= found.value && found.value <= found.upper);
        }
    }
    assert_eq!(mean_share_below(&[ballot(1.0, &[3.0])], CONFIDENCE, 1).unwrap()[0].value, 1.0);
    for unusable in [vec![], vec![ballot(1.0, &[])], vec![ballot(0.0, &[1.0])], vec![ballot(1.0, &[f64::NAN, 1.0])]] {
        assert_eq!(mean_share_below(&unusable, CONFIDENCE, 1), None);
    }
    assert_eq!(mean_share_below(&[ballot(1.0, &[1.0]), ballot(1.0, &[1.0, 2.0])], CONFIDENCE, 1), None);
}

#[test]
fn a_recommendation_is_sure_only_where_scores_and_samples_are() {
    let best = |ballots: &[Ballot]| probability_best(&mean_share_below(ballots, CONFIDENCE, 1).unwrap()).unwrap();
    // All agree, and no sample changes them.
    let [x, y] = [ballot(1.0, &[1.0, 2.0, 3.0]), ballot(1.0, &[1.0, 5.0, 9.0])];
    assert_eq!(best(&[x.clone(), y.clone()]), [0.0, 0.0, 1.0]);
    // Two scores against one: the weight of the one exceeds that of the two, Gamma(2), in a quarter of draws.
    let against = ballot(1.0, &[3.0, 2.0, 1.0]);
    let found = best(&[x.clone(), y, against]);
    close(found[0], 0.25, 0.06);
    close(found[2], 0.75, 0.06);
    // One score whose samples do not tell the first two apart.
    let replicated = |value: f64, even: f64, odd: f64| {
        let replicates: Vec<f64> = (0..400).map(|index| if index % 2 == 0 { even } else { odd }).collect();
        Estimate { replicates: Replicates::new(&replicates), ..Estimate::exact(value) }
    };
    let estimates = vec![replicated(2.0, 1.0, 3.0), replicated(1.9, 2.0, 2.0), replicated(0.0, 0.0, f64::NAN)];
    assert_eq!(best(&[Ballot { weight: 1.0, estimates }]), [0.5, 0.5, 0.0]);
    // As many replicates as were not asked for are no resamples of this call.
    let strange = Estimate { replicates: Replicates::new(&[9.0]), ..Estimate::exact(0.0) };
    assert_eq!(best(&[Ballot { weight: 1.0, estimates: vec![strange, Estimate::exact(1.0)] }]), [0.0, 1.0]);
}

#[test]
fn contenders_are_the_fewest_that_hold_the_probability() {
    assert_eq!(contenders(&[0.1, 0.6, 0.3], 0.95), [1, 2, 0]);
    assert_eq!(contenders(&[0.1, 0.6, 0.3], 0.9), [1, 2]);
    assert_eq!(contenders(&[0.02, 0.97, 0.01], 0.95), [1]);
    assert_eq!(contenders(&[0.5, 0.5], 0.5), [0]);
    assert_eq!(contenders(&[0.3, 0.3, 0.3, 0.1], 0.9), [0, 1, 2]);
    assert!(contenders(&[], 0.95).is_empty());
}

proptest! {
    #[test]
    fn weighted_kendall_is_symmetric_and_ignores_monotone_maps(
        pairs in prop::collection::vec((-8_i32..8, -8_i32..8), 3..40),
    ) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
        let mapped: Vec<f64> = x.iter().map(|a| a.exp()).collect();
        let of = |x: &[f64], y: &[f64]| Correlations::of(x, y).map(|found| found.weighted_kendall);
        prop_assert_eq!(of(&x, &y), of(&mapped, &y));
        if let (Some(forth), Some(back)) = (of(&x, &y), of(&y, &x)) {
            prop_assert!((forth - back).abs() < 1e-12);
            prop_assert!((-1.0..=1.0).contains(&forth));
        }
    }

    #[test]
    fn few_pairs_are_permuted_as_many_are(
        pairs in prop::collection::vec((0_i32..5, 0_i32..5), 2..=8), seed: u64,
    ) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
        let pairs = Pairs::new(&x, &y).unwrap();
        let order = permutation(&mut stream(seed, Purpose::Shuffle, 0), x.len());
        let expected = pairs.permuted(&order).correlations(&vec![1; x.len()]);
        let found = FewPairs::new(&pairs).map(|few| few.permuted(&order));
        prop_assert_eq!(found.is_some(), expected.is_some());
        if let (Some(found), Some(expected)) = (found, expected) {
            let numbers = |of: Correlations| [of.pearson, of.spearman, of.kendall, of.weighted_kendall];
            for (found, expected) in numbers(found).into_iter().zip(numbers(expected)) {
                prop_assert!((found - expected).abs() < 1e-12, "{found} {expected}");
            }
        }
    }

    #[test]
    fn taus_agree_with_their_definition_pair_by_pair(
        pairs in prop::collection::vec((0_i32..6, 0_i32..6), 2..25),
    ) {
        let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|&(a, b)| (f64::from(a), f64::from(b))).unzip();
        if let Some(found) = Correlations::of(&x, &y) {
            prop_assert!((found.kendall - tau(&x, &y, &vec![1.0; x.len()])).abs() < 1e-12);
            let both = (tau(&x, &y, &weights(&x, &y)) + tau(&x, &y, &weights(&y, &x))) / 2.0;
            prop_assert!((found.weighted_kendall - both).abs() < 1e-12);
        }
    }
}

/// Σ (w_i + w_j) sign(x_i − x_j) sign(y_i − y_j), scaled by what pairs that do not tie weigh on either side.
fn tau(x: &[f64], y: &[f64], weights: &[f64]) -> f64 {
    let (mut agreement, mut untied_x, mut untied_y) = (0.0, 0.0, 0.0);
    let sign = |a: f64, b: f64| if a == b { 0.0 } else { (a - b).signum() };
    for i in 0..x.len() {
        for j in 0..i {
            let weight = weights[i] + weights[j];
            agreement += weight * sign(x[i], x[j]) * sign(y[i], y[j]);
            untied_x += weight * sign(x[i], x[j]).abs();
            untied_y += weight * sign(y[i], y[j]).abs();
        }
    }
    agreement / (untied_x * untied_y).sqrt()
}

/// 1/(1 + rank) by the first, then by the second side; equal pairs in any order.
fn weights(first: &[f64], second: &[f64]) -> Vec<f64> {
    let above = |i: usize, j: usize| (first[j], second[j], j) > (first[i], second[i], i);
    (0..first.len()).map(|i| 1.0 / (1 + (0..first.len()).filter(|&j| above(i, j)).count()) as f64).collect()
}
