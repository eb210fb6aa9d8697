//! Whole networks.

use ndarray::{Array1, Array2, Axis};
use prost::Message;
use transferscore::gradient::{Graph, jvp, onnx, vjp};

use super::{
    calculus::{Case, Feeds, Random, Values, check, compile, get, run},
    model::Model,
};
use crate::support::shared;

/// A residual network with batch norms, as an exporter of opset 11 writes it; `size` is like `12,10`.
pub fn residual(size: &str, activation: &'static str) -> Model {
    let same = [("pads", [1, 1, 1, 1].into())];
    let halving = [("pads", [1, 1, 1, 1].into()), ("strides", [2, 2].into())];
    let mut model = Model::new(11).input("x", &format!("batch,3,{size}"));
    for (name, channels) in [("n1", 4), ("n2", 6), ("n3", 6)] {
        for part in ["s", "b", "m"] {
            model = model.weight(&format!("{name}{part}"), &[channels]);
        }
        let variances: Vec<f32> = (0..channels).map(|channel| 0.5 + channel as f32 * 0.3).collect();
        model = model.floats(&format!("{name}v"), &[channels], &variances);
    }
    model
        .weight("w1", &[4, 3, 3, 3])
        .weight("w2", &[6, 4, 3, 3])
        .weight("w3", &[6, 6, 3, 3])
        .weight("w4", &[6, 4, 1, 1])
        .weight("w5", &[5, 6])
        .weight("b5", &[5])
        .node("Conv", &["x", "w1"], &["c1"], &same)
        .node("BatchNormalization", &["c1", "n1s", "n1b", "n1m", "n1v"], &["a1"], &[])
        .node(activation, &["a1"], &["r1"], &[])
        .node("Conv", &["r1", "w2"], &["c2"], &halving)
        .node("BatchNormalization", &["c2", "n2s", "n2b", "n2m", "n2v"], &["a2"], &[])
        .node(activation, &["a2"], &["r2"], &[])
        .node("Conv", &["r2", "w3"], &["c3"], &same)
        .node("BatchNormalization", &["c3", "n3s", "n3b", "n3m", "n3v"], &["a3"], &[])
        .node("Conv", &["r1", "w4"], &["c4"], &[("strides", [2, 2].into())])
        .node("Add", &["a3", "c4"], &["sum"], &[])
        .node(activation, &["sum"], &["r3"], &[])
        .node("GlobalAveragePool", &["r3"], &["pooled"], &[])
        .node("Dropout", &["pooled"], &["kept"], &[])
        .node("Flatten", &["kept"], &["flat"], &[])
        .node("Gemm", &["flat", "w5", "b5"], &["y"], &[("transB", 1.into())])
        .output("y")
}

#[test]
fn a_residual_network_satisfies_calculus() {
    for size in ["12,10", "height,width"] {
        let model = residual(size, "Softplus");
        let case = Case { model, shapes: vec![vec![2, 3, 12, 10]], values: Values::AwayFromZero, affine: false };
        check(&case).unwrap();
    }
}

fn count(graph: &Graph, operator: &str) -> usize {
    graph.operator_counts().iter().find(|(op, _)| op == operator).map_or(0, |(_, count)| *count)
}

#[test]
fn the_gradient_graph_has_the_fast_forms() {
    let graph = Graph::parse(residual("12,10", "Relu").bytes()).unwrap();
    let gradient = vjp(&graph, &[], &[]).unwrap();
    assert_eq!(count(&gradient, "BatchNormalization"), 0, "batch norms go into the convolutions");
    assert_eq!((count(&gradient, "Dropout"), count(&gradient, "Where")), (0, 0));
    // Four convolutions forward, two of stride 1 backward; one of stride 2 comes out in phases.
    assert_eq!((count(&gradient, "Conv"), count(&gradient, "ConvTranspose")), (7, 1));
    assert_eq!((count(&gradient, "DepthToSpace"), count(&gradient, "HardSigmoid")), (1, 3));
    assert_eq!(count(&gradient, "Shape"), 0, "nothing is asked at run time that the file tells");
    assert_eq!(count(&gradient, "Expand"), 1);
    assert_eq!(gradient.to_onnx(), vjp(&graph, &[], &[]).unwrap().to_onnx());
}

#[test]
fn only_the_chosen_path_is_differentiated() {
    let model = Model::new(13)
        .input("x", "n,4")
        .input("z", "n,4")
        .node("Exp", &["x"], &["a"], &[])
        .node("Sin", &["z"], &["b"], &[])
        .node("Mul", &["a", "b"], &["y"], &[])
        .output("y");
    let gradient = vjp(&Graph::parse(model.bytes()).unwrap(), &["z"], &["y"]).unwrap();
    assert_eq!((count(&gradient, "Cos"), count(&gradient, "Exp"), count(&gradient, "Mul")), (1, 1, 3));
    let names: Vec<String> = gradient.outputs().into_iter().map(|port| port.name).collect();
    assert_eq!(names, ["y", "gradient/z"]);
    let names: Vec<String> = gradient.inputs().into_iter().map(|port| port.name).collect();
    assert_eq!(names, ["x", "z", "cotangent/y"]);
}

/// J = W₂ diag(h(1 − h)) W₁ of a network with one hidden sigmoid layer, in float64.
fn closed_form(bytes: &[u8], x: &Array1<f64>) -> Array2<f64> {
    let model = onnx::ModelProto::decode(bytes).unwrap();
    let graph = model.graph.unwrap();
    let tensor = |name: &str| {
        let tensor = graph.initializer.iter().find(|tensor| tensor.name == name)?;
        let raw = tensor.raw_data.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        let values: Vec<f64> = raw.chain(tensor.float_data.iter().copied()).map(f64::from).collect();
        let columns = tensor.dims.get(1).copied().unwrap_or(1) as usize;
        Some(Array2::from_shape_vec((tensor.dims[0] as usize, columns), values).unwrap())
    };
    let (first, second) = (tensor("W1").unwrap(), tensor("W2").unwrap());
    let bias = tensor("b1").map_or_else(|| Array1::zeros(first.nrows()), |bias| bias.column(0).to_owned());
    let hidden = (first.dot(x) + bias).mapv(|value| 1.0 / (1.0 + (-value).exp()));
    let slopes = hidden.mapv(|value| value * (1.0 - value));
    second.dot(&(first * slopes.insert_axis(Axis(1))))
}

#[test]
fn published_networks_have_their_closed_form_jacobians() {
    for file in ["reference.onnx", "source-00.onnx", "source-09.onnx"] {
        let Some(path) = shared(&format!("data/synthetic/{file}")) else { return };
        let bytes = std::fs::read(path).unwrap();
        let graph = Graph::parse(bytes.clone().into()).unwrap();
        let (reverse, forward) = (compile(&vjp(&graph, &[], &[]).unwrap()), compile(&jvp(&graph, &[], &[]).unwrap()));
        let x = Random::new(11).array(&[1, 50], Values::AwayFromZero);
        let expected = closed_form(&bytes, &x.iter().map(|&value| f64::from(value)).collect());
        let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        // All rows of the Jacobian at once: one sample for each output, or for each input.
        let repeated =
            |n: usize| x.broadcast((n, 1, 50)).unwrap().to_owned().into_shape_with_order(vec![n, 50]).unwrap();
        let feeds: Feeds = vec![("x".into(), repeated(10)), ("cotangent/y".into(), Array2::eye(10).into_dyn())];
        let rows = get(&run(&reverse, &feeds), "gradient/x").clone();
        let feeds: Feeds = vec![("x".into(), repeated(50)), ("tangent/x".into(), Array2::eye(50).into_dyn())];
        let columns = get(&run(&forward, &feeds), "tangent/y").clone();
        for ((output, input), expected) in expected.indexed_iter() {
            for found in [rows[[output, input]], columns[[input, output]]] {
                assert!((f64::from(found) - expected).abs() < 2e-6 * largest, "{file}: {found} is not {expected}");
            }
        }
    }
}
