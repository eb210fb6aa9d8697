//! The forms for each device. Every case of `calculus` is checked in both; here is what those for CUDA are made of.
//!
//! Nothing here runs on a graphics card: ONNX Runtime's CPU runs the same graphs.

mod kernels;

use std::collections::BTreeSet;

use prost::Message;
use transferscore::{
    gradient::{
        Graph, Loss, Target, compose,
        compose::{Accumulated, Interpolation, Layout, Norm, Optimizer, Preprocessing},
        cut_at, in_double, in_single, jvp,
        onnx::{ModelProto, NodeProto},
        vjp, vjp_parts, widened,
    },
    runtime::{Feed, TypedArray},
};

use super::{
    calculus::{Random, Values, check, compile},
    forms::{Image, Net, checked, counts, lines},
    model::{Model, Value, unary},
    operators::{affine, distinct},
};

fn on_cuda(model: &Model) -> Graph {
    Graph::parse(model.bytes()).unwrap().for_target(Target::Cuda)
}

fn nodes(graph: &Graph) -> Vec<NodeProto> {
    ModelProto::decode(graph.to_onnx().as_slice()).unwrap().graph.unwrap().node
}

fn ints(node: &NodeProto, name: &str) -> Vec<i64> {
    node.attribute.iter().find(|attribute| attribute.name == name).unwrap().ints.clone()
}

/// Kernel sizes, and the attributes of windows of them.
fn windows(rank: usize) -> Vec<(i64, Vec<(&'static str, Value)>)> {
    let fill = |value: i64| vec![value; rank];
    let sides = [[0, 0], [1, 1], [0, 1], [2, 0], [1, 2]].map(|[front, behind]| [fill(front), fill(behind)].concat());
    let paddings = sides.map(|pads| ("pads", Value::Ints(pads))).into_iter();
    let paddings =
        paddings.chain(["SAME_UPPER", "SAME_LOWER", "VALID"].map(|automatic| ("auto_pad", automatic.into())));
    let paddings: Vec<(&'static str, Value)> = paddings.collect();
    let mut found = Vec::new();
    for (kernel, dilation) in [(1, 1), (2, 1), (3, 1), (3, 2)] {
        for stride in [1, 2, 3] {
            // ONNX Runtime does not pad dilated windows by itself.
            for padding in paddings.iter().filter(|(name, _)| dilation == 1 || *name == "pads") {
                let (strides, dilations) = (Value::Ints(fill(stride)), Value::Ints(fill(dilation)));
                found.push((kernel, vec![("strides", strides), ("dilations", dilations), padding.clone()]));
            }
        }
    }
    found
}

/// Checks a convolution of 4 channels, and that its adjoint is a transposed one of the same weight that is padded evenly.
fn check_convolution(sizes: &[i64], is_free: bool, groups: i64, kernel: i64, window: &[(&'static str, Value)]) {
    let rank = sizes.len();
    let shape: Vec<String> = match is_free {
        true => (0..rank).map(|axis| format!("s{axis}")).collect(),
        false => sizes.iter().map(i64::to_string).collect(),
    };
    let attributes = [window, &[("group", groups.into())]].concat();
    let model = Model::new(17)
        .input("x", &format!("n,4,{}", shape.join(",")))
        .weight("w", &[vec![8, 4 / groups], vec![kernel; rank]].concat())
        .node("Conv", &["x", "w"], &["y"], &attributes)
        .output("y");
    let graph = vjp(&on_cuda(&model), &[], &[]).unwrap();
    let nodes = nodes(&graph);
    let what = format!("kernels of {kernel} in {groups} groups on {sizes:?}: {nodes:#?}");
    let x: Vec<usize> = [2, 4].into_iter().chain(sizes.iter().map(|&size| size as usize)).collect();
    check(&affine(model, &[&x])).unwrap_or_else(|error| panic!("{error}, {what}"));
    let transposed: Vec<&NodeProto> = nodes.iter().filter(|node| node.op_type == "ConvTranspose").collect();
    assert_eq!((transposed.len(), counts(&graph)["Conv"]), (1, 1), "{what}");
    assert_eq!(transposed[0].input[1], "w", "{what}");
    let (pads, strides) = (ints(transposed[0], "pads"), ints(transposed[0], "strides"));
    assert_eq!(pads[..rank], pads[rank..], "{what}");
    let added = ints(transposed[0], "output_padding");
    assert!(added.iter().zip(&strides).all(|(added, stride)| (0..*stride).contains(added)), "{what}");
    let is_even = window.iter().any(|(_, value)| match value {
        Value::Ints(pads) if pads.len() == 2 * rank => pads[..rank] == pads[rank..],
        _ => false,
    });
    if is_even && !is_free {
        assert_eq!(nodes.len(), 3, "nothing but the model, its adjoint and the gradient's name: {what}");
    }
}

#[test]
fn adjoints_of_convolutions_are_transposed_with_the_same_weight() {
    let shapes: [(&[i64], bool, i64); 4] =
        [(&[9], false, 2), (&[8, 7], false, 1), (&[8, 7], true, 4), (&[6, 5, 7], false, 1)];
    for (sizes, is_free, groups) in shapes {
        for (kernel, window) in windows(sizes.len()) {
            check_convolution(sizes, is_free, groups, kernel, &window);
        }
    }
}

/// The flat places that each scattering of a gradient graph writes to, for an image.
fn places(graph: &Graph, x: &[usize]) -> Vec<Vec<i64>> {
    let scatterings = nodes(graph).into_iter().filter(|node| node.op_type == "ScatterElements");
    let names: Vec<String> = scatterings.map(|node| node.input[1].clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let executable = compile(&compose::with_outputs(graph, &names).unwrap());
    let image = Random::new(6).array(x, Values::Distinct);
    let y = graph.outputs()[0].value_type.clone().unwrap().known_shape().unwrap();
    let cotangent = Random::new(7).array(&y.iter().map(|&size| size as usize).collect::<Vec<_>>(), Values::Positive);
    let feeds: [(&str, Feed); 2] = [("x", image.view().into()), ("cotangent/y", cotangent.view().into())];
    let values = executable.run(&feeds).unwrap();
    let integers = values.iter().map(|value| match value.to_array().unwrap() {
        TypedArray::Int64(places) => places.into_iter().collect(),
        other => panic!("places are {other:?}"),
    });
    integers.collect()
}

#[test]
fn maxima_of_overlapping_windows_are_written_in_rounds_without_collisions() {
    // Sizes, kernel, stride, dilation, rounds.
    type Windows = (&'static [usize], &'static [i64], i64, i64, usize);
    let cases: [Windows; 10] = [
        (&[9], &[3], 1, 1, 3),
        (&[9], &[2], 2, 1, 1),
        (&[9, 8], &[3, 3], 2, 1, 4),
        (&[9, 8], &[3, 3], 1, 1, 9),
        (&[9, 8], &[2, 2], 2, 1, 1),
        (&[9, 8], &[3, 2], 2, 1, 2),
        (&[9, 8], &[2, 2], 2, 2, 4),
        // One row of windows, whatever their size.
        (&[3, 9], &[3, 3], 2, 1, 2),
        (&[7, 7, 7], &[3, 3, 3], 2, 1, 8),
        // Too many rounds.
        (&[12, 12], &[6, 6], 1, 1, 1),
    ];
    for (sizes, kernel, stride, dilation, expected) in cases {
        let same = |value: i64| Value::Ints(vec![value; sizes.len()]);
        let attributes =
            [("kernel_shape", Value::Ints(kernel.to_vec())), ("strides", same(stride)), ("dilations", same(dilation))];
        let shape: Vec<String> = sizes.iter().map(usize::to_string).collect();
        let x: Vec<usize> = [2, 3].iter().chain(sizes).copied().collect();
        let model = unary("MaxPool", &format!("2,3,{}", shape.join(",")), &attributes);
        check(&distinct(model.clone(), &[&x])).unwrap();
        let graph = vjp(&on_cuda(&model), &[], &[]).unwrap();
        let rounds = places(&graph, &x);
        assert_eq!(rounds.len(), expected, "{sizes:?} {kernel:?}");
        let windows: usize = rounds.iter().map(Vec::len).sum();
        let y = graph.outputs()[0].value_type.clone().unwrap().known_shape().unwrap();
        assert_eq!(windows as u64, y.iter().product::<u64>());
        let collide = |places: &Vec<i64>| places.iter().collect::<BTreeSet<_>>().len() < places.len();
        assert!(expected == 1 || !rounds.iter().any(collide), "{sizes:?} {kernel:?}: {rounds:?}");
        // Sizes that only the run shows; there may be fewer windows than rounds.
        let free: Vec<String> = (0..sizes.len()).map(|axis| format!("s{axis}")).collect();
        let model = unary("MaxPool", &format!("n,3,{}", free.join(",")), &attributes);
        check(&distinct(model, &[&x])).unwrap();
    }
}

#[test]
fn nothing_is_arranged_for_a_layout_that_graphics_cards_do_not_have() {
    for mean in ["ReduceMean", "GlobalAveragePool"] {
        let (mut net, x) = Net::on("n,3,9,9", 9);
        let first = net.conv(&x, 16, 3, 1);
        let gated = net.gated(&first, mean, "Sigmoid");
        let second = net.conv(&gated, 32, 3, 2);
        let y = net.pooled(&second, mean);
        let model = net.finish(&[&y.name]);
        let cpu = checked(&model, &[("x", &[2, 3, 9, 9])]);
        let arranged = |graph: &Graph| lines(graph).iter().filter(|line| line.contains("layout/")).count();
        assert!(arranged(&cpu) > 0, "{:?}", lines(&cpu));
        let graph = on_cuda(&model);
        let parts = vjp_parts(&graph, &[], &[]).unwrap();
        let cuda = vjp(&graph, &[], &[]).unwrap();
        for graph in [&cuda, &jvp(&graph, &[], &[]).unwrap(), &parts.forward, &parts.backward] {
            assert_eq!((arranged(graph), counts(graph).get("Resize")), (0, None), "{:?}", lines(graph));
        }
        // A mean stays what the model has it as.
        assert_eq!(counts(&cuda).get(mean), Some(&2), "{:?}", lines(&cuda));
    }
}

#[test]
fn transposed_convolutions_take_factors_of_channels_in() {
    let before = |net: &mut Net, x: &Image| {
        let normal = net.normalized(x);
        net.act("Relu", &normal)
    };
    type Convolve = fn(&mut Net, &Image) -> Image;
    let convolutions: [Convolve; 3] = [
        |net, x| net.conv(x, 8, 3, 1),
        |net, x| net.depthwise(x, 3, 2),
        |net, x| {
            let weight = net.weight(8, 3, 3);
            net.windowed("Conv", &[&x.name, &weight], x, 8, (3, 1), &[("group", 2.into())])
        },
    ];
    for convolve in convolutions {
        let (mut net, x) = Net::on("n,6,8,8", 8);
        let y = before(&mut net, &x);
        let y = convolve(&mut net, &y);
        let model = net.finish(&[&y.name]);
        checked(&model, &[("x", &[2, 6, 8, 8])]);
        let graph = vjp(&on_cuda(&model), &[], &[]).unwrap();
        let takes = |line: &&String| line.contains("= ConvTranspose(") && line.contains("/scaled_by/");
        assert_eq!(lines(&graph).iter().filter(takes).count(), 1, "{:?}", lines(&graph));
        assert_eq!(counts(&graph)["Mul"], 1, "{:?}", lines(&graph));
    }
}

fn network() -> Model {
    Model::new(17)
        .input("x", "n,2,6,6")
        .weight("w", &[4, 2, 3, 3])
        .weight("v", &[64, 3])
        .node("Conv", &["x", "w"], &["c"], &[])
        .node("Relu", &["c"], &["r"], &[])
        .node("Flatten", &["r"], &["f"], &[])
        .node("MatMul", &["f", "v"], &["y"], &[])
        .output("y")
}

fn step_of_attack(graph: &Graph) -> Graph {
    compose::attack_step(graph, "x", "y", Loss::SoftCrossEntropy, Norm::L2, Accumulated::Gradients).unwrap()
}

fn step_of_training(graph: &Graph) -> Graph {
    compose::training_step(graph, "y", &["w", "v"], Loss::SoftCrossEntropy, Optimizer::AdamW).unwrap()
}

fn preprocessed(graph: &Graph) -> Graph {
    let settings = Preprocessing {
        sample_shape: vec![2, 9, 9],
        size: Some([6, 6]),
        interpolation: Interpolation::Bilinear,
        mean: vec![0.4, 0.5],
        std: vec![0.5, 0.3],
        layout: Layout::Nchw,
    };
    compose::with_preprocessing(graph, "x", &settings).unwrap()
}

#[test]
fn what_is_made_of_a_graph_is_for_the_same_device() {
    let graph = Graph::parse(network().bytes()).unwrap();
    assert_eq!(graph.target(), Target::Cpu);
    for target in [Target::Cpu, Target::Cuda] {
        let graph = graph.clone().for_target(target);
        let parts = vjp_parts(&graph, &[], &[]).unwrap();
        let made = [
            vjp(&graph, &[], &[]).unwrap(),
            jvp(&graph, &[], &[]).unwrap(),
            parts.forward,
            parts.backward,
            step_of_attack(&graph),
            step_of_training(&graph),
            preprocessed(&graph),
            compose::with_loss(&graph, "y", Loss::Margin).unwrap(),
            compose::with_outputs(&graph, &["r"]).unwrap(),
            cut_at(&graph, &["r"]).unwrap(),
            in_single(&graph).unwrap(),
            widened(&graph).unwrap(),
            in_double(&graph, &[("x", &[2, 2, 6, 6])]).unwrap(),
        ];
        assert!(made.iter().all(|graph| graph.target() == target), "{target:?}");
    }
}

#[test]
fn the_device_is_in_no_file() {
    let graph = Graph::parse(network().bytes()).unwrap();
    let cuda = graph.clone().for_target(Target::Cuda);
    assert_eq!(graph.to_onnx(), cuda.to_onnx());
    let derived = |graph: &Graph| vjp(graph, &[], &[]).unwrap().to_onnx();
    assert_ne!(derived(&graph), derived(&cuda));
    assert_eq!(derived(&graph), derived(&cuda.for_target(Target::Cpu)));
}

#[test]
fn files_of_new_opsets_are_written_in_the_one_that_has_kernels() {
    let opset = |graph: &Graph| ModelProto::decode(graph.to_onnx().as_slice()).unwrap().opset_import[0].version;
    let pooled = |opset: i64| {
        let window = [("kernel_shape", [2, 2].into()), ("strides", [2, 2].into())];
        Model::new(opset).input("x", "n,2,6,6").node("MaxPool", &["x"], &["y"], &window).output("y")
    };
    for declared in [22, 26] {
        let model = pooled(declared);
        check(&distinct(model.clone(), &[&[2, 2, 6, 6]])).unwrap();
        let graph = Graph::parse(model.bytes()).unwrap();
        assert_eq!(opset(&vjp(&graph, &[], &[]).unwrap()), declared);
        let cuda = graph.for_target(Target::Cuda);
        assert_eq!((opset(&cuda), opset(&vjp(&cuda, &[], &[]).unwrap())), (21, 21));
    }
    // What that opset does not have.
    let newer = Model::new(24).input("x", "n,4").node("Swish", &["x"], &["y"], &[]).output("y");
    let narrow = pooled(22).typed("x", 16).typed("y", 16);
    let rounded = [("to", 1.into()), ("round_mode", "down".into())];
    let rounded = Model::new(24).input("x", "n,4").node("Cast", &["x"], &["y"], &rounded).output("y");
    for (model, expected) in [(newer, 24), (narrow, 22), (rounded, 24)] {
        assert_eq!(opset(&on_cuda(&model)), expected);
    }
}
