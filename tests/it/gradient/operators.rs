//! Every operator that has a derivative, in the forms that files use.

use super::{
    attention,
    calculus::{Case, Values, check},
    functions, grids,
    model::{Model, Value, binary, integer_tensor, unary},
    moving, normalizations, products, recurrent, resizing,
    spatial::{convolutions, poolings},
};

/// Makes the cases of a family of operators.
type Family = fn() -> Vec<(&'static str, Case)>;

/// All families.
pub const FAMILIES: &[Family] = &[
    activations,
    elementary,
    arithmetic,
    products,
    convolutions,
    poolings,
    reductions,
    movements,
    normalisations,
    selections,
    normalizations::cases,
    resizing::forms,
    resizing::modes,
    products::cases,
    attention::cases,
    functions::cases,
    moving::slices,
    moving::paddings,
    moving::splits,
    moving::places,
    moving::choices,
    recurrent::cases,
    grids::cases,
];

/// Checks cases and reports all failures at once.
pub fn check_all(cases: Vec<(&str, Case)>) {
    let failures: Vec<String> = cases
        .iter()
        .enumerate()
        .filter_map(|(at, (name, case))| check(case).err().map(|error| format!("{name} (case {at}): {error}")))
        .collect();
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn case(model: Model, shapes: &[&[usize]], values: Values, affine: bool) -> Case {
    Case { model, shapes: shapes.iter().map(|shape| shape.to_vec()).collect(), values, affine }
}

pub fn affine(model: Model, shapes: &[&[usize]]) -> Case {
    case(model, shapes, Values::AwayFromZero, true)
}

pub fn smooth(model: Model, shapes: &[&[usize]]) -> Case {
    case(model, shapes, Values::AwayFromZero, false)
}

pub fn positive(model: Model, shapes: &[&[usize]]) -> Case {
    case(model, shapes, Values::Positive, false)
}

pub fn distinct(model: Model, shapes: &[&[usize]]) -> Case {
    case(model, shapes, Values::Distinct, false)
}

/// An elementwise operator on a matrix with a free batch.
fn on_matrix(op: &'static str, attributes: &[(&str, Value)]) -> (&'static str, Case) {
    (op, smooth(unary(op, "n,5", attributes), &[&[3, 5]]))
}

fn activations() -> Vec<(&'static str, Case)> {
    let clip = Model::new(20)
        .input("x", "n,5")
        .floats("low", &[], &[-0.9])
        .floats("high", &[], &[0.7])
        .node("Clip", &["x", "low", "high"], &["y"], &[])
        .output("y");
    let one_sided =
        Model::new(20).input("x", "n,5").floats("high", &[], &[0.7]).node("Clip", &["x", "", "high"], &["y"], &[]);
    vec![
        on_matrix("Relu", &[]),
        on_matrix("LeakyRelu", &[]),
        on_matrix("LeakyRelu", &[("alpha", 0.3f32.into())]),
        ("PRelu", smooth(binary("PRelu", "n,3,4", "3,1", &[]), &[&[2, 3, 4], &[3, 1]])),
        on_matrix("Elu", &[]),
        on_matrix("Elu", &[("alpha", 0.4f32.into())]),
        on_matrix("Selu", &[]),
        on_matrix("Celu", &[("alpha", 0.6f32.into())]),
        ("Clip", distinct(clip, &[&[3, 5]])),
        ("Clip", distinct(one_sided.output("y"), &[&[3, 5]])),
        on_matrix("Sigmoid", &[]),
        on_matrix("Tanh", &[]),
        on_matrix("Softplus", &[]),
        on_matrix("Softsign", &[]),
        on_matrix("HardSigmoid", &[]),
        on_matrix("HardSwish", &[]),
        on_matrix("Mish", &[]),
        on_matrix("Gelu", &[]),
        on_matrix("Gelu", &[("approximate", "tanh".into())]),
    ]
}

fn elementary() -> Vec<(&'static str, Case)> {
    vec![
        ("Identity", affine(unary("Identity", "n,5", &[]), &[&[3, 5]])),
        ("Neg", affine(unary("Neg", "n,5", &[]), &[&[3, 5]])),
        on_matrix("Abs", &[]),
        on_matrix("Exp", &[]),
        on_matrix("Erf", &[]),
        on_matrix("Sin", &[]),
        on_matrix("Cos", &[]),
        ("Reciprocal", positive(unary("Reciprocal", "n,5", &[]), &[&[3, 5]])),
        ("Log", positive(unary("Log", "n,5", &[]), &[&[3, 5]])),
        ("Sqrt", positive(unary("Sqrt", "n,5", &[]), &[&[3, 5]])),
        ("Cast", smooth(double_sine(), &[&[3, 5]])),
        ("Pow", smooth(power(2.0), &[&[3, 5]])),
        ("Pow", smooth(power(3.0), &[&[3, 5]])),
        ("Pow", positive(power(0.5), &[&[3, 5]])),
        ("Pow", positive(power_by_column(), &[&[3, 3]])),
        ("Where", affine(choice(), &[&[3, 4], &[4]])),
    ]
}

/// Casts to float64 and back.
fn double_sine() -> Model {
    Model::new(13)
        .input("x", "n,5")
        .node("Cast", &["x"], &["d"], &[("to", 11.into())])
        .node("Sin", &["d"], &["s"], &[])
        .node("Cast", &["s"], &["y"], &[("to", 1.into())])
        .output("y")
}

fn power(exponent: f32) -> Model {
    Model::new(15).input("x", "n,5").floats("p", &[], &[exponent]).node("Pow", &["x", "p"], &["y"], &[]).output("y")
}

fn power_by_column() -> Model {
    Model::new(15).input("x", "n,3").integers("p", &[2, 3, 1]).node("Pow", &["x", "p"], &["y"], &[]).output("y")
}

fn choice() -> Model {
    Model::new(16)
        .input("x", "n,4")
        .input("z", "4")
        .floats("bias", &[4], &[1.0, -1.0, 1.0, -1.0])
        .floats("zero", &[], &[0.0])
        .node("Greater", &["bias", "zero"], &["c"], &[])
        .node("Where", &["c", "x", "z"], &["y"], &[])
        .output("y")
}

fn arithmetic() -> Vec<(&'static str, Case)> {
    let mut cases = Vec::new();
    for op in ["Add", "Sub"] {
        cases.push((op, affine(binary(op, "n,4", "n,4", &[]), &[&[3, 4], &[3, 4]])));
        cases.push((op, affine(binary(op, "n,3,4", "3,1", &[]), &[&[2, 3, 4], &[3, 1]])));
        cases.push((op, affine(binary(op, "4", "n,3,1", &[]), &[&[4], &[2, 3, 1]])));
        // Only the run shows which of the symbols is 1.
        cases.push((op, affine(binary(op, "a,3", "b,c", &[]), &[&[1, 3], &[2, 1]])));
        cases.push((op, affine(binary(op, "a", "", &[]), &[&[4], &[]])));
    }
    for op in ["Mul", "Div"] {
        cases.push((op, positive(binary(op, "n,4", "n,4", &[]), &[&[3, 4], &[3, 4]])));
        cases.push((op, positive(binary(op, "n,3,4", "3,1", &[]), &[&[2, 3, 4], &[3, 1]])));
        cases.push((op, positive(binary(op, "4", "n,3,1", &[]), &[&[4], &[2, 3, 1]])));
        cases.push((op, positive(binary(op, "a,3", "b,c", &[]), &[&[1, 3], &[2, 1]])));
    }
    let square = Model::new(14).input("x", "n,4").node("Mul", &["x", "x"], &["y"], &[]).output("y");
    cases.push(("Mul", smooth(square, &[&[3, 4]])));
    for op in ["Max", "Min"] {
        cases.push((op, distinct(binary(op, "n,4", "n,4", &[]), &[&[3, 4], &[3, 4]])));
        let bounded = Model::new(13).input("x", "n,4").floats("c", &[1], &[0.0]).node(op, &["x", "c"], &["y"], &[]);
        cases.push((op, distinct(bounded.output("y"), &[&[3, 4]])));
    }
    for op in ["Sum", "Mean"] {
        let three = Model::new(13)
            .input("x", "n,4")
            .input("z", "4")
            .input("w", "n,1")
            .node(op, &["x", "z", "w"], &["y"], &[])
            .output("y");
        cases.push((op, affine(three, &[&[3, 4], &[4], &[3, 1]])));
    }
    cases
}

fn products() -> Vec<(&'static str, Case)> {
    let mut cases = Vec::new();
    let shapes: [(&str, &str, &[usize], &[usize]); 8] = [
        ("n,4", "4,3", &[2, 4], &[4, 3]),
        ("n,2,4", "4,3", &[5, 2, 4], &[4, 3]),
        ("n,2,4", "n,4,3", &[3, 2, 4], &[3, 4, 3]),
        ("2,4", "n,5,4,3", &[2, 4], &[2, 5, 4, 3]),
        ("4", "4,3", &[4], &[4, 3]),
        ("n,4", "4", &[3, 4], &[4]),
        ("4", "n,4,3", &[4], &[2, 4, 3]),
        ("4", "4", &[4], &[4]),
    ];
    for (left, right, a, b) in shapes {
        cases.push(("MatMul", smooth(binary("MatMul", left, right, &[]), &[a, b])));
    }
    for (trans_a, trans_b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (a, b): (&[usize], &[usize]) =
            (if trans_a == 0 { &[2, 3] } else { &[3, 2] }, if trans_b == 0 { &[3, 4] } else { &[4, 3] });
        let attributes =
            [("alpha", 0.7f32.into()), ("beta", 1.3f32.into()), ("transA", trans_a.into()), ("transB", trans_b.into())];
        let model = Model::new(13)
            .input("a", "p,q")
            .input("b", "r,s")
            .input("c", "4")
            .node("Gemm", &["a", "b", "c"], &["y"], &attributes)
            .output("y");
        cases.push(("Gemm", smooth(model, &[a, b, &[4]])));
    }
    let old = Model::new(7)
        .input("x", "n,3")
        .weight("w", &[4, 3])
        .weight("b", &[1, 4])
        .node("Gemm", &["x", "w", "b"], &["y"], &[("transB", 1.into())])
        .output("y");
    cases.push(("Gemm", affine(old, &[&[2, 3]])));
    cases
}

fn reductions() -> Vec<(&'static str, Case)> {
    let reduce = |op: &'static str, opset: i64, axes: Option<&[i64]>, keep: i64| {
        let mut model = Model::new(opset).input("x", "n,3,4");
        let mut attributes = vec![("keepdims", keep.into())];
        let by_attribute = opset < 13 || (opset < 18 && op != "ReduceSum");
        let mut inputs = vec!["x"];
        if let Some(axes) = axes {
            if by_attribute {
                attributes.push(("axes", Value::Ints(axes.to_vec())));
            } else {
                model = model.integers("axes", axes);
                inputs.push("axes");
            }
        }
        let model = model.node(op, &inputs, &["y"], &attributes).output("y");
        let shapes: &[&[usize]] = &[&[2, 3, 4]];
        match op {
            "ReduceSum" | "ReduceMean" => (op, affine(model, shapes)),
            "ReduceMax" | "ReduceMin" => (op, distinct(model, shapes)),
            "ReduceLogSum" => (op, positive(model, shapes)),
            _ => (op, smooth(model, shapes)),
        }
    };
    let mut cases = Vec::new();
    let all = ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL1", "ReduceL2"];
    for op in all.into_iter().chain(["ReduceLogSum", "ReduceLogSumExp"]) {
        cases.push(reduce(op, 18, Some(&[-1]), 1));
        cases.push(reduce(op, 18, Some(&[0, 2]), 0));
        cases.push(reduce(op, 13, None, 0));
        cases.push(reduce(op, 11, Some(&[1]), 0));
    }
    cases
}

/// x → op → y with integer constants as further inputs; an empty name omits one.
pub fn with(
    op: &'static str,
    shape: &str,
    values: &[(&str, &[i64])],
    attributes: &[(&str, Value)],
    x: &[usize],
) -> (&'static str, Case) {
    let mut model = Model::new(19).input("x", shape);
    let mut inputs = vec!["x"];
    for (name, values) in values {
        if name.is_empty() {
            inputs.push("");
        } else {
            model = model.integers(name, values);
            inputs.push(name);
        }
    }
    (op, affine(model.node(op, &inputs, &["y"], attributes).output("y"), &[x]))
}

fn movements() -> Vec<(&'static str, Case)> {
    let join = |opset: i64, left: &str, right: &str, axis: i64| {
        Model::new(opset)
            .input("x", left)
            .input("z", right)
            .weight("c", &[2, 1, 4])
            .node("Concat", &["x", "c", "z", "x"], &["y"], &[("axis", axis.into())])
            .output("y")
    };
    let split = |shape: &str, sizes: &[i64]| {
        Model::new(18)
            .input("x", shape)
            .integers("sizes", sizes)
            .node("Split", &["x", "sizes"], &["p", "q", "r"], &[("axis", 1.into())])
            .node("Mul", &["p", "r"], &["y"], &[])
            .output("y")
            .output("q")
    };
    let halves = Model::new(11)
        .input("x", "n,6")
        .node("Split", &["x"], &["y", "z"], &[("axis", (-1).into())])
        .output("y")
        .output("z");
    vec![
        with("Reshape", "n,3,4", &[("s", &[0, -1])], &[], &[2, 3, 4]),
        with("Reshape", "n,3,4", &[("s", &[-1, 6])], &[], &[2, 3, 4]),
        with("Reshape", "n,m,4", &[("s", &[0, -1])], &[], &[2, 3, 4]),
        ("Reshape", affine(viewed(), &[&[2, 3, 4]])),
        with("Flatten", "n,3,4", &[], &[], &[2, 3, 4]),
        with("Flatten", "n,3,4", &[], &[("axis", 2.into())], &[2, 3, 4]),
        with("Flatten", "n,h,w", &[], &[("axis", 0.into())], &[2, 3, 4]),
        with("Squeeze", "n,1,4,1", &[("a", &[1, -1])], &[], &[2, 1, 4, 1]),
        with("Unsqueeze", "n,4", &[("a", &[0, -1])], &[], &[2, 4]),
        with("Transpose", "n,3,4", &[], &[("perm", [2, 0, 1].into())], &[2, 3, 4]),
        with("Transpose", "n,3,4", &[], &[], &[2, 3, 4]),
        with("Expand", "n,1,4", &[("s", &[3, 1])], &[], &[2, 1, 4]),
        with("Expand", "3,1", &[("s", &[2, 1, 4])], &[], &[3, 1]),
        ("Concat", affine(join(13, "2,3,4", "2,2,4", 1), &[&[2, 3, 4], &[2, 2, 4]])),
        ("Concat", affine(join(13, "2,a,4", "2,b,4", -2), &[&[2, 3, 4], &[2, 2, 4]])),
        ("Split", smooth(split("n,8", &[2, 4, 2]), &[&[3, 8]])),
        ("Split", affine(halves, &[&[3, 6]])),
    ]
}

fn selections() -> Vec<(&'static str, Case)> {
    let gather = Model::new(13)
        .input("x", "n,5")
        .integers("i", &[3, 0, 3, -1])
        .node("Gather", &["x", "i"], &["y"], &[("axis", 1.into())])
        .output("y");
    let mut gather_elements =
        Model::new(13).input("x", "2,3").node("GatherElements", &["x", "i"], &["y"], &[("axis", 1.into())]).output("y");
    gather_elements.graph().initializer.push(integer_tensor("i", &[2, 2], &[0, 0, 2, -2]));
    vec![
        with("Slice", "n,6,5", &[("s", &[1, -3]), ("e", &[4, 99]), ("a", &[1, 2])], &[], &[2, 6, 5]),
        with("Slice", "n,6,5", &[("s", &[0]), ("e", &[-1]), ("a", &[0])], &[], &[3, 6, 5]),
        with("Slice", "n,6,5", &[("s", &[-1]), ("e", &[-99]), ("a", &[1]), ("t", &[-2])], &[], &[2, 6, 5]),
        with("Slice", "n,6,5", &[("s", &[0, 1]), ("e", &[9, 9])], &[], &[2, 6, 5]),
        with("Pad", "n,3,4", &[("p", &[0, 1, 2, 0, 3, 0])], &[], &[2, 3, 4]),
        with("Pad", "n,3,4", &[("p", &[1, -1, 0, 2]), ("", &[]), ("a", &[1, 2])], &[], &[2, 3, 4]),
        with("Pad", "n,3,4", &[("p", &[0, 1, 2, 0, 1, 1])], &[("mode", "reflect".into())], &[2, 3, 4]),
        with("Pad", "n,3,4", &[("p", &[0, 1, 2, 0, 1, 1])], &[("mode", "edge".into())], &[2, 3, 4]),
        ("Gather", affine(gather, &[&[2, 5]])),
        ("GatherElements", affine(gather_elements, &[&[2, 3]])),
        with("Tile", "n,3", &[("r", &[2, 3])], &[], &[2, 3]),
        with("DepthToSpace", "n,8,2,3", &[], &[("blocksize", 2.into())], &[2, 8, 2, 3]),
        with("DepthToSpace", "n,8,2,3", &[], &[("blocksize", 2.into()), ("mode", "CRD".into())], &[2, 8, 2, 3]),
        with("SpaceToDepth", "n,2,4,6", &[], &[("blocksize", 2.into())], &[2, 2, 4, 6]),
    ]
}

/// `x.view(x.size(0), -1)` as exporters write it.
fn viewed() -> Model {
    Model::new(11)
        .input("x", "n,3,4")
        .node("Shape", &["x"], &["shape"], &[])
        .node("Constant", &[], &["zero"], &[("value_int", 0.into())])
        .node("Gather", &["shape", "zero"], &["rows"], &[("axis", 0.into())])
        .node("Unsqueeze", &["rows"], &["first"], &[("axes", [0].into())])
        .node("Constant", &[], &["rest"], &[("value_ints", [-1].into())])
        .node("Concat", &["first", "rest"], &["target"], &[("axis", 0.into())])
        .node("Reshape", &["x", "target"], &["y"], &[])
        .output("y")
}

fn normalisations() -> Vec<(&'static str, Case)> {
    let batch = |opset: i64, shape: &str| {
        Model::new(opset)
            .input("x", shape)
            .weight("s", &[3])
            .weight("b", &[3])
            .weight("m", &[3])
            .floats("v", &[3], &[0.4, 1.1, 2.0])
            .node("BatchNormalization", &["x", "s", "b", "m", "v"], &["y"], &[("epsilon", 1e-3f32.into())])
            .output("y")
    };
    let softmax = |op: &str, opset: i64, shape: &str, attributes: &[(&str, Value)]| {
        Model::new(opset).input("x", shape).node(op, &["x"], &["y"], attributes).output("y")
    };
    let mut cases = vec![
        ("BatchNormalization", affine(batch(15, "n,3,4,4"), &[&[2, 3, 4, 4]])),
        ("BatchNormalization", affine(batch(7, "n,3"), &[&[2, 3]])),
        ("BatchNormalization", affine(batch(9, "n,3,w"), &[&[2, 3, 5]])),
    ];
    for op in ["Softmax", "LogSoftmax"] {
        cases.push((op, smooth(softmax(op, 13, "n,4", &[]), &[&[3, 4]])));
        cases.push((op, smooth(softmax(op, 13, "n,4,3", &[("axis", 1.into())]), &[&[2, 4, 3]])));
        cases.push((op, smooth(softmax(op, 11, "n,4", &[]), &[&[3, 4]])));
        // Until opset 12 this normalised over both last axes together.
        cases.push((op, smooth(softmax(op, 11, "n,4,3", &[]), &[&[2, 4, 3]])));
    }
    cases
}

#[test]
fn activations_satisfy_calculus() {
    check_all(activations());
}

#[test]
fn elementary_functions_satisfy_calculus() {
    check_all(elementary());
}

#[test]
fn arithmetic_satisfies_calculus() {
    check_all(arithmetic());
}

#[test]
fn matrix_products_satisfy_calculus() {
    check_all(products());
}

#[test]
fn convolutions_satisfy_calculus() {
    check_all(convolutions());
}

#[test]
fn poolings_satisfy_calculus() {
    check_all(poolings());
}

#[test]
fn reductions_satisfy_calculus() {
    check_all(reductions());
}

#[test]
fn movements_satisfy_calculus() {
    check_all(movements());
}

#[test]
fn selections_satisfy_calculus() {
    check_all(selections());
}

#[test]
fn normalisations_satisfy_calculus() {
    check_all(normalisations());
}

#[test]
fn statistics_satisfy_calculus() {
    check_all(normalizations::cases());
}

#[test]
fn sums_of_products_satisfy_calculus() {
    check_all(products::cases());
}

#[test]
fn attention_satisfies_calculus() {
    check_all(attention::cases());
}

#[test]
fn further_functions_and_scans_satisfy_calculus() {
    check_all(functions::cases());
}

#[test]
fn every_derivative_has_a_case() {
    let tested: Vec<&str> = FAMILIES.iter().flat_map(|family| family()).map(|(op, _)| op).collect();
    let missing: Vec<&str> =
        transferscore::gradient::differentiable_operators().filter(|operator| !tested.contains(operator)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
}
