//! Convolution and pooling in the forms that files use.

use super::{
    calculus::Case,
    model::{Model, Value, unary},
    operators::{affine, distinct},
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
    cases
}
