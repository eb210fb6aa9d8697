//! Attention with masks, shared heads and caches, and rotary embeddings.

use super::{
    calculus::Case,
    model::{Model, Value, integer_tensor},
    operators::{affine, smooth},
};

fn attentions() -> Vec<(&'static str, Case)> {
    let heads: [&[usize]; 3] = [&[2, 4, 3, 6], &[2, 4, 5, 6], &[2, 4, 5, 2]];
    let shared: [&[usize]; 3] = [&[2, 4, 3, 6], &[2, 2, 5, 6], &[2, 2, 5, 2]];
    let flat: [&[usize]; 3] = [&[2, 3, 24], &[2, 5, 12], &[2, 5, 8]];
    let make = |shapes: &[&[usize]; 3], free: bool, mask: Option<Model>, attributes: &[(&str, Value)]| {
        let spelled = |shape: &[usize]| {
            let rest = shape.iter().skip(1).map(ToString::to_string).collect::<Vec<_>>().join(",");
            format!("{},{rest}", if free { "n" } else { "2" })
        };
        let masked = mask.is_some();
        let model = mask.unwrap_or_else(|| Model::new(23));
        let model =
            model.input("q", &spelled(shapes[0])).input("k", &spelled(shapes[1])).input("v", &spelled(shapes[2]));
        let inputs: &[&str] = if masked { &["q", "k", "v", "mask"] } else { &["q", "k", "v"] };
        let model = model.node("Attention", inputs, &["y"], attributes).output("y");
        ("Attention", smooth(model, shapes))
    };
    let added = || Model::new(24).weight("mask", &[3, 5]);
    let mut allowed = Model::new(23);
    let mut truth = integer_tensor("mask", &[1, 1, 3, 5], &[]);
    truth.int64_data.clear();
    truth.data_type = 9;
    truth.int32_data = vec![1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1];
    allowed.graph().initializer.push(truth);
    let by_heads = [("q_num_heads", Value::Int(4)), ("kv_num_heads", Value::Int(2))];
    let capped = [("softcap", Value::Float(0.8)), ("scale", Value::Float(0.9)), ("is_causal", Value::Int(1))];
    let cached = Model::new(23)
        .input("q", "n,2,3,4")
        .input("k", "n,2,3,4")
        .input("v", "n,2,3,4")
        .input("pk", "n,2,2,4")
        .input("pv", "n,2,2,4")
        .node("Attention", &["q", "k", "v", "", "pk", "pv"], &["y", "nk", "nv"], &[("is_causal", 1.into())])
        .output("y")
        .output("nk")
        .output("nv");
    let cache_shapes: &[&[usize]] = &[&[2, 2, 3, 4], &[2, 2, 3, 4], &[2, 2, 3, 4], &[2, 2, 2, 4], &[2, 2, 2, 4]];
    vec![
        make(&heads, true, None, &[]),
        make(&heads, false, Some(added()), &[("is_causal", 1.into())]),
        make(&heads, true, Some(allowed), &[]),
        make(&shared, true, None, &capped),
        make(&shared, true, Some(added()), &capped),
        make(&flat, true, None, &by_heads),
        make(&flat, false, None, &by_heads),
        ("Attention", smooth(cached, cache_shapes)),
    ]
}

fn rotations() -> Vec<(&'static str, Case)> {
    let (name, angles) = ("RotaryEmbedding", &[2, 5, 3][..]);
    let by_sample = |attributes: &[(&str, Value)], angles: &[i64]| {
        let model = Model::new(23).input("x", "2,4,5,6").weight("c", angles).weight("s", angles);
        (name, affine(model.node(name, &["x", "c", "s"], &["y"], attributes).output("y"), &[&[2, 4, 5, 6]]))
    };
    let mut by_position = Model::new(23).input("x", "2,5,24").weight("c", &[9, 3]).weight("s", &[9, 3]);
    by_position.graph().initializer.push(integer_tensor("p", &[2, 5], &[0, 1, 2, 3, 4, 4, 5, 6, 7, 8]));
    let by_position = by_position.node(name, &["x", "c", "s", "p"], &["y"], &[("num_heads", 4.into())]).output("y");
    vec![
        by_sample(&[], angles),
        by_sample(&[("interleaved", 1.into())], angles),
        by_sample(&[("rotary_embedding_dim", 4.into())], &[2, 5, 2]),
        (name, affine(by_position, &[&[2, 5, 24]])),
    ]
}

pub fn cases() -> Vec<(&'static str, Case)> {
    let mut cases = attentions();
    cases.extend(rotations());
    cases
}
