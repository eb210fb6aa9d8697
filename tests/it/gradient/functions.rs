//! Further elementary functions, activations, running sums and products, and bounds and exponents that vary.

use ndarray::{ArrayD, array};
use transferscore::gradient::{Graph, vjp};

use super::{
    calculus::{Case, compile, get, run},
    model::{Model, Value},
    operators::{affine, distinct, positive, smooth},
};

/// x → op → y in an opset of its own.
fn at_opset(opset: i64, op: &str, shape: &str, attributes: &[(&str, Value)]) -> Model {
    Model::new(opset).input("x", shape).node(op, &["x"], &["y"], attributes).output("y")
}

fn elementary() -> Vec<(&'static str, Case)> {
    let narrow = |op: &'static str| {
        let model = Model::new(13).input("x", "n,5").floats("h", &[], &[0.5]).node("Mul", &["x", "h"], &["z"], &[]);
        (op, smooth(model.node(op, &["z"], &["y"], &[]).output("y"), &[&[3, 5]]))
    };
    let above_one = Model::new(13).input("x", "n,5").floats("h", &[], &[1.2]).node("Add", &["x", "h"], &["z"], &[]);
    let above_one = above_one.node("Acosh", &["z"], &["y"], &[]).output("y");
    let mut cases: Vec<(&str, Case)> =
        ["Tan", "Asin", "Acos", "Atan", "Atanh", "Sinh", "Cosh", "Asinh"].into_iter().map(narrow).collect();
    cases.push(("Acosh", positive(above_one, &[&[3, 5]])));
    cases.push(("Swish", smooth(at_opset(24, "Swish", "n,5", &[]), &[&[3, 5]])));
    cases.push(("Swish", smooth(at_opset(24, "Swish", "n,5", &[("alpha", 1.7f32.into())]), &[&[3, 5]])));
    cases.push((
        "ThresholdedRelu",
        distinct(at_opset(10, "ThresholdedRelu", "n,5", &[("alpha", 0.1f32.into())]), &[&[3, 5]]),
    ));
    cases.push(("ThresholdedRelu", distinct(at_opset(22, "ThresholdedRelu", "n,50", &[]), &[&[1, 50]])));
    cases.push((
        "Shrink",
        distinct(at_opset(9, "Shrink", "n,8", &[("lambd", 0.2f32.into()), ("bias", 0.1f32.into())]), &[&[4, 8]]),
    ));
    cases.push(("Shrink", distinct(at_opset(9, "Shrink", "n,8", &[]), &[&[4, 8]])));
    cases
}

fn two_operands() -> Vec<(&'static str, Case)> {
    let exponent = Model::new(15).input("x", "n,4").input("p", "4").node("Pow", &["x", "p"], &["y"], &[]).output("y");
    // 0⁰ is 1, and its derivative 0.
    let flat = Model::new(15)
        .input("x", "n,3")
        .floats("p", &[3], &[0.0, 1.0, 2.0])
        .floats("o", &[1], &[0.0])
        .node("Mul", &["x", "o"], &["z"], &[])
        .node("Pow", &["z", "p"], &["w"], &[])
        .node("Add", &["w", "x"], &["y"], &[])
        .output("y");
    let same = |p: f32| {
        Model::new(7).input("x", "n,4").floats("p", &[1], &[p]).node("Pow", &["x", "p"], &["z"], &[]).node(
            "Add",
            &["z", "x"],
            &["y"],
            &[],
        )
    };
    let remainder = Model::new(13).input("x", "n,4").floats("z", &[4], &[0.337, 0.83, -0.71, 0.937]);
    let remainder = remainder.node("Mod", &["x", "z"], &["y"], &[("fmod", 1.into())]).output("y");
    let divisor = Model::new(13).floats("x", &[2, 2], &[3.2, -4.1, 2.7, 0.2]).input("z", "2");
    let divisor = divisor.node("Mod", &["x", "z"], &["y"], &[("fmod", 1.into())]).output("y");
    let clip = |bounds: &[&str; 2]| {
        Model::new(13).input("x", "n,8").input("b", "").floats("c", &[], &[0.2]).node(
            "Clip",
            &["x", bounds[0], bounds[1]],
            &["y"],
            &[],
        )
    };
    let bounds: &[&[usize]] = &[&[2, 8], &[]];
    let slope = Model::new(9).input("x", "n,3,4").input("s", "1").node("PRelu", &["x", "s"], &["y"], &[]).output("y");
    let one = Model::new(8).input("x", "n,4").node("Sum", &["x"], &["y"], &[]).output("y");
    vec![
        ("Pow", positive(exponent, &[&[3, 4], &[4]])),
        ("Pow", affine(flat, &[&[2, 3]])),
        ("Pow", affine(same(0.0).output("y"), &[&[2, 4]])),
        ("Pow", affine(same(1.0).output("y"), &[&[2, 4]])),
        ("Mod", distinct(remainder, &[&[3, 4]])),
        ("Mod", positive(divisor, &[&[2]])),
        ("Clip", distinct(clip(&["b", "c"]).output("y"), bounds)),
        ("Clip", distinct(clip(&["c", "b"]).output("y"), bounds)),
        ("Clip", distinct(clip(&["", "b"]).output("y"), bounds)),
        ("Clip", distinct(clip(&["b", ""]).output("y"), bounds)),
        ("PRelu", smooth(slope, &[&[2, 3, 4], &[1]])),
        ("Sum", affine(one, &[&[2, 4]])),
    ]
}

fn scans() -> Vec<(&'static str, Case)> {
    let scan = |op: &'static str, opset: i64, axis: i64, attributes: &[(&str, Value)]| {
        let model = Model::new(opset).input("x", "n,5,3").integers("a", &[axis]);
        let model = model.node(op, &["x", "a"], &["y"], attributes).output("y");
        (op, if op == "CumSum" { affine(model, &[&[2, 5, 3]]) } else { smooth(model, &[&[2, 5, 3]]) })
    };
    // A factor that is zero leaves the derivative with respect to it.
    let with_zeros = |op: &'static str, masked: &[f32]| {
        let model = Model::new(26).input("x", "n,4").floats("m", &[4], masked).integers("a", &[1]);
        let model = model.node("Add", &["x", "m"], &["s"], &[]).node("Mul", &["s", "m"], &["z"], &[]);
        (op, smooth(model.node(op, &["z", "a"], &["y"], &[]).output("y"), &[&[2, 4]]))
    };
    let mut cases = Vec::new();
    for (exclusive, reverse) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let flags = [("exclusive", Value::Int(exclusive)), ("reverse", Value::Int(reverse))];
        cases.push(scan("CumSum", 11, 1, &flags));
        cases.push(scan("CumProd", 26, -2, &flags));
    }
    cases.push(scan("CumSum", 14, 0, &[]));
    cases.push(with_zeros("CumProd", &[1.0, 1.0, 0.0, 1.0]));
    for (upper, diagonal) in [(1, None), (0, None), (1, Some(1)), (0, Some(-1))] {
        let mut model = Model::new(14).input("x", "n,4,3");
        let mut inputs = vec!["x"];
        if let Some(diagonal) = diagonal {
            model.graph().initializer.push(super::model::integer_tensor("k", &[], &[diagonal]));
            inputs.push("k");
        }
        let model = model.node("Trilu", &inputs, &["y"], &[("upper", upper.into())]).output("y");
        cases.push(("Trilu", affine(model, &[&[2, 4, 3]])));
    }
    cases
}

fn products() -> Vec<(&'static str, Case)> {
    let product = |opset: i64, axes: Option<&[i64]>, keep: i64| {
        let mut attributes = vec![("keepdims", Value::Int(keep))];
        attributes.extend(axes.map(|axes| ("axes", Value::Ints(axes.to_vec()))));
        ("ReduceProd", smooth(at_opset(opset, "ReduceProd", "n,3,4", &attributes), &[&[2, 3, 4]]))
    };
    // x·m has a zero in some rows, two in others, and the derivative stays a number.
    let zeros = Model::new(18)
        .input("x", "3,3")
        .floats("m", &[3, 3], &[1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
        .integers("a", &[1])
        .node("Mul", &["x", "m"], &["z"], &[])
        .node("ReduceProd", &["z", "a"], &["y"], &[])
        .output("y");
    vec![
        product(17, Some(&[-1]), 1),
        product(13, Some(&[1, 2]), 0),
        product(7, None, 0),
        ("ReduceProd", smooth(zeros, &[&[3, 3]])),
    ]
}

pub fn cases() -> Vec<(&'static str, Case)> {
    let mut cases = elementary();
    cases.extend(two_operands());
    cases.extend(scans());
    cases.extend(products());
    cases
}

/// The gradient of the sum of a model's output at a point.
fn gradient_at(model: &Model, x: ArrayD<f32>, cotangent: ArrayD<f32>) -> ArrayD<f32> {
    let graph = Graph::parse(model.bytes()).unwrap();
    let feeds = vec![("x".to_owned(), x), ("cotangent/y".to_owned(), cotangent)];
    get(&run(&compile(&vjp(&graph, &[], &[]).unwrap()), &feeds), "gradient/x").clone()
}

#[test]
fn a_zero_factor_has_the_product_of_the_others_for_a_derivative() {
    let model = Model::new(18).input("x", "n,3").integers("a", &[1]).node("ReduceProd", &["x", "a"], &["y"], &[]);
    let x = array![[2.0, 0.0, 3.0], [0.0, 0.0, 3.0], [2.0, 5.0, 3.0]].into_dyn();
    let gradient = gradient_at(&model.output("y"), x, array![[1.0], [1.0], [1.0]].into_dyn());
    assert_eq!(gradient, array![[0.0, 6.0, 0.0], [0.0, 0.0, 0.0], [15.0, 6.0, 10.0]].into_dyn());
}

#[test]
fn powers_at_zero_have_finite_derivatives() {
    let model = Model::new(15).input("x", "n,3").floats("p", &[3], &[0.0, 1.0, 2.0]);
    let model = model.node("Pow", &["x", "p"], &["y"], &[]).output("y");
    let gradient = gradient_at(&model, array![[0.0, 0.0, 0.0]].into_dyn(), array![[1.0, 1.0, 1.0]].into_dyn());
    assert_eq!(gradient, array![[0.0, 1.0, 0.0]].into_dyn());
}

#[test]
fn normalising_zeros_has_a_finite_derivative() {
    for (op, shape) in [("LpNormalization", vec![1, 3]), ("MeanVarianceNormalization", vec![1, 1, 1, 3])] {
        let declared = shape.iter().map(ToString::to_string).collect::<Vec<String>>().join(",");
        let zeros = ArrayD::zeros(shape);
        let gradient = gradient_at(&at_opset(13, op, &declared, &[]), zeros.clone(), zeros + 1.0);
        assert!(gradient.iter().all(|value: &f32| value.is_finite()), "{op}: {gradient}");
    }
}
