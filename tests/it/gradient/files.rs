//! The parts of ONNX that real files use around their operators: functions, branches, loops, tensors elsewhere.

use bytes::Bytes;
use prost::Message;
use transferscore::gradient::{
    Graph, check,
    onnx::{
        AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, SparseTensorProto,
        StringStringEntryProto, TensorProto, TypeProto, ValueInfoProto, tensor_proto::DataLocation, type_proto,
    },
    vjp,
};

use super::{
    calculus::{Feeds, Random, Values, compile, get, run},
    model::{Model, Value, float_tensor, float_value, integer_tensor},
};
use crate::support::runtime;

fn node(op: &str, domain: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op.into(),
        domain: domain.into(),
        input: inputs.iter().map(|&name| name.into()).collect(),
        output: outputs.iter().map(|&name| name.into()).collect(),
        ..Default::default()
    }
}

fn import(model: &mut Model, domain: &str, version: i64) {
    model.proto.opset_import.push(OperatorSetIdProto { domain: domain.into(), version });
}

fn x(shape: &[usize]) -> Feeds {
    vec![("x".into(), Random::new(5).array(shape, Values::AwayFromZero))]
}

/// The file computes what ONNX Runtime makes of it, and has a derivative.
fn same_as_the_runtime(model: &Model, shape: &[usize]) {
    let expected = run(&runtime().compile(model.bytes()).unwrap(), &x(shape));
    let read = run(&compile(&Graph::parse(model.bytes()).unwrap()), &x(shape));
    let difference = get(&expected, "y") - get(&read, "y");
    assert!(difference.iter().all(|value| value.abs() < 1e-5), "{difference}");
    assert_eq!(check(&Graph::parse(model.bytes()).unwrap()), []);
}

/// `leaky(x, slope) = LeakyRelu(x)`, and `twice(x) = leaky(leaky(x)) + w`.
fn with_functions() -> Model {
    let mut inner = node("LeakyRelu", "", &["a"], &["b"]);
    let mut reference = AttributeProto { name: "alpha".into(), ref_attr_name: "slope".into(), ..Default::default() };
    reference.set_type(transferscore::gradient::onnx::attribute_proto::AttributeType::Float);
    inner.attribute.push(reference);
    let mut default = AttributeProto { name: "slope".into(), f: 0.3, ..Default::default() };
    default.set_type(transferscore::gradient::onnx::attribute_proto::AttributeType::Float);
    let imports = vec![
        OperatorSetIdProto { domain: String::new(), version: 18 },
        OperatorSetIdProto { domain: "own".into(), version: 1 },
    ];
    let leaky = FunctionProto {
        name: "leaky".into(),
        domain: "own".into(),
        input: vec!["a".into()],
        output: vec!["b".into()],
        attribute_proto: vec![default.clone()],
        node: vec![inner],
        opset_import: imports.clone(),
        ..Default::default()
    };
    let mut first = node("leaky", "own", &["a"], &["h"]);
    first.attribute.push(AttributeProto { f: 0.5, ..default });
    let twice = FunctionProto {
        name: "twice".into(),
        domain: "own".into(),
        input: vec!["a".into(), "w".into()],
        output: vec!["b".into()],
        node: vec![first, node("leaky", "own", &["h"], &["c"]), node("Add", "", &["c", "w"], &["b"])],
        opset_import: imports,
        ..Default::default()
    };
    let mut model = Model::new(18).input("x", "n,4").weight("w", &[4]);
    model.proto.functions = vec![leaky, twice];
    import(&mut model, "own", 1);
    model.graph().node.push(node("twice", "own", &["x", "w"], &["h"]));
    model.graph().node.push(node("twice", "own", &["h", "w"], &["g"]));
    model.node("Exp", &["g"], &["y"], &[]).output("y")
}

#[test]
fn functions_are_inlined() {
    let model = with_functions();
    same_as_the_runtime(&model, &[3, 4]);
    let graph = Graph::parse(model.bytes()).unwrap();
    assert!(graph.operator_counts().contains(&("LeakyRelu".into(), 4)));
}

#[test]
fn endless_functions_are_refused() {
    let mut model = with_functions();
    model.proto.functions[0].node = vec![node("leaky", "own", &["a"], &["b"])];
    assert!(Graph::parse(model.bytes()).unwrap_err().to_string().contains("levels"));
    // Each of ten functions calls the next one ten times.
    let mut model = with_functions();
    model.proto.functions = (0..10)
        .map(|level| FunctionProto {
            name: format!("f{level}"),
            domain: "own".into(),
            input: vec!["a".into()],
            output: vec!["b0".into()],
            node: (0..10)
                .map(|at| match level {
                    9 => node("Relu", "", &["a"], &[&format!("b{at}")]),
                    _ => node(&format!("f{}", level + 1), "own", &["a"], &[&format!("b{at}")]),
                })
                .collect(),
            ..Default::default()
        })
        .collect();
    model.graph().node = vec![node("f0", "own", &["x"], &["y"])];
    assert!(Graph::parse(model.bytes()).unwrap_err().to_string().contains("more than 200000 nodes"));
}

fn branch(op: &str, input: &str, output: &str) -> Value {
    let mut graph = GraphProto { name: op.into(), ..Default::default() };
    graph.initializer.push(float_tensor("k", &[1], &[0.5]));
    graph.node.push(node("Mul", "", &[input, "k"], &["scaled"]));
    graph.node.push(node(op, "", &["scaled"], &[output]));
    graph.output.push(float_value(output, None));
    Value::Graph(graph)
}

fn boolean(name: &str, value: u8) -> TensorProto {
    TensorProto { name: name.into(), data_type: 9, raw_data: vec![value].into(), ..Default::default() }
}

/// `h = if c { tanh(0.5 x) } else { exp(0.5 x) }`, `y = h + 0.5·x`; the branches use names of their own twice.
fn with_if(condition: &str) -> Model {
    let branches = [("then_branch", branch("Tanh", "x", "t")), ("else_branch", branch("Exp", "x", "e"))];
    Model::new(13).input("x", "n,4").node("If", &[condition], &["h"], &branches)
}

#[test]
fn decided_branches_are_inlined() {
    for value in [0, 1] {
        let mut model = with_if("c").node("Add", &["h", "x"], &["y"], &[]).output("y");
        model.graph().initializer.push(boolean("c", value));
        same_as_the_runtime(&model, &[3, 4]);
    }
    // As torch writes `squeeze(1)` for a size that tracing does not know but the declared shape tells.
    let mut model = Model::new(13)
        .input("x", "n,4")
        .integers("one", &[1])
        .integers("four", &[4])
        .node("Shape", &["x"], &["s"], &[])
        .node("Gather", &["s", "one"], &["w"], &[("axis", 0.into())])
        .node("Equal", &["w", "four"], &["c"], &[]);
    let rest = with_if("c").node("Add", &["h", "x"], &["y"], &[]);
    model.graph().node.extend(rest.proto.graph.unwrap().node);
    let model = model.output("y");
    same_as_the_runtime(&model, &[3, 4]);
    let counts = Graph::parse(model.bytes()).unwrap().operator_counts();
    assert!(counts.iter().all(|(op, _)| op != "If" && op != "Exp"), "{counts:?}");
}

#[test]
fn undecided_branches_run_beside_the_path_and_are_obstacles_on_it() {
    let decided = |model: Model| {
        let sum = [("keepdims", 0.into())];
        model.node("ReduceMax", &["x"], &["m"], &sum).floats("zero", &[], &[0.0])
    };
    let build = |inputs: [&str; 2]| {
        let mut model = decided(Model::new(13).input("x", "n,4")).node("Greater", &["m", "zero"], &["c"], &[]);
        let rest = with_if("c");
        model.graph().node.extend(rest.proto.graph.unwrap().node);
        model.node("Add", &inputs, &["y"], &[]).output("y")
    };
    let on_path = Graph::parse(build(["h", "x"]).bytes()).unwrap();
    let obstacles = check(&on_path);
    assert_eq!(obstacles.len(), 1);
    assert!(obstacles[0].reason.contains("computed at run time"), "{obstacles:?}");

    // The same branch as the model's second output, of which no gradient is wanted.
    let mut model = build(["x", "x"]);
    model.graph().output.push(float_value("h", Some("n,4")));
    let graph = Graph::parse(model.bytes()).unwrap();
    let derived = vjp(&graph, &["x"], &["y"]).unwrap();
    let mut feeds = x(&[3, 4]);
    let expected = run(&runtime().compile(model.bytes()).unwrap(), &feeds);
    feeds.push(("cotangent/y".into(), Random::new(2).array(&[3, 4], Values::AwayFromZero)));
    let values = run(&compile(&derived), &feeds);
    assert_eq!(get(&values, "h"), get(&expected, "h"));
    assert_eq!(get(&values, "gradient/x"), &(get(&feeds, "cotangent/y") * 2.0));
}

#[test]
fn loops_run_beside_the_path_with_what_they_capture() {
    // total = Σ_i relu(w)·x over three turns; w and the relu come from outside, through an identity that disappears.
    let mut body = GraphProto { name: "body".into(), ..Default::default() };
    let scalar = |name: &str, kind: i32| {
        let tensor = type_proto::Tensor { elem_type: kind, shape: Some(Default::default()) };
        let value = Some(type_proto::Value::TensorType(tensor));
        ValueInfoProto {
            name: name.into(),
            r#type: Some(TypeProto { value, ..Default::default() }),
            ..Default::default()
        }
    };
    body.input = vec![scalar("i", 7), scalar("go", 9), float_value("sum", Some("n,4"))];
    body.node = vec![
        node("Identity", "", &["go"], &["still"]),
        node("Mul", "", &["x", "alias"], &["part"]),
        node("Add", "", &["sum", "part"], &["next"]),
    ];
    body.output = vec![scalar("still", 9), float_value("next", Some("n,4"))];
    let mut model = Model::new(11)
        .input("x", "n,4")
        .node("Exp", &["x"], &["e"], &[])
        .node("Identity", &["e"], &["alias"], &[])
        .node("Loop", &["turns", "yes", "x"], &["total"], &[("body", Value::Graph(body))])
        .node("Mul", &["x", "x"], &["y"], &[])
        .output("y");
    model.graph().initializer.push(integer_tensor("turns", &[], &[3]));
    model.graph().initializer.push(boolean("yes", 1));
    model.graph().output.push(float_value("total", Some("n,4")));
    let graph = Graph::parse(model.bytes()).unwrap();
    assert_eq!(check(&graph).iter().map(|o| o.operator.as_str()).collect::<Vec<_>>(), ["Loop"]);
    let derived = vjp(&graph, &["x"], &["y"]).unwrap();
    // The identity has gone, so the loop must take its input by the name that is left.
    let written = ModelProto::decode(derived.to_onnx().as_slice()).unwrap().graph.unwrap();
    assert!(!written.node.iter().any(|node| node.output == ["alias"]));
    let mut feeds = x(&[2, 4]);
    let expected = run(&runtime().compile(model.bytes()).unwrap(), &feeds);
    feeds.push(("cotangent/y".into(), Random::new(2).array(&[2, 4], Values::AwayFromZero)));
    let values = run(&compile(&derived), &feeds);
    assert_eq!(get(&values, "total"), get(&expected, "total"));
    let gradient = get(&feeds, "cotangent/y") * &(get(&feeds, "x") * 2.0);
    assert_eq!(get(&values, "gradient/x"), &gradient);
}

fn external(name: &str, dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    let external_data = entries
        .iter()
        .map(|(key, value)| StringStringEntryProto { key: (*key).into(), value: (*value).into() })
        .collect();
    let mut tensor =
        TensorProto { name: name.into(), dims: dims.to_vec(), data_type: 1, external_data, ..Default::default() };
    tensor.set_data_location(DataLocation::External);
    tensor
}

#[test]
fn tensors_in_other_files_are_read() {
    let file: Bytes = [0.0f32, 1.0, 2.0, 3.0, 4.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let build = |entries: &[(&str, &str)]| {
        let mut model = Model::new(13).input("x", "n,2").node("Mul", &["x", "w"], &["y"], &[]).output("y");
        model.graph().initializer.push(external("w", &[2], entries));
        model.bytes()
    };
    let fetch = |location: &str| {
        if location == "sub/weights.bin" { Ok(file.clone()) } else { Err(format!("there is no {location}")) }
    };
    let place = ("location", "sub/weights.bin");
    type Entries<'a> = &'a [(&'a str, &'a str)];
    let cases: [(Entries, Result<[f32; 2], &str>); 9] = [
        (&[place, ("offset", "8"), ("length", "8")], Ok([2.0, 3.0])),
        (&[place], Ok([0.0, 1.0])),
        (&[place, ("offset", "16")], Err("needs 8 bytes from 16 on, but `sub/weights.bin` has 20")),
        (&[place, ("offset", "18446744073709551615")], Err("needs 8 bytes")),
        (&[place, ("length", "12")], Err("with 12 bytes")),
        (&[place, ("offset", "x")], Err("no number as its offset")),
        (&[("location", "../weights.bin")], Err("leads out of the model's folder")),
        (&[("location", "/etc/passwd")], Err("leads out of the model's folder")),
        (&[("location", "other")], Err("there is no other")),
    ];
    for (entries, expected) in cases {
        match (Graph::parse_with(build(entries), &fetch), expected) {
            (Ok(graph), Ok(values)) => {
                let feeds = vec![("x".to_owned(), ndarray::arr2(&[[1.0f32, 1.0]]).into_dyn())];
                assert_eq!(get(&run(&compile(&graph), &feeds), "y").as_slice().unwrap(), values);
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "`{error}` does not say {words}"),
            (result, expected) => panic!("{entries:?}: {:?} instead of {expected:?}", result.err()),
        }
    }
    let error = Graph::parse(build(&[place])).unwrap_err().to_string();
    assert!(error.contains("save the model as a single file"), "{error}");
}

#[test]
fn sparse_tensors_become_dense() {
    let sparse = |indices: TensorProto| SparseTensorProto {
        values: Some(float_tensor("w", &[2], &[2.0, 3.0])),
        indices: Some(indices),
        dims: vec![2, 3],
    };
    for indices in [integer_tensor("", &[2], &[1, 5]), integer_tensor("", &[2, 2], &[0, 1, 1, 2])] {
        let mut model = Model::new(13).input("x", "n,2").node("MatMul", &["x", "w"], &["y"], &[]).output("y");
        model.graph().sparse_initializer.push(sparse(indices));
        let feeds = vec![("x".to_owned(), ndarray::arr2(&[[1.0f32, 10.0]]).into_dyn())];
        let values = run(&compile(&Graph::parse(model.bytes()).unwrap()), &feeds);
        assert_eq!(get(&values, "y").as_slice().unwrap(), [0.0, 2.0, 30.0]);
    }
    let huge = SparseTensorProto { dims: vec![1 << 16, 1 << 16], ..sparse(integer_tensor("", &[2], &[1, 5])) };
    let outside = sparse(integer_tensor("", &[2], &[1, 6]));
    let uneven = sparse(integer_tensor("", &[3], &[1, 2, 3]));
    for (wrong, words) in [(huge, "made dense"), (outside, "outside its shape"), (uneven, "as many indices")] {
        let mut model = Model::new(13).input("x", "n,2").node("MatMul", &["x", "w"], &["y"], &[]).output("y");
        model.graph().sparse_initializer.push(wrong);
        let error = Graph::parse(model.bytes()).unwrap_err().to_string();
        assert!(error.contains(words), "`{error}` does not say {words}");
    }
}

#[test]
fn strings_and_sequences_pass_beside_the_path() {
    let mut model = Model::new(13)
        .input("x", "n,2")
        .node("Mul", &["x", "x"], &["y"], &[])
        .node("SequenceConstruct", &["x", "y"], &["list"], &[])
        .node("ConcatFromSequence", &["list"], &["z"], &[("axis", 1.into())])
        .output("y")
        .output("z");
    let words = TensorProto {
        name: "words".into(),
        dims: vec![2],
        data_type: 8,
        string_data: vec![b"a".to_vec(), b"b".to_vec()],
        ..Default::default()
    };
    model.graph().initializer.push(words);
    model = model.node("Equal", &["words", "words"], &["same"], &[]);
    let graph = Graph::parse(model.bytes()).unwrap();
    let derived = vjp(&graph, &["x"], &["y"]).unwrap();
    let mut feeds = x(&[2, 2]);
    feeds.push(("cotangent/y".into(), Random::new(2).array(&[2, 2], Values::AwayFromZero)));
    let values = run(&compile(&derived), &feeds);
    assert_eq!(get(&values, "z").shape(), [2, 4]);
    // The string survives where it is an output's cause.
    let written = ModelProto::decode(graph.to_onnx().as_slice()).unwrap().graph.unwrap();
    assert!(written.node.iter().any(|node| node.op_type == "Constant"));
}

#[test]
fn fused_operators_are_taken_apart() {
    let fused = |op: &str, inputs: &[&str], attributes: &[(&str, Value)]| {
        let mut model = Model::new(17)
            .input("x", "n,2,4")
            .weight("w", &[4, 3])
            .weight("v", &[3, 4])
            .weight("b", &[4])
            .weight("s", &[4])
            .node(op, inputs, &["y"], attributes)
            .output("y");
        model.graph().node[0].domain = "com.microsoft".into();
        import(&mut model, "com.microsoft", 1);
        model
    };
    let models = [
        fused("Gelu", &["x"], &[]),
        fused("BiasGelu", &["x", "b"], &[]),
        fused("FastGelu", &["x"], &[]),
        fused("QuickGelu", &["x"], &[("alpha", 1.5f32.into())]),
        fused("FusedMatMul", &["x", "w"], &[("alpha", 0.5f32.into())]),
        fused("FusedMatMul", &["x", "v"], &[("transB", 1.into())]),
        fused("SkipLayerNormalization", &["x", "x", "s", "b", "b"], &[("epsilon", 1e-5f32.into())]),
        fused("SkipSimplifiedLayerNormalization", &["x", "x", "s"], &[("epsilon", 1e-5f32.into())]),
    ];
    for model in models {
        let graph = Graph::parse(model.bytes()).unwrap();
        assert!(graph.operator_counts().iter().all(|(op, _)| !op.contains("::")), "{:?}", graph.operator_counts());
        // Layer normalisation has its own rule and tests.
        if graph.operator_counts().iter().any(|(op, _)| op == "LayerNormalization") && !check(&graph).is_empty() {
            let expected = run(&runtime().compile(model.bytes()).unwrap(), &x(&[3, 2, 4]));
            let read = run(&compile(&graph), &x(&[3, 2, 4]));
            let difference = get(&expected, "y") - get(&read, "y");
            assert!(difference.iter().all(|value| value.abs() < 1e-5), "{difference}");
            continue;
        }
        same_as_the_runtime(&model, &[3, 2, 4]);
    }
}

#[test]
fn fused_convolutions_are_taken_apart() {
    let activations: [(&'static str, &[f32]); 4] =
        [("Relu", &[]), ("LeakyRelu", &[0.1]), ("Clip", &[-0.5, 0.75]), ("HardSigmoid", &[0.3, 0.4])];
    for (activation, parameters) in activations {
        let attributes = [
            ("activation", Value::Text(activation)),
            ("activation_params", Value::Floats(parameters.to_vec())),
            ("pads", [1, 1, 1, 1].into()),
        ];
        let mut model = Model::new(13)
            .input("x", "n,2,5,5")
            .weight("w", &[2, 2, 3, 3])
            .weight("b", &[2])
            .node("FusedConv", &["x", "w", "b"], &["y"], &attributes)
            .output("y");
        model.graph().node[0].domain = "com.microsoft".into();
        import(&mut model, "com.microsoft", 1);
        same_as_the_runtime(&model, &[2, 2, 5, 5]);
    }
    let mut model = Model::new(13)
        .input("x", "n,4")
        .weight("w", &[4, 3])
        .weight("b", &[3])
        .node(
            "FusedGemm",
            &["x", "w", "b"],
            &["y"],
            &[("activation", "LeakyRelu".into()), ("activation_alpha", 0.2f32.into())],
        )
        .output("y");
    model.graph().node[0].domain = "com.microsoft".into();
    import(&mut model, "com.microsoft", 1);
    let graph = Graph::parse(model.bytes()).unwrap();
    assert_eq!(graph.operator_counts(), [("Gemm".to_owned(), 1), ("LeakyRelu".into(), 1)]);
    assert_eq!(check(&graph), []);
}

#[test]
fn other_domains_run_beside_the_path_and_are_obstacles_on_it() {
    let mut model = Model::new(13)
        .input("x", "n,4")
        .node("Mul", &["x", "x"], &["y"], &[])
        .node("Inverse", &["x"], &["z"], &[])
        .output("y")
        .output("z");
    model.graph().node[1].domain = "com.microsoft".into();
    model.graph().node[1].op_type = "Rfft".into();
    import(&mut model, "com.microsoft", 1);
    import(&mut model, "ai.onnx.ml", 3);
    let graph = Graph::parse(model.bytes()).unwrap();
    let obstacles = check(&graph);
    assert_eq!(obstacles.len(), 1);
    assert_eq!(obstacles[0].operator, "com.microsoft::Rfft");
    assert!(obstacles[0].reason.contains("without ONNX Runtime's optimisations"), "{obstacles:?}");
    let derived = vjp(&graph, &["x"], &["y"]).unwrap();
    let written = ModelProto::decode(derived.to_onnx().as_slice()).unwrap();
    let domains: Vec<(&str, i64)> =
        written.opset_import.iter().map(|import| (import.domain.as_str(), import.version)).collect();
    assert_eq!(domains, [("", 21), ("com.microsoft", 1)]);
    assert!(written.graph.unwrap().node.iter().any(|node| node.op_type == "Rfft" && node.domain == "com.microsoft"));
}
