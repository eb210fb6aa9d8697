//! Weights as inputs: their derivatives in double precision, steps of training against PyTorch's, heads.

use ndarray::ArrayD;
use serde_json::Value as Json;
use transferscore::{
    gradient::{
        ElementType, Graph, Loss, Tensor, check,
        compose::{Head, Optimizer, Tuning, only_head, training_step, with_head},
        cut_at,
    },
    runtime::{Carry, RuntimeError},
    verify::{Given, verify},
};

use super::{
    calculus::{Feeds, Random, Values, compile, get, run},
    model::{Model, Value},
};
use crate::support::runtime;

fn parsed(model: &Model) -> Graph {
    Graph::parse(model.bytes()).unwrap()
}

/// Checks the derivatives with respect to input and weights, and which weights these are.
fn check_weights(what: &str, model: &Model, expected: &[&str]) {
    let graph = parsed(model);
    let weights = graph.trainable();
    assert_eq!(weights, expected, "{what}");
    let names: Vec<&str> = weights.iter().map(String::as_str).collect();
    let free = cut_at(&graph, &names).unwrap();
    assert!(check(&free).is_empty(), "{what}: {:?}", check(&free));
    let measured = verify(&runtime(), &free, &Given::new(), 5).unwrap_or_else(|error| panic!("{what}: {error}"));
    let n_measured = measured.agreements.iter().filter(|agreement| !agreement.constant).count();
    assert!(n_measured > weights.len(), "{what}: {measured:?}");
    // ONNX Runtime has no recurrent layers in double.
    let precision = if what == "LSTM" { "float32" } else { "float64" };
    assert!(measured.passes() && measured.precision == precision, "{what}: {measured:?}");
}

fn layer(op: &str, shape: &str, weight: &[i64], bias: i64, attributes: &[(&str, Value)]) -> Model {
    Model::new(13)
        .input("x", shape)
        .weight("w", weight)
        .weight("b", &[bias])
        .node(op, &["x", "w", "b"], &["c"], attributes)
        .node("Tanh", &["c"], &["y"], &[])
        .output("y")
}

#[test]
fn weights_of_convolutions_have_derivatives() {
    let conv = |shape: &str, weight: &[i64], attributes: &[(&str, Value)]| {
        check_weights(
            &format!("Conv {weight:?} on {shape}"),
            &layer("Conv", shape, weight, weight[0], attributes),
            &["w", "b"],
        );
    };
    conv("2,2,7,6", &[3, 2, 3, 3], &[("pads", [1, 1, 1, 1].into())]);
    conv("2,2,7,6", &[3, 2, 3, 2], &[("strides", [2, 3].into()), ("pads", [1, 0, 0, 1].into())]);
    conv("2,2,7,6", &[3, 2, 1, 1], &[]);
    conv("2,2,7,6", &[3, 2, 1, 1], &[("strides", [2, 2].into())]);
    conv("2,2,4,4", &[3, 2, 1, 1], &[("pads", [1, 1, 1, 1].into())]);
    conv("2,2,9,7", &[3, 2, 2, 3], &[("dilations", [2, 1].into()), ("pads", [1, 0, 0, 1].into())]);
    conv("2,2,9,7", &[3, 2, 2, 3], &[("strides", [2, 2].into()), ("auto_pad", "SAME_UPPER".into())]);
    conv("2,4,6,6", &[6, 2, 3, 3], &[("group", 2.into()), ("pads", [1, 1, 1, 1].into())]);
    conv("2,4,7,7", &[4, 1, 3, 3], &[("group", 4.into()), ("strides", [2, 2].into()), ("pads", [1, 1, 1, 1].into())]);
    conv("2,3,9", &[4, 3, 1], &[]);
    conv("2,2,9", &[3, 2, 4], &[("strides", [3].into()), ("pads", [2, 1].into())]);
}

#[test]
fn weights_of_transposed_convolutions_have_derivatives() {
    let transposed = |shape: &str, weight: &[i64], bias: i64, attributes: &[(&str, Value)]| {
        check_weights(
            &format!("ConvTranspose {weight:?} on {shape}"),
            &layer("ConvTranspose", shape, weight, bias, attributes),
            &["w", "b"],
        );
    };
    transposed("2,3,4,5", &[3, 2, 3, 3], 2, &[("pads", [1, 1, 1, 1].into())]);
    transposed("2,3,4,5", &[3, 2, 1, 1], 2, &[]);
    transposed("2,3,4,3", &[3, 2, 3, 2], 2, &[("strides", [2, 3].into()), ("output_padding", [1, 2].into())]);
    transposed("2,4,4,3", &[4, 2, 3, 3], 4, &[("group", 2.into()), ("strides", [2, 2].into())]);
    transposed("2,3,5", &[3, 2, 3], 2, &[("dilations", [2].into()), ("pads", [1, 2].into())]);
}

#[test]
fn other_weights_have_derivatives() {
    let gemm = Model::new(13)
        .input("x", "3,4")
        .weight("w", &[5, 4])
        .weight("b", &[5])
        .weight("v", &[5, 2])
        .weight("u", &[2])
        .node("Gemm", &["x", "w", "b"], &["g"], &[("transB", 1.into()), ("alpha", 0.5f32.into())])
        .node("Tanh", &["g"], &["t"], &[])
        .node("MatMul", &["t", "v"], &["m"], &[])
        .node("Add", &["m", "u"], &["a"], &[])
        .node("Sigmoid", &["a"], &["y"], &[])
        .output("y");
    check_weights("Gemm and MatMul", &gemm, &["w", "b", "v", "u"]);

    // One after another, as what comes out of one saturates the next.
    let norm = |op: &str, statistics: &[&str], attributes: &[(&str, Value)]| {
        let model = Model::new(21)
            .input("x", "2,4,3,3")
            .weight("w", &[4, 4, 1, 1])
            .weight("scale", &[4])
            .weight("shift", &[4])
            .weight("mean", &[4])
            .floats("variance", &[4], &[0.5, 1.0, 2.0, 1.5])
            .node("Conv", &["x", "w"], &["c"], &[])
            .node(op, &[&["c", "scale", "shift"], statistics].concat(), &["n"], attributes)
            .node("Tanh", &["n"], &["y"], &[])
            .output("y");
        check_weights(op, &model, &["w", "scale", "shift"]);
    };
    norm("BatchNormalization", &["mean", "variance"], &[]);
    // Without its `stash_type` it computes in single precision whatever it is given, where a difference is rounding.
    norm("GroupNormalization", &[], &[("num_groups", 2.into()), ("stash_type", 11.into())]);
    norm("InstanceNormalization", &[], &[]);

    let tokens = Model::new(17)
        .input("x", "2,5,4")
        .weight("q", &[4, 6])
        .weight("position", &[1, 5, 6])
        .weight("scale", &[6])
        .weight("shift", &[6])
        .weight("gain", &[6])
        .weight("slope", &[6])
        .node("MatMul", &["x", "q"], &["m"], &[])
        .node("Add", &["m", "position"], &["p"], &[])
        .node("LayerNormalization", &["p", "scale", "shift"], &["l"], &[])
        .node("Mul", &["l", "gain"], &["g"], &[])
        .node("PRelu", &["g", "slope"], &["r"], &[])
        .node("Tanh", &["r"], &["y"], &[])
        .output("y");
    check_weights("normalisations of tokens", &tokens, &["q", "position", "scale", "shift", "gain", "slope"]);
}

#[test]
fn weights_of_recurrent_layers_have_derivatives() {
    let recurrent = Model::new(14)
        .input("x", "4,2,3")
        .weight("w", &[1, 8, 3])
        .weight("r", &[1, 8, 2])
        .weight("b", &[1, 16])
        .node("LSTM", &["x", "w", "r", "b"], &["y"], &[("hidden_size", 2.into())])
        .output("y");
    check_weights("LSTM", &recurrent, &["w", "r", "b"]);
}

#[test]
fn constants_that_are_no_weights_are_not_trained() {
    let model = Model::new(17)
        .input("x", "n,3,4")
        .floats("pixel_mean", &[4], &[0.4, 0.5, 0.6, 0.7])
        .weight("w", &[4, 4])
        .floats("half", &[], &[0.5])
        .floats("mask", &[3, 3], &[0.0, -1e9, -1e9, 0.0, 0.0, -1e9, 0.0, 0.0, 0.0])
        .node("Add", &["x", "pixel_mean"], &["p"], &[])
        .node("MatMul", &["p", "w"], &["m"], &[])
        .node("Mul", &["m", "half"], &["h"], &[])
        .node("Transpose", &["h"], &["t"], &[("perm", [0, 2, 1].into())])
        .node("MatMul", &["h", "t"], &["s"], &[])
        .node("Add", &["s", "mask"], &["a"], &[])
        .node("Softmax", &["a"], &["y"], &[])
        .output("y");
    assert_eq!(parsed(&model).trainable(), ["w"]);
}

fn numbers(json: &Json) -> Vec<f32> {
    json.as_array().unwrap().iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

fn sizes(json: &Json) -> Vec<usize> {
    json.as_array().unwrap().iter().map(|size| size.as_u64().unwrap() as usize).collect()
}

/// The network of `training.py`.
fn golden_network(golden: &Json) -> Graph {
    let mut model = Model::new(18).input("x", "n,1,6,6");
    for (name, shape) in golden["shapes"].as_object().unwrap() {
        let dims: Vec<i64> = sizes(shape).iter().map(|&size| size as i64).collect();
        model = model.floats(name, &dims, &numbers(&golden["start"][name]));
    }
    let pads = || ("pads", [1, 1, 1, 1].into());
    let grouped = [pads(), ("strides", [2, 2].into()), ("group", 2.into())];
    let statistics = ["c", "norm.scale", "norm.shift", "mean", "variance"];
    let model = model
        .floats("mean", &[4], &numbers(&golden["mean"]))
        .floats("variance", &[4], &numbers(&golden["variance"]))
        .node("Conv", &["x", "conv1.weight", "conv1.bias"], &["c"], &[pads()])
        .node("BatchNormalization", &statistics, &["n"], &[])
        .node("Relu", &["n"], &["r"], &[])
        .node("Conv", &["r", "conv2.weight"], &["d"], &grouped)
        .node("Relu", &["d"], &["s"], &[])
        .node("GlobalAveragePool", &["s"], &["p"], &[])
        .node("Flatten", &["p"], &["f"], &[])
        .node("Gemm", &["f", "head.weight", "head.bias"], &["y"], &[("transB", 1.into())])
        .output("y");
    parsed(&model)
}

#[test]
fn steps_are_those_of_pytorchs_optimisers() {
    let golden: Json = serde_json::from_str(include_str!("../../golden/training.json")).unwrap();
    let graph = golden_network(&golden);
    let weights = graph.trainable();
    assert_eq!(weights.len(), golden["shapes"].as_object().unwrap().len());
    let names: Vec<&str> = weights.iter().map(String::as_str).collect();
    let (images, labels, rates) = (numbers(&golden["images"]), sizes(&golden["labels"]), &golden["rates"]);
    let cases = [
        ("sgd", Optimizer::Sgd { nesterov: false }, [0.9, 0.05]),
        ("nesterov", Optimizer::Sgd { nesterov: true }, [0.8, 0.0]),
        ("adamw", Optimizer::AdamW, [0.0, 0.1]),
    ];
    for (what, optimizer, [momentum, weight_decay]) in cases {
        let step = compile(&training_step(&graph, "y", &names, Loss::SoftCrossEntropy, optimizer).unwrap());
        let carried: Vec<[String; 2]> = std::iter::once("")
            .chain(optimizer.states().iter().copied())
            .flat_map(|state| {
                let (next, own) = match state {
                    "" => ("next".to_owned(), String::new()),
                    state => (format!("next_{state}"), format!("{state}/")),
                };
                weights.iter().map(move |name| [format!("{next}/{name}"), format!("{own}{name}")])
            })
            .collect();
        let carries: Vec<Carry<'_>> = carried.iter().map(|[output, input]| Carry { output, input }).collect();
        let first = |place: usize| {
            let name = &weights[place % weights.len()];
            let shape = sizes(&golden["shapes"][name]);
            let start = ArrayD::from_shape_vec(shape.clone(), numbers(&golden["start"][name])).unwrap();
            if place < weights.len() { start } else { ArrayD::zeros(shape) }
        };
        let firsts: Vec<ArrayD<f32>> = (0..carries.len()).map(first).collect();
        let feeds: Vec<_> = carries.iter().zip(&firsts).map(|(carry, first)| (carry.input, first.view())).collect();
        let mut losses = Vec::new();
        let last = step.in_steps(&feeds, &carries, &["loss"], |steps| {
            for number in 0..5 {
                // A fifth sample pads the batch and counts nothing.
                let batch: Vec<f32> =
                    images[number * 144..(number + 1) * 144].iter().copied().chain([0.5; 36]).collect();
                let mut target = ArrayD::zeros(vec![5, 3]);
                (0..4).for_each(|row| target[[row, labels[number * 4 + row]]] = 1.0);
                let tuning = Tuning { rate: rates[number].as_f64().unwrap(), momentum, weight_decay };
                let mut inputs: Feeds = vec![
                    ("x".into(), ArrayD::from_shape_vec(vec![5, 1, 6, 6], batch).unwrap()),
                    ("target/y".into(), target),
                    ("cotangent/loss".into(), ndarray::arr1(&[0.25, 0.25, 0.25, 0.25, 0.0]).into_dyn()),
                ];
                for (name, value) in optimizer.settings(&tuning, number + 1) {
                    inputs.push((name.into(), ArrayD::from_elem(vec![1], value as f32)));
                }
                let feeds: Vec<_> = inputs.iter().map(|(name, array)| (name.as_str(), array.view())).collect();
                steps.run(&feeds, |seen| {
                    losses.push(seen[0].iter().take(4).sum::<f32>() / 4.0);
                    Ok::<(), RuntimeError>(())
                })?;
            }
            steps.carried()
        });
        let expected = &golden["results"][what];
        for (loss, expected) in losses.iter().zip(numbers(&expected["losses"])) {
            assert!((loss - expected).abs() < 1e-5, "{what}: {losses:?}");
        }
        for (name, found) in weights.iter().zip(last.unwrap()) {
            for (found, expected) in found.iter().zip(numbers(&expected["weights"][name])) {
                assert!((found - expected).abs() < 1e-5, "{what}: {name} has {found}, not {expected}");
            }
        }
    }
}

#[test]
fn a_new_head_takes_the_place_of_the_last_layer() {
    let model = Model::new(17)
        .input("x", "n,3")
        .weight("w", &[3, 2])
        .weight("v", &[2, 5])
        .weight("head/weight", &[5])
        .node("MatMul", &["x", "w"], &["f"], &[])
        .node("MatMul", &["f", "v"], &["m"], &[])
        .node("Add", &["m", "head/weight"], &["y"], &[])
        .output("y");
    let graph = parsed(&model);
    let tensor =
        |dims: &[u64], values: &[f64]| Tensor::from_floats(ElementType::Float32, dims.to_vec(), values).unwrap();
    let head = Head { weight: tensor(&[3, 2], &[1.0, 2.0, 0.5, -1.0, 0.0, 1.0]), bias: tensor(&[3], &[0.1, 0.2, 0.3]) };
    let (tuned, names) = with_head(&graph, "f", "y", &head).unwrap();
    // The former layer is gone, and its names with it only afterwards.
    assert_eq!(
        (tuned.trainable(), names),
        (
            vec!["w".to_owned(), "head/weight_1".to_owned(), "head/bias".to_owned()],
            ["head/weight_1".to_owned(), "head/bias".to_owned()]
        )
    );
    let mut random = Random::new(2);
    let x = random.array(&[4, 3], Values::AwayFromZero);
    let feeds: Feeds = vec![("x".into(), x)];
    let output = |graph: &Graph, feeds: &Feeds| get(&run(&compile(graph), feeds), "y").clone();
    let features =
        get(&run(&compile(&transferscore::gradient::compose::with_outputs(&graph, &["f"]).unwrap()), &feeds), "f")
            .clone();
    let (alone, _) = only_head("f", "y", &head).unwrap();
    let expected = output(&alone, &vec![("f".into(), features.clone())]);
    assert_eq!(output(&tuned, &feeds), expected);
    let by_hand = features[[1, 0]] * 0.5 - features[[1, 1]] + 0.2;
    assert!((expected[[1, 1]] - by_hand).abs() < 1e-6);
    // On the output itself, whose five values are features.
    let wide = Head { weight: tensor(&[1, 5], &[1.0; 5]), bias: tensor(&[1], &[0.0]) };
    let (behind, _) = with_head(&graph, "y", "y", &wide).unwrap();
    let sums = output(&graph, &feeds).sum_axis(ndarray::Axis(1));
    for (found, expected) in output(&behind, &feeds).iter().zip(&sums) {
        assert!((found - expected).abs() < 1e-5);
    }
    for (features, output) in [("nothing", "y"), ("f", "nothing")] {
        assert!(with_head(&graph, features, output, &head).unwrap_err().to_string().contains("`nothing`"));
    }
}
