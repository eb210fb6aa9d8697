//! Padding, slicing, gathering and scattering in the forms that files use.

use ndarray::ArrayD;
use transferscore::gradient::{Graph, vjp};

use super::{
    calculus::{Case, compile, get, run},
    model::{Model, Value, integer_tensor},
    operators::{affine, check_all, distinct, smooth, with},
};

/// Numbers that only the run shows: `name` = `values`, hidden behind the shape of `x`.
fn at_run_time(model: Model, name: &str, values: &[i64]) -> Model {
    let (shape, zero, plain) = (format!("{name}_shape"), format!("{name}_zero"), format!("{name}_plain"));
    let (first, none) = (format!("{name}_first"), format!("{name}_none"));
    model
        .integers(&plain, values)
        .integers(&zero, &[0])
        .node("Shape", &["x"], &[&shape], &[("end", 1.into())])
        .node("Mul", &[&shape, &zero], &[&none], &[])
        .node("Add", &[&plain, &none], &[&first], &[])
        .node("Identity", &[&first], &[name], &[])
}

fn integers(mut model: Model, name: &str, dims: &[i64], values: &[i64]) -> Model {
    model.graph().initializer.push(integer_tensor(name, dims, values));
    model
}

pub fn slices() -> Vec<(&'static str, Case)> {
    let far = i64::MAX;
    let slice = |shape: &str, s: &[i64], e: &[i64], a: &[i64], t: &[i64]| {
        with("Slice", shape, &[("s", s), ("e", e), ("a", a), ("t", t)], &[], &[2, 6, 5])
    };
    let unknown = at_run_time(at_run_time(Model::new(15).input("x", "n,h,w"), "s", &[1, -3]), "e", &[-1, far])
        .integers("a", &[1, 2])
        .node("Slice", &["x", "s", "e", "a"], &["y"], &[])
        .output("y");
    let old = Model::new(9)
        .input("x", "n,6,5")
        .node("Slice", &["x"], &["y"], &[("starts", [1, 0].into()), ("ends", [-1, 3].into()), ("axes", [1, 2].into())])
        .output("y");
    let index = |values: &[i64], dims: &[i64], shape: &str| {
        let model = integers(Model::new(13).input("x", shape), "i", dims, values);
        ("Gather", affine(model.node("Gather", &["x", "i"], &["y"], &[("axis", 1.into())]).output("y"), &[&[2, 5, 3]]))
    };
    vec![
        slice("n,6,5", &[1, 0], &[far, far], &[1, 2], &[2, 3]),
        slice("n,h,w", &[1, 0], &[far, far], &[1, 2], &[2, 2]),
        slice("n,h,5", &[0, 1], &[far, far], &[-2, -1], &[2, 2]),
        slice("n,h,w", &[1, -2], &[-2, far], &[1, 2], &[1, 1]),
        slice("n,6,5", &[-1], &[-far], &[2], &[-1]),
        slice("n,6,5", &[4], &[0], &[1], &[-3]),
        slice("n,h,w", &[-1], &[-far], &[2], &[-2]),
        ("Slice", affine(unknown, &[&[2, 6, 5]])),
        ("Slice", affine(between_transposes("n,3,6,5", false), &[&[2, 3, 6, 5]])),
        ("Slice", affine(between_transposes("n,3,h,w", false), &[&[2, 3, 6, 5]])),
        ("Slice", affine(between_transposes("n,3,6,5", true), &[&[2, 3, 6, 5]])),
        ("Slice", affine(old, &[&[2, 6, 5]])),
        index(&[2], &[], "n,5,3"),
        index(&[-1], &[], "n,c,3"),
        index(&[-2], &[1], "n,5,3"),
        index(&[1], &[1, 1], "n,5,3"),
        index(&[4, 2, 0, 1, 3], &[5], "n,5,3"),
        index(&[4, 2, 2, -5], &[2, 2], "n,5,3"),
        with("Tile", "n,3,4", &[("r", &[1, 3, 2])], &[], &[2, 3, 4]),
        with("Tile", "n,m,4", &[("r", &[2, 3, 1])], &[], &[2, 3, 4]),
        ("Tile", affine(repeated("Tile"), &[&[2, 3]])),
        ("Expand", affine(repeated("Expand"), &[&[1, 3]])),
        ("Range", smooth(counted(), &[&[], &[]])),
    ]
}

/// ONNX Runtime moves the transposes of the gradient through its padding, together.
fn between_transposes(shape: &str, late: bool) -> Model {
    let model = Model::new(18).input("x", shape);
    let model = if late { at_run_time(model, "s", &[2]) } else { model.integers("s", &[2]) };
    model
        .integers("e", &[i64::MAX])
        .integers("a", &[1])
        .node("Transpose", &["x"], &["t"], &[("perm", [0, 2, 3, 1].into())])
        .node("Slice", &["t", "s", "e", "a"], &["u"], &[])
        .node("Transpose", &["u"], &["y"], &[("perm", [0, 3, 1, 2].into())])
        .output("y")
}

/// A range whose start and step move so little that it keeps its length.
fn counted() -> Model {
    Model::new(13)
        .input("x", "")
        .input("d", "")
        .floats("little", &[], &[0.05])
        .floats("one", &[], &[1.0])
        .floats("end", &[], &[3.53])
        .node("Mul", &["x", "little"], &["start"], &[])
        .node("Mul", &["d", "little"], &["more"], &[])
        .node("Add", &["one", "more"], &["step"], &[])
        .node("Range", &["start", "end", "step"], &["y"], &[])
        .output("y")
}

/// Repetitions that only the run shows.
fn repeated(op: &str) -> Model {
    at_run_time(Model::new(15).input("x", "n,m"), "r", &[2, 3]).node(op, &["x", "r"], &["y"], &[]).output("y")
}

pub fn paddings() -> Vec<(&'static str, Case)> {
    let mut cases = Vec::new();
    for mode in ["constant", "reflect", "edge", "wrap"] {
        let mode = [("mode", mode.into())];
        cases.push(with("Pad", "n,4,5", &[("p", &[0, 2, 1, 0, 1, 3])], &mode, &[2, 4, 5]));
        cases.push(with("Pad", "n,h,w", &[("p", &[2, 1, 1, 3]), ("", &[]), ("a", &[1, -1])], &mode, &[2, 4, 5]));
        let free = at_run_time(Model::new(19).input("x", "n,4,5"), "p", &[0, 1, 2, 0, 2, 1]);
        cases.push(("Pad", affine(free.node("Pad", &["x", "p"], &["y"], &mode).output("y"), &[&[2, 4, 5]])));
        let old = [("pads", [0, 1, 2, 0, 1, 1].into()), ("value", 2.0f32.into()), mode[0].clone()];
        if !matches!(&mode[0].1, Value::Text("wrap")) {
            let old = Model::new(7).input("x", "n,4,5").node("Pad", &["x"], &["y"], &old).output("y");
            cases.push(("Pad", affine(old, &[&[2, 4, 5]])));
        }
    }
    let value = Model::new(13)
        .input("x", "n,4,5")
        .input("v", "")
        .integers("p", &[1, 0, -1, 0, 2, 3])
        .node("Pad", &["x", "p", "v"], &["y"], &[])
        .output("y");
    cases.push(("Pad", affine(value, &[&[2, 4, 5], &[]])));
    for sizes in [[6, 3], [3, 8], [5, 5]] {
        cases.push(with("CenterCropPad", "n,4,5", &[("t", &sizes)], &[("axes", [1, 2].into())], &[2, 4, 5]));
        cases.push(with("CenterCropPad", "n,h,w", &[("t", &sizes)], &[("axes", [-2, -1].into())], &[2, 4, 5]));
    }
    cases
}

pub fn splits() -> Vec<(&'static str, Case)> {
    let uneven = |shape: &str| {
        Model::new(18)
            .input("x", shape)
            .node("Split", &["x"], &["p", "q", "r"], &[("axis", 1.into()), ("num_outputs", 3.into())])
            .output("r")
            .output("p")
    };
    let free = Model::new(13)
        .input("x", "n,c,2")
        .node("Split", &["x"], &["p", "q"], &[("axis", 1.into())])
        .node("Concat", &["q", "p", "x"], &["y"], &[("axis", 1.into())])
        .output("y");
    vec![
        ("Split", affine(uneven("n,8"), &[&[3, 8]])),
        ("Split", affine(uneven("n,c"), &[&[3, 8]])),
        ("Concat", affine(free, &[&[2, 6, 2]])),
    ]
}

pub fn places() -> Vec<(&'static str, Case)> {
    let mut cases = Vec::new();
    let nested = |batch: i64, dims: &[i64], indices: &[i64], shape: &str| {
        let model = integers(Model::new(13).input("x", shape), "i", dims, indices);
        let model = model.node("GatherND", &["x", "i"], &["y"], &[("batch_dims", batch.into())]).output("y");
        ("GatherND", affine(model, &[&[2, 3, 4]]))
    };
    cases.push(nested(0, &[3, 2], &[0, 1, 1, 2, 0, 1], "n,3,4"));
    cases.push(nested(0, &[2, 1, 3], &[0, 1, -1, 1, 2, 0], "n,h,w"));
    cases.push(nested(1, &[2, 1], &[2, 0], "n,3,4"));
    cases.push(nested(1, &[2, 2, 2], &[2, 0, 1, 1, 0, 3, 0, 3], "n,3,w"));
    let elements = |shape: &str, axis: i64| {
        let model = integers(Model::new(13).input("x", shape), "i", &[2, 2], &[0, -1, -2, 0]);
        let model = model.node("GatherElements", &["x", "i"], &["y"], &[("axis", axis.into())]).output("y");
        ("GatherElements", affine(model, &[&[2, 3]]))
    };
    cases.extend([elements("2,3", 1), elements("n,c", -1)]);
    for (op, dims, indices) in [
        ("ScatterElements", [2i64, 2, 4], [0i64, 2, -1, 1, 2, 1, 0, 0, 1, 1, 2, 2, 0, 1, 2, 0].as_slice()),
        ("ScatterND", [2, 2, 2], &[0, 1, 1, 2, 1, -1, 0, 0]),
    ] {
        for reduction in ["none", "add", "mul", "max", "min"] {
            let mut model = integers(Model::new(18).input("x", "n,3,4").input("u", "a,b,c"), "i", &dims, indices);
            let mut attributes: Vec<(&str, Value)> = vec![("reduction", reduction.into())];
            if op == "ScatterElements" {
                attributes.push(("axis", 1.into()));
            }
            model = model.node(op, &["x", "i", "u"], &["y"], &attributes).output("y");
            let shapes: &[&[usize]] = &[&[2, 3, 4], &[2, 2, 4]];
            cases.push(match reduction {
                "none" | "add" => (op, affine(model, shapes)),
                "mul" => (op, smooth(model, shapes)),
                _ => (op, distinct(model, shapes)),
            });
        }
    }
    let old = integers(Model::new(9).input("x", "n,3").input("u", "2,2"), "i", &[2, 2], &[2, 0, 1, 2])
        .node("Scatter", &["x", "i", "u"], &["y"], &[("axis", 1.into())])
        .output("y");
    cases.push(("ScatterElements", affine(old, &[&[2, 3], &[2, 2]])));
    cases.push(("ScatterElements", smooth(with_zeros(), &[&[4]])));
    cases
}

/// A product over updates of which some are 0.
fn with_zeros() -> Model {
    integers(Model::new(18).input("x", "n").floats("m", &[4], &[0.0, 1.0, 0.0, 1.0]), "i", &[4], &[0, 0, 1, 2])
        .floats("d", &[3], &[1.5, -0.5, 2.0])
        .node("Mul", &["x", "m"], &["zero"], &[])
        .node("Add", &["zero", "x"], &["u"], &[])
        .node("ScatterElements", &["d", "i", "u"], &["y"], &[("reduction", "mul".into())])
        .output("y")
}

pub fn choices() -> Vec<(&'static str, Case)> {
    let mut cases = Vec::new();
    for (largest, sorted, axis) in [(1, 1, -1), (0, 1, 1), (1, 0, 1)] {
        let attributes = [("largest", largest.into()), ("sorted", sorted.into()), ("axis", axis.into())];
        let model = Model::new(11).input("x", "n,4,5").integers("k", &[3]);
        let model = model.node("TopK", &["x", "k"], &["y", "i"], &attributes).output("y");
        cases.push(("TopK", distinct(model, &[&[2, 4, 5]])));
    }
    let old = Model::new(7).input("x", "n,6").node("TopK", &["x"], &["y", "i"], &[("k", 2.into())]).output("y");
    cases.push(("TopK", distinct(old, &[&[2, 6]])));
    let compress = |axis: Option<i64>| {
        let attributes: Vec<(&str, Value)> = axis.map(|axis| ("axis", axis.into())).into_iter().collect();
        Model::new(13)
            .input("x", "n,4")
            .floats("f", &[4], &[1.0, -1.0, 1.0, 1.0])
            .floats("zero", &[], &[0.0])
            .node("Greater", &["f", "zero"], &["c"], &[])
            .node("Compress", &["x", "c"], &["y"], &attributes)
            .output("y")
    };
    cases.push(("Compress", affine(compress(Some(1)), &[&[2, 4]])));
    cases.push(("Compress", affine(compress(None), &[&[2, 4]])));
    let reverse = |batch: i64, time: i64, shape: &'static str| {
        let attributes = [("batch_axis", batch.into()), ("time_axis", time.into())];
        with("ReverseSequence", shape, &[("l", &[1, 3, 2])], &attributes, &[3, 3, 2])
    };
    cases.extend([reverse(0, 1, "n,t,2"), reverse(1, 0, "3,3,2")]);
    let hot = integers(Model::new(11).input("x", "2"), "i", &[2, 2], &[0, 2, -1, 7])
        .integers("d", &[4])
        .node("OneHot", &["i", "d", "x"], &["y"], &[("axis", 1.into())])
        .output("y");
    cases.push(("OneHot", affine(hot, &[&[2]])));
    for upper in [0, 1] {
        cases.push((
            "Trilu",
            affine(
                Model::new(14)
                    .input("x", "n,3,4")
                    .node("Trilu", &["x"], &["y"], &[("upper", upper.into())])
                    .output("y"),
                &[&[2, 3, 4]],
            ),
        ));
    }
    cases.extend(unpoolings());
    for op in ["DepthToSpace", "SpaceToDepth"] {
        let model = Model::new(7).input("x", "n,4,h,w").node(op, &["x"], &["y"], &[("blocksize", 2.into())]);
        cases.push((op, affine(model.output("y"), &[&[2, 4, 4, 2]])));
    }
    cases
}

fn unpoolings() -> Vec<(&'static str, Case)> {
    let unpooled = |stride: [i64; 2], shape: &str| {
        let window = [("kernel_shape", [2, 2].into()), ("strides", stride.into())];
        Model::new(11)
            .input("x", shape)
            .node("MaxPool", &["x"], &["m", "i"], &window)
            .node("Mul", &["m", "m"], &["s"], &[])
            .node("MaxUnpool", &["s", "i"], &["y"], &window)
            .output("y")
    };
    let columns = |shape: &str, image: &[i64], block: &[i64], attributes: &[(&str, Value)], x: &[usize]| {
        with("Col2Im", shape, &[("s", image), ("b", block)], attributes, x)
    };
    vec![
        ("MaxUnpool", distinct(unpooled([2, 2], "n,2,4,6"), &[&[2, 2, 4, 6]])),
        ("MaxUnpool", distinct(unpooled([1, 1], "n,2,4,4"), &[&[2, 2, 4, 4]])),
        ("MaxUnpool", distinct(unpooled([2, 2], "n,2,h,w"), &[&[2, 2, 4, 6]])),
        columns("n,8,6", &[3, 4], &[2, 2], &[], &[2, 8, 6]),
        columns("n,12,9", &[4, 5], &[2, 3], &[("strides", [2, 2].into()), ("pads", [1, 1, 1, 1].into())], &[2, 12, 9]),
        columns("n,8,6", &[4, 3], &[2, 2], &[("strides", [1, 2].into()), ("pads", [0, 1, 0, 1].into())], &[2, 8, 6]),
        columns("n,4,l", &[4, 4], &[2, 2], &[("pads", [0, 0, 1, 2].into())], &[2, 4, 20]),
        columns("n,6,l", &[7], &[3], &[("pads", [1, 0].into())], &[2, 6, 6]),
        columns("n,8,l", &[5, 4], &[2, 2], &[("dilations", [2, 1].into())], &[2, 8, 9]),
        columns("n,8,l", &[5, 4], &[2, 2], &[("dilations", [2, 2].into())], &[2, 8, 6]),
        columns("n,8,l", &[3, 4, 2], &[2, 2, 2], &[], &[2, 8, 6]),
    ]
}

/// ONNX Runtime crashes on a `Split` that leaves out an output, so import names it.
#[test]
fn parts_without_names_get_some() {
    let model = Model::new(13)
        .input("x", "n,7")
        .integers("s", &[2, 4, 1])
        .node("Split", &["x", "s"], &["p", "", "r"], &[("axis", 1.into())])
        .output("p");
    let pulled = vjp(&Graph::parse(model.bytes()).unwrap(), &[], &[]).unwrap();
    let cotangent = ArrayD::from_elem(vec![1, 2], 1.0);
    let feeds = vec![("x".to_owned(), ArrayD::from_elem(vec![1, 7], 0.5)), ("cotangent/p".to_owned(), cotangent)];
    let gradient = run(&compile(&pulled), &feeds);
    assert_eq!(get(&gradient, "gradient/x").as_slice().unwrap(), [1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn slices_satisfy_calculus() {
    check_all(slices());
}

#[test]
fn paddings_satisfy_calculus() {
    check_all(paddings());
}

#[test]
fn splits_satisfy_calculus() {
    check_all(splits());
}

#[test]
fn places_satisfy_calculus() {
    check_all(places());
}

#[test]
fn choices_satisfy_calculus() {
    check_all(choices());
}
