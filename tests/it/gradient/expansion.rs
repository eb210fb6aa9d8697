//! Operators that are written as others, what refuses and why, and weights of convolutions that vary.

use transferscore::gradient::{Graph, check, vjp};

use super::{
    calculus::Case,
    model::{Model, Value, binary, float_value, integer_tensor, unary},
    operators::{affine, check_all, smooth},
};

fn parse(model: &Model) -> Graph {
    Graph::parse(model.bytes()).unwrap()
}

/// Operator, node and reason of each obstacle.
fn obstacles(model: &Model) -> Vec<(String, String, String)> {
    check(&parse(model)).into_iter().map(|found| (found.operator, found.node, found.reason)).collect()
}

#[test]
fn an_obstacle_within_a_composition_belongs_to_the_node_of_the_model() {
    let mut model = Model::new(13);
    model.graph().input.push(float_value("x", None));
    let model = model.node("LpNormalization", &["x"], &["y"], &[]).output("y");
    let found = obstacles(&model);
    let names: Vec<(&str, &str)> = found.iter().map(|(operator, node, _)| (operator.as_str(), node.as_str())).collect();
    assert_eq!(names.first(), Some(&("LpNormalization", "LpNormalization_0")), "{found:?}");
    assert!(names.iter().all(|name| *name == ("LpNormalization", "LpNormalization_0")), "{found:?}");
    assert!(found.iter().any(|(_, _, reason)| reason.starts_with("its ReduceSumSquare: the rank of")), "{found:?}");
}

#[test]
fn only_what_lies_on_the_path_is_expanded() {
    let model = Model::new(13)
        .input("x", "n,3,4,4")
        .input("z", "n,3,4,4")
        .node("MeanVarianceNormalization", &["x"], &["a"], &[])
        .node("MeanVarianceNormalization", &["z"], &["b"], &[])
        .node("Mul", &["a", "b"], &["y"], &[])
        .output("y")
        .output("a");
    let count = |inputs: &[&str]| {
        let derived = vjp(&parse(&model), inputs, &["y"]).unwrap();
        let counts = derived.operator_counts();
        counts.iter().find(|(name, _)| name == "MeanVarianceNormalization").map_or(0, |(_, count)| *count)
    };
    assert_eq!(count(&["z"]), 1);
    assert_eq!(count(&["x", "z"]), 0);
}

#[test]
fn an_output_of_the_model_keeps_its_name_when_it_is_expanded() {
    let model = Model::new(13).input("x", "n,3,4,4").node("MeanVarianceNormalization", &["x"], &["a"], &[]);
    let model = model.node("Relu", &["a"], &["y"], &[]).output("y").output("a");
    check_all(vec![("MeanVarianceNormalization", smooth(model, &[&[2, 3, 4, 4]]))]);
}

/// More groups than anything has.
fn many_groups(channels: &str) -> Model {
    let model = Model::new(21).input("x", &format!("n,{channels},3,3")).weight("s", &[4]).weight("b", &[4]);
    let groups = [("num_groups", Value::Int(1 << 60))];
    model.node("GroupNormalization", &["x", "s", "b"], &["y"], &groups).output("y")
}

/// x → integers → y, as quantised models compute.
fn quantized() -> Model {
    Model::new(13)
        .input("x", "n,4")
        .floats("s", &[], &[0.1])
        .node("QuantizeLinear", &["x", "s"], &["q"], &[])
        .node("DequantizeLinear", &["q", "s"], &["y"], &[])
        .output("y")
}

#[test]
fn quantised_weights_are_constants_like_others() {
    let mut model = Model::new(15).input("x", "n,4").floats("s", &[], &[0.1]);
    let mut weight = integer_tensor("q", &[4, 3], &[]);
    (weight.data_type, weight.int64_data) = (3, vec![]);
    weight.int32_data = (0..12).map(|value| value * 3 - 17).collect();
    model.graph().initializer.push(weight);
    let model = model
        .node("DequantizeLinear", &["q", "s"], &["w"], &[])
        .node("CastLike", &["w", "x"], &["v"], &[])
        .node("MatMul", &["x", "v"], &["y"], &[])
        .output("y");
    check_all(vec![("MatMul", affine(model, &[&[2, 4]]))]);
}

#[test]
fn what_has_no_derivative_says_why() {
    let one = |op: &str, shape: &str, attributes: &[(&str, Value)]| {
        Model::new(23).input("x", shape).node(op, &["x"], &["y"], attributes).output("y")
    };
    let lengths = Model::new(24)
        .input("q", "n,2,3,4")
        .integers("l", &[3])
        .node("Attention", &["q", "q", "q", "", "", "", "l"], &["y"], &[])
        .output("y");
    let short_mask = Model::new(24).input("q", "n,2,3,4").weight("m", &[3, 1]);
    let short_mask = short_mask.node("Attention", &["q", "q", "q", "m"], &["y"], &[]).output("y");
    let mean = Model::new(17).input("x", "n,4").weight("s", &[4]);
    let mean = mean.node("LayerNormalization", &["x", "s"], &["y", "m"], &[]).output("y").output("m");
    let mut unranked = binary("Einsum", "3,4", "n,2,4,5", &[("equation", "...ij,. . .jk->...ik".into())]);
    unranked.graph().input[0] = float_value("x", None);
    let free_axis = Model::new(26).input("x", "n,4").integers("a", &[0]);
    let cases = [
        (one("LRN", "n,4,3,3", &[("size", 4.into())]), "must be odd"),
        (many_groups("c"), "does not fit that of its channels"),
        (many_groups("4"), "does not fit that of its channels"),
        (quantized(), "rounded numbers"),
        (one("Det", "n,3,3", &[]), "inverse of a matrix"),
        (one("Einsum", "n,3", &[("equation", "i->i".into())]), "does not fit"),
        (one("Einsum", "n,3", &[("equation", "ij->ii".into())]), "not one of its operands' axes"),
        (one("Einsum", "n,3", &[("equation", "...i->i".into())]), "leaves out the ellipsis"),
        (one("Einsum", "n,3", &[("equation", "iJ".into())]), "no agreed order"),
        (one("Einsum", "n,3", &[("equation", "i0->i".into())]), "no term"),
        (unranked, "its ellipses cannot be spelled out"),
        (lengths, "nonpad_kv_seqlen"),
        (short_mask, "shorter than its keys"),
        (mean, "only through its first output"),
        (free_axis.node("CumProd", &["x", "a"], &["y"], &[]).output("y"), "size of its axis is not known"),
    ];
    for (model, reason) in cases {
        let found =
            Graph::parse(model.bytes()).map_or_else(|error| error.to_string(), |graph| format!("{:?}", check(&graph)));
        assert!(found.contains(reason), "`{reason}` is not in {found}");
    }
}

/// Inputs x and w, and a convolution of them.
pub fn cases() -> Vec<(&'static str, Case)> {
    let conv = |x: &str, weight: &str, attributes: &[(&str, Value)], shapes: &[&[usize]]| {
        let model = Model::new(11).input("x", x).input("w", weight).node("Conv", &["x", "w"], &["y"], attributes);
        ("Conv", smooth(model.output("y"), shapes))
    };
    let pads = [1, 0, 1, 2];
    vec![
        conv("n,2,6,5", "3,2,3,2", &[], &[&[2, 2, 6, 5], &[3, 2, 3, 2]]),
        conv("n,2,h,w", "3,2,3,3", &[("pads", pads.into())], &[&[2, 2, 6, 5], &[3, 2, 3, 3]]),
        conv(
            "n,2,8,7",
            "3,2,3,3",
            &[("pads", pads.into()), ("strides", [2, 3].into()), ("dilations", [1, 2].into())],
            &[&[2, 2, 8, 7], &[3, 2, 3, 3]],
        ),
        conv("n,4,6,5", "6,2,3,3", &[("group", 2.into()), ("pads", pads.into())], &[&[3, 4, 6, 5], &[6, 2, 3, 3]]),
        conv("n,3,7", "3,1,3", &[("group", 3.into()), ("strides", [2].into())], &[&[2, 3, 7], &[3, 1, 3]]),
        conv(
            "2,2,7,7",
            "3,2,3,3",
            &[("auto_pad", "SAME_UPPER".into()), ("strides", [2, 2].into())],
            &[&[2, 2, 7, 7], &[3, 2, 3, 3]],
        ),
    ]
}

#[test]
fn weights_that_vary_satisfy_calculus() {
    check_all(cases());
}

#[test]
fn a_second_reading_of_a_letter_is_no_new_axis() {
    let model = unary("Einsum", "n,3,3", &[("equation", "bii->bi".into())]);
    assert_eq!(parse(&model).outputs().first().unwrap().value_type.as_ref().unwrap().to_string(), "float32[n, 3]");
}
