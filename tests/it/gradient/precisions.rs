//! Models of other float types, with inputs of integers, and cut at inner tensors.

use ndarray::ArrayD;
use transferscore::{
    gradient::{GradientError, Graph, check, cut_at, in_double, in_single, jvp, narrowed, vjp, widened},
    runtime::TypedArray,
};

use super::{
    calculus::{Random, Values as Range, compile, dot, get, norm, run},
    model::{Model, retype},
};
use crate::support::runtime;

const HALF: i32 = 10;
const DOUBLE: i32 = 11;
const BRAIN: i32 = 16;

fn typed(mut model: Model, code: i32) -> Model {
    retype(&mut model.proto, code);
    model
}

fn network() -> Model {
    Model::new(17)
        .input("x", "n,6")
        .weight("w", &[6, 5])
        .weight("b", &[5])
        .weight("v", &[5, 3])
        .node("MatMul", &["x", "w"], &["h"], &[])
        .node("Add", &["h", "b"], &["g"], &[])
        .node("Sigmoid", &["g"], &["s"], &[])
        .node("Mul", &["g", "s"], &["a"], &[])
        .node("MatMul", &["a", "v"], &["z"], &[])
        .node("Softmax", &["z"], &["y"], &[("axis", 1.into())])
        .output("y")
}

fn parse(model: &Model) -> Graph {
    Graph::parse(model.bytes()).unwrap()
}

fn element(graph: &Graph) -> (String, String) {
    let name = |ports: Vec<transferscore::gradient::Port>| ports[0].value_type.as_ref().unwrap().element.to_string();
    (name(graph.inputs()), name(graph.outputs()))
}

fn value(seed: u64, shape: &[usize]) -> ArrayD<f32> {
    Random::new(seed).array(shape, Range::AwayFromZero)
}

/// ∂⟨c, y⟩/∂x of the float32 network.
fn expected(c: &ArrayD<f32>) -> ArrayD<f32> {
    let graph = compile(&vjp(&parse(&network()), &[], &[]).unwrap());
    get(&run(&graph, &vec![("x".into(), value(3, &[2, 6])), ("cotangent/y".into(), c.clone())]), "gradient/x").clone()
}

#[test]
fn half_precision_is_computed_in_single_with_its_interface_kept() {
    for (code, name) in [(HALF, "float16"), (BRAIN, "bfloat16")] {
        let graph = parse(&typed(network(), code));
        assert_eq!(check(&graph), []);
        let wide = widened(&graph).unwrap();
        assert_eq!(element(&wide), (name.to_owned(), name.to_owned()));
        let counts = wide.operator_counts();
        assert!(counts.contains(&("Cast".to_owned(), 2)), "{counts:?}");
        for derived in [vjp(&wide, &[], &[]).unwrap(), jvp(&wide, &[], &[]).unwrap()] {
            assert!(derived.inputs().iter().chain(&derived.outputs()).all(|port| {
                port.value_type.as_ref().is_some_and(|value_type| value_type.element.to_string() == name)
            }));
            compile(&derived);
        }
        // The same in numbers, through an interface of float32.
        let c = value(4, &[2, 3]);
        let single = in_single(&graph).unwrap();
        assert_eq!(element(&single), ("float32".to_owned(), "float32".to_owned()));
        let derived = compile(&vjp(&single, &[], &[]).unwrap());
        let values = run(&derived, &vec![("x".into(), value(3, &[2, 6])), ("cotangent/y".into(), c.clone())]);
        let gradient = get(&values, "gradient/x");
        let tolerance = if code == HALF { 2e-3 } else { 2e-2 };
        let error = norm(&(gradient - &expected(&c)));
        assert!(error > 0.0 && error < tolerance * norm(&expected(&c)), "{name}: {error}");
    }
}

#[test]
fn single_precision_is_computed_in_half_with_its_interface_kept() {
    let graph = parse(&network());
    let narrow = narrowed(&graph).unwrap();
    assert_eq!(element(&narrow), ("float32".to_owned(), "float32".to_owned()));
    let counts = narrow.operator_counts();
    assert!(counts.contains(&("Cast".to_owned(), 2)), "{counts:?}");
    let c = value(4, &[2, 3]);
    let derived = compile(&vjp(&narrow, &[], &[]).unwrap());
    let values = run(&derived, &vec![("x".into(), value(3, &[2, 6])), ("cotangent/y".into(), c.clone())]);
    let error = norm(&(get(&values, "gradient/x") - &expected(&c)));
    assert!(error > 0.0 && error < 2e-3 * norm(&expected(&c)), "{error}");
    // What half precision cannot hold is the largest that it can.
    let large = Model::new(17).input("x", "n,2").floats("w", &[2], &[1e9, -1e9]);
    let narrow = narrowed(&parse(&large.node("Mul", &["x", "w"], &["y"], &[]).output("y"))).unwrap();
    let weight = narrow.constant("w").unwrap();
    assert_eq!(weight.floats().unwrap(), [65_504.0, -65_504.0]);
    assert_eq!(narrowed(&parse(&typed(network(), DOUBLE))).unwrap(), parse(&typed(network(), DOUBLE)));
}

#[test]
fn doubles_stay_doubles() {
    let graph = parse(&typed(network(), DOUBLE));
    let derived = compile(&vjp(&graph, &[], &[]).unwrap());
    let c = value(4, &[2, 3]);
    let double = |array: ArrayD<f32>| TypedArray::Float64(array.mapv(f64::from));
    let (x, cotangent) = (double(value(3, &[2, 6])), double(c.clone()));
    let values = derived.run(&[("x", (&x).into()), ("cotangent/y", (&cotangent).into())]).unwrap();
    let TypedArray::Float64(gradient) = values[1].to_array().unwrap() else { panic!("{}", values[1].name()) };
    let gradient = gradient.mapv(|value| value as f32);
    assert!(norm(&(&gradient - &expected(&c))) < 1e-6 * norm(&gradient));
}

#[test]
fn types_may_mix() {
    let cast = |code: i64| [("to", code.into())];
    let mut model = Model::new(17)
        .input("x", "n,4")
        .weight("w", &[4, 3])
        .node("Cast", &["x"], &["h"], &cast(10))
        .node("Cast", &["h"], &["d"], &cast(11))
        .node("Exp", &["d"], &["e"], &[])
        .node("Cast", &["e"], &["f"], &cast(1))
        .node("MatMul", &["f", "w"], &["y"], &[])
        .output("y");
    let graph = parse(&model);
    let derived = compile(&vjp(&graph, &[], &[]).unwrap());
    let (x, c) = (value(3, &[2, 4]), value(4, &[2, 3]));
    let values = run(&derived, &vec![("x".into(), x.clone()), ("cotangent/y".into(), c.clone())]);
    let gradient = get(&values, "gradient/x");
    // ∂⟨c, exp(x) w⟩/∂x = exp(x) · c wᵀ, where x was rounded to half precision on its way.
    let weight = model.graph().initializer[0].raw_data.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
    let weight = ArrayD::from_shape_vec(vec![4, 3], weight.collect()).unwrap();
    let (c, weight) = [c, weight].map(|array| array.into_dimensionality::<ndarray::Ix2>().unwrap()).into();
    let exact = x.mapv(f32::exp) * c.dot(&weight.t());
    assert!(norm(&(gradient - &exact)) < 1e-3 * norm(&exact));
}

/// Token ids, an embedding, a mean over tokens, a classifier.
fn of_tokens() -> Model {
    let mut model = Model::new(17)
        .input("tokens", "n,length")
        .input("mask", "n,length,1")
        .weight("table", &[7, 4])
        .weight("w", &[4, 3])
        .integers("axes", &[1])
        .node("Gather", &["table", "tokens"], &["embedding"], &[("axis", 0.into())])
        .node("Tanh", &["embedding"], &["h"], &[])
        .node("Mul", &["h", "mask"], &["m"], &[])
        .node("ReduceMean", &["m", "axes"], &["mean"], &[("keepdims", 0.into())])
        .node("MatMul", &["mean", "w"], &["y"], &[])
        .output("y");
    // `ReduceMean` takes its axes as an attribute in this opset.
    let reduce = &mut model.graph().node[3];
    reduce.input.truncate(1);
    let axes = model.clone().node("ReduceMean", &["m"], &["mean"], &[("axes", [1].into()), ("keepdims", 0.into())]);
    model.graph().node[3] = axes.proto.graph.unwrap().node.pop().unwrap();
    model.typed("tokens", 7)
}

#[test]
fn models_of_tokens_are_differentiated_at_their_embedding() {
    let graph = parse(&of_tokens());
    // Tokens have no derivative, the mask has one.
    let derived = vjp(&graph, &[], &[]).unwrap();
    assert_eq!(derived.outputs().iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["y", "gradient/mask"]);
    let cut = cut_at(&graph, &["embedding"]).unwrap();
    let names: Vec<String> = cut.inputs().into_iter().map(|port| port.name).collect();
    assert_eq!(names, ["mask", "embedding"]);
    let derived = compile(&vjp(&cut, &["embedding"], &[]).unwrap());
    let (mask, embedding, c) = (value(1, &[2, 5, 1]), value(2, &[2, 5, 4]), value(4, &[2, 3]));
    let at = |embedding: &ArrayD<f32>| {
        let feeds = [("mask", &mask), ("embedding", embedding), ("cotangent/y", &c)];
        let values = run(&derived, &feeds.map(|(name, array)| (name.to_owned(), array.clone())).to_vec());
        (dot(get(&values, "y"), &c), get(&values, "gradient/embedding").clone())
    };
    let direction = value(9, &[2, 5, 4]);
    let gradient = at(&embedding).1;
    let difference = (at(&(&embedding + &direction * 1e-2)).0 - at(&(&embedding - &direction * 1e-2)).0) / 2e-2;
    let slope = dot(&gradient, &direction);
    assert!((slope - difference).abs() < 1e-3 * slope.abs(), "{slope} but {difference}");
    // The original takes the tokens themselves.
    let whole = runtime().compile(of_tokens().bytes()).unwrap();
    let tokens = ndarray::arr2(&[[0i64, 1, 6, 3, 2], [5, 5, 4, 0, 1]]).into_dyn();
    let tokens = TypedArray::Int64(tokens);
    let values = whole.run(&[("tokens", (&tokens).into()), ("mask", mask.view().into())]).unwrap();
    assert_eq!(values.len(), 1);
}

#[test]
fn weights_can_be_inputs() {
    let cut = cut_at(&parse(&network()), &["x", "w"]).unwrap();
    let derived = vjp(&cut, &["w"], &[]).unwrap();
    assert_eq!(derived.outputs()[1].value_type.as_ref().unwrap().to_string(), "float32[6, 5]");
    compile(&derived);
    assert!(matches!(cut_at(&cut, &["nope"]), Err(GradientError::Request(_))));
}

/// Every operator that is lowered, on an `x` of n,4,7,6.
fn lowered() -> Vec<Model> {
    let conv = |op: &str, weight: &[i64], attributes: &[(&str, super::model::Value)]| {
        Model::new(13)
            .input("x", "n,4,7,6")
            .weight("w", weight)
            .weight("b", &[if op == "Conv" { weight[0] } else { 4 }])
            .node(op, &["x", "w", "b"], &["y"], attributes)
            .output("y")
    };
    let spatial = |op: &str, attributes: &[(&str, super::model::Value)]| {
        Model::new(20).input("x", "n,4,7,6").node(op, &["x"], &["y"], attributes).output("y")
    };
    let pads = || ("pads", [1, 0, 1, 2].into());
    let kernel = || ("kernel_shape", [3, 2].into());
    let strides = || ("strides", [2, 2].into());
    let resize = |scales: [f32; 4], attributes: &[(&str, super::model::Value)]| {
        Model::new(19)
            .input("x", "n,4,7,6")
            .floats("s", &[4], &scales)
            .node("Resize", &["x", "", "s"], &["y"], attributes)
            .output("y")
    };
    let normalised = Model::new(13)
        .input("x", "n,4,7,6")
        .weight("s", &[4])
        .weight("b", &[4])
        .node("InstanceNormalization", &["x", "s", "b"], &["y"], &[])
        .output("y");
    let sloped = Model::new(16).input("x", "n,4,7,6").weight("s", &[4, 1, 1]).node("PRelu", &["x", "s"], &["y"], &[]);
    let mut models = vec![
        conv("Conv", &[4, 4, 3, 2], &[pads()]),
        conv("Conv", &[6, 2, 3, 3], &[("group", 2.into()), strides(), ("dilations", [1, 2].into())]),
        conv("Conv", &[4, 1, 3, 3], &[("group", 4.into()), ("auto_pad", "SAME_UPPER".into()), strides()]),
        conv("Conv", &[4, 4, 2, 2], &[("auto_pad", "SAME_LOWER".into())]),
        conv("ConvTranspose", &[4, 4, 3, 2], &[strides(), pads(), ("output_padding", [1, 0].into())]),
        conv("ConvTranspose", &[4, 2, 2, 3], &[("group", 2.into()), ("dilations", [2, 1].into())]),
        conv("ConvTranspose", &[4, 4, 3, 3], &[strides(), ("auto_pad", "SAME_UPPER".into())]),
        spatial("AveragePool", &[kernel(), strides()]),
        spatial("AveragePool", &[kernel(), ("pads", [1, 1, 1, 0].into())]),
        spatial("AveragePool", &[kernel(), ("pads", [1, 1, 1, 0].into()), ("count_include_pad", 1.into())]),
        spatial("AveragePool", &[kernel(), strides(), ("ceil_mode", 1.into())]),
        spatial("GlobalAveragePool", &[]),
        spatial("GlobalMaxPool", &[]),
        spatial("LRN", &[("size", 3.into()), ("alpha", 0.4f32.into())]),
        spatial("LRN", &[("size", 5.into()), ("beta", 0.5f32.into())]),
        normalised,
        sloped.output("y"),
        resize([1.0, 1.0, 2.0, 1.5], &[("mode", "linear".into())]),
        resize([1.0, 1.0, 0.5, 2.0], &[("coordinate_transformation_mode", "asymmetric".into())]),
        resize(
            [1.0, 1.0, 2.0, 2.0],
            &[("mode", "linear".into()), ("coordinate_transformation_mode", "align_corners".into())],
        ),
        resize([1.0, 1.0, 2.0, 3.0], &[("nearest_mode", "floor".into())]),
        spatial("ReduceL2", &[]),
        spatial("ReduceL1", &[("keepdims", 0.into())]),
        spatial("Gelu", &[("approximate", "tanh".into())]),
        spatial("LeakyRelu", &[("alpha", 0.3f32.into())]),
        spatial("Celu", &[("alpha", 0.6f32.into())]),
    ];
    let plain = ["Elu", "Selu", "HardSigmoid", "HardSwish", "Softplus", "Softsign", "Mish", "Gelu", "Erf", "Cos"];
    models.extend(plain.map(|op| spatial(op, &[])));
    models
}

#[test]
fn doubles_compute_what_singles_do() {
    let x = value(5, &[2, 4, 7, 6]);
    let wide = TypedArray::Float64(x.mapv(f64::from));
    let mut failures = Vec::new();
    for model in lowered() {
        let label = format!("{:?}", model.proto.graph.as_ref().unwrap().node);
        let single = runtime().compile(model.bytes()).unwrap();
        let single = single.run(&[("x", x.view().into())]).unwrap();
        let single = single[0].view().unwrap().mapv(f64::from);
        let graph = in_double(&parse(&model), &[("x", &[2, 4, 7, 6])]).unwrap();
        let double =
            runtime().compile(graph.to_onnx()).and_then(|graph| graph.run(&[("x", (&wide).into())])?[0].to_array());
        match double {
            Ok(TypedArray::Float64(double)) => {
                let close = double.shape() == single.shape()
                    && double.iter().zip(&single).all(|(a, b)| (a - b).abs() < 2e-6 * b.abs().max(1.0));
                if !close {
                    failures.push(format!("{label}: {double} instead of {single}"));
                }
            }
            Ok(other) => failures.push(format!("{label}: {other:?}")),
            Err(error) => failures.push(format!("{label}: {error}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
