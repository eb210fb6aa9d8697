//! What is read of a model: shapes, counts, old forms, names.

use transferscore::gradient::{GradientError, Graph, check, compose, jvp, vjp};

use super::{
    calculus::{Case, Feeds, Values, check as check_calculus, compile, get, run},
    model::{Model, Value, binary, float_tensor, integer_tensor, unary},
};
use crate::support::runtime;

fn parse(model: &Model) -> Graph {
    Graph::parse(model.bytes()).unwrap()
}

fn output_type(model: &Model) -> String {
    let ports = parse(model).outputs();
    ports[0].value_type.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn shapes_are_inferred() {
    let pool = |ceil: i64| {
        let attributes = [("kernel_shape", [3].into()), ("strides", [2].into()), ("ceil_mode", ceil.into())];
        unary("MaxPool", "n,2,8", &attributes)
    };
    let conv = |attributes: &[(&str, Value)]| {
        let model = Model::new(13).input("x", "n,2,h,9").weight("w", &[5, 2, 3, 3]);
        model.node("Conv", &["x", "w"], &["y"], attributes).output("y")
    };
    let reshape = |shape: &str, target: &[i64]| {
        Model::new(13).input("x", shape).integers("s", target).node("Reshape", &["x", "s"], &["y"], &[]).output("y")
    };
    let cases = [
        (binary("Add", "n,1,4", "3,1", &[]), "float32[n, 3, 4]"),
        (binary("Add", "n,4", "n,4", &[]), "float32[n, 4]"),
        (binary("Greater", "n,4", "1", &[]), "bool[n, 4]"),
        (binary("MatMul", "n,2,4", "4,7", &[]), "float32[n, 2, 7]"),
        (binary("MatMul", "4", "n,4,7", &[]), "float32[n, 7]"),
        (binary("MatMul", "4", "4", &[]), "float32[]"),
        (pool(0), "float32[n, 2, 3]"),
        (pool(1), "float32[n, 2, 4]"),
        (conv(&[("pads", [1, 1, 1, 1].into())]), "float32[n, 5, h, 9]"),
        (conv(&[("auto_pad", "SAME_UPPER".into()), ("strides", [1, 2].into())]), "float32[n, 5, h, 5]"),
        (reshape("n,3,4", &[0, -1]), "float32[n, 12]"),
        (reshape("n,3,4", &[-1, 12]), "float32[n, 12]"),
        (reshape("n,3,4", &[-1]), "float32[product(n,12)]"),
        (reshape("2,3,4", &[4, -1]), "float32[4, 6]"),
        (unary("Flatten", "n,3,4", &[]), "float32[n, 12]"),
        (unary("Shape", "n,3,4", &[]), "int64[3]"),
        (unary("ReduceMean", "n,3,4", &[("keepdims", 0.into())]), "float32[]"),
        (unary("Transpose", "n,3,4", &[("perm", [2, 0, 1].into())]), "float32[4, n, 3]"),
        (unary("ArgMax", "n,3", &[("axis", 1.into()), ("keepdims", 0.into())]), "int64[n]"),
        (unary("DepthToSpace", "n,8,2,3", &[("blocksize", 2.into())]), "float32[n, 2, 4, 6]"),
    ];
    for (model, expected) in cases {
        assert_eq!(output_type(&model), expected);
    }
}

#[test]
fn skip_connections_over_unknown_sizes_stay_one_size() {
    // Two branches that compute the same size must give the same symbol, or every addition would be a broadcast.
    let attributes = [("strides", [2, 2].into()), ("pads", [1, 1, 1, 1].into())];
    let model = Model::new(13)
        .input("x", "n,2,h,w")
        .weight("a", &[3, 2, 3, 3])
        .weight("b", &[3, 2, 3, 3])
        .node("Conv", &["x", "a"], &["p"], &attributes)
        .node("Conv", &["x", "b"], &["q"], &attributes)
        .node("Add", &["p", "q"], &["y"], &[])
        .output("y");
    let gradient = vjp(&parse(&model), &[], &[]).unwrap();
    assert!(!gradient.operator_counts().iter().any(|(op, _)| op == "ReduceSum"), "{:?}", gradient.operator_counts());
}

#[test]
fn old_forms_compute_what_they_did() {
    let forms: Vec<(Model, &[usize])> = vec![
        (Model::new(10).input("x", "n,4").node("Clip", &["x"], &["y"], &[("min", (-0.5f32).into())]), &[3, 4]),
        (slice_9(), &[2, 5, 6]),
        (pad_10(), &[2, 3]),
        (Model::new(8).input("x", "n,1,4").node("Squeeze", &["x"], &["y"], &[("axes", [1].into())]), &[3, 1, 4]),
        (Model::new(10).input("x", "n,4").node("Dropout", &["x"], &["y"], &[("ratio", 0.3f32.into())]), &[3, 4]),
        (Model::new(9).input("x", "n,2,3").node("LogSoftmax", &["x"], &["y"], &[("axis", 0.into())]), &[2, 2, 3]),
        (dropout_13(), &[3, 4]),
        (constants(), &[3, 2]),
        (listed_initialiser(), &[3, 2]),
    ];
    for (model, shape) in forms {
        let model = model.output("y");
        let input = super::calculus::Random::new(5).array(shape, Values::AwayFromZero);
        let feeds: Feeds = vec![("x".into(), input)];
        let original = run(&runtime().compile(model.bytes()).unwrap(), &feeds);
        let converted = run(&compile(&parse(&model)), &feeds);
        assert_eq!(get(&original, "y"), get(&converted, "y"), "{:?}", parse(&model).operator_counts());
        let case = Case { model, shapes: vec![shape.to_vec()], values: Values::Distinct, affine: false };
        check_calculus(&case).unwrap();
    }
}

/// Of the outputs of a loop ONNX Runtime needs all; it crashes where a collected one has no name.
#[test]
fn outputs_without_names_get_some() {
    let body = Model::new(17)
        .input("turn", "")
        .typed("turn", 7)
        .input("on", "")
        .typed("on", 9)
        .input("s", "n,2")
        .node("Identity", &["on"], &["goes_on"], &[])
        .node("Add", &["s", "s"], &["doubled"], &[])
        .node("Neg", &["s"], &["collected"], &[])
        .output("goes_on")
        .typed("goes_on", 9)
        .output("doubled")
        .output("collected");
    let model = Model::new(17)
        .input("x", "n,2")
        .node("Constant", &[], &["turns"], &[("value", Value::Tensor(integer_tensor("", &[], &[3])))])
        .node("Loop", &["turns", "", "x"], &["y", ""], &[("body", Value::Graph(body.proto.graph.unwrap()))])
        .output("y");
    let x = super::calculus::Random::new(5).array(&[3, 2], Values::AwayFromZero);
    let given = run(&compile(&parse(&model)), &vec![("x".into(), x.clone())]);
    assert_eq!(get(&given, "y"), &(x * 8.0));
}

fn slice_9() -> Model {
    let attributes = [("starts", [1, -3].into()), ("ends", [3, 1000].into()), ("axes", [1, 2].into())];
    Model::new(9).input("x", "n,5,6").node("Slice", &["x"], &["y"], &attributes)
}

fn pad_10() -> Model {
    let attributes = [("pads", [0, 1, 0, 2].into()), ("value", 0.25f32.into())];
    Model::new(10).input("x", "n,3").node("Pad", &["x"], &["y"], &attributes)
}

fn dropout_13() -> Model {
    let mut model = Model::new(13).input("x", "n,4").floats("ratio", &[], &[0.5]).node(
        "Dropout",
        &["x", "ratio", "training"],
        &["y"],
        &[],
    );
    let mut training = float_tensor("training", &[], &[0.0]);
    (training.data_type, training.raw_data) = (9, vec![0].into());
    model.graph().initializer.push(training);
    model
}

fn constants() -> Model {
    Model::new(13)
        .input("x", "n,2")
        .node("Constant", &[], &["a"], &[("value", Value::Tensor(float_tensor("", &[2], &[0.5, 2.0])))])
        .node("Constant", &[], &["b"], &[("value_float", 3.0f32.into())])
        .node("Constant", &[], &["c"], &[("value_floats", Value::Floats(vec![1.0, -1.0]))])
        .node("Mul", &["x", "a"], &["p"], &[])
        .node("Add", &["p", "b"], &["q"], &[])
        .node("Sub", &["q", "c"], &["y"], &[])
}

fn listed_initialiser() -> Model {
    Model::new(8).input("x", "n,2").input("w", "2").weight("w", &[2]).node("Mul", &["x", "w"], &["y"], &[])
}

#[test]
fn a_model_describes_itself() {
    let graph = parse(&listed_initialiser().output("y"));
    assert_eq!(graph.inputs().iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["x"]);
    assert_eq!((graph.n_parameters(), graph.opset()), (2, 8));
    let model = Model::new(13)
        .input("x", "n,4")
        .weight("w", &[4, 3])
        .weight("v", &[3, 2])
        .weight("b", &[2])
        .node("MatMul", &["x", "w"], &["a"], &[])
        .node("Relu", &["a"], &["h"], &[])
        .node("MatMul", &["h", "v"], &["c"], &[])
        .node("Add", &["c", "b"], &["y"], &[])
        .output("y");
    let graph = parse(&model);
    assert_eq!(graph.n_parameters(), 12 + 6 + 2);
    assert_eq!(graph.features().as_deref(), Some("h"));
    let counts: Vec<(String, usize)> = [("MatMul", 2), ("Add", 1), ("Relu", 1)].map(|(op, n)| (op.into(), n)).into();
    assert_eq!(graph.operator_counts(), counts);
    let attention = parse(&binary("MatMul", "n,4", "4,n", &[]));
    assert_eq!(attention.features(), None);
}

#[test]
fn all_obstacles_are_listed_at_once() {
    let model = Model::new(13)
        .input("x", "n,4")
        .input("z", "n,4")
        .node("Nonsense", &["x"], &["a"], &[])
        .node("RotaryEmbedding", &["z", "x", "x"], &["b"], &[])
        .node("Relu", &["a"], &["c"], &[])
        .node("Add", &["b", "c"], &["y"], &[])
        .output("y");
    let graph = parse(&model);
    let found: Vec<(String, Vec<String>)> =
        check(&graph).into_iter().map(|obstacle| (obstacle.operator, obstacle.inputs)).collect();
    let expected =
        [("Nonsense".to_owned(), vec!["x".to_owned()]), ("RotaryEmbedding".into(), vec!["x".into(), "z".into()])];
    assert_eq!(found, expected);
    for error in [vjp(&graph, &[], &[]).unwrap_err(), jvp(&graph, &[], &[]).unwrap_err()] {
        let expected =
            "node `Nonsense_0` (Nonsense) cannot be differentiated: the operator has no rule; it depends on x";
        assert_eq!(error.to_string(), expected);
    }
    // With respect to z alone nothing stands in the way.
    assert!(jvp(&graph, &["z"], &["y"]).is_ok());
}

#[test]
fn wrong_names_are_refused() {
    let graph = parse(&unary("Relu", "n,4", &[]));
    for result in [vjp(&graph, &["nope"], &[]), vjp(&graph, &[], &["nope"]), jvp(&graph, &["y"], &[])] {
        assert!(matches!(result, Err(GradientError::Request(_))));
    }
    let argmax = parse(&unary("ArgMax", "n,4", &[]));
    assert!(matches!(vjp(&argmax, &[], &[]), Err(GradientError::Request(_))));
    let taken = Model::new(13).input("cotangent/y", "n").node("Relu", &["cotangent/y"], &["y"], &[]).output("y");
    assert!(matches!(vjp(&parse(&taken), &[], &[]), Err(GradientError::Request(_))));
}

#[test]
fn what_does_not_depend_has_a_zero_gradient() {
    let model = Model::new(13)
        .input("x", "n,2")
        .input("z", "n,3")
        .node("Floor", &["z"], &["y"], &[])
        .node("Exp", &["x"], &["w"], &[])
        .output("y")
        .output("w");
    let graph = parse(&model);
    let mut random = super::calculus::Random::new(2);
    let names = ["x", "z", "cotangent/w", "cotangent/y", "tangent/x", "tangent/z"];
    let feeds: Feeds = names
        .iter()
        .map(|name| {
            let width = if name.ends_with(['x', 'w']) { 2 } else { 3 };
            ((*name).to_owned(), random.array(&[4, width], Values::AwayFromZero))
        })
        .collect();
    let gradients = run(&compile(&vjp(&graph, &[], &[]).unwrap()), &feeds);
    assert_eq!(get(&gradients, "gradient/z"), &ndarray::ArrayD::<f32>::zeros(vec![4, 3]));
    assert!(get(&gradients, "gradient/x").iter().all(|value| *value != 0.0));
    let tangents = run(&compile(&jvp(&graph, &[], &[]).unwrap()), &feeds);
    assert_eq!(get(&tangents, "tangent/y"), &ndarray::ArrayD::<f32>::zeros(vec![4, 3]));
}

#[test]
fn an_input_may_be_an_output() {
    let mut model = Model::new(13).input("x", "n,2").node("Relu", &["x"], &["y"], &[]).output("y");
    model.graph().output.push(super::model::float_value("x", Some("n,2")));
    let case = Case { model, shapes: vec![vec![3, 2]], values: Values::AwayFromZero, affine: false };
    check_calculus(&case).unwrap();
}

#[test]
fn inner_tensors_become_outputs() {
    let model = unary("Relu", "n,4", &[]).node("Exp", &["y"], &["z"], &[]).output("z");
    let graph = compose::with_outputs(&parse(&model), &["z"]).unwrap();
    assert_eq!(graph.outputs().len(), 1);
    let graph = compose::expose(&graph, "y").unwrap();
    assert_eq!(graph.outputs().iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["z", "y"]);
    assert!(matches!(compose::expose(&graph, "nope"), Err(GradientError::Request(_))));
    let pruned = compose::with_outputs(&graph, &["y"]).unwrap();
    assert_eq!(pruned.operator_counts(), [("Relu".to_owned(), 1)]);
}
