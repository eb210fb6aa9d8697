//! What is computed twice, and what only looks so.

use transferscore::gradient::{Graph, vjp};

use super::{Net, checked, count, derived, lines};
use crate::gradient::model::{Model, Value, float_value};

/// A model with a `Swish`, so that its derived graph is written out and equal nodes are shared.
fn gated() -> Model {
    Model::new(17)
        .input("x", "n,4")
        .node("Sigmoid", &["x"], &["gate"], &[])
        .node("Mul", &["x", "gate"], &["swish"], &[])
        .output("swish")
}

#[test]
fn equal_nodes_are_one() {
    let model = gated()
        .node("Exp", &["x"], &["a"], &[])
        .node("Exp", &["x"], &["b"], &[])
        .node("Mul", &["a", "swish"], &["c"], &[])
        .node("Add", &["b", "c"], &["y"], &[])
        .output("y");
    let graph = checked(&model, &[("x", &[3, 4])]);
    assert_eq!((count(&graph, "Exp"), count(&graph, "Sigmoid")), (1, 1), "{:?}", lines(&graph));
}

#[test]
fn equal_nodes_that_are_outputs_stay() {
    let model = gated().node("Sigmoid", &["x"], &["same"], &[]).output("gate").output("same");
    let graph = checked(&model, &[("x", &[3, 4])]);
    let names: Vec<String> = graph.outputs().into_iter().map(|port| port.name).collect();
    assert_eq!(names, ["swish", "gate", "same", "gradient/x"]);
}

#[test]
fn nodes_that_differ_in_an_attribute_stay_two() {
    let model = gated()
        .node("Elu", &["x"], &["a"], &[("alpha", 0.5.into())])
        .node("Elu", &["x"], &["b"], &[("alpha", 0.75.into())])
        .node("Add", &["a", "b"], &["y"], &[])
        .output("y");
    assert_eq!(count(&checked(&model, &[("x", &[3, 4])]), "Elu"), 2);
}

#[test]
fn random_numbers_are_drawn_as_often_as_the_model_says() {
    for (op, attributes) in [
        ("RandomNormal", vec![("shape", Value::from([3, 4]))]),
        ("RandomUniform", vec![("shape", Value::from([3, 4]))]),
        ("RandomNormalLike", vec![]),
        ("RandomUniformLike", vec![]),
    ] {
        let inputs: &[&str] = if op.ends_with("Like") { &["constant"] } else { &[] };
        let mut model = gated();
        for name in ["first", "second", "noise"] {
            model.graph().value_info.push(float_value(name, Some("3,4")));
        }
        let model = model
            .weight("constant", &[3, 4])
            .node(op, inputs, &["first"], &attributes)
            .node(op, inputs, &["second"], &attributes)
            .node("Sub", &["first", "second"], &["noise"], &[])
            .node("Mul", &["swish", "noise"], &["y"], &[])
            .output("y");
        let graph = derived(&model);
        assert_eq!(count(&graph, op), 2, "{:?}", lines(&graph));
    }
}

#[test]
fn a_node_stands_for_another_only_with_all_its_outputs() {
    // Both orders, and an operator behind them with an optional input that is missing.
    for (first, second) in [(["p", ""], ["q", "at"]), (["p", "at"], ["q", ""])] {
        let mut model = gated();
        model.graph().input.push(float_value("image", Some("n,1,4,4")));
        let pool = [("kernel_shape", [2, 2].into()), ("strides", [2, 2].into())];
        let model = model
            .node("MaxPool", &["image"], &first, &pool)
            .node("MaxPool", &["image"], &second, &pool)
            .floats("bound", &[], &[1.5])
            .node("Add", &["p", "q"], &["sum"], &[])
            .node("Cast", &["at"], &["place"], &[("to", 1.into())])
            .node("Clip", &["sum", "", "bound"], &["clipped"], &[])
            .node("Add", &["clipped", "place"], &["y"], &[])
            .output("y");
        // ONNX Runtime itself takes such nodes for equal, so the graph is read, not run.
        let lines = lines(&vjp(&Graph::parse(model.bytes()).unwrap(), &["x"], &[]).unwrap());
        assert!(lines.iter().any(|line| line.contains("at = MaxPool(image)")), "{lines:#?}");
        assert!(lines.iter().any(|line| line.starts_with("clipped = Clip(") && line.contains(", , ")), "{lines:#?}");
    }
}

#[test]
fn twins_of_whole_branches_are_one() {
    let (mut net, x) = Net::on("n,3,6,6", 6);
    let made = net.conv(&x, 16, 3, 1);
    let [a, b] = [0, 1].map(|_| net.act("x·Sigmoid", &made));
    let sum = net.join("Add", &a, &b);
    let y = net.conv(&sum, 16, 1, 1);
    assert_eq!(count(&checked(&net.finish(&[&y.name]), &[("x", &[2, 3, 6, 6])]), "Sigmoid"), 1);
}
