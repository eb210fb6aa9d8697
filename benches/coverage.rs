//! How often the 95 % intervals hold what they estimate, over repeated draws of the probe set.
//!
//! Run with `cargo bench --bench coverage -- [DRAWS]`; a minute or two for the default 500 draws. Prints the table of
//! docs/metrics.md. What an interval should hold is the value on a population of 40,000 samples. Held-out measures depend on
//! how many samples their heads are fitted to: there it is the mean over draws.

#![allow(missing_docs, reason = "a program")]

use ndarray::{Array2, Array3, Axis};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use transferscore::{
    attack::top_singular,
    knowledge::{affine_fit, linear_probe},
    metric::{
        Answers, AttackSign, CrossGrams, Deviations, GradientMoments, Nulls, Truth, alphas, first_order_deviations,
        gradient_matching, losses, similarity, squared_cosines, tau1, tau2,
    },
    stats::{Confidence, Estimate, Purpose, Resamples, below, standard_normal, stream},
};

const LEVEL: f64 = 0.95;
const RESAMPLES: usize = 1_000;
const POPULATION: usize = 40_000;
const SIZES: [usize; 2] = [100, 500];
const D_SOURCE: usize = 3;
const D_TARGET: usize = 4;
const PIXELS: usize = 20;
const CLASSES: usize = 4;

fn main() {
    let draws = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(500);
    let truth = measures(POPULATION, 0, 2, false);
    println!("| metric | samples | coverage | below | above | mean width |\n|---|---|---|---|---|---|");
    for n in SIZES {
        let found: Vec<Vec<(&str, Estimate)>> =
            (1..=draws).into_par_iter().map(|draw| measures(n, draw, RESAMPLES, true)).collect();
        let names: Vec<&str> = found.first().map(|row| row.iter().map(|(name, _)| *name).collect()).unwrap_or_default();
        for (index, name) in names.iter().enumerate() {
            let estimates: Vec<&Estimate> = found.iter().map(|row| &row[index].1).collect();
            let mean = estimates.iter().map(|estimate| estimate.value).sum::<f64>() / estimates.len() as f64;
            let expected = truth.iter().find(|(other, _)| other == name).map_or(mean, |(_, estimate)| estimate.value);
            let share = |is: fn(&Estimate, f64) -> bool| {
                estimates.iter().filter(|estimate| is(estimate, expected)).count() as f64 / estimates.len() as f64
            };
            let (above, below) = (share(|e, truth| e.lower > truth), share(|e, truth| e.upper < truth));
            let width = estimates.iter().map(|e| e.upper - e.lower).sum::<f64>() / estimates.len() as f64;
            println!(
                "| {name} | {n} | {:.1} % | {:.1} % | {:.1} % | {width:.3} |",
                100.0 * (1.0 - above - below),
                100.0 * below,
                100.0 * above
            );
        }
    }
}

/// Every measure on one draw of `n` samples.
fn measures(n: usize, draw: u64, n_resamples: usize, with_held_out: bool) -> Vec<(&'static str, Estimate)> {
    let resamples =
        Resamples::new(n, Confidence { level: LEVEL, resamples: n_resamples }, draw).expect("settings in range");
    let mut rng = stream(draw, Purpose::Subsample, n as u64);
    let mut found = transferability(n, &mut rng, &resamples);
    found.extend(judgement(n, &mut rng, &resamples));
    found.extend(knowledge(n, draw, &mut rng, &resamples, with_held_out));
    found
}

/// A fixed matrix, the same for every draw.
fn fixed(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    let mut rng = stream(seed, Purpose::Folds, u64::MAX >> 8);
    Array2::from_shape_simple_fn((rows, columns), || standard_normal(&mut rng))
}

/// Two models whose Jacobians share a part that varies from sample to sample, in direction and in size.
fn transferability(n: usize, rng: &mut ChaCha8Rng, resamples: &Resamples) -> Vec<(&'static str, Estimate)> {
    let (map, common) = (fixed(D_TARGET, D_SOURCE, 1), fixed(D_SOURCE, PIXELS, 2));
    let mut source = Array3::<f32>::zeros((n, D_SOURCE, PIXELS));
    let mut target = Array3::<f32>::zeros((n, D_TARGET, PIXELS));
    for sample in 0..n {
        let size = (0.4 * standard_normal(rng)).exp();
        let own = &common + Array2::from_shape_simple_fn((D_SOURCE, PIXELS), || standard_normal(rng));
        let noise = Array2::from_shape_simple_fn((D_TARGET, PIXELS), || standard_normal(rng));
        source.index_axis_mut(Axis(0), sample).assign(&(&own * size).mapv(|x| x as f32));
        target.index_axis_mut(Axis(0), sample).assign(&((map.dot(&own) + 2.0 * noise) * size).mapv(|x| x as f32));
    }
    let directions = |jacobians: &Array3<f32>| {
        top_singular(jacobians.view(), 0).and_then(|top| top.directions(jacobians.view())).expect("finite Jacobians")
    };
    let (by_source, by_target) = (directions(&source), directions(&target));
    let moved = |jacobians: &Array3<f32>, by: &Array2<f32>| {
        first_order_deviations(jacobians.view(), by.view()).expect("finite Jacobians")
    };
    let (white, black) = (moved(&source, &by_source), moved(&target, &by_source));
    let own = moved(&target, &by_target);
    let deviations = Deviations { white: white.view(), black: black.view(), black_own: own.view() };
    let nulls = Nulls { sign: AttackSign::Arbitrary, alpha1_floor: None, mispaired: None };
    let alphas = alphas(&deviations, &nulls, resamples).expect("live samples");
    let cosines = squared_cosines(by_source.view(), by_target.view()).expect("finite directions");
    let mut moments = GradientMoments::new(resamples, D_TARGET, D_SOURCE);
    let positions: Vec<usize> = (0..n).collect();
    let grams = CrossGrams::of(target.view(), source.view()).expect("finite Jacobians");
    moments.add(&positions, &grams).expect("every sample once");
    let matching = gradient_matching(&moments, resamples).expect("gradients");
    vec![
        ("alpha1", alphas.alpha1),
        ("alpha2", alphas.alpha2),
        ("combined", alphas.combined),
        ("tau1", tau1(&cosines, PIXELS, &[], resamples).expect("live samples")),
        ("tau2", tau2(white.view(), black.view(), AttackSign::Arbitrary, resamples).expect("few outputs")),
        ("explained", matching.explained),
        ("gradient distance", matching.distance),
    ]
}

/// Two classifiers of the same classes under each other's attacks.
fn judgement(n: usize, rng: &mut ChaCha8Rng, resamples: &Resamples) -> Vec<(&'static str, Estimate)> {
    let labels: Vec<u32> = (0..n).map(|_| below(rng, CLASSES) as u32).collect();
    let mut model = || {
        let mut rows = |scale: f64| Array2::from_shape_simple_fn((n, CLASSES), || scale * standard_normal(rng));
        let (mut clean, own, black) = (rows(1.0), rows(3.0), rows(1.0));
        for (mut row, &label) in clean.rows_mut().into_iter().zip(&labels) {
            row[label as usize] += 2.5;
        }
        (clean.mapv(|x| x as f32), own, black)
    };
    let (first, second) = (model(), model());
    let first = Answers { clean: first.0.view(), own: first.1.view(), black: first.2.view() };
    let second = Answers { clean: second.0.view(), own: second.1.view(), black: second.2.view() };
    let found = losses(Truth::Labels(&labels), &second, Some(&first), resamples).expect("finite losses");
    let optional = [
        ("attack loss / white-box loss", found.loss_ratio),
        ("fooling rate", found.fooling_rate),
        ("conditional fooling rate", found.conditional_fooling_rate),
        ("similarity", similarity(&labels, &first, &second, resamples).expect("labels in range")),
    ];
    let mut all = vec![("attack loss", found.attack_loss), ("clean loss", found.clean_loss)];
    all.extend(optional.into_iter().filter_map(|(name, estimate)| Some((name, estimate?))));
    all
}

/// Features with an affine relation to targets, and classes that a linear head partly tells apart.
fn knowledge(
    n: usize,
    draw: u64,
    rng: &mut ChaCha8Rng,
    resamples: &Resamples,
    with_held_out: bool,
) -> Vec<(&'static str, Estimate)> {
    let (map, centres) = (fixed(5, 2, 3), fixed(CLASSES, 5, 4));
    let labels: Vec<u32> = (0..n).map(|_| below(rng, CLASSES) as u32).collect();
    let mut features = Array2::from_shape_simple_fn((n, 5), || standard_normal(rng));
    for (mut row, &label) in features.rows_mut().into_iter().zip(&labels) {
        row += &centres.row(label as usize);
    }
    let noise = Array2::from_shape_simple_fn((n, 2), || 2.0 * standard_normal(rng));
    let targets = features.dot(&map) + noise;
    let fit = affine_fit(features.view(), targets.view(), Some(0.0), resamples).expect("finite features");
    let mut found = vec![("affine R2", fit.r2), ("affine distance", fit.distance)];
    if with_held_out {
        found.extend([("affine held-out R2", fit.held_out_r2), ("affine held-out distance", fit.held_out_distance)]);
        let probe = linear_probe(features.view(), &labels, 5, draw, resamples).expect("every class twice");
        found.extend([("linear probe accuracy", probe.accuracy), ("linear probe cross-entropy", probe.cross_entropy)]);
    }
    found
}
