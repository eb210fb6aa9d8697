//! Resizing in the forms that files use.

use super::{
    calculus::{Case, check},
    model::{Model, Value},
    operators::affine,
};

/// How a case says the size of the result.
enum Target<'a> {
    Scales(&'a [f32]),
    Sizes(&'a [i64]),
}

use Target::{Scales, Sizes};

fn resize(opset: i64, shape: &str, target: Target, attributes: &[(&str, Value)]) -> Model {
    // Before opset 13 no input may be left out, only empty.
    let none = if opset < 13 { "none" } else { "" };
    let model = Model::new(opset).input("x", shape).floats("none", &[0], &[]);
    let (model, inputs) = match target {
        Scales(scales) => (model.floats("s", &[scales.len() as i64], scales), vec!["x", none, "s"]),
        Sizes(sizes) => (model.integers("s", sizes), vec!["x", none, none, "s"]),
    };
    model.node("Resize", &inputs, &["y"], attributes).output("y")
}

fn case(opset: i64, shape: &str, target: Target, attributes: &[(&str, Value)], x: &[usize]) -> (&'static str, Case) {
    ("Resize", affine(resize(opset, shape, target, attributes), &[x]))
}

const COORDINATES: [&str; 5] =
    ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"];

/// Every mode with every way of counting coordinates, growing and shrinking by odd factors.
pub fn modes() -> Vec<(&'static str, Case)> {
    let mut cases = Vec::new();
    for coordinates in COORDINATES {
        let common = |mode: &'static str| {
            vec![("mode", mode.into()), ("coordinate_transformation_mode", coordinates.into())] as Vec<(&str, Value)>
        };
        for rounding in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] {
            let attributes = [common("nearest"), vec![("nearest_mode", rounding.into())]].concat();
            cases.push(case(19, "n,2,5,6", Scales(&[1.0, 1.0, 2.0, 2.0]), &attributes, &[1, 2, 5, 6]));
            cases.push(case(19, "n,2,5,6", Scales(&[1.0, 1.0, 3.0, 0.6]), &attributes, &[1, 2, 5, 6]));
            cases.push(case(19, "n,2,h,w", Scales(&[1.0, 1.0, 2.0, 3.0]), &attributes, &[1, 2, 5, 6]));
            cases.push(case(19, "2,3,4", Scales(&[1.3, 2.0, 0.7]), &attributes, &[2, 3, 4]));
        }
        for mode in ["linear", "cubic"] {
            cases.push(case(19, "n,2,5,6", Scales(&[1.0, 1.0, 1.7, 0.6]), &common(mode), &[1, 2, 5, 6]));
            cases.push(case(19, "n,2,h,w", Scales(&[1.0, 1.0, 2.0, 2.5]), &common(mode), &[1, 2, 5, 6]));
            cases.push(case(19, "n,2,5,6", Sizes(&[1, 2, 7, 4]), &common(mode), &[1, 2, 5, 6]));
            cases.push(case(19, "5,6", Sizes(&[1, 7]), &common(mode), &[5, 6]));
            let outside = [common(mode), vec![("antialias", 1.into())]].concat();
            cases.push(case(19, "n,2,8,9", Sizes(&[1, 2, 3, 12]), &outside, &[1, 2, 8, 9]));
        }
        let outside = [common("cubic"), vec![("exclude_outside", 1.into()), ("cubic_coeff_a", (-0.5f32).into())]];
        cases.push(case(19, "n,2,5,6", Scales(&[1.0, 1.0, 1.7, 0.6]), &outside.concat(), &[1, 2, 5, 6]));
        cases.push(case(19, "n,1,3,4,3", Sizes(&[1, 1, 5, 4, 2]), &common("linear"), &[1, 1, 3, 4, 3]));
        cases.push(case(19, "n,1,a,b,c", Scales(&[1., 1., 2., 0.7, 2.]), &common("linear"), &[1, 1, 3, 4, 3]));
        cases.push(case(19, "n,5,6,2", Scales(&[1.0, 1.8, 0.6, 1.0]), &common("linear"), &[1, 5, 6, 2]));
    }
    cases
}

/// Axes, aspect ratios, regions of interest, sizes that only the run shows, and old operator sets.
pub fn forms() -> Vec<(&'static str, Case)> {
    let axes = |mode: &'static str| [("mode", mode.into()), ("axes", [3, 2].into())] as [(&str, Value); 2];
    let mut cases = vec![
        case(18, "n,2,5,6", Scales(&[2.0, 0.7]), &axes("nearest"), &[2, 2, 5, 6]),
        case(18, "n,2,h,w", Sizes(&[11, 4]), &axes("linear"), &[2, 2, 5, 6]),
        case(18, "n,2,h,w", Scales(&[2.0, 2.0]), &axes("nearest"), &[2, 2, 5, 6]),
        case(13, "n,2,6", Scales(&[1.0, 1.0, 2.0]), &[("mode", "linear".into())], &[2, 2, 6]),
        case(13, "6", Scales(&[2.0]), &[], &[6]),
        case(11, "n,2,3,3", Sizes(&[2, 2, 6, 6]), &[], &[2, 2, 3, 3]),
        case(13, "n,2,300,2", Scales(&[1.0, 1.0, 4.0, 1.0]), &[("mode", "linear".into())], &[1, 2, 300, 2]),
        case(13, "n,1,1100,2", Scales(&[1.0, 1.0, 0.5, 1.0]), &[("mode", "linear".into())], &[1, 1, 1100, 2]),
        ("Resize", affine(computed_size("n,2,h,w", &[("mode", "linear".into())]), &[&[2, 2, 3, 4]])),
        ("Resize", affine(computed_size("n,2,h,w", &[]), &[&[2, 2, 3, 4]])),
        ("Resize", affine(empty_inputs(), &[&[2, 2, 3, 4]])),
        (
            "Resize",
            affine(
                resize(
                    11,
                    "n,1,4,4",
                    Scales(&[1.0, 1.0, 3.0, 2.0]),
                    &[
                        ("coordinate_transformation_mode", "tf_half_pixel_for_nn".into()),
                        ("nearest_mode", "floor".into()),
                    ],
                ),
                &[&[2, 1, 4, 4]],
            ),
        ),
    ];
    for policy in ["not_larger", "not_smaller"] {
        for mode in ["nearest", "linear", "cubic"] {
            let attributes: [(&str, Value); 3] =
                [("mode", mode.into()), ("axes", [2, 3].into()), ("keep_aspect_ratio_policy", policy.into())];
            cases.push(case(18, "n,1,5,7", Sizes(&[8, 9]), &attributes, &[2, 1, 5, 7]));
            cases.push(case(18, "n,1,5,7", Sizes(&[4, 3]), &attributes, &[2, 1, 5, 7]));
        }
    }
    for mode in ["nearest", "linear", "cubic"] {
        cases.push(("Resize", affine(cropped(mode, "n,1,5,6"), &[&[1, 1, 5, 6]])));
        cases.push(("Resize", affine(cropped(mode, "n,1,h,w"), &[&[1, 1, 5, 6]])));
    }
    for mode in ["nearest", "linear"] {
        for scales in [[1.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.5, 1.0]] {
            cases.push(("Resize", affine(upsample(7, mode, &scales), &[&[2, 2, 4, 5]])));
            cases.push(("Resize", affine(upsample(9, mode, &scales), &[&[2, 2, 4, 5]])));
            cases.push(("Resize", affine(upsample(10, mode, &scales), &[&[2, 2, 4, 5]])));
        }
        cases.push(("Resize", affine(upsample(10, mode, &[1.0, 1.0, 0.6, 0.5]), &[&[2, 2, 4, 5]])));
    }
    cases
}

/// Twice the size, computed from the shape as exporters do.
fn computed_size(shape: &str, attributes: &[(&str, Value)]) -> Model {
    Model::new(13)
        .input("x", shape)
        .integers("two", &[2])
        .node("Shape", &["x"], &["shape"], &[])
        .integers("zero", &[0])
        .integers("middle", &[2])
        .integers("end", &[4])
        .node("Slice", &["shape", "zero", "middle"], &["front"], &[])
        .node("Slice", &["shape", "middle", "end"], &["size"], &[])
        .node("Mul", &["size", "two"], &["twice"], &[])
        .node("Concat", &["front", "twice"], &["target"], &[("axis", 0.into())])
        .node("Resize", &["x", "", "", "target"], &["y"], attributes)
        .output("y")
}

/// Empty tensors for the inputs that are not used, as PyTorch wrote for opset 11.
fn empty_inputs() -> Model {
    Model::new(11)
        .input("x", "n,2,3,4")
        .floats("none", &[0], &[])
        .integers("target", &[2, 2, 5, 6])
        .node("Resize", &["x", "none", "none", "target"], &["y"], &[("mode", "linear".into())])
        .output("y")
}

/// A region that lies partly outside.
fn cropped(mode: &'static str, shape: &str) -> Model {
    Model::new(13)
        .input("x", shape)
        .floats("roi", &[8], &[0.0, 0.0, 0.3, -0.2, 1.0, 1.0, 1.4, 0.9])
        .integers("target", &[1, 1, 6, 5])
        .node(
            "Resize",
            &["x", "roi", "", "target"],
            &["y"],
            &[
                ("mode", mode.into()),
                ("coordinate_transformation_mode", "tf_crop_and_resize".into()),
                ("extrapolation_value", 3.0f32.into()),
            ],
        )
        .output("y")
}

fn upsample(opset: i64, mode: &'static str, scales: &[f32]) -> Model {
    let model = Model::new(opset).input("x", "n,2,4,5");
    let mode = ("mode", mode.into());
    let model = match opset {
        7 => model.node("Upsample", &["x"], &["y"], &[mode, ("scales", Value::Floats(scales.to_vec()))]),
        9 => model.floats("s", &[4], scales).node("Upsample", &["x", "s"], &["y"], &[mode]),
        _ => model.floats("s", &[4], scales).node("Resize", &["x", "s"], &["y"], &[mode]),
    };
    model.output("y")
}

fn failures(cases: Vec<(&str, Case)>) -> Vec<String> {
    let failed =
        |(at, (name, case)): (usize, &(&str, Case))| check(case).err().map(|error| format!("{name} {at}: {error}"));
    cases.iter().enumerate().filter_map(failed).collect()
}

#[test]
fn modes_of_resizing_satisfy_calculus() {
    let failures = failures(modes());
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn forms_of_resizing_satisfy_calculus() {
    let failures = failures(forms());
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}
