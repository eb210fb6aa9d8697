//! Sampling at computed places in the forms that files use.

use super::{
    calculus::Case,
    model::{Model, Value},
    operators::{affine, check_all, distinct},
};

pub fn cases() -> Vec<(&'static str, Case)> {
    let sample = |opset: i64, mode: &'static str, padding: &'static str, align: i64, free: bool| {
        let attributes: [(&str, Value); 3] =
            [("mode", mode.into()), ("padding_mode", padding.into()), ("align_corners", align.into())];
        let (image, grid) = if free { ("n,c,h,w", "n,a,b,2") } else { ("n,2,4,5", "n,3,2,2") };
        let model = placed(Model::new(opset).input("x", image).input("g", grid), &[2, 3, 2, 2]);
        let model = model.node("GridSample", &["x", "places"], &["y"], &attributes).output("y");
        ("GridSample", distinct(model, &[&[2, 2, 4, 5], &[2, 3, 2, 2]]))
    };
    let mut cases = Vec::new();
    for padding in ["zeros", "border"] {
        for align in [0, 1] {
            cases.push(sample(16, "bilinear", padding, align, false));
            cases.push(sample(20, "linear", padding, align, true));
            cases.push(sample(16, "nearest", padding, align, false));
        }
    }
    let cube = placed(Model::new(20).input("x", "n,1,3,4,3").input("g", "n,2,1,2,3"), &[1, 2, 1, 2, 3])
        .node("GridSample", &["x", "places"], &["y"], &[("mode", "linear".into())])
        .output("y");
    cases.push(("GridSample", distinct(cube, &[&[1, 1, 3, 4, 3], &[1, 2, 1, 2, 3]])));
    for align in [0, 1] {
        let align = [("align_corners", align.into())];
        for (matrix, sizes, x) in
            [("n,2,3", vec![2, 3, 4, 5], vec![2, 2, 3]), ("2,3,4", vec![2, 1, 3, 2, 4], vec![2, 3, 4])]
        {
            let model = Model::new(20).input("x", matrix).integers("s", &sizes);
            let model = model.node("AffineGrid", &["x", "s"], &["y"], &align).output("y");
            cases.push(("AffineGrid", affine(model, &[&x])));
        }
    }
    cases
}

/// Places on both sides of the border that move little, so that a step crosses no element.
fn placed(model: Model, shape: &[i64]) -> Model {
    model
        .weight("base", shape)
        .floats("wide", &[], &[1.5])
        .floats("little", &[], &[0.05])
        .node("Mul", &["base", "wide"], &["spread"], &[])
        .node("Mul", &["g", "little"], &["moved"], &[])
        .node("Add", &["spread", "moved"], &["places"], &[])
}

#[test]
fn grids_satisfy_calculus() {
    check_all(cases());
}
