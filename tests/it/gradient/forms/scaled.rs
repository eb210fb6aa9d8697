//! Factors of channels that convolutions take in.

use super::{Image, Net, checked, count, derived, lines};
use crate::gradient::model::{Model, Value};

/// How many convolutions of a graph have taken a factor in.
pub fn factors(graph: &super::Graph) -> usize {
    lines(graph).iter().filter(|line| line.contains("/scaled_by/")).count()
}

/// x → conv → what `middle` adds → y, with the products that it should leave.
fn case(middle: impl Fn(&mut Net, &Image) -> Vec<String>) -> super::Graph {
    let (mut net, x) = Net::on("n,3,6,6", 6);
    let made = net.conv(&x, 16, 3, 1);
    let outputs = middle(&mut net, &made);
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    checked(&net.finish(&outputs), &[("x", &[2, 3, 6, 6])])
}

#[test]
fn a_factor_behind_a_convolution_goes_into_it() {
    for dims in [vec![1, 16, 1, 1], vec![16, 1, 1]] {
        for bias in [true, false] {
            let (mut net, x) = Net::on("n,3,6,6", 6);
            let weight = net.weight(16, 3, 3);
            let shift = net.constant(&[16], -0.5, 0.5);
            let inputs = [x.name.as_str(), weight.as_str(), shift.as_str()];
            let made = net.node("Conv", if bias { &inputs } else { &inputs[..2] }, &[]);
            let factor = net.constant(&dims, 0.5, 1.5);
            let scaled = net.node("Mul", &[&factor, &made], &[]);
            let tanh = net.node("Tanh", &[&scaled], &[]);
            let graph = checked(&net.finish(&[&tanh]), &[("x", &[2, 3, 6, 6])]);
            assert_eq!(factors(&graph), 1, "{dims:?}: {:?}", lines(&graph));
        }
    }
}

#[test]
fn several_factors_go_through_products_of_others() {
    let graph = case(|net, made| {
        let (a, b) = (net.constant(&[1, 16, 1, 1], 0.5, 1.5), net.constant(&[16, 1, 1], 0.5, 1.5));
        let gate = net.conv(&Image { name: "x".into(), channels: 3, size: 6 }, 16, 3, 1);
        let first = net.node("Mul", &[&made.name, &a], &[]);
        let gated = net.node("Mul", &[&first, &gate.name], &[]);
        vec![net.node("Mul", &[&gated, &b], &[])].into_iter().map(|name| net.node("Tanh", &[&name], &[])).collect()
    });
    assert!(factors(&graph) > 0, "{:?}", lines(&graph));
}

#[test]
fn factors_behind_each_other_go_into_one_convolution() {
    let graph = case(|net, made| {
        let mut value = made.name.clone();
        for _ in 0..4 {
            let factor = net.constant(&[1, 16, 1, 1], 0.5, 1.5);
            value = net.node("Mul", &[&value, &factor], &[]);
        }
        vec![net.node("Tanh", &[&value], &[])]
    });
    assert!(factors(&graph) > 0, "{:?}", lines(&graph));
}

#[test]
fn factors_stay_where_something_else_needs_the_convolution() {
    type Middle = fn(&mut Net, &Image) -> Vec<String>;
    let cases: [(&str, Middle); 5] = [
        ("the convolution is an output", |net, made| {
            let factor = net.constant(&[1, 16, 1, 1], 0.5, 1.5);
            let scaled = net.node("Mul", &[&made.name, &factor], &[]);
            vec![net.node("Tanh", &[&scaled], &[]), made.name.clone()]
        }),
        ("the product is an output", |net, made| {
            let factor = net.constant(&[1, 16, 1, 1], 0.5, 1.5);
            let scaled = net.node("Mul", &[&made.name, &factor], &[]);
            vec![net.node("Tanh", &[&scaled], &[]), scaled]
        }),
        ("the convolution is used twice", |net, made| {
            let factor = net.constant(&[1, 16, 1, 1], 0.5, 1.5);
            let scaled = net.node("Mul", &[&made.name, &factor], &[]);
            vec![net.node("Tanh", &[&scaled], &[]), net.node("Sigmoid", &[&made.name], &[])]
        }),
        ("it is squared in between", |net, made| {
            let factor = net.constant(&[1, 16, 1, 1], 0.5, 1.5);
            let square = net.node("Mul", &[&made.name, &made.name], &[]);
            let scaled = net.node("Mul", &[&square, &factor], &[]);
            vec![net.node("Tanh", &[&scaled], &[])]
        }),
        ("the factor is of pixels", |net, made| {
            let factor = net.constant(&[1, 1, 6, 6], 0.5, 1.5);
            let scaled = net.node("Mul", &[&made.name, &factor], &[]);
            let row = net.constant(&[6], 0.5, 1.5);
            let scaled = net.node("Mul", &[&scaled, &row], &[]);
            vec![net.node("Tanh", &[&scaled], &[])]
        }),
    ];
    for (what, middle) in cases {
        let graph = case(middle);
        let own = lines(&graph).into_iter().filter(|line| line.starts_with("Conv_") && line.contains("/scaled_by/"));
        assert_eq!(own.collect::<Vec<_>>(), [""; 0], "{what}");
    }
}

#[test]
fn a_value_used_behind_its_factor_twice_is_scaled_for_both() {
    let graph = case(|net, made| {
        let factor = net.constant(&[1, 16, 1, 1], 0.5, 1.5);
        let scaled = net.node("Mul", &[&made.name, &factor], &[]);
        let other = net.constant(&[1, 16, 1, 1], 0.5, 1.5);
        let further = net.node("Mul", &[&scaled, &other], &[]);
        vec![net.node("Tanh", &[&scaled], &[]), net.node("Sigmoid", &[&further], &[])]
    });
    assert!(factors(&graph) > 0, "{:?}", lines(&graph));
}

#[test]
fn a_shared_weight_stays_what_it_is_for_others() {
    for is_output in [false, true] {
        let (mut net, x) = Net::on("n,16,6,6", 6);
        let weight = net.weight(16, 16, 3);
        let [a, b] = [1, 2].map(|dilation| {
            net.node(
                "Conv",
                &[&x.name, &weight],
                &[("dilations", [dilation; 2].into()), ("pads", [dilation; 4].into())],
            )
        });
        let factor = net.constant(&[1, 16, 1, 1], 0.5, 1.5);
        let scaled = net.node("Mul", &[&a, &factor], &[]);
        let y = net.node("Add", &[&scaled, &b], &[]);
        let outputs = [y.as_str(), weight.as_str()];
        let graph = checked(&net.finish(if is_output { &outputs } else { &outputs[..1] }), &[("x", &[2, 16, 6, 6])]);
        assert!(factors(&graph) > 0, "{:?}", lines(&graph));
    }
}

#[test]
fn convolutions_of_one_axis_take_their_factors_too() {
    for dims in [vec![1i64, 16, 1], vec![16, 1]] {
        let model = Model::new(17)
            .input("x", "n,4,9")
            .weight("w", &[16, 4, 3])
            .weight("k", &dims)
            .node("Conv", &["x", "w"], &["c"], &[])
            .node("Mul", &["c", "k"], &["m"], &[])
            .node("Tanh", &["m"], &["y"], &[])
            .output("y");
        assert_eq!(factors(&checked(&model, &[("x", &[2, 4, 9])])), 1, "{dims:?}");
    }
}

#[test]
fn a_name_that_the_model_has_is_not_taken() {
    let model = |name: &str| {
        let attributes: [(&str, Value); 1] = [("pads", [1, 1, 1, 1].into())];
        Model::new(17)
            .input("x", "n,3,6,6")
            .weight("w", &[16, 3, 3, 3])
            .weight("k", &[16, 1, 1])
            .floats(name, &[16, 1, 1], &[2.0; 16])
            .node("Conv", &["x", "w"], &["c"], &attributes)
            .node("Mul", &["c", "k"], &["m"], &[])
            .node("Tanh", &["m"], &["t"], &[])
            .node("Add", &["t", name], &["y"], &[])
            .output("y")
    };
    let free = checked(&model("other"), &[("x", &[2, 3, 6, 6])]);
    let weight = lines(&free).iter().find_map(|line| {
        Some(line.split(", ").find(|part| part.contains("/scaled_by/"))?.trim_end_matches(')').to_owned())
    });
    let taken = model(&weight.unwrap());
    assert_eq!(count(&derived(&taken), "Mul"), count(&free, "Mul") + 1);
    checked(&taken, &[("x", &[2, 3, 6, 6])]);
}
