//! The measurement of derivatives against finite differences measures.

use ndarray::arr2;
use transferscore::{
    gradient::Graph,
    verify::{Given, Verification, verify},
};

use super::model::{Model, unary};
use crate::support::runtime;

fn measure(model: &Model, given: &Given) -> Verification {
    verify(&runtime(), &Graph::parse(model.bytes()).unwrap(), given, 3).unwrap()
}

fn network(activation: &'static str) -> Model {
    Model::new(18)
        .input("x", "n,2,h,w")
        .input("z", "n,3")
        .weight("w", &[4, 2, 3, 3])
        .weight("v", &[4, 3])
        .node("Conv", &["x", "w"], &["c"], &[("strides", [2, 2].into()), ("pads", [1, 1, 1, 1].into())])
        .node(activation, &["c"], &["a"], &[])
        .node("AveragePool", &["a"], &["p"], &[("kernel_shape", [2, 2].into())])
        .node("GlobalAveragePool", &["p"], &["g"], &[])
        .node("Flatten", &["g"], &["f"], &[])
        .node("MatMul", &["f", "v"], &["m"], &[])
        .node("Mul", &["m", "z"], &["y"], &[])
        .node("Tanh", &["z"], &["t"], &[])
        .output("y")
        .output("t")
}

#[test]
fn right_derivatives_agree_in_double_precision() {
    for activation in ["Mish", "LeakyRelu", "Elu"] {
        let measured = measure(&network(activation), &Given::new());
        assert_eq!((measured.precision, measured.agreements.len()), ("float64", 4));
        assert!(measured.passes() && measured.worst() < 1e-6 && measured.worst() > 0.0, "{measured:?}");
        let rounding: Vec<f64> = measured.agreements.iter().filter_map(|a| a.rounding_error).collect();
        assert!(rounding.len() == 3 && rounding.iter().all(|&error| error > 1e-9 && error < 1e-5), "{rounding:?}");
        let constant: Vec<&str> =
            measured.agreements.iter().filter(|a| a.constant).map(|a| a.output.as_str()).collect();
        // t does not depend on x.
        assert_eq!(constant, ["t"]);
        assert_eq!(measured, measure(&network(activation), &Given::new()));
    }
}

#[test]
fn single_precision_is_said_where_double_is_not_to_be_had() {
    // The runtime has no double convolution, and this one has too many taps to be lowered.
    let model = Model::new(13)
        .input("x", "n,1,5002")
        .weight("w", &[1, 1, 5001])
        .node("Conv", &["x", "w"], &["c"], &[])
        .node("Sigmoid", &["c"], &["y"], &[])
        .output("y");
    let measured = measure(&model, &Given::new());
    assert!(measured.passes(), "{measured:?}");
    assert_eq!(measured.precision, "float32");
    assert!(measured.reason.as_ref().unwrap().contains("too large for double"), "{measured:?}");
}

#[test]
fn jumps_and_kinks_are_seen() {
    let at = |model: &Model, value: f64| {
        measure(model, &Given::from([("x".to_owned(), arr2(&[[value, value]]).into_dyn())]))
    };
    let jump = unary("Floor", "n,2", &[]).node("Add", &["x", "y"], &["z"], &[]).output("z");
    let smooth = at(&jump, 1.5);
    assert!(smooth.passes(), "{smooth:?}");
    let broken = at(&jump, 1.0);
    assert!(!broken.passes() && broken.agreements[1].kink, "{broken:?}");
    let kink = unary("Relu", "n,2", &[]);
    assert!(at(&kink, 0.5).passes() && !at(&kink, 0.5).agreements[0].kink);
    assert!(at(&kink, 0.0).agreements[0].kink);
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let graph = Graph::parse(unary("Relu", "n,2", &[]).bytes()).unwrap();
    let given = |name: &str, width: usize| Given::from([(name.to_owned(), ndarray::ArrayD::zeros(vec![1, width]))]);
    for (given, words) in [(given("nope", 2), "no input `nope`"), (given("x", 3), "runs at no size")] {
        let error = verify(&runtime(), &graph, &given, 0).unwrap_err().to_string();
        assert!(error.contains(words), "`{error}` does not say {words}");
    }
}
