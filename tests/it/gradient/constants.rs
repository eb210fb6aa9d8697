//! What is computed from constants while a file is read is what ONNX Runtime computes from them.

use transferscore::gradient::{Graph, check, onnx::TensorProto, vjp};

use super::{
    calculus::{compile, get, run},
    model::{Model, Value, float_tensor, integer_tensor},
};
use crate::support::runtime;

/// An operator, its operands and its attributes.
type Computation = (&'static str, Vec<TensorProto>, Vec<(&'static str, Value)>);

const CAST_TO_FLOAT: [(&str, Value); 1] = [("to", Value::Int(1))];

fn floats(dims: &[i64], values: &[f32]) -> TensorProto {
    float_tensor("", dims, values)
}

fn integers(dims: &[i64], values: &[i64]) -> TensorProto {
    integer_tensor("", dims, values)
}

fn booleans(dims: &[i64], values: &[u8]) -> TensorProto {
    TensorProto { dims: dims.to_vec(), data_type: 9, raw_data: values.to_vec().into(), ..Default::default() }
}

fn bytes(dims: &[i64], values: &[i8]) -> TensorProto {
    let raw: Vec<u8> = values.iter().map(|&value| value as u8).collect();
    TensorProto { dims: dims.to_vec(), data_type: 3, raw_data: raw.into(), ..Default::default() }
}

/// A model that computes its outputs `y0`, `y1`, … from constants alone.
fn computed(op: &str, operands: &[TensorProto], attributes: &[(&str, Value)], n_outputs: usize) -> Model {
    let mut model = Model::new(18).input("x", "n").node("Neg", &["x"], &["z"], &[]).output("z");
    let mut names = Vec::new();
    for (index, operand) in operands.iter().enumerate() {
        let name = format!("c{index}");
        model.graph().initializer.push(TensorProto { name: name.clone(), ..operand.clone() });
        names.push(name);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let outputs: Vec<(String, String)> = (0..n_outputs).map(|at| (format!("r{at}"), format!("y{at}"))).collect();
    let results: Vec<&str> = outputs.iter().map(|(result, _)| result.as_str()).collect();
    model = model.node(op, &names, &results, attributes);
    for (result, output) in &outputs {
        model = model.node("Cast", &[result], &[output], &CAST_TO_FLOAT).output(output);
    }
    model
}

fn compare(op: &str, model: &Model, n_outputs: usize) {
    let graph = Graph::parse(model.bytes()).unwrap();
    assert_eq!(graph.operator_counts(), [("Neg".to_owned(), 1)], "{op} is not folded");
    let feeds = vec![("x".to_owned(), ndarray::arr1(&[1.0f32, 2.0]).into_dyn())];
    let expected = run(&runtime().compile(model.bytes()).unwrap(), &feeds);
    let folded = run(&compile(&graph), &feeds);
    for at in 0..n_outputs {
        let name = format!("y{at}");
        let (expected, folded) = (get(&expected, &name), get(&folded, &name));
        assert_eq!(expected.shape(), folded.shape(), "{op}");
        let close = expected.iter().zip(folded).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(1.0));
        assert!(close, "{op} gives {folded}, not {expected}");
    }
}

#[test]
fn moved_constants_are_those_of_the_runtime() {
    let cube = || floats(&[2, 3, 2], &(0..12).map(|at| at as f32 * 0.5 - 2.0).collect::<Vec<_>>());
    let list = |values: &[i64]| integers(&[values.len() as i64], values);
    let cases: Vec<Computation> = vec![
        ("Reshape", vec![cube(), list(&[0, -1])], vec![]),
        ("Flatten", vec![cube()], vec![("axis", 2.into())]),
        ("Squeeze", vec![floats(&[1, 2, 1], &[1.0, 2.0]), list(&[-1])], vec![]),
        ("Unsqueeze", vec![cube(), list(&[-1, 0])], vec![]),
        ("Shape", vec![cube()], vec![("start", (-2).into())]),
        ("Size", vec![cube()], vec![]),
        ("Transpose", vec![cube()], vec![("perm", [2, 0, 1].into())]),
        ("Transpose", vec![cube()], vec![]),
        ("Concat", vec![cube(), cube(), cube()], vec![("axis", (-2).into())]),
        ("Gather", vec![cube(), integers(&[2, 2], &[2, 0, -1, 1])], vec![("axis", 1.into())]),
        ("GatherElements", vec![cube(), integers(&[1, 2, 2], &[1, -1, 0, 2])], vec![("axis", 1.into())]),
        ("Slice", vec![cube(), list(&[-1, 1]), list(&[-100, 100]), list(&[0, 1]), list(&[-1, 2])], vec![]),
        ("Slice", vec![cube(), list(&[1]), list(&[1]), list(&[2])], vec![]),
        ("Expand", vec![floats(&[3, 1], &[1.0, 2.0, 3.0]), list(&[2, 1, 4])], vec![]),
        ("Tile", vec![cube(), list(&[1, 2, 3])], vec![]),
        ("ConstantOfShape", vec![list(&[2, 3])], vec![("value", Value::Tensor(floats(&[1], &[0.25])))]),
        ("ConstantOfShape", vec![list(&[2])], vec![]),
        ("Range", vec![integers(&[], &[7]), integers(&[], &[-2]), integers(&[], &[-3])], vec![]),
        ("Range", vec![floats(&[], &[0.5]), floats(&[], &[2.4]), floats(&[], &[0.4])], vec![]),
        ("Where", vec![booleans(&[3, 1], &[1, 0, 1]), floats(&[2], &[1.0, 2.0]), floats(&[], &[-9.0])], vec![]),
        ("Trilu", vec![cube(), integers(&[], &[-1])], vec![("upper", 0.into())]),
        ("Trilu", vec![cube(), integers(&[], &[1])], vec![]),
        ("NonZero", vec![floats(&[1, 2, 2], &[0.0, 1.0, 2.0, 0.0])], vec![]),
        ("Identity", vec![cube()], vec![]),
    ];
    for (op, operands, attributes) in cases {
        compare(op, &computed(op, &operands, &attributes, 1), 1);
    }
    compare("Split", &computed("Split", &[cube(), list(&[1, 2])], &[("axis", 1.into())], 2), 2);
    compare("Split", &computed("Split", &[cube()], &[("axis", 1.into()), ("num_outputs", 2.into())], 2), 2);
}

#[test]
fn computed_constants_are_those_of_the_runtime() {
    let vector = || floats(&[4], &[-1.5, 0.5, 2.0, 0.0]);
    let column = || floats(&[2, 1], &[2.0, -0.5]);
    let whole = || integers(&[4], &[-7, 3, 5, 0]);
    let other = || integers(&[4], &[3, -3, 2, 5]);
    let yes = || booleans(&[4], &[1, 1, 0, 0]);
    let mut cases: Vec<Computation> = vec![
        ("Cast", vec![vector()], vec![("to", 7.into())]),
        ("Cast", vec![vector()], vec![("to", 9.into())]),
        ("Cast", vec![whole()], vec![("to", 6.into())]),
        ("Cast", vec![vector()], vec![("to", 10.into())]),
        ("CastLike", vec![whole(), vector()], vec![]),
        ("Mod", vec![whole(), other()], vec![]),
        ("Mod", vec![whole(), other()], vec![("fmod", 1.into())]),
        ("Pow", vec![floats(&[2], &[3.0, 0.5]), integers(&[2], &[2, 3])], vec![]),
        ("Div", vec![integers(&[2], &[7, 8]), integers(&[], &[3])], vec![]),
        ("Not", vec![yes()], vec![]),
        ("Sqrt", vec![floats(&[2], &[2.0, 9.0])], vec![]),
        ("Log", vec![floats(&[2], &[2.0, 9.0])], vec![]),
        ("Reciprocal", vec![floats(&[2], &[2.0, 9.0])], vec![]),
        ("Clip", vec![vector(), floats(&[], &[-0.5]), floats(&[], &[1.0])], vec![]),
        (
            "DequantizeLinear",
            vec![bytes(&[2, 2], &[-3, 4, 100, -128]), floats(&[2], &[0.5, 0.25])],
            vec![("axis", 0.into())],
        ),
        ("DequantizeLinear", vec![bytes(&[2], &[-3, 4]), floats(&[], &[0.5]), bytes(&[], &[2])], vec![]),
        ("ReduceMean", vec![floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 7.0]), integers(&[1], &[-1])], vec![]),
        (
            "ReduceSum",
            vec![floats(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 7.0]), integers(&[1], &[0])],
            vec![("keepdims", 0.into())],
        ),
        ("ReduceMax", vec![vector()], vec![("keepdims", 0.into())]),
        ("ReduceProd", vec![integers(&[3], &[2, 3, 4])], vec![("keepdims", 0.into())]),
    ];
    for op in ["Add", "Sub", "Mul", "Div", "Min", "Max", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"] {
        cases.push((op, vec![vector(), column()], vec![]));
    }
    for op in ["Add", "Sub", "Mul", "Min", "Max", "Equal", "Greater", "LessOrEqual"] {
        cases.push((op, vec![whole(), other()], vec![]));
    }
    for op in ["And", "Or", "Xor"] {
        cases.push((op, vec![yes(), booleans(&[4], &[1, 0, 1, 0])], vec![]));
    }
    for op in ["Neg", "Abs", "Exp", "Floor", "Ceil", "Sin", "Cos", "Tanh", "Sigmoid", "Relu", "Sign"] {
        cases.push((op, vec![vector()], vec![]));
    }
    for (op, operands, attributes) in cases {
        compare(op, &computed(op, &operands, &attributes, 1), 1);
    }
}

#[test]
fn shape_computations_with_a_free_batch_are_understood() {
    // What exporters write for `bias.expand(x.size(0), -1, 4)`: sizes of -1 become 1, then the batch is filled in.
    let model = Model::new(13)
        .input("x", "n,3,4")
        .weight("b", &[3, 1])
        .integers("zero", &[0])
        .integers("rest", &[-1, 4])
        .integers("three", &[3])
        .integers("minus", &[-1])
        .node("Shape", &["x"], &["s"], &[])
        .node("Gather", &["s", "zero"], &["n"], &[("axis", 0.into())])
        .node("Concat", &["n", "rest"], &["wanted"], &[("axis", 0.into())])
        .node("ConstantOfShape", &["three"], &["ones"], &[("value", Value::Tensor(integer_tensor("", &[1], &[1])))])
        .node("Equal", &["wanted", "minus"], &["is_free"], &[])
        .node("Where", &["is_free", "ones", "wanted"], &["target"], &[])
        .node("Expand", &["b", "target"], &["e"], &[])
        .node("Mul", &["x", "e"], &["y"], &[])
        .output("y");
    let graph = Graph::parse(model.bytes()).unwrap();
    assert_eq!(graph.outputs()[0].value_type.as_ref().unwrap().to_string(), "float32[n, 3, 4]");
    assert_eq!(check(&graph), []);
}

#[test]
fn large_results_stay_computations() {
    let model = Model::new(13)
        .input("x", "n,4096")
        .integers("s", &[4096, 4096])
        .node("ConstantOfShape", &["s"], &["w"], &[("value", Value::Tensor(float_tensor("", &[1], &[0.5])))])
        .node("MatMul", &["x", "w"], &["y"], &[])
        .output("y");
    let graph = Graph::parse(model.bytes()).unwrap();
    assert!(graph.to_onnx().len() < 1000);
    assert_eq!(check(&graph), []);
    let small = model.clone().integers("t", &[8, 8]).node("ConstantOfShape", &["t"], &["v"], &[]).output("v");
    let graph = Graph::parse(small.bytes()).unwrap();
    assert_eq!(graph.n_parameters(), 64);
    // A constant that is used up leaves nothing behind.
    assert!(vjp(&graph, &["x"], &["y"]).unwrap().operator_counts().len() < 5);
}
