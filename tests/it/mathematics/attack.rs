use std::convert::Infallible;

use ndarray::{Array2, ArrayView2, Axis, array, s};
use proptest::prelude::*;
use transferscore::{
    attack::{
        Accumulated, Ball, Error, JacobianError, Momentum, Norm, PixelRange, ProjectedGradient, fast_gradient,
        projected_gradient, random_starts, sample_grams, top_singular,
    },
    metric::first_order_deviations,
};

use super::support::{close, normal, normal_jacobians};

fn ball(norm: Norm, epsilon: f64) -> Ball {
    Ball::new::<Infallible>(norm, epsilon).unwrap()
}

/// The gradient of −‖x − centre‖²/2.
fn towards(centre: &Array2<f32>) -> impl FnMut(ArrayView2<'_, f32>) -> Result<Array2<f32>, Infallible> {
    move |x| Ok(centre - &x)
}

fn norm_of(norm: Norm, delta: ndarray::ArrayView1<'_, f32>) -> f64 {
    let sizes = delta.iter().map(|&d| f64::from(d).abs());
    match norm {
        Norm::L2 => sizes.map(|d| d * d).sum::<f64>().sqrt(),
        Norm::Linf => sizes.fold(0.0, f64::max),
    }
}

#[test]
fn a_fast_gradient_step_is_the_sign_or_the_unit_gradient() {
    let (samples, gradient) =
        (array![[0.5_f32, 0.5, 0.5], [0.5, 0.5, 0.5]], array![[3.0_f32, 0.0, -4.0], [0.0, 0.0, 0.0]]);
    let step = |norm| {
        fast_gradient::<Infallible>(samples.view(), &[ball(norm, 0.25)], PixelRange::Unit, |_| Ok(gradient.clone()))
            .unwrap()
            .remove(0)
    };
    assert_eq!(step(Norm::Linf), array![[0.75_f32, 0.5, 0.25], [0.5, 0.5, 0.5]]);
    let expected = array![[0.65_f32, 0.5, 0.3], [0.5, 0.5, 0.5]];
    assert!((step(Norm::L2) - expected).iter().all(|d| d.abs() < 1e-6));
}

#[test]
fn images_are_clipped_and_vectors_are_not() {
    let samples = array![[0.9_f32]];
    let step = |range| {
        fast_gradient::<Infallible>(samples.view(), &[ball(Norm::Linf, 0.5)], range, |_| Ok(array![[1.0]]))
            .unwrap()
            .remove(0)
    };
    assert_eq!(step(PixelRange::Unit), array![[1.0_f32]]);
    assert_eq!(step(PixelRange::Unbounded), array![[1.4_f32]]);
}

#[test]
fn projected_gradient_finds_the_maximum_inside_the_ball_or_on_its_boundary() {
    let samples = array![[0.0_f32, 0.0], [0.0, 0.0]];
    let target = array![[0.1_f32, 0.2], [3.0, 4.0]];
    let settings = ProjectedGradient {
        ball: ball(Norm::L2, 1.0),
        range: PixelRange::Unbounded,
        steps: 400,
        step_size: 0.01,
        momentum: None,
    };
    let found = projected_gradient(samples.view(), samples.view(), &settings, towards(&target)).unwrap();
    let expected = array![[0.1_f32, 0.2], [0.6, 0.8]];
    assert!((found - expected).iter().all(|d| d.abs() < 0.011));
}

#[test]
fn one_projected_step_of_size_epsilon_is_the_fast_gradient() {
    let samples = normal((6, 10), 1).mapv(|x| (0.5 + 0.2 * x).clamp(0.0, 1.0) as f32);
    let target = normal((6, 10), 2).mapv(|x| x as f32);
    for norm in [Norm::L2, Norm::Linf] {
        let settings = ProjectedGradient {
            ball: ball(norm, 0.1),
            range: PixelRange::Unit,
            steps: 1,
            step_size: 0.1,
            momentum: None,
        };
        let projected = projected_gradient(samples.view(), samples.view(), &settings, towards(&target)).unwrap();
        let fast =
            fast_gradient(samples.view(), &[settings.ball], PixelRange::Unit, towards(&target)).unwrap().remove(0);
        assert!((projected - fast).iter().all(|d| d.abs() < 1e-6));
    }
}

#[test]
fn a_zero_gradient_leaves_the_sample() {
    let samples = array![[0.25_f32, 0.5]];
    for norm in [Norm::L2, Norm::Linf] {
        let settings = ProjectedGradient {
            ball: ball(norm, 0.1),
            range: PixelRange::Unit,
            steps: 3,
            step_size: 0.05,
            momentum: None,
        };
        let zero = |x: ArrayView2<'_, f32>| Ok::<_, Infallible>(Array2::zeros(x.dim()));
        assert_eq!(projected_gradient(samples.view(), samples.view(), &settings, zero).unwrap(), samples);
    }
}

#[test]
fn random_starts_fill_the_ball_evenly() {
    let uniform = ball(Norm::L2, 2.0);
    let inside = (0..4000)
        .filter(|&sample| {
            let start = ndarray::Array1::from(uniform.random_start(3, 9, sample, 0));
            let radius = norm_of(Norm::L2, start.view());
            assert!(radius <= 2.0 + 1e-6);
            radius <= 1.0
        })
        .count();
    // An eighth of the volume of a ball in three dimensions lies within half the radius: 500, deviation 21.
    assert!((430..=570).contains(&inside), "{inside} of 4000");
    let cube: Vec<f32> = ball(Norm::Linf, 2.0).random_start(4000, 9, 0, 0);
    close(cube.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / 4000.0, 4.0 / 3.0, 0.1);
}

#[test]
fn random_starts_lie_in_the_ball_and_the_pixel_range_and_depend_on_the_sample_alone() {
    let samples = normal((6, 10), 1).mapv(|x| (0.5 + 0.4 * x).clamp(0.0, 1.0) as f32);
    for norm in [Norm::L2, Norm::Linf] {
        let ball = ball(norm, 0.3);
        let starts = random_starts(samples.view(), &[4, 5, 6, 7, 8, 9], ball, PixelRange::Unit, 9, 0);
        assert!(starts.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
        assert!((&starts - &samples).rows().into_iter().all(|delta| norm_of(norm, delta) <= 0.3 + 1e-6));
        let free = random_starts(samples.view(), &[4, 5, 6, 7, 8, 9], ball, PixelRange::Unbounded, 9, 0);
        assert!(free.iter().any(|pixel| !(0.0..=1.0).contains(pixel)));
        let later = random_starts(samples.slice(s![2..;2, ..]), &[6, 8], ball, PixelRange::Unit, 9, 0);
        assert_eq!(later, starts.slice(s![2..;2, ..]));
        let all = [4, 5, 6, 7, 8, 9];
        assert_ne!(random_starts(samples.view(), &all, ball, PixelRange::Unit, 10, 0), starts);
        assert_ne!(random_starts(samples.view(), &all, ball, PixelRange::Unit, 9, 1), starts);
    }
}

#[test]
fn wrong_settings_and_gradients_are_refused() {
    for epsilon in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(Ball::new::<Infallible>(Norm::L2, epsilon), Err(Error::Epsilon(_))));
    }
    let samples = array![[0.5_f32, 0.5], [0.5, 0.5]];
    let settings = ProjectedGradient {
        ball: ball(Norm::L2, 1.0),
        range: PixelRange::Unit,
        steps: 1,
        step_size: 0.1,
        momentum: None,
    };
    let run = |settings: &ProjectedGradient, gradient: Array2<f32>| {
        projected_gradient::<Infallible>(samples.view(), samples.view(), settings, |_| Ok(gradient.clone()))
            .unwrap_err()
    };
    let fine = Array2::zeros((2, 2));
    assert!(matches!(run(&ProjectedGradient { steps: 0, ..settings }, fine.clone()), Error::NoSteps));
    assert!(matches!(run(&ProjectedGradient { step_size: f64::NAN, ..settings }, fine), Error::StepSize(_)));
    assert!(matches!(run(&settings, Array2::zeros((2, 3))), Error::GradientShape { .. }));
    let broken = array![[0.0, 0.0], [0.0, f32::NAN]];
    assert!(matches!(run(&settings, broken), Error::GradientNotFinite { sample: 1 }));
    let failed = fast_gradient(samples.view(), &[settings.ball], settings.range, |_| Err("no session")).unwrap_err();
    assert_eq!(failed.to_string(), "no session");
}

#[test]
fn the_virtual_attack_finds_the_singular_vectors_of_a_diagonal() {
    let mut jacobians = ndarray::Array3::<f32>::zeros((2, 2, 3));
    jacobians.slice_mut(s![0, .., ..]).assign(&array![[0.0, -3.0, 0.0], [2.0, 0.0, 0.0]]);
    let top = top_singular(jacobians.view(), 0).unwrap();
    close(top.sigma[0], 3.0, 1e-14);
    assert_eq!(top.directions(jacobians.view()).unwrap().row(0), array![0.0, -1.0, 0.0]);
    // The second sample is dead: a zero Jacobian.
    assert_eq!(top.sigma[1], 0.0);
    assert_eq!(top.directions(jacobians.view()).unwrap().row(1), array![0.0, 0.0, 0.0]);

    let second = top_singular(jacobians.view(), 1).unwrap();
    close(second.sigma[0], 2.0, 1e-14);
    assert_eq!(second.directions(jacobians.view()).unwrap().row(0), array![1.0, 0.0, 0.0]);
}

#[test]
fn a_level_beyond_the_rank_is_dead_or_refused() {
    // Proportional rows, but for rounding to f32.
    let row = normal_jacobians((40, 1, 5), 3);
    let stacked = ndarray::concatenate(Axis(1), &[row.view(), row.mapv(|x| x * 0.3).view()]).unwrap();
    assert!(top_singular(stacked.view(), 0).unwrap().sigma.iter().all(|&sigma| sigma > 0.0));
    assert!(top_singular(stacked.view(), 1).unwrap().sigma.iter().all(|&sigma| sigma == 0.0));
    assert_eq!(top_singular(stacked.view(), 2), Err(JacobianError::Level { level: 2, rank: 2 }));
}

#[test]
fn products_of_jacobians_keep_f64_accuracy_over_many_pixels() {
    let (a, b) = (normal_jacobians((2, 3, 5000), 4), normal_jacobians((2, 2, 5000), 5));
    let grams = sample_grams(a.view(), b.view()).unwrap();
    for x in 0..2 {
        for i in 0..3 {
            for j in 0..2 {
                let exact: f64 = (0..5000).map(|p| f64::from(a[[x, i, p]]) * f64::from(b[[x, j, p]])).sum();
                close(grams[[x, i * 2 + j]], exact, 1e-10);
            }
        }
    }
}

#[test]
fn jacobians_that_do_not_belong_together_are_refused() {
    let mut a = normal_jacobians((3, 2, 5), 6);
    let narrow = normal_jacobians((3, 2, 4), 6);
    assert_eq!(sample_grams(a.view(), narrow.view()), Err(JacobianError::Pixels { left: 5, right: 4 }));
    let few = normal_jacobians((2, 2, 5), 6);
    assert!(matches!(sample_grams(a.view(), few.view()), Err(JacobianError::Shape { expected: 3, found: 2, .. })));
    assert!(matches!(top_singular(few.view(), 0).unwrap().directions(a.view()), Err(JacobianError::Shape { .. })));
    a[[1, 0, 3]] = f32::NAN;
    assert_eq!(top_singular(a.view(), 0), Err(JacobianError::NotFinite { sample: 1 }));
    let directions = Array2::zeros((3, 5));
    assert_eq!(first_order_deviations(a.view(), directions.view()), Err(JacobianError::NotFinite { sample: 1 }));
    assert!(matches!(
        first_order_deviations(a.view(), Array2::zeros((3, 4)).view()),
        Err(JacobianError::Pixels { left: 5, right: 4 })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attacks_stay_in_the_ball_and_the_range_whatever_the_batch(
        seed: u64, l2: bool, epsilon in 0.001_f64..2.0, steps in 1_u32..6, with_momentum: bool,
    ) {
        let norm = if l2 { Norm::L2 } else { Norm::Linf };
        let samples = normal((5, 12), seed).mapv(|x| (0.5 + 0.3 * x).clamp(0.0, 1.0) as f32);
        let target = normal((5, 12), seed ^ 1).mapv(|x| x as f32);
        let settings = ProjectedGradient {
            ball: ball(norm, epsilon),
            range: PixelRange::Unit,
            steps,
            step_size: epsilon,
            momentum: with_momentum.then_some(Momentum { decay: 0.7, of: Accumulated::Gradients }),
        };
        let whole = projected_gradient(samples.view(), samples.view(), &settings, towards(&target)).unwrap();
        for (delta, sample) in (&whole - &samples).rows().into_iter().zip(samples.rows()) {
            prop_assert!(norm_of(norm, delta) <= epsilon * (1.0 + 1e-5) + 1e-6);
            prop_assert!(sample.len() == delta.len());
        }
        prop_assert!(whole.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
        for (index, sample) in samples.axis_chunks_iter(Axis(0), 1).enumerate() {
            let own = target.slice(s![index..index + 1, ..]).to_owned();
            let alone = projected_gradient(sample, sample, &settings, towards(&own)).unwrap();
            prop_assert_eq!(alone.row(0), whole.row(index));
        }
    }

    #[test]
    fn no_unit_direction_moves_a_model_more_than_its_virtual_attack(seed in 0_u64..1000, d in 1_usize..5) {
        let jacobians = normal_jacobians((4, d, 7), seed);
        let top = top_singular(jacobians.view(), 0).unwrap();
        let directions = top.directions(jacobians.view()).unwrap();
        let own = first_order_deviations(jacobians.view(), directions.view()).unwrap();
        let others = normal((4, 7), seed).mapv(|x| x as f32);
        let moved = first_order_deviations(jacobians.view(), others.view()).unwrap();
        for sample in 0..4 {
            let length = norm_of(Norm::L2, others.row(sample));
            prop_assert!(moved.row(sample).dot(&moved.row(sample)).sqrt() <= top.sigma[sample] * length * (1.0 + 1e-6));
            // J v = σ u, and the sign makes the largest component of u positive.
            let difference = &own.row(sample) - &(&top.left.row(sample) * top.sigma[sample]);
            prop_assert!(difference.iter().all(|x| x.abs() < 1e-5));
            let left = top.left.row(sample);
            prop_assert!(left.iter().any(|&u| u > 0.0 && left.iter().all(|other| other.abs() <= u)));
        }
    }
}
