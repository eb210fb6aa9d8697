//! Files that lie, break rules, or ask for more than they are worth: an error each, never a panic.

use prost::Message;
use transferscore::gradient::{
    GradientError, Graph, check, jvp,
    onnx::{
        FunctionProto, ModelProto, OperatorSetIdProto, SparseTensorProto, StringStringEntryProto, TensorProto,
        tensor_proto::DataLocation,
    },
    vjp,
};

use super::{
    calculus::Random,
    model::{Model, Value, float_tensor, integer_tensor, unary},
};

fn parse(model: &Model) -> Result<Graph, GradientError> {
    Graph::parse(model.bytes())
}

/// A model with something of everything.
fn network() -> Model {
    Model::new(13)
        .input("x", "n,2,8,8")
        .weight("w", &[3, 2, 3, 3])
        .weight("v", &[48, 4])
        .integers("s", &[0, -1])
        .node("Conv", &["x", "w"], &["a"], &[("strides", [2, 2].into()), ("pads", [1, 1, 1, 1].into())])
        .node("MaxPool", &["a"], &["b"], &[("kernel_shape", [2, 2].into()), ("pads", [0, 0, 1, 1].into())])
        .node("AveragePool", &["b"], &["c"], &[("kernel_shape", [3, 3].into()), ("pads", [1, 1, 1, 1].into())])
        .node("Reshape", &["c", "s"], &["d"], &[])
        .node("MatMul", &["d", "v"], &["e"], &[])
        .node("Softmax", &["e"], &["y"], &[("axis", 1.into())])
        .output("y")
}

#[test]
fn the_network_of_these_tests_is_sound() {
    let graph = parse(&network()).unwrap();
    assert_eq!(check(&graph), []);
    assert!(vjp(&graph, &[], &[]).is_ok());
}

#[test]
fn every_cut_off_file_is_refused() {
    let bytes = network().bytes();
    for length in 0..bytes.len() {
        assert!(Graph::parse(bytes.slice(..length)).is_err(), "the first {length} of {} bytes pass", bytes.len());
    }
}

#[test]
fn no_damage_makes_the_compiler_panic() {
    // Weights take most of the file; without their values damage hits the structure.
    let mut model = network();
    model.graph().initializer.truncate(0);
    let model = model.weight("w", &[3, 2, 1, 1]).integers("s", &[0, -1]).weight("v", &[1, 4]);
    for (seed, bytes) in [(1, network().bytes()), (2, model.bytes())] {
        let mut random = Random::new(seed);
        let mut parsed = 0;
        for _ in 0..3_000 {
            let mut damaged = bytes.to_vec();
            for _ in 0..1 + random.below(2) {
                let at = random.below(damaged.len());
                match random.below(9) {
                    0..3 => damaged[at] = random.below(256) as u8,
                    3..8 => damaged[at] ^= 1 << random.below(8),
                    _ => {
                        damaged.remove(at);
                    }
                }
            }
            if let Ok(graph) = Graph::parse(damaged.into()) {
                parsed += 1;
                check(&graph);
                let derived = [vjp(&graph, &[], &[]), jvp(&graph, &[], &[])];
                derived.iter().flatten().for_each(|graph| assert!(!graph.to_onnx().is_empty()));
            }
        }
        assert!(parsed > 100, "only {parsed} damaged files were read, so little was tested");
    }
}

#[test]
fn random_bytes_are_refused() {
    let mut random = Random::new(3);
    for length in 0..2_000 {
        let bytes: Vec<u8> = (0..length % 200).map(|_| random.below(256) as u8).collect();
        assert!(Graph::parse(bytes.into()).is_err());
    }
}

/// Models that are refused with these words.
pub fn broken() -> Vec<(&'static str, Model)> {
    let relu = || unary("Relu", "n,4", &[]);
    let endless = relu().integers("s", &[i64::MAX, 1]);
    let with = |change: &dyn Fn(&mut Model)| {
        let mut model = relu();
        change(&mut model);
        model
    };
    let tensor = |change: &dyn Fn(&mut TensorProto)| {
        let mut tensor = float_tensor("t", &[2], &[1.0, 2.0]);
        change(&mut tensor);
        with(&|model| model.graph().initializer.push(tensor.clone()))
    };
    vec![
        ("opset 6", with(&|model| model.proto.opset_import[0].version = 6)),
        ("opset 27; opsets 7 to 26", with(&|model| model.proto.opset_import[0].version = 27)),
        ("imports no opset", with(&|model| model.proto.opset_import.clear())),
        ("no graph", with(&|model| model.proto.graph = None)),
        ("`a`, which no earlier node makes", relu().node("Relu", &["a"], &["b"], &[])),
        ("`b`, which no earlier", relu().node("Relu", &["b"], &["a"], &[]).node("Relu", &["a"], &["b"], &[])),
        ("uses `a`, which no earlier node", relu().node("Relu", &["a"], &["a"], &[])),
        ("`y` is made twice", relu().node("Relu", &["x"], &["y"], &[])),
        ("`x` is made twice", relu().node("Relu", &["x"], &["x"], &[])),
        ("input name `x` is empty or used twice", relu().input("x", "n")),
        ("initialiser name `w` is empty or used twice", relu().floats("w", &[], &[1.0]).floats("w", &[], &[1.0])),
        ("no node makes the output `z`", relu().output("z")),
        ("output `y` is listed twice", relu().output("y")),
        ("has no output", relu().node("Relu", &["x"], &[], &[])),
        ("dimension -7", relu().input("z", "n,-7")),
        ("more than 17179869184 elements", relu().input("z", "9999999999,9999999999")),
        ("of 17 dimensions", relu().input("z", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1")),
        ("negative dimension", tensor(&|tensor| tensor.dims = vec![-2])),
        ("with 8 bytes", tensor(&|tensor| tensor.dims = vec![3])),
        ("with 8 bytes", tensor(&|tensor| tensor.dims = vec![1 << 33])),
        ("more than 17179869184 elements", tensor(&|tensor| tensor.dims = vec![1 << 62, 1 << 62])),
        ("names no file", tensor(&|tensor| tensor.set_data_location(DataLocation::External))),
        (
            "another file: `t.bin`",
            tensor(&|tensor| {
                tensor.set_data_location(DataLocation::External);
                let (key, value) = ("location".to_owned(), "t.bin".to_owned());
                tensor.external_data.push(StringStringEntryProto { key, value });
            }),
        ),
        ("of the domain `com.example`", {
            let mut model = relu().node("Secret", &["y"], &["z"], &[]);
            model.graph().node[1].domain = "com.example".into();
            model
        }),
        ("has the name `a::b`", relu().node("a::b", &["x"], &["z"], &[])),
        ("no opset", with(&|model| model.proto.opset_import[0].domain = "own".into())),
        (
            "of opset 27",
            with(&|model| {
                let opset_import = vec![OperatorSetIdProto { version: 27, ..Default::default() }];
                model.proto.functions.push(FunctionProto { opset_import, ..Default::default() });
            }),
        ),
        ("sparse", with(&|model| model.graph().sparse_initializer.push(SparseTensorProto::default()))),
        ("training mode", relu().node("BatchNormalization", &["x"; 5], &["z"], &[("training_mode", 1.into())])),
        ("do not multiply", relu().weight("w", &[3, 2]).node("MatMul", &["x", "w"], &["z"], &[])),
        ("do not broadcast", relu().weight("w", &[3]).node("Add", &["x", "w"], &["z"], &[])),
        ("axis 4 of a tensor of rank 2", relu().node("Softmax", &["x"], &["z"], &[("axis", 4.into())])),
        ("permutation", relu().node("Transpose", &["x"], &["z"], &[("perm", [0, 0].into())])),
        ("`mask`, which no", relu().node("Dropout", &["x"], &["z", "mask"], &[]).node("Not", &["mask"], &["m"], &[])),
        ("has no value", relu().node("Constant", &[], &["z"], &[])),
        ("more than 17179869184 elements", endless.node("Expand", &["x", "s"], &["z"], &[])),
    ]
}

#[test]
fn broken_models_are_refused_with_a_reason() {
    for (words, model) in broken() {
        match parse(&model) {
            Ok(_) => panic!("passes, but should be refused with `{words}`"),
            Err(error) => assert!(error.to_string().contains(words), "`{error}` does not say `{words}`"),
        }
    }
}

#[test]
fn small_files_cannot_ask_for_much_memory() {
    // Two bytes a node on the wire, hundreds in memory.
    let nodes = [0x0a, 0x00].repeat(300_000);
    let mut file = vec![0x3a];
    prost::encoding::encode_varint(nodes.len() as u64, &mut file);
    file.extend(nodes);
    assert_eq!(Graph::parse(file.into()), Err(GradientError::Limit("more than 200000 nodes".into())));

    let mut names = Vec::new();
    for _ in 0..9_000_000 {
        names.extend([0x0a, 0x00]);
    }
    let mut node = vec![0x0a];
    prost::encoding::encode_varint(names.len() as u64, &mut node);
    node.extend(names);
    let mut file = vec![0x3a];
    prost::encoding::encode_varint(node.len() as u64, &mut file);
    file.extend(node);
    assert!(matches!(Graph::parse(file.into()), Err(GradientError::Limit(_))));
}

#[test]
fn deep_nesting_is_refused() {
    let mut model = unary("Relu", "n", &[]);
    for _ in 0..40 {
        let inner = model.proto.graph.take().unwrap();
        model = unary("Relu", "n", &[]).node("If", &["x"], &["z"], &[("then_branch", Value::Graph(inner))]);
    }
    assert!(matches!(parse(&model), Err(GradientError::Limit(_))), "{:?}", parse(&model).err());
}

#[test]
fn shapes_that_the_run_would_refuse_are_no_panic() {
    let strange = [
        unary("MaxPool", "n,2,8", &[("kernel_shape", [0].into())]),
        unary("MaxPool", "n,2,8", &[("kernel_shape", [9].into())]),
        unary("AveragePool", "n,2,8", &[("kernel_shape", [i64::MAX].into())]),
        unary("AveragePool", "n,2,8", &[("kernel_shape", [2].into()), ("pads", [-1, 0].into())]),
        unary("AveragePool", "n,2,8", &[("kernel_shape", [2].into()), ("strides", [0].into())]),
        unary("AveragePool", "n,2,8", &[("kernel_shape", [2, 2].into())]),
        unary("Flatten", "n,2", &[("axis", i64::MIN.into())]),
        unary("Transpose", "n,2", &[("perm", [i64::MAX, -1].into())]),
        unary("DepthToSpace", "n,4,2,2", &[("blocksize", i64::MAX.into())]),
        unary("Conv", "n,2", &[]),
        unary("Nonsense", "n,2", &[]),
        Model::new(13).input("x", "n,4").integers("s", &[-5]).node("Reshape", &["x", "s"], &["y"], &[]).output("y"),
        Model::new(13)
            .input("x", "n,4")
            .integers("s", &[i64::MIN])
            .node("Unsqueeze", &["x", "s"], &["y"], &[])
            .output("y"),
        Model::new(13)
            .input("x", "n,4")
            .integers("p", &[i64::MAX, i64::MAX, i64::MAX, 1])
            .node("Pad", &["x", "p"], &["y"], &[])
            .output("y"),
    ];
    for model in strange {
        if let Ok(graph) = parse(&model) {
            check(&graph);
            let _ = vjp(&graph, &[], &[]);
        }
    }
}

#[test]
fn typed_fields_and_raw_bytes_mean_the_same() {
    let mut raw = unary("Relu", "n", &[]).floats("w", &[2], &[1.5, -2.0]);
    let mut typed = raw.clone();
    for (model, in_raw) in [(&mut raw, true), (&mut typed, false)] {
        let narrow = TensorProto { name: "b".into(), dims: vec![3], data_type: 3, ..Default::default() };
        let tensors = &mut model.graph().initializer;
        tensors.push(integer_tensor("i", &[2], &[1 << 40, -1]));
        tensors.push(narrow);
        if in_raw {
            tensors[1].raw_data = tensors[1].int64_data.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors[1].int64_data.clear();
            tensors[2].raw_data = vec![1, 255, 127].into();
        } else {
            tensors[0].raw_data = Default::default();
            tensors[0].float_data = vec![1.5, -2.0];
            tensors[2].int32_data = vec![1, -1, 127];
        }
    }
    let written = |model: &Model| ModelProto::decode(parse(model).unwrap().to_onnx().as_slice()).unwrap();
    assert_eq!(written(&raw), written(&typed));
    let tensor = &written(&typed).graph.unwrap().initializer;
    assert_eq!(tensor.iter().map(|tensor| tensor.raw_data.len()).collect::<Vec<_>>(), [3, 16, 8]);
}
