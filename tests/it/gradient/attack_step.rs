//! An attack iteration as one graph, against the attacks' own code and against formulas.

use ndarray::{Array2, ArrayD, ArrayView2, Axis};
use transferscore::{
    attack::{self, Accumulated, Ball, Momentum, PixelRange, ProjectedGradient, projected_gradient},
    gradient::{
        Graph, Interpolation, Layout, Loss, Preprocessing,
        compose::{self, Norm},
        vjp,
    },
    runtime::{Carry, Executable, Iteration, RuntimeError},
};

use super::{
    calculus::{Feeds, Random, Values, compile, get, run},
    model::{Model, unary},
};

const PIXELS: usize = 32;

/// A small smooth classifier with four classes of images of 2 x 4 x 4, which are resized to 3 x 3 and normalised.
fn classifier() -> Graph {
    let model = Model::new(17)
        .input("x", "n,2,3,3")
        .weight("w", &[5, 2, 2, 2])
        .weight("v", &[20, 4])
        .node("Conv", &["x", "w"], &["c"], &[])
        .node("Tanh", &["c"], &["t"], &[])
        .node("Flatten", &["t"], &["f"], &[])
        .node("MatMul", &["f", "v"], &["y"], &[])
        .output("y");
    prepared(&Graph::parse(model.bytes()).unwrap())
}

/// A model of images of 2 x 3 x 3 with preprocessing in front: resized from 4 x 4, and normalised.
pub fn prepared(graph: &Graph) -> Graph {
    let settings = Preprocessing {
        sample_shape: vec![2, 4, 4],
        size: Some([3, 3]),
        interpolation: Interpolation::Bilinear,
        mean: vec![0.4, 0.5],
        std: vec![0.5, 0.3],
        layout: Layout::Nchw,
    };
    compose::with_preprocessing(graph, "x", &settings).unwrap()
}

fn one_hot(classes: &[usize], width: usize) -> ArrayD<f32> {
    let mut target = Array2::zeros((classes.len(), width));
    classes.iter().enumerate().for_each(|(row, &class)| target[[row, class]] = 1.0);
    target.into_dyn()
}

fn setting(values: &[f32]) -> ArrayD<f32> {
    ArrayD::from_shape_vec(vec![values.len()], values.to_vec()).unwrap()
}

/// What an iteration is tuned with; one number for all samples or one for each.
struct Tuning<'a> {
    epsilon: &'a [f32],
    step: &'a [f32],
    decay: &'a [f32],
    low: f32,
    high: f32,
}

fn feeds(start: &ArrayD<f32>, clean: &ArrayD<f32>, target: &ArrayD<f32>, tuning: &Tuning<'_>) -> Feeds {
    vec![
        ("x".into(), start.clone()),
        ("clean/x".into(), clean.clone()),
        ("momentum/x".into(), ArrayD::zeros(clean.raw_dim())),
        ("target/y".into(), target.clone()),
        ("attack/epsilon".into(), setting(tuning.epsilon)),
        ("attack/step".into(), setting(tuning.step)),
        ("attack/decay".into(), setting(tuning.decay)),
        ("attack/low".into(), setting(&[tuning.low])),
        ("attack/high".into(), setting(&[tuning.high])),
    ]
}

const CARRIES: [Carry<'static>; 2] =
    [Carry { output: "next/x", input: "x" }, Carry { output: "next_momentum/x", input: "momentum/x" }];

fn squared_step(graph: &Graph, norm: Norm) -> Graph {
    compose::attack_step(graph, "x", "y", Loss::SquaredDeviation, norm, Accumulated::Gradients).unwrap()
}

/// The samples after as many steps, and the loss before each.
fn iterated(executable: &Executable, feeds: &Feeds, runs: u32) -> (ArrayD<f32>, Vec<ArrayD<f32>>) {
    let views: Vec<_> = feeds.iter().map(|(name, array)| (name.as_str(), array.view())).collect();
    let iteration = Iteration { feeds: &views, carries: &CARRIES, watched: &["loss"], runs };
    let mut losses = Vec::new();
    let last = executable.iterate(&iteration, |watched| {
        losses.push(watched[0].to_owned());
        Ok::<(), RuntimeError>(())
    });
    (last.unwrap().swap_remove(0), losses)
}

fn close(found: &ArrayD<f32>, expected: &ArrayD<f32>, tolerance: f32) {
    assert_eq!(found.shape(), expected.shape());
    let largest = found.iter().zip(expected).fold(0.0f32, |largest, (a, b)| largest.max((a - b).abs()));
    // Not `<` of the opposite, so that NaN fails.
    assert!(
        largest <= tolerance && found.iter().all(|value| value.is_finite()),
        "{largest}: {found} is not {expected}"
    );
}

fn flat(array: &ArrayD<f32>) -> Array2<f32> {
    array.to_shape((array.shape()[0], PIXELS)).unwrap().to_owned()
}

#[test]
fn the_iterates_are_those_of_projected_gradient_ascent() {
    let graph = classifier();
    let gradients =
        compile(&vjp(&compose::with_loss(&graph, "y", Loss::SoftCrossEntropy).unwrap(), &["x"], &["loss"]).unwrap());
    let mut random = Random::new(3);
    let clean = random.array(&[5, 2, 4, 4], Values::Positive).mapv(|value| value / 1.5);
    let target = one_hot(&[0, 1, 2, 3, 1], 4);
    let gradient = |at: ArrayView2<'_, f32>| {
        let x = at.to_owned().into_shape_with_order(vec![5, 2, 4, 4]).unwrap();
        let feeds: Feeds = vec![
            ("x".into(), x),
            ("target/y".into(), target.clone()),
            ("cotangent/loss".into(), ArrayD::from_elem(vec![5], 1.0)),
        ];
        Ok::<_, String>(flat(get(&run(&gradients, &feeds), "gradient/x")))
    };
    for (norm, graph_norm) in [(attack::Norm::Linf, Norm::Linf), (attack::Norm::L2, Norm::L2)] {
        for (range, random_start, momentum) in [
            (PixelRange::Unit, None, None),
            (PixelRange::Unit, Some(5), Some(Accumulated::Gradients)),
            (PixelRange::Unbounded, None, Some(Accumulated::Directions)),
        ] {
            let accumulated = momentum.unwrap_or(Accumulated::Gradients);
            let step_graph =
                compose::attack_step(&graph, "x", "y", Loss::SoftCrossEntropy, graph_norm, accumulated).unwrap();
            let step_graph = compile(&step_graph);
            let ball = Ball::new::<String>(norm, 0.2).unwrap();
            let decay = if momentum.is_some() { 0.6 } else { 0.0 };
            let momentum = momentum.map(|of| Momentum { decay, of });
            let settings = ProjectedGradient { ball, range, steps: 6, step_size: 0.07, momentum };
            let samples = flat(&clean);
            let start = match random_start {
                Some(seed) => attack::random_starts(samples.view(), &[0, 1, 2, 3, 4], ball, range, seed, 0),
                None => samples.clone(),
            };
            let expected = projected_gradient(samples.view(), start.view(), &settings, gradient).unwrap();
            let start = start.into_shape_with_order(vec![5, 2, 4, 4]).unwrap();
            let [low, high] = range.bounds();
            let tuning = Tuning { epsilon: &[0.2], step: &[0.07], decay: &[decay as f32], low, high };
            let (found, losses) = iterated(&step_graph, &feeds(&start, &clean, &target, &tuning), 6);
            close(&found, &expected.into_shape_with_order(vec![5, 2, 4, 4]).unwrap(), 2e-6);
            assert!(losses[5].iter().zip(&losses[0]).all(|(last, first)| last > first));
        }
    }
}

/// MI-FGSM as its authors write it, in float64, on a loss whose gradient is a known function.
fn momentum_method(
    norm: Norm,
    clean: &[f64],
    target: &[f64],
    steps: usize,
    [epsilon, step, decay]: [f64; 3],
) -> Vec<f64> {
    let (mut x, mut momentum) = (clean.to_vec(), vec![0.0; clean.len()]);
    for _ in 0..steps {
        // The loss is Σ (x³ − t)².
        let gradient: Vec<f64> = x.iter().zip(target).map(|(x, t)| 2.0 * (x.powi(3) - t) * 3.0 * x * x).collect();
        let sum: f64 = gradient.iter().map(|g| g.abs()).sum();
        momentum.iter_mut().zip(&gradient).for_each(|(m, g)| *m = decay * *m + g / sum);
        let length = momentum.iter().map(|m| m * m).sum::<f64>().sqrt();
        for (x, m) in x.iter_mut().zip(&momentum) {
            *x += step
                * match norm {
                    Norm::Linf => m.signum(),
                    Norm::L2 => m / length,
                };
        }
        let size = x.iter().zip(clean).map(|(x, c)| (x - c).powi(2)).sum::<f64>().sqrt();
        for (x, c) in x.iter_mut().zip(clean) {
            *x = match norm {
                Norm::Linf => x.clamp(c - epsilon, c + epsilon),
                Norm::L2 if size > epsilon => c + (*x - c) * epsilon / size,
                Norm::L2 => *x,
            };
        }
    }
    x
}

#[test]
fn momentum_and_settings_for_each_sample_follow_the_formula() {
    let cube =
        Model::new(17).input("x", "n,4").floats("p", &[], &[3.0]).node("Pow", &["x", "p"], &["y"], &[]).output("y");
    let graph = Graph::parse(cube.bytes()).unwrap();
    let mut random = Random::new(9);
    let (clean, target) = (random.array(&[3, 4], Values::Positive), random.array(&[3, 4], Values::AwayFromZero));
    let (epsilon, step, decay) = ([0.3, 0.05, 0.2], [0.04, 0.03, -0.02], [1.0, 0.5, 0.9]);
    let infinity = f32::INFINITY;
    for norm in [Norm::Linf, Norm::L2] {
        let executable = compile(&squared_step(&graph, norm));
        let tuning = Tuning { epsilon: &epsilon, step: &step, decay: &decay, low: -infinity, high: infinity };
        let (found, losses) = iterated(&executable, &feeds(&clean, &clean, &target, &tuning), 5);
        // A negative step descends.
        assert!(losses[4][1] > losses[0][1] && losses[4][2] < losses[0][2]);
        for (sample, found) in found.outer_iter().enumerate() {
            let wide = |array: &ArrayD<f32>| -> Vec<f64> {
                array.index_axis(Axis(0), sample).iter().map(|&value| f64::from(value)).collect()
            };
            let numbers = [epsilon[sample], step[sample], decay[sample]].map(f64::from);
            let expected = momentum_method(norm, &wide(&clean), &wide(&target), 5, numbers);
            for (found, expected) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 2e-6, "{norm:?} {sample}: {found} is not {expected}");
            }
        }
    }
}

#[test]
fn a_gradient_of_zero_moves_nothing_and_a_tiny_one_a_whole_step() {
    let graph = Graph::parse(unary("Identity", "n,2", &[]).bytes()).unwrap();
    let clean = ArrayD::from_shape_vec(vec![3, 2], vec![0.5, 0.5, 0.5, 0.5, 0.5, 0.5]).unwrap();
    // The squared deviation has gradients of 0, of about 1e-7, and of infinity.
    let target = ArrayD::from_shape_vec(vec![3, 2], vec![0.5, 0.5, 0.499_999_94, 0.5, f32::NEG_INFINITY, 0.5]).unwrap();
    let tuning = Tuning { epsilon: &[0.25], step: &[0.25], decay: &[0.5], low: 0.0, high: 1.0 };
    for norm in [Norm::Linf, Norm::L2] {
        let executable = compile(&squared_step(&graph, norm));
        let found = run(&executable, &feeds(&clean, &clean, &target, &tuning));
        let next = get(&found, "next/x");
        assert_eq!(next.iter().take(4).copied().collect::<Vec<f32>>(), [0.5, 0.5, 0.75, 0.5], "{norm:?}");
        let norms = get(&found, "gradient_norm");
        assert_eq!((norms[0], norms[1] > 0.0, norms[2].is_finite()), (0.0, true, false));
    }
}

#[test]
fn the_step_keeps_the_models_outputs_and_takes_no_cotangent() {
    let step = compose::attack_step(&classifier(), "x", "y", Loss::Margin, Norm::L2, Accumulated::Gradients).unwrap();
    let names: Vec<String> = step.outputs().into_iter().map(|port| port.name).collect();
    assert_eq!(names, ["y", "loss", "gradient_norm", "next/x", "next_momentum/x"]);
    assert!(step.inputs().iter().all(|port| !port.name.starts_with("cotangent")));
    let next = step.outputs().swap_remove(3);
    assert_eq!(next.value_type.unwrap().to_string(), "float32[n, 2, 4, 4]");
}
