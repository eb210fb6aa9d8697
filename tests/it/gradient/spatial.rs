//! Convolution and pooling in the forms that files use.

use super::{
    calculus::Case,
    model::{Model, Value, unary},
    operators::{affine, distinct, smooth},
};

fn convolution(op: &str, shape: &str, weight: &[i64], bias: i64, attributes: &[(&str, Value)]) -> Model {
    Model::new(13)
        .input("x", shape)
        .weight("w", weight)
        .weight("b", &[bias])
        .node(op, &["x", "w", "b"], &["y"], attributes)
        .output("y")
}

pub fn convolutions() -> Vec<(&'static str, Case)> {
    let conv = |shape: &str, weight: &[i64], attributes: &[(&str, Value)], x: &[usize]| {
        ("Conv", affine(convolution("Conv", shape, weight, weight[0], attributes), &[x]))
    };
    let transposed = |weight: &[i64], bias: i64, attributes: &[(&str, Value)], x: &[usize]| {
        ("ConvTranspose", affine(convolution("ConvTranspose", "n,c,h,w", weight, bias, attributes), &[x]))
    };
    let variable_bias = Model::new(13)
        .input("x", "n,2,5,5")
        .input("b", "3")
        .weight("w", &[3, 2, 3, 3])
        .node("Conv", &["x", "w", "b"], &["y"], &[])
        .output("y");
    let computed_weight = Model::new(13)
        .input("x", "n,2,5,5")
        .weight("v", &[3, 2, 3, 3])
        .node("Relu", &["v"], &["w"], &[])
        .node("Conv", &["x", "w"], &["y"], &[("pads", [1, 0, 1, 0].into())])
        .output("y");
    vec![
        conv("n,2,7,6", &[3, 2, 3, 3], &[("pads", [1, 1, 1, 1].into())], &[2, 2, 7, 6]),
        conv("n,2,7,6", &[3, 2, 3, 2], &[], &[2, 2, 7, 6]),
        conv("n,2,h,w", &[3, 2, 3, 3], &[("pads", [1, 0, 1, 2].into())], &[2, 2, 7, 6]),
        conv("n,2,h,w", &[3, 2, 3, 3], &[("auto_pad", "SAME_UPPER".into())], &[2, 2, 7, 6]),
        conv("n,2,h,w", &[3, 2, 2, 4], &[("auto_pad", "SAME_LOWER".into())], &[2, 2, 7, 6]),
        conv("n,2,7,6", &[3, 2, 1, 1], &[], &[2, 2, 7, 6]),
        conv("n,2,4,4", &[3, 2, 1, 1], &[("pads", [1, 1, 1, 1].into())], &[2, 2, 4, 4]),
        conv("n,2,8,7", &[3, 2, 3, 3], &[("strides", [2, 2].into()), ("pads", [1, 1, 1, 1].into())], &[2, 2, 8, 7]),
        conv("n,2,8,7", &[3, 2, 1, 1], &[("strides", [2, 2].into())], &[2, 2, 8, 7]),
        conv("n,2,9,7", &[3, 2, 2, 3], &[("strides", [3, 2].into()), ("dilations", [2, 1].into())], &[2, 2, 9, 7]),
        conv("n,2,h,w", &[3, 2, 3, 3], &[("strides", [2, 3].into()), ("pads", [1, 1, 1, 0].into())], &[2, 2, 8, 9]),
        conv("n,2,h,w", &[3, 2, 1, 1], &[("strides", [4, 4].into())], &[1, 2, 8, 7]),
        conv("n,2,8,7", &[3, 2, 3, 3], &[("strides", [2, 2].into()), ("auto_pad", "SAME_UPPER".into())], &[2, 2, 8, 7]),
        conv("n,2,8,7", &[3, 2, 3, 3], &[("strides", [2, 2].into()), ("auto_pad", "SAME_LOWER".into())], &[2, 2, 8, 7]),
        conv("n,2,8,7", &[3, 2, 3, 3], &[("strides", [2, 2].into()), ("auto_pad", "VALID".into())], &[2, 2, 8, 7]),
        conv("n,2,h,w", &[3, 2, 3, 3], &[("strides", [2, 2].into()), ("auto_pad", "SAME_UPPER".into())], &[2, 2, 8, 7]),
        conv("n,2,h,w", &[3, 2, 2, 3], &[("strides", [2, 3].into()), ("auto_pad", "SAME_LOWER".into())], &[2, 2, 7, 8]),
        conv("n,4,6,6", &[6, 2, 3, 3], &[("group", 2.into()), ("pads", [1, 1, 1, 1].into())], &[2, 4, 6, 6]),
        conv("n,4,6,6", &[4, 1, 3, 3], &[("group", 4.into()), ("dilations", [2, 2].into())], &[2, 4, 6, 6]),
        conv("n,4,6,6", &[8, 1, 3, 3], &[("group", 4.into()), ("strides", [2, 2].into())], &[2, 4, 6, 6]),
        conv("n,2,9", &[3, 2, 4], &[("pads", [2, 1].into())], &[2, 2, 9]),
        conv("n,2,9", &[3, 2, 4], &[("strides", [3].into())], &[2, 2, 9]),
        conv("n,2,4,5,4", &[3, 2, 2, 3, 2], &[("pads", [0, 1, 0, 1, 1, 1].into())], &[1, 2, 4, 5, 4]),
        conv("n,2,5,5,5", &[3, 2, 2, 3, 2], &[("strides", [2, 2, 2].into())], &[1, 2, 5, 5, 5]),
        ("Conv", affine(variable_bias, &[&[2, 2, 5, 5], &[3]])),
        ("Conv", affine(computed_weight, &[&[2, 2, 5, 5]])),
        transposed(&[2, 3, 3, 3], 3, &[("strides", [2, 2].into()), ("pads", [1, 1, 1, 1].into())], &[2, 2, 4, 5]),
        transposed(
            &[4, 2, 3, 3],
            4,
            &[("strides", [3, 2].into()), ("output_padding", [2, 1].into()), ("group", 2.into())],
            &[2, 4, 3, 4],
        ),
        transposed(&[2, 3, 3, 2], 3, &[("dilations", [2, 1].into())], &[2, 2, 4, 5]),
    ]
}

pub fn poolings() -> Vec<(&'static str, Case)> {
    let pool = |op: &'static str, shape: &str, attributes: &[(&str, Value)], x: &[usize]| {
        let model = unary(op, shape, attributes);
        (op, if op == "MaxPool" { distinct(model, &[x]) } else { affine(model, &[x]) })
    };
    let mut cases = vec![
        pool("MaxPool", "n,2,7,6", &[("kernel_shape", [3, 3].into()), ("strides", [2, 2].into())], &[2, 2, 7, 6]),
        pool("MaxPool", "n,2,7,6", &[("kernel_shape", [2, 2].into()), ("dilations", [2, 1].into())], &[1, 2, 7, 6]),
        pool("MaxPool", "n,2,9", &[("kernel_shape", [2].into()), ("strides", [2].into())], &[2, 2, 9]),
        pool("AveragePool", "n,2,9", &[("kernel_shape", [2].into()), ("strides", [2].into())], &[2, 2, 9]),
        pool("AveragePool", "n,2,h,w", &[("kernel_shape", [2, 2].into()), ("strides", [2, 2].into())], &[2, 2, 7, 6]),
        pool("AveragePool", "n,2,4,4,4", &[("kernel_shape", [2, 2, 2].into())], &[1, 2, 4, 4, 4]),
    ];
    for op in ["MaxPool", "AveragePool"] {
        for ceil in [0, 1] {
            let attributes = [
                ("kernel_shape", [3, 2].into()),
                ("strides", [2, 2].into()),
                ("pads", [1, 0, 1, 1].into()),
                ("ceil_mode", ceil.into()),
            ];
            cases.push(pool(op, "n,3,8,7", &attributes, &[2, 3, 8, 7]));
            cases.push(pool(op, "n,c,8,7", &attributes, &[2, 3, 8, 7]));
        }
        let same = [("kernel_shape", [3, 3].into()), ("strides", [2, 2].into()), ("auto_pad", "SAME_UPPER".into())];
        cases.push(pool(op, "n,2,8,7", &same, &[2, 2, 8, 7]));
    }
    for ceil in [0, 1] {
        let attributes = [
            ("kernel_shape", [3, 3].into()),
            ("strides", [2, 2].into()),
            ("pads", [1, 1, 1, 1].into()),
            ("count_include_pad", 1.into()),
            ("ceil_mode", ceil.into()),
        ];
        cases.push(pool("AveragePool", "n,2,8,7", &attributes, &[2, 2, 8, 7]));
    }
    cases.push(("GlobalAveragePool", affine(unary("GlobalAveragePool", "n,3,4,5", &[]), &[&[2, 3, 4, 5]])));
    cases.push(("GlobalAveragePool", affine(unary("GlobalAveragePool", "n,3,h,w", &[]), &[&[2, 3, 4, 5]])));
    cases.push(("GlobalMaxPool", distinct(unary("GlobalMaxPool", "n,3,4,5", &[]), &[&[2, 3, 4, 5]])));
    cases.extend(free_averages());
    cases.extend(norms());
    cases
}

/// Averages over windows that reach beyond an input whose size only the run shows.
fn free_averages() -> Vec<(&'static str, Case)> {
    let pool = |op: &'static str, shape: &str, attributes: &[(&str, Value)], x: &[usize]| {
        let model = Model::new(19).input("x", shape).node(op, &["x"], &["y"], attributes).output("y");
        (op, if op == "MaxPool" { distinct(model, &[x]) } else { affine(model, &[x]) })
    };
    let mut cases = Vec::new();
    for ceil in [0, 1] {
        for include in [0, 1] {
            let attributes = [
                ("kernel_shape", [3, 2].into()),
                ("strides", [2, 2].into()),
                ("pads", [1, 0, 1, 1].into()),
                ("ceil_mode", ceil.into()),
                ("count_include_pad", include.into()),
            ];
            cases.push(pool("AveragePool", "n,3,h,w", &attributes, &[2, 3, 8, 7]));
            cases.push(pool("AveragePool", "n,3,h,w", &attributes, &[2, 3, 7, 8]));
            let dilated = [attributes.as_slice(), &[("dilations", [2, 3].into())]].concat();
            cases.push(pool("AveragePool", "n,3,8,9", &dilated, &[2, 3, 8, 9]));
            cases.push(pool("AveragePool", "n,3,h,w", &dilated, &[2, 3, 8, 9]));
        }
    }
    for automatic in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        for include in [0, 1] {
            let attributes = [
                ("kernel_shape", [3, 2].into()),
                ("strides", [2, 1].into()),
                ("auto_pad", automatic.into()),
                ("count_include_pad", include.into()),
            ];
            cases.push(pool("AveragePool", "n,2,8,5", &attributes, &[2, 2, 8, 5]));
            cases.push(pool("AveragePool", "n,2,h,w", &attributes, &[2, 2, 8, 5]));
        }
    }
    let padded = [("kernel_shape", [3].into()), ("strides", [2].into()), ("pads", [1, 1].into())];
    let cubes = [("kernel_shape", [2, 2, 2].into()), ("pads", [1, 0, 1, 0, 1, 0].into())];
    for op in ["AveragePool", "MaxPool"] {
        cases.push(pool(op, "n,2,l", &padded, &[2, 2, 8]));
        cases.push(pool(op, "n,2,a,b,c", &cubes, &[1, 2, 3, 4, 3]));
    }
    let columns = [("kernel_shape", [3, 2].into()), ("strides", [2, 1].into()), ("storage_order", 1.into())];
    cases.push(pool("MaxPool", "n,2,7,6", &columns, &[2, 2, 7, 6]));
    cases.push(pool("MaxPool", "n,2,h,w", &columns, &[2, 2, 7, 6]));
    cases
}

/// Norms over windows.
fn norms() -> Vec<(&'static str, Case)> {
    let mut cases = Vec::new();
    for p in [1, 2, 3] {
        let power = ("p", p.into());
        let padded = [("kernel_shape", [3, 2].into()), ("strides", [2, 2].into()), ("pads", [1, 0, 1, 1].into())];
        cases.push(("LpPool", [&padded[..], std::slice::from_ref(&power)].concat(), "n,2,7,6", vec![2, 2, 7, 6]));
        cases.push(("LpPool", vec![("kernel_shape", [2].into()), power.clone()], "n,2,l", vec![2, 2, 6]));
        let same = [("kernel_shape", [2, 2, 3].into()), ("auto_pad", "SAME_UPPER".into())];
        cases.push(("LpPool", [&same[..], std::slice::from_ref(&power)].concat(), "n,1,a,b,c", vec![1, 1, 3, 4, 3]));
        cases.push(("GlobalLpPool", vec![power], "n,2,h,w", vec![2, 2, 3, 4]));
    }
    cases.push((
        "LpPool",
        vec![("kernel_shape", [2, 2].into()), ("dilations", [2, 1].into())],
        "n,2,6,5",
        vec![1, 2, 6, 5],
    ));
    let model = |(op, attributes, shape, x): (&'static str, Vec<(&str, Value)>, &str, Vec<usize>)| {
        (op, smooth(Model::new(18).input("x", shape).node(op, &["x"], &["y"], &attributes).output("y"), &[&x]))
    };
    cases.into_iter().map(model).collect()
}
