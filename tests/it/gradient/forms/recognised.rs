//! Chains that have a cheaper derivative together.

use transferscore::gradient::{Graph, in_double, jvp, vjp};

use super::{Net, checked, compile, count, counts, derived, lines};
use crate::gradient::model::{Model, Value, integer_tensor};

#[test]
fn gates_are_recognised_whatever_their_order_and_users() {
    for op in ["Sigmoid", "HardSigmoid"] {
        for (left, right) in [("x", "g"), ("g", "x")] {
            for outputs in [&["y"][..], &["y", "g"], &["y", "e"], &["y", "g", "e"]] {
                let attributes: &[(&str, Value)] =
                    if op == "Sigmoid" { &[] } else { &[("alpha", (1.0f32 / 6.0).into()), ("beta", 0.5.into())] };
                let mut model = Model::new(17)
                    .input("x", "n,40")
                    .node(op, &["x"], &["g"], attributes)
                    .node("Mul", &[left, right], &["y"], &[])
                    .node("Exp", &["g"], &["e"], &[]);
                for output in outputs {
                    model = model.output(output);
                }
                let graph = checked(&model, &[("x", &[2, 40])]);
                let expected = if op == "Sigmoid" { ("Sigmoid", 1) } else { ("HardSwish", 1) };
                assert_eq!(count(&graph, expected.0), expected.1, "{outputs:?}: {:?}", lines(&graph));
            }
        }
    }
}

#[test]
fn other_gates_are_not_taken_for_them() {
    let slope = |alpha: f32, beta: f32| vec![("alpha", Value::from(alpha)), ("beta", beta.into())];
    for attributes in [vec![], slope(0.2, 0.5), slope(1.0 / 6.0, 0.4)] {
        let model = Model::new(17)
            .input("x", "n,40")
            .node("HardSigmoid", &["x"], &["g"], &attributes)
            .node("Mul", &["x", "g"], &["y"], &[])
            .output("y");
        assert_eq!(count(&checked(&model, &[("x", &[2, 40])]), "HardSwish"), 0);
    }
    // Gates of something else, of each other, of themselves.
    let model = Model::new(17)
        .input("x", "n,40")
        .input("z", "n,40")
        .node("Sigmoid", &["z"], &["g"], &[])
        .node("Sigmoid", &["g"], &["h"], &[])
        .node("Mul", &["x", "g"], &["a"], &[])
        .node("Mul", &["h", "g"], &["b"], &[])
        .node("Mul", &["g", "g"], &["c"], &[])
        .node("Mul", &["h", "z"], &["d"], &[])
        .node("Sum", &["a", "b", "c", "d"], &["y"], &[])
        .output("y");
    checked(&model, &[("x", &[2, 40]), ("z", &[2, 40])]);
}

/// `ReduceMean` in the form of opset 11 or 18.
fn mean(shape: &str, axes: &[i64], keep: i64, opset: i64) -> Model {
    let attributes = [("keepdims", keep.into())];
    let model = Model::new(opset).input("x", shape).node("Exp", &["x"], &["e"], &[]);
    let model = if opset >= 18 {
        model.integers("axes", axes).node("ReduceMean", &["e", "axes"], &["m"], &attributes)
    } else {
        let [keep] = attributes;
        model.node("ReduceMean", &["e"], &["m"], &[keep, ("axes", Value::Ints(axes.to_vec()))])
    };
    model.node("Tanh", &["m"], &["y"], &[]).output("y")
}

#[test]
fn means_over_pixels_are_poolings() {
    for opset in [11, 18] {
        for axes in [[2, 3], [3, 2], [-1, -2], [-2, -1], [2, -1], [-2, 3]] {
            let graph = checked(&mean("n,5,3,4", &axes, 1, opset), &[("x", &[2, 5, 3, 4])]);
            assert_eq!((count(&graph, "GlobalAveragePool"), count(&graph, "ReduceMean")), (1, 0), "{axes:?}");
        }
        for (axes, keep) in [(&[2, 3][..], 0), (&[1, 2], 1), (&[1, 3], 1), (&[2], 1), (&[-1], 1), (&[1, 2, 3], 1)] {
            let graph = checked(&mean("n,5,3,4", axes, keep, opset), &[("x", &[2, 5, 3, 4])]);
            assert_eq!(count(&graph, "GlobalAveragePool"), 0, "{axes:?} {keep}");
        }
    }
    for (shape, sizes) in [("n,5,3", &[2, 5, 3][..]), ("n,2,5,3,4", &[2, 2, 5, 3, 4])] {
        let graph = checked(&mean(shape, &[-2, -1], 1, 18), &[("x", sizes)]);
        assert_eq!(count(&graph, "GlobalAveragePool"), 0, "{shape}");
    }
}

#[test]
fn models_of_other_types_get_forms_that_run() {
    let (mut net, x) = Net::on("n,16,4,4", 4);
    let made = net.conv(&x, 16, 3, 1);
    let gated = net.gated(&made, "ReduceMean", "Sigmoid");
    let made = net.act("x·Sigmoid", &gated);
    let model = net.finish(&[&made.name]);
    let graph = Graph::parse(model.bytes()).unwrap();
    let double = in_double(&graph, &[("x", &[2, 16, 4, 4])]).unwrap();
    for derived in [vjp(&double, &[], &[]).unwrap(), jvp(&double, &[], &[]).unwrap()] {
        compile(&derived);
        assert_eq!(count(&derived, "GlobalAveragePool"), 0, "{:?}", counts(&derived));
    }
    // In half precision a convolution has no blocked layout to stay in.
    let mut half = model;
    let halved = |raw: &[u8]| -> Vec<u8> {
        let floats = raw.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        floats.flat_map(|value| half::f16::from_f32(value).to_le_bytes()).collect()
    };
    for tensor in half.graph().initializer.iter_mut().filter(|tensor| tensor.data_type == 1) {
        (tensor.raw_data, tensor.data_type) = (halved(&tensor.raw_data).into(), 10);
    }
    use transferscore::gradient::onnx::type_proto::Value::TensorType;
    for port in half.graph().input.iter_mut() {
        if let Some(TensorType(tensor)) = port.r#type.as_mut().and_then(|kind| kind.value.as_mut()) {
            tensor.elem_type = 10;
        }
    }
    half.graph().output.iter_mut().for_each(|port| port.r#type = None);
    let graph = derived(&half);
    assert_eq!((count(&graph, "Resize"), count(&graph, "GlobalAveragePool")), (0, 0), "{:?}", counts(&graph));
    compile(&graph);
}

#[test]
fn concatenations_nest_only_where_they_begin_alike() {
    let join = |names: &[&str], out: &str, axis: i64, model: Model| {
        model.node("Concat", names, &[out], &[("axis", axis.into())])
    };
    let base = || {
        Model::new(17).input("x", "n,3,2").input("z", "n,3,2").node("Exp", &["x"], &["a"], &[]).node(
            "Tanh",
            &["z"],
            &["b"],
            &[],
        )
    };
    // The lengths of the three concatenations that are to be found.
    type Form = ([&'static [&'static str]; 3], [i64; 3], [usize; 3]);
    let forms: [Form; 7] = [
        ([&["a", "b"], &["a", "b", "a"], &["a", "b", "a", "x"]], [1, 1, 1], [2, 2, 2]),
        ([&["a", "b"], &["b", "a", "x"], &["a", "x", "b"]], [1, 1, 1], [2, 3, 3]),
        ([&["a", "b"], &["a", "b", "a"], &["a", "b", "x"]], [1, 2, 1], [2, 3, 2]),
        ([&["a", "b"], &["a", "b", "a"], &["a", "b", "x"]], [1, -2, -2], [2, 3, 3]),
        ([&["a"], &["a", "b", "a"], &["a", "b"]], [1, 1, 1], [1, 3, 2]),
        ([&["a", "b"], &["a", "b"], &["a", "b", "x", "z"]], [1, 1, 1], [2, 2, 3]),
        ([&["a", "b", "z"], &["a", "b"], &["a", "b", "x", "z"]], [1, 1, 1], [3, 2, 3]),
    ];
    for ([first, second, third], [one, two, three], expected) in forms {
        let model = join(third, "r", three, join(second, "q", two, join(first, "p", one, base())));
        let model = model.output("p").output("q").output("r");
        let graph = checked(&model, &[("x", &[2, 3, 2]), ("z", &[2, 3, 2])]);
        let found = ["p", "q", "r"].map(|name| {
            let line = lines(&graph).into_iter().find(|line| line.starts_with(&format!("{name} = Concat("))).unwrap();
            line.matches(", ").count() + 1
        });
        assert_eq!(found, expected, "{first:?} {second:?} {third:?}");
    }
}

#[test]
fn many_concatenations_take_no_time() {
    let mut model = Model::new(17).input("x", "n,1");
    for at in 0..60_000 {
        model = {
            let mut model = model;
            let node = transferscore::gradient::onnx::NodeProto {
                op_type: "Concat".into(),
                input: vec!["x".into(), "x".into()],
                output: vec![format!("y{at}")],
                attribute: vec![transferscore::gradient::onnx::AttributeProto {
                    name: "axis".into(),
                    i: 0,
                    r#type: 2,
                    ..Default::default()
                }],
                ..Default::default()
            };
            model.graph().node.push(node);
            model
        };
    }
    let model = model.output("y59999");
    assert!(lines(&derived(&model)).contains(&"y59999 = Concat(x, x)".to_owned()));
}

/// A `Gather` of each of these indices from the second of three axes.
fn taken(indices: &[(i64, bool)], axis: i64, outputs_too: bool) -> Model {
    let mut model = Model::new(17).input("x", "n,3,4").node("Exp", &["x"], &["e"], &[]);
    let mut names = Vec::new();
    for (at, &(index, scalar)) in indices.iter().enumerate() {
        let (name, place) = (format!("part{at}"), format!("place{at}"));
        let dims: &[i64] = if scalar { &[] } else { &[1] };
        model.graph().initializer.push(integer_tensor(&place, dims, &[index]));
        model = model.node("Gather", &["e", &place], &[&name], &[("axis", axis.into())]);
        let shaped = format!("shaped{at}");
        model.graph().initializer.push(integer_tensor(&format!("axes{at}"), &[1], &[axis]));
        model = match scalar {
            true => model.node("Unsqueeze", &[&name, &format!("axes{at}")], &[&shaped], &[]),
            false => model.node("Tanh", &[&name], &[&shaped], &[]),
        };
        if outputs_too {
            model = model.output(&name);
        }
        names.push(shaped);
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    model.node("Concat", &names, &["y"], &[("axis", axis.into())]).output("y")
}

#[test]
fn single_elements_are_taken_as_blocks() {
    for outputs_too in [false, true] {
        for (indices, op, found) in [
            (&[(0, true), (1, true), (2, true)][..], "Split", 1),
            (&[(-1, true), (-3, true), (1, true)], "Split", 1),
            (&[(2, false), (0, true), (-2, false)], "Split", 1),
            (&[(0, true), (0, true), (1, true), (2, true), (-1, false)], "Split", 1),
            (&[(1, true)], "Slice", 1),
            (&[(-1, false), (0, true)], "Slice", 2),
            (&[(-1, true), (2, true)], "Slice", 1),
        ] {
            for axis in [1, -2] {
                let graph = checked(&taken(indices, axis, outputs_too), &[("x", &[2, 3, 4])]);
                let parts: Vec<String> = lines(&graph).into_iter().filter(|line| line.starts_with("part/")).collect();
                let of = |op: &str| parts.iter().filter(|line| line.contains(&format!(" = {op}("))).count();
                let expected = if op == "Split" { (found, 0) } else { (0, found) };
                assert_eq!((of("Split"), of("Slice")), expected, "{indices:?}: {parts:?}");
                assert_eq!(count(&graph, "Gather"), 0, "{indices:?}");
            }
        }
    }
}

#[test]
fn elements_of_a_free_axis_and_of_integers_are_gathered_still() {
    let model = Model::new(17)
        .input("x", "n,3,4")
        .integers("all", &[0, 2])
        .integers("first", &[0])
        .integers("rest", &[-1, 1])
        .node("Shape", &["x"], &["shape"], &[])
        .node("Gather", &["shape", "first"], &["batch"], &[])
        .node("Concat", &["batch", "rest"], &["target"], &[("axis", 0.into())])
        .node("Gather", &["x", "first"], &["row"], &[("axis", 0.into())])
        .node("Gather", &["x", "all"], &["two"], &[("axis", 1.into())])
        .node("Mul", &["two", "row_part"], &["product"], &[])
        .node("Reshape", &["product", "target"], &["y"], &[])
        .output("y");
    let mut model = model;
    let part = Model::new(17).node("Gather", &["row", "all"], &["row_part"], &[("axis", 1.into())]);
    let node = part.proto.graph.unwrap().node.remove(0);
    model.graph().node.insert(5, node);
    let graph = checked(&model, &[("x", &[2, 3, 4])]);
    assert!(count(&graph, "Gather") >= 2, "{:?}", lines(&graph));
}

#[test]
fn gelu_is_right_as_an_output_and_shared() {
    for approximate in ["none", "tanh"] {
        let model = Model::new(20)
            .input("x", "n,12")
            .weight("w", &[12, 12])
            .node("MatMul", &["x", "w"], &["h"], &[])
            .node("Gelu", &["h"], &["g"], &[("approximate", approximate.into())])
            .node("Gelu", &["h"], &["f"], &[("approximate", approximate.into())])
            .node("Gelu", &["f"], &["e"], &[("approximate", approximate.into())])
            .node("Mul", &["g", "e"], &["y"], &[])
            .output("y")
            .output("g");
        checked(&model, &[("x", &[2, 12])]);
    }
}
