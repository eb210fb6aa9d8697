//! What is computed another way where there are many samples or outputs, against the way of few.
//!
//! Outputs that are always zero change no metric, but make it large: so both ways are taken on the same numbers.

use ndarray::{Array2, Axis, s};
use transferscore::{
    metric::{AttackSign, CrossGrams, Deviations, Error, GradientMoments, Nulls, alphas, gradient_matching, tau2},
    stats::{Estimate, Resamples},
};

use super::support::{close, contains_its_value, moments, normal, normal_jacobians, resamples};

fn padded(rows: &Array2<f64>, width: usize) -> Array2<f64> {
    let mut padded = Array2::zeros((rows.nrows(), width));
    padded.slice_mut(s![.., ..rows.ncols()]).assign(rows);
    padded
}

/// Deviations of two related models, and of the second under its own attack.
fn related(n: usize, noise: f64) -> [Array2<f64>; 3] {
    let (white, map) = (normal((n, 3), 1), normal((3, 4), 2));
    let black = white.dot(&map) + normal((n, 4), 3) * noise;
    // Far from normal, so that a first-order answer can be told from a wrong one.
    let weights = normal((n, 1), 4).mapv(|x| 0.2 + x * x);
    [&white * &weights, &black * &weights, normal((n, 4), 5) * 3.0]
}

/// The same value, and an interval of about the same ends.
#[track_caller]
fn agree(found: &Estimate, expected: &Estimate, share: f64) {
    contains_its_value(found);
    close(found.value, expected.value, 1e-9 * expected.value.abs());
    let width = expected.upper - expected.lower;
    close(found.lower, expected.lower, share * width);
    close(found.upper, expected.upper, share * width);
}

#[test]
fn alphas_of_many_outputs_and_samples_have_the_intervals_of_few() {
    let [white, black, own] = related(3_000, 0.4);
    let of = |width: Option<usize>| {
        let [white, black, own] =
            [&white, &black, &own].map(|rows| width.map_or(rows.clone(), |width| padded(rows, width)));
        let deviations = Deviations { white: white.view(), black: black.view(), black_own: own.view() };
        let nulls = Nulls { sign: AttackSign::Arbitrary, alpha1_floor: None, mispaired: None };
        alphas(&deviations, &nulls, &resamples(3_000)).unwrap()
    };
    let (few, many) = (of(None), of(Some(40)));
    assert_ne!(few.alpha2.lower, many.alpha2.lower, "the two took the same way");
    agree(&many.alpha2, &few.alpha2, 0.03);
    agree(&many.combined, &few.combined, 0.03);
    close(many.alpha2.shuffled.unwrap().mean, few.alpha2.shuffled.unwrap().mean, 1e-12);
}

#[test]
fn tau2_of_many_outputs_has_the_interval_of_few_with_its_bound_active_and_not() {
    for noise in [0.3, 3.0] {
        let [white, black, _] = related(2_000, noise);
        let of = |width: Option<usize>| {
            let [white, black] = [&white, &black].map(|rows| width.map_or(rows.clone(), |width| padded(rows, width)));
            tau2(white.view(), black.view(), AttackSign::Arbitrary, &resamples(2_000)).unwrap()
        };
        let (few, many) = (of(None), of(Some(60)));
        assert_ne!(few.lower, many.lower, "the two took the same way");
        agree(&many, &few, 0.1);
    }
}

#[test]
fn tau2_of_more_outputs_than_samples_is_that_of_their_coordinates() {
    // A rotation of the outputs into a wider space changes nothing.
    let (white, black) = (normal((30, 4), 1), normal((30, 5), 2));
    let wide = |rows: &Array2<f64>, seed| {
        let basis = normal((rows.ncols(), 200), seed);
        // Orthonormal rows, by Gram and Schmidt.
        let mut basis = basis;
        for row in 0..basis.nrows() {
            let (before, mut rest) = basis.view_mut().split_at(Axis(0), row);
            let mut current = rest.row_mut(0);
            for one in before.rows() {
                let along = one.dot(&current);
                current.scaled_add(-along, &one);
            }
            let length = current.dot(&current).sqrt();
            current /= length;
        }
        rows.dot(&basis)
    };
    let narrow = tau2(white.view(), black.view(), AttackSign::Arbitrary, &resamples(30)).unwrap();
    let turned = tau2(wide(&white, 3).view(), wide(&black, 4).view(), AttackSign::Arbitrary, &resamples(30)).unwrap();
    agree(&turned, &narrow, 1e-6);
    close(turned.shuffled.unwrap().upper, narrow.shuffled.unwrap().upper, 1e-9);
}

#[test]
fn tau2_refuses_what_no_moment_can_hold() {
    let rows = Array2::<f64>::ones((2_100, 2_100));
    let refused = tau2(rows.view(), rows.view(), AttackSign::Arbitrary, &resamples(2_100));
    assert_eq!(refused, Err(Error::TooManyOutputs { n_outputs: 2_100, limit: 2_048 }));
}

/// Products of Jacobians of related models, (N, 2, 5) and (N, 3, 5), the source's padded to `d_source` outputs.
fn grams(n: usize, d_source: usize) -> CrossGrams {
    let (source, noise) = (normal_jacobians((n, 3, 5), 1), normal_jacobians((n, 2, 5), 2));
    let target = source.slice(s![.., ..2, ..]).mapv(|x| 0.8 * x) + noise;
    let small = CrossGrams::of(target.view(), source.view()).unwrap();
    let (mut cross, mut own) = (Array2::zeros((n, 2 * d_source)), Array2::zeros((n, d_source * d_source)));
    for a in 0..3 {
        for b in 0..3 {
            own.column_mut(a * d_source + b).assign(&small.own.column(a * 3 + b));
        }
        for t in 0..2 {
            cross.column_mut(t * d_source + a).assign(&small.cross.column(t * 3 + a));
        }
    }
    CrossGrams { cross, own, energies: small.energies }
}

fn fed(grams: &CrossGrams, d_source: usize, resamples: &Resamples, chunks: &[&[usize]]) -> GradientMoments {
    let mut moments = GradientMoments::new(resamples, 2, d_source);
    for positions in chunks {
        let chunk = CrossGrams {
            cross: grams.cross.select(Axis(0), positions),
            own: grams.own.select(Axis(0), positions),
            energies: grams.energies.select(Axis(0), positions),
        };
        moments.add(positions, &chunk).unwrap();
    }
    moments
}

#[test]
fn gradient_matching_of_many_outputs_has_the_intervals_of_few_grouped_or_not() {
    // 150 outputs are too many to refit; 1,000 samples of them are kept in groups.
    for n in [300, 1_000] {
        let resamples = resamples(n);
        let order: Vec<usize> = (0..n).collect();
        let of = |d_source| {
            let grams = grams(n, d_source);
            gradient_matching(&fed(&grams, d_source, &resamples, &[&order]), &resamples).unwrap()
        };
        let (few, many) = (of(3), of(150));
        let share = if n == 300 { 0.06 } else { 0.35 };
        assert_ne!(few.explained.lower, many.explained.lower, "the two took the same way");
        agree(&many.explained, &few.explained, share);
        agree(&many.distance, &few.distance, share);
    }
}

#[test]
fn moments_do_not_depend_on_chunks_nor_where_samples_stand_alone_on_order() {
    let resamples = resamples(60);
    let grams = grams(60, 3);
    let order: Vec<usize> = (0..60).map(|i| (i * 37 + 5) % 60).collect();
    let (first, rest) = order.split_at(1);
    let (second, third) = rest.split_at(40);
    let found = |chunks: &[&[usize]]| gradient_matching(&fed(&grams, 3, &resamples, chunks), &resamples).unwrap();
    let whole = found(&[&(0..60).collect::<Vec<_>>()]);
    assert_eq!(found(&[&order]), whole);
    assert_eq!(found(&[third, first, second]), whole);
}

#[test]
fn grouped_moments_do_not_depend_on_chunks() {
    let (n, resamples) = (900, resamples(900));
    let grams = grams(n, 150);
    let order: Vec<usize> = (0..n).map(|i| (i * 397 + 5) % n).collect();
    let found = |chunks: &[&[usize]]| gradient_matching(&fed(&grams, 150, &resamples, chunks), &resamples).unwrap();
    let (first, rest) = order.split_at(333);
    assert_eq!(found(&[&order]), found(&[first, rest]));
}

#[test]
fn moments_tell_each_samples_energies() {
    let (source, target) = (normal_jacobians((8, 2, 6), 1), normal_jacobians((8, 3, 6), 2));
    let moments = moments(&target, &source, &resamples(8));
    let energy = |rows: &ndarray::Array3<f32>| rows.slice(s![5, .., ..]).iter().map(|&x| f64::from(x).powi(2)).sum();
    close(moments.target_energies()[5], energy(&target), 1e-12);
    close(moments.source_energies()[5], energy(&source), 1e-12);
}

#[test]
fn moments_refuse_what_does_not_belong() {
    let (source, target) = (normal_jacobians((4, 2, 6), 1), normal_jacobians((4, 3, 6), 2));
    let grams = CrossGrams::of(target.view(), source.view()).unwrap();
    let resamples = resamples(8);
    let mut moments = GradientMoments::new(&resamples, 3, 2);
    assert!(matches!(moments.add(&[0, 1, 2], &grams), Err(Error::SampleCount { expected: 3, found: 4, .. })));
    assert_eq!(moments.add(&[0, 1, 2, 8], &grams), Err(Error::Position { position: 8, n_samples: 8 }));
    assert_eq!(moments.add(&[0, 1, 2, 1], &grams), Err(Error::Position { position: 1, n_samples: 8 }));
    let mut broken = grams.clone();
    broken.own[[2, 1]] = f64::INFINITY;
    assert!(matches!(moments.add(&[0, 1, 2, 3], &broken), Err(Error::NotFinite { sample: 2, .. })));
    assert!(matches!(GradientMoments::new(&resamples, 2, 2).add(&[0, 1, 2, 3], &grams), Err(Error::RowLength { .. })));
    moments.add(&[0, 1, 2, 3], &grams).unwrap();
    assert_eq!(moments.add(&[4, 5, 6, 3], &grams), Err(Error::Position { position: 3, n_samples: 8 }));
    let incomplete = gradient_matching(&moments, &resamples);
    assert!(matches!(incomplete, Err(Error::SampleCount { expected: 8, found: 4, .. })));
}
