//! Preprocessing in front and losses behind, against other ways to compute them.

use ndarray::{ArrayD, Axis, IxDyn};
use transferscore::gradient::{GradientError, Graph, Interpolation, Layout, Loss, Preprocessing, compose, vjp};

use super::{
    calculus::{Feeds, Random, Values, compile, get, norm, run},
    model::{Model, unary},
};
use crate::support::runtime;

fn plain(sample_shape: &[usize]) -> Preprocessing {
    Preprocessing {
        sample_shape: sample_shape.to_vec(),
        size: None,
        interpolation: Interpolation::Bilinear,
        mean: vec![],
        std: vec![],
        layout: Layout::Nchw,
    }
}

fn close(a: &ArrayD<f32>, b: &ArrayD<f32>, tolerance: f64) {
    assert_eq!(a.shape(), b.shape());
    assert!(norm(&(a - b)) <= tolerance * norm(b), "{a} is not {b}");
}

#[test]
fn resizing_is_that_of_onnx() {
    // From 6 x 8 to 3 x 4 the places lie half way between pixels.
    for [height, width] in [[9, 4], [3, 13], [6, 8], [1, 1], [3, 4]] {
        for (interpolation, mode) in [(Interpolation::Bilinear, "linear"), (Interpolation::Nearest, "nearest")] {
            resizes_as(interpolation, mode, [height, width]);
        }
    }
}

fn resizes_as(interpolation: Interpolation, mode: &'static str, [height, width]: [usize; 2]) {
    let resize = Model::new(13)
        .input("x", "n,3,6,8")
        .floats("scales", &[4], &[1.0, 1.0, height as f32 / 6.0, width as f32 / 8.0])
        .node("Resize", &["x", "", "scales"], &["y"], &[("mode", mode.into())])
        .output("y");
    let wanted = unary("Identity", &format!("n,3,{height},{width}"), &[]);
    let settings = Preprocessing { size: Some([height, width]), interpolation, ..plain(&[3, 6, 8]) };
    let graph = compose::with_preprocessing(&Graph::parse(wanted.bytes()).unwrap(), "x", &settings).unwrap();
    let feeds: Feeds = vec![("x".into(), Random::new(4).array(&[2, 3, 6, 8], Values::Positive))];
    let expected = run(&runtime().compile(resize.bytes()).unwrap(), &feeds);
    close(get(&run(&compile(&graph), &feeds), "y"), get(&expected, "y"), 1e-6);
}

#[test]
fn images_are_normalised_and_reordered() {
    let model = unary("Identity", "n,2,4,3", &[]);
    let settings = Preprocessing {
        mean: vec![0.5, 0.4, 0.3],
        std: vec![0.2, 0.25, 0.5],
        layout: Layout::Nhwc,
        ..plain(&[3, 2, 4])
    };
    let graph = compose::with_preprocessing(&Graph::parse(model.bytes()).unwrap(), "x", &settings).unwrap();
    assert_eq!(graph.inputs()[0].value_type.as_ref().unwrap().to_string(), "float32[n, 3, 2, 4]");
    let x = Random::new(4).array(&[2, 3, 2, 4], Values::Positive);
    let mut expected = x.clone();
    for (channel, (mean, std)) in settings.mean.iter().zip(&settings.std).enumerate() {
        expected.index_axis_mut(Axis(1), channel).mapv_inplace(|value| (value - mean) / std);
    }
    let expected = expected.permuted_axes(IxDyn(&[0, 2, 3, 1]));
    let found = run(&compile(&graph), &vec![("x".into(), x)]);
    close(get(&found, "y"), &expected.as_standard_layout().to_owned(), 1e-6);
}

#[test]
fn what_is_not_needed_adds_no_nodes() {
    let graph = Graph::parse(unary("Relu", "n,3,4,4", &[]).bytes()).unwrap();
    let settings = Preprocessing { mean: vec![0.0], std: vec![1.0], ..plain(&[3, 4, 4]) };
    let composed = compose::with_preprocessing(&graph, "x", &settings).unwrap();
    assert_eq!(composed.operator_counts(), [("Relu".to_owned(), 1)]);
}

#[test]
fn a_known_sample_shape_makes_the_gradient_static() {
    let model = Model::new(13)
        .input("x", "n,3,h,w")
        .weight("w", &[4, 3, 3, 3])
        .node("Conv", &["x", "w"], &["y"], &[("strides", [2, 2].into())])
        .output("y");
    let free = Graph::parse(model.bytes()).unwrap();
    let fixed = compose::with_preprocessing(&free, "x", &plain(&[3, 8, 8])).unwrap();
    assert_eq!(fixed.outputs()[0].value_type.as_ref().unwrap().to_string(), "float32[n, 4, 3, 3]");
    let slices = |graph: &Graph| {
        let gradient = vjp(graph, &[], &[]).unwrap();
        gradient.operator_counts().iter().filter(|(op, _)| op == "Slice").count()
    };
    assert_eq!((slices(&free), slices(&fixed)), (1, 0));
}

#[test]
fn contradictory_settings_are_refused() {
    let graph = Graph::parse(unary("Relu", "n,3,4,4", &[]).bytes()).unwrap();
    let refused = [
        Preprocessing { mean: vec![0.1, 0.2], ..plain(&[3, 4, 4]) },
        Preprocessing { std: vec![0.0], ..plain(&[3, 4, 4]) },
        Preprocessing { std: vec![f32::NAN], ..plain(&[3, 4, 4]) },
        Preprocessing { mean: vec![0.1], ..plain(&[3]) },
    ];
    for settings in refused {
        let result = compose::with_preprocessing(&graph, "x", &settings);
        assert!(matches!(result, Err(GradientError::Request(_))), "{settings:?}");
    }
    let huge = Preprocessing { size: Some([1 << 40, 4]), ..plain(&[3, 4, 4]) };
    assert!(matches!(compose::with_preprocessing(&graph, "x", &huge), Err(GradientError::Limit(_))));
    assert!(compose::with_preprocessing(&graph, "nope", &plain(&[3, 4, 4])).is_err());
}

/// Σ over classes in float64: loss and its gradient for each sample.
fn cross_entropy(z: &ArrayD<f32>, target: &ArrayD<f32>) -> (Vec<f64>, Vec<f64>) {
    let (mut losses, mut gradients) = (vec![], vec![]);
    for (z, target) in z.outer_iter().zip(target.outer_iter()) {
        let exponentials: Vec<f64> = z.iter().map(|&z| f64::from(z).exp()).collect();
        let (sum, weight) = (exponentials.iter().sum::<f64>(), target.iter().map(|&t| f64::from(t)).sum::<f64>());
        let logs = exponentials.iter().map(|e| (e / sum).ln());
        losses.push(-logs.zip(&target).map(|(log, &t)| log * f64::from(t)).sum::<f64>());
        gradients.extend(exponentials.iter().zip(&target).map(|(e, &t)| e / sum * weight - f64::from(t)));
    }
    (losses, gradients)
}

#[test]
fn losses_and_their_gradients_have_their_closed_forms() {
    let graph = Graph::parse(unary("Identity", "n,4", &[]).bytes()).unwrap();
    let mut random = Random::new(8);
    let z = random.array(&[3, 4], Values::AwayFromZero);
    let target = random.array(&[3, 4], Values::Positive);
    let ones = ArrayD::from_elem(vec![3], 1.0f32);
    let feeds: Feeds =
        vec![("x".into(), z.clone()), ("target/y".into(), target.clone()), ("cotangent/loss".into(), ones)];
    for loss in [Loss::SoftCrossEntropy, Loss::KullbackLeibler, Loss::SquaredDeviation] {
        let composed = compose::with_loss(&graph, "y", loss).unwrap();
        let found = run(&compile(&vjp(&composed, &["x"], &["loss"]).unwrap()), &feeds);
        let (losses, gradients) = match loss {
            Loss::SoftCrossEntropy => cross_entropy(&z, &target),
            Loss::KullbackLeibler => {
                let (mut losses, gradients) = cross_entropy(&z, &target);
                for (loss, target) in losses.iter_mut().zip(target.outer_iter()) {
                    *loss += target.iter().map(|&t| f64::from(t) * f64::from(t).ln()).sum::<f64>();
                }
                (losses, gradients)
            }
            Loss::Margin | Loss::LogitsRatio => unreachable!("tested below"),
            Loss::SquaredDeviation => {
                let deviation = (&z - &target).mapv(f64::from);
                let losses = deviation.outer_iter().map(|row| row.iter().map(|d| d * d).sum()).collect();
                (losses, deviation.iter().map(|d| 2.0 * d).collect())
            }
        };
        let expected = |values: Vec<f64>, shape: &[usize]| {
            ArrayD::from_shape_vec(shape, values).unwrap().mapv(|value| value as f32)
        };
        close(get(&found, "loss"), &expected(losses, &[3]), 1e-6);
        close(get(&found, "gradient/x"), &expected(gradients, &[3, 4]), 1e-6);
    }
    assert!(matches!(compose::with_loss(&graph, "x", Loss::SquaredDeviation), Err(GradientError::Request(_))));
}

#[test]
fn margins_and_logits_ratios_have_their_closed_forms() {
    let graph = Graph::parse(unary("Identity", "n,4", &[]).bytes()).unwrap();
    // Right, wrong by the third, wrong by the first, all equal.
    let z = [[3.0, 1.0, -1.0, 2.0], [3.0, 1.0, -1.0, 2.0], [0.5, 4.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]];
    let classes = [0, 1, 0, 2];
    let mut target = ArrayD::zeros(vec![4, 4]);
    classes.iter().enumerate().for_each(|(row, &class)| target[[row, class]] = 1.0);
    let feeds: Feeds = vec![
        ("x".into(), ArrayD::from_shape_vec(vec![4, 4], z.concat()).unwrap()),
        ("target/y".into(), target),
        ("cotangent/loss".into(), ArrayD::from_elem(vec![4], 1.0)),
    ];
    let found = |loss| {
        let composed = compose::with_loss(&graph, "y", loss).unwrap();
        let found = run(&compile(&vjp(&composed, &["x"], &["loss"]).unwrap()), &feeds);
        let rows = |name: &str| get(&found, name).iter().copied().collect::<Vec<f32>>();
        (rows("loss"), rows("gradient/x"))
    };
    let (losses, gradients) = found(Loss::Margin);
    assert_eq!(losses, [-1.0, 2.0, 3.5, 0.0]);
    assert_eq!(gradients[..12], [-1., 0., 0., 1., 1., -1., 0., 0., -1., 1., 0., 0.]);
    // max of the others − own, over largest − third: (2 − 3)/(3 − 1), (3 − 1)/(3 − 1), (4 − 0.5)/(4 − 1).
    let (losses, gradients) = found(Loss::LogitsRatio);
    let expected = [-0.5, 1.0, 3.5 / 3.0, 0.0];
    assert!(losses.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{losses:?}");
    // d(a/b) = (da − (a/b) db)/b.
    let expected = [-0.25, -0.25, 0., 0.5, 0., 0., 0., 0., -1. / 3., -0.5 / 9., 0., 3.5 / 9.];
    assert!(gradients.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-6), "{gradients:?}");
    let two = Graph::parse(unary("Identity", "n,2", &[]).bytes()).unwrap();
    assert!(matches!(compose::with_loss(&two, "y", Loss::LogitsRatio), Err(GradientError::Request(_))));
}

#[test]
fn a_loss_over_a_map_has_a_value_for_each_sample() {
    let graph = Graph::parse(unary("Identity", "n,4,2,3", &[]).bytes()).unwrap();
    for loss in [Loss::SoftCrossEntropy, Loss::KullbackLeibler, Loss::SquaredDeviation, Loss::Margin, Loss::LogitsRatio]
    {
        let composed = compose::with_loss(&graph, "y", loss).unwrap();
        let port = composed.outputs().pop().unwrap();
        assert_eq!((port.name.as_str(), port.value_type.unwrap().to_string().as_str()), ("loss", "float32[n]"));
    }
}
