//! Normalisation in the forms that files use.

use super::{
    calculus::Case,
    model::{Model, Value, unary},
    operators::smooth,
};

/// x, scale and shift → op → y, the parameters being inputs, so that every derivative is tested.
fn with_parameters(op: &str, opset: i64, x: &str, parameters: &str, attributes: &[(&str, Value)]) -> Model {
    Model::new(opset)
        .input("x", x)
        .input("s", parameters)
        .input("b", parameters)
        .node(op, &["x", "s", "b"], &["y"], attributes)
        .output("y")
}

/// The same with parameters that are constants.
fn with_constants(op: &str, opset: i64, x: &str, parameters: &[i64], attributes: &[(&str, Value)]) -> Model {
    let model = Model::new(opset).input("x", x).weight("s", parameters).weight("b", parameters);
    model.node(op, &["x", "s", "b"], &["y"], attributes).output("y")
}

fn by_layer() -> Vec<(&'static str, Case)> {
    let layer = |x: &str, parameters: &str, attributes: &[(&str, Value)], shapes: &[&[usize]]| {
        ("LayerNormalization", smooth(with_parameters("LayerNormalization", 17, x, parameters, attributes), shapes))
    };
    let root = |x: &str, scale: &str, attributes: &[(&str, Value)], shapes: &[&[usize]]| {
        let model = Model::new(23).input("x", x).input("s", scale);
        let model = model.node("RMSNormalization", &["x", "s"], &["y"], attributes).output("y");
        ("RMSNormalization", smooth(model, shapes))
    };
    let unshifted = Model::new(17).input("x", "n,3,6").weight("s", &[6]);
    let unshifted = unshifted.node("LayerNormalization", &["x", "s"], &["y"], &[("epsilon", 0.1f32.into())]);
    let double = Model::new(17)
        .input("x", "n,6")
        .weight("s", &[6])
        .node("Cast", &["x"], &["d"], &[("to", 11.into())])
        .node("Cast", &["s"], &["t"], &[("to", 11.into())])
        .node("LayerNormalization", &["d", "t"], &["z"], &[])
        .node("Cast", &["z"], &["y"], &[("to", 1.into())]);
    vec![
        layer("n,3,6", "6", &[], &[&[2, 3, 6], &[6], &[6]]),
        layer("n,3,6", "3,6", &[("axis", 1.into()), ("epsilon", 1e-2f32.into())], &[&[2, 3, 6], &[3, 6], &[3, 6]]),
        layer("2,3,6", "6", &[("axis", (-2).into())], &[&[2, 3, 6], &[6], &[6]]),
        ("LayerNormalization", smooth(unshifted.output("y"), &[&[2, 3, 6]])),
        ("LayerNormalization", smooth(double.output("y"), &[&[2, 6]])),
        root("n,3,6", "6", &[], &[&[2, 3, 6], &[6]]),
        root("n,3,6", "3,6", &[("axis", 1.into()), ("epsilon", 1e-2f32.into())], &[&[2, 3, 6], &[3, 6]]),
    ]
}

fn by_channel() -> Vec<(&'static str, Case)> {
    let (instance, group) = ("InstanceNormalization", "GroupNormalization");
    let instances: &[&[usize]] = &[&[2, 3, 4, 5], &[3], &[3]];
    let groups = |n: i64| vec![("num_groups", Value::Int(n)), ("epsilon", 1e-2f32.into())];
    vec![
        (instance, smooth(with_parameters(instance, 6 + 1, "n,3,4,5", "3", &[]), instances)),
        (instance, smooth(with_parameters(instance, 22, "n,3,w", "3", &[]), &[&[2, 3, 5], &[3], &[3]])),
        (
            instance,
            smooth(with_constants(instance, 17, "n,3,h,w", &[3], &[("epsilon", 0.1f32.into())]), &instances[..1]),
        ),
        (group, smooth(with_parameters(group, 21, "n,6,2,3", "6", &groups(2)), &[&[2, 6, 2, 3], &[6], &[6]])),
        (group, smooth(with_constants(group, 21, "n,6,h,w", &[6], &groups(3)), &[&[2, 6, 2, 3]])),
        (group, smooth(with_constants(group, 21, "n,4,w", &[4], &groups(1)), &[&[2, 4, 3]])),
        // Until opset 20 the parameters belonged to groups.
        (group, smooth(with_parameters(group, 18, "n,6,2,3", "2", &groups(2)), &[&[2, 6, 2, 3], &[2], &[2]])),
        (group, smooth(with_constants(group, 20, "n,6,w", &[3], &groups(3)), &[&[2, 6, 4]])),
    ]
}

fn batch_statistics() -> (&'static str, Case) {
    let model = Model::new(15)
        .input("x", "n,3,4")
        .input("s", "3")
        .input("b", "3")
        .input("m", "3")
        .input("r", "3")
        .node("Mul", &["r", "r"], &["v"], &[])
        .node("BatchNormalization", &["x", "s", "b", "m", "v"], &["y"], &[("epsilon", 0.3f32.into())])
        .output("y");
    ("BatchNormalization", smooth(model, &[&[2, 3, 4], &[3], &[3], &[3], &[3]]))
}

fn local_responses() -> Vec<(&'static str, Case)> {
    let response = |opset: i64, shape: &str, attributes: &[(&str, Value)]| {
        let model = Model::new(opset).input("x", shape).node("LRN", &["x"], &["y"], attributes).output("y");
        ("LRN", smooth(model, &[&[2, 7, 3, 4]]))
    };
    let strong = |size: i64, beta: f32| {
        vec![("size", Value::Int(size)), ("alpha", 0.9f32.into()), ("beta", beta.into()), ("bias", 0.7f32.into())]
    };
    vec![
        response(7, "n,7,3,4", &[("size", 5.into())]),
        response(13, "n,7,3,4", &strong(5, 0.75)),
        response(13, "n,c,h,w", &strong(5, 0.5)),
        response(13, "n,7,3,4", &strong(3, 0.25)),
        response(13, "n,7,3,4", &strong(7, 1.0)),
        response(13, "n,7,3,4", &strong(9, 1.3)),
        response(13, "n,7,3,4", &strong(1, 0.6)),
    ]
}

fn by_norm() -> Vec<(&'static str, Case)> {
    let lp = |attributes: &[(&str, Value)]| {
        ("LpNormalization", smooth(unary("LpNormalization", "n,3,4", attributes), &[&[2, 3, 4]]))
    };
    let mean_variance = |shape: &str, attributes: &[(&str, Value)], x: &[usize]| {
        let model = unary("MeanVarianceNormalization", shape, attributes);
        ("MeanVarianceNormalization", smooth(model, &[x]))
    };
    vec![
        lp(&[]),
        lp(&[("p", 1.into())]),
        lp(&[("axis", 1.into()), ("p", 2.into())]),
        mean_variance("n,3,4,5", &[], &[2, 3, 4, 5]),
        mean_variance("n,3,w", &[("axes", [2].into())], &[2, 3, 5]),
    ]
}

pub fn cases() -> Vec<(&'static str, Case)> {
    let mut cases = by_layer();
    cases.extend(by_channel());
    cases.push(batch_statistics());
    cases.extend(local_responses());
    cases.extend(by_norm());
    cases
}
