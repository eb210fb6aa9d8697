//! Scaled dot-product attention, and the rotary embedding of positions in front of it.

use super::{
    super::{
        builder::Builder,
        error::{GradientError, Result},
        graph::{Attribute, Dim, ElementType, Node, ValueType},
        linear::{Map, Pair, Site},
        shape::{Cause, Inference, Inferred, derived, wrong},
        tensor::Tensor,
    },
    Derivative as D, Rule,
    normalization::type_of_x,
    rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("Attention", attention_type, D::Composed(attention)),
    rule("RotaryEmbedding", type_of_x, D::Linear(rotation)),
];

/// Added to scores that take no part: finite, so that a row of nothing else is a number, and far below any score.
fn excluded(builder: &Builder, like: &str) -> Result<f64> {
    Ok(if builder.element(like)? == ElementType::Float16 { -6e4 } else { -1e30 })
}

/// A rotation of pairs by angles: its adjoint turns the other way.
fn rotation(_: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return Err(site.refuse("its angles depend on the input; only constant ones are supported"));
    }
    let (node, sine) = (site.node.clone(), site.operand(2)?.to_owned());
    let rotate = move |builder: &mut Builder, value: &str, sine: &str| {
        let given = [value, node.input(1).unwrap_or(""), sine];
        let inputs: Vec<&str> = given.into_iter().chain(node.input(3)).collect();
        let attributes: Vec<(&str, Attribute)> =
            node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        builder.emit("RotaryEmbedding", &inputs, &attributes)
    };
    let (forward, backward) = (sine.clone(), rotate.clone());
    Ok(Pair::of(
        move |builder, tangent| rotate(builder, tangent, &forward),
        move |builder, cotangent| {
            let opposite = builder.unary("Neg", &sine)?;
            backward(builder, cotangent, &opposite)
        },
    ))
}

/// The heads that an attribute or the shape tells.
fn heads(node: &Node, name: &str, shape: &[Dim]) -> Option<u64> {
    match shape {
        [_, heads, _, _] => heads.known(),
        _ => node.int(name).and_then(|heads| u64::try_from(heads).ok()).filter(|heads| *heads > 0),
    }
}

fn sum_of(a: &Dim, b: &Dim) -> Dim {
    match (a.known(), b.known()) {
        (Some(a), Some(b)) => Dim::Known(a.saturating_add(b)),
        _ => derived("sum", &[&a.to_string(), &b.to_string()], ""),
    }
}

fn attention_type(inference: &Inference) -> Inferred {
    let (query, key, value) = (inference.shape(0)?, inference.shape(1)?, inference.shape(2)?);
    let node = inference.node;
    let (Some(q_heads), Some(kv_heads)) = (heads(node, "q_num_heads", query), heads(node, "kv_num_heads", key)) else {
        return Err(Cause::Unknown);
    };
    let per_head = |dim: &Dim| dim.known().map(|size| Dim::Known(size / kv_heads)).ok_or(Cause::Unknown);
    let (output, batch, rows, columns, widths) = match (query, key, value) {
        ([batch, _, rows, _], [_, _, columns, k], [_, _, _, v]) => (
            vec![batch.clone(), Dim::Known(q_heads), rows.clone(), v.clone()],
            batch,
            rows,
            columns,
            [k.clone(), v.clone()],
        ),
        ([batch, rows, _], [_, columns, k], [_, _, v]) => {
            let (k, v) = (per_head(k)?, per_head(v)?);
            let width = v.known().and_then(|v| v.checked_mul(q_heads)).ok_or(Cause::Unknown)?;
            (vec![batch.clone(), rows.clone(), Dim::Known(width)], batch, rows, columns, [k, v])
        }
        _ => return wrong("its queries, keys and values are not all of rank 3 or all of rank 4"),
    };
    let columns = match node.input(4) {
        Some(_) => sum_of(inference.shape(4)?.get(2).ok_or(Cause::Unknown)?, columns),
        None => columns.clone(),
    };
    let element = inference.element(0)?;
    let [k, v] = widths;
    let cache = |width: Dim| ValueType::new(element, vec![batch.clone(), Dim::Known(kv_heads), columns.clone(), width]);
    let scores = vec![batch.clone(), Dim::Known(q_heads), rows.clone(), columns.clone()];
    Ok(vec![ValueType::new(element, output), cache(k), cache(v), ValueType::new(element, scores)])
}

/// `[batch, length, heads·width]` as `[batch, heads, length, width]`.
fn split_heads(builder: &mut Builder, value: &str, heads: u64) -> Result<String> {
    if builder.rank(value)? == 4 {
        return Ok(value.to_owned());
    }
    let split = builder.reshaped(value, &[0, 0, heads as i64, -1])?;
    builder.permuted(&split, &[0, 2, 1, 3])
}

/// Each head of keys or values as often as queries share it.
fn repeated(builder: &mut Builder, value: &str, kv_heads: u64, repeats: u64) -> Result<String> {
    if repeats <= 1 {
        return Ok(value.to_owned());
    }
    let apart = builder.unsqueezed(value, &[2])?;
    let target = builder.integers(&[1, 1, repeats as i64, 1, 1])?;
    let copies = builder.emit("Expand", &[&apart, &target], &[])?;
    let heads = (kv_heads * repeats) as i64;
    let shape = builder.shape(value)?;
    let known = |axis: usize| shape.get(axis).and_then(Dim::known).map(|size| size as i64);
    match (known(2), known(3)) {
        (_, Some(width)) => builder.reshaped(&copies, &[0, heads, -1, width]),
        (Some(length), None) => builder.reshaped(&copies, &[0, heads, length, -1]),
        _ => Err(GradientError::UnknownType { what: "width", value: value.to_owned() }),
    }
}

/// softmax(cap(QKᵀ·scale) + mask)·V by heads, as the operator's definition has it.
fn attention(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let site = Site { node, input: 0, output: 0 };
    let (query, key, value) = (site.operand(0)?, site.operand(1)?, site.operand(2)?);
    if node.input(6).is_some() {
        return Err(site.refuse("it has lengths of a cache (nonpad_kv_seqlen), which are not supported"));
    }
    let shown = node.int("qk_matmul_output_mode").unwrap_or(0);
    if node.output(3).is_some() && shown == 2 {
        return Err(site.refuse("it gives out its masked scores (qk_matmul_output_mode = 2), which is not supported"));
    }
    let sizes = (heads(node, "q_num_heads", &builder.shape(query)?), heads(node, "kv_num_heads", &builder.shape(key)?));
    let (Some(q_heads), Some(kv_heads)) = sizes else { return Err(site.refuse("its number of heads is not known")) };
    if kv_heads == 0 || q_heads % kv_heads != 0 {
        return Err(site.refuse("its heads of queries are no multiple of those of keys"));
    }
    let flat = builder.rank(query)? == 3;
    let query = split_heads(builder, query, q_heads)?;
    let mut present = [split_heads(builder, key, kv_heads)?, split_heads(builder, value, kv_heads)?];
    for (own, past) in present.iter_mut().zip([4, 5]) {
        if let Some(past) = node.input(past) {
            *own = builder.emit("Concat", &[past, own.as_str()], &[("axis", Attribute::Int(2))])?;
        }
    }
    let [present_key, present_value] = present;
    let key = repeated(builder, &present_key, kv_heads, q_heads / kv_heads)?;
    let value = repeated(builder, &present_value, kv_heads, q_heads / kv_heads)?;
    let scores = scores(builder, &site, &query, &key)?;
    let capped = softcapped(builder, node, &scores)?;
    let (masked, allowed) = masked(builder, &site, &capped)?;
    let mut weights = builder.emit("Softmax", &[&masked], &[("axis", Attribute::Int(-1))])?;
    if let Some(allowed) = allowed {
        // A row in which nothing is allowed is zero.
        weights = builder.mul(&weights, &allowed)?;
    }
    let mut output = builder.emit("MatMul", &[&weights, &value], &[])?;
    if flat {
        let rows = builder.permuted(&output, &[0, 2, 1, 3])?;
        output = builder.reshaped(&rows, &[0, 0, -1])?;
    }
    let shown = match shown {
        0 => scores,
        1 => capped,
        _ => weights,
    };
    Ok(vec![output, present_key, present_value, shown])
}

/// Q·Kᵀ·scale; the scale goes to the smaller factor first.
fn scores(builder: &mut Builder, site: &Site, query: &str, key: &str) -> Result<String> {
    let scaled = match site.node.float("scale") {
        Some(scale) => builder.scaled(query, scale.into())?,
        None => {
            let width = builder.shape(query)?.get(3).and_then(Dim::known).filter(|width| *width > 0);
            let width = width.ok_or_else(|| site.refuse("the width of its heads is not known"))?;
            builder.scaled(query, (width as f64).sqrt().recip())?
        }
    };
    let key = builder.matrix_transposed(key)?;
    builder.emit("MatMul", &[&scaled, &key], &[])
}

fn softcapped(builder: &mut Builder, node: &Node, scores: &str) -> Result<String> {
    let cap = f64::from(node.float("softcap").unwrap_or(0.0));
    if cap <= 0.0 {
        return Ok(scores.to_owned());
    }
    let fraction = builder.scaled(scores, 1.0 / cap)?;
    let bounded = builder.unary("Tanh", &fraction)?;
    builder.scaled(&bounded, cap)
}

/// The scores with what excludes keys added, and where a mask of truth values allows them.
fn masked(builder: &mut Builder, site: &Site, scores: &str) -> Result<(String, Option<String>)> {
    let mut scores = scores.to_owned();
    if site.node.int("is_causal").unwrap_or(0) != 0 {
        let bias = causal_bias(builder, site.node, &scores)?;
        scores = builder.add(&scores, &bias)?;
    }
    let Some(mask) = site.node.input(3) else { return Ok((scores, None)) };
    let last = |builder: &Builder, name: &str| builder.shape(name).ok()?.last().and_then(Dim::known);
    if last(builder, mask).zip(last(builder, &scores)).is_some_and(|(mask, keys)| mask != keys) {
        return Err(site.refuse("its mask is shorter than its keys, which is not supported"));
    }
    if builder.element(mask)? != ElementType::Bool {
        return Ok((builder.add(&scores, mask)?, None));
    }
    let allowed = builder.mask(mask, &scores)?;
    let (zero, excluded) = (builder.scalar(0.0, &scores)?, builder.scalar(excluded(builder, &scores)?, &scores)?);
    let bias = builder.emit("Where", &[mask, &zero, &excluded], &[])?;
    Ok((builder.add(&scores, &bias)?, Some(allowed)))
}

/// Excludes the keys behind each query, counted from the end of what lies in the cache: a triangle of the last two axes.
fn causal_bias(builder: &mut Builder, node: &Node, scores: &str) -> Result<String> {
    let (rows, columns) = (builder.size_value(scores, 2)?, builder.size_value(scores, 3)?);
    let shape = builder.emit("Concat", &[&rows, &columns], &[("axis", Attribute::Int(0))])?;
    let excluded = Tensor::from_floats(builder.element(scores)?, vec![1], &[excluded(builder, scores)?])?;
    let all = builder.emit("ConstantOfShape", &[&shape], &[("value", Attribute::Tensor(excluded))])?;
    let one = builder.integers(&[1])?;
    let first = match node.input(4) {
        Some(past) => {
            let cached = builder.size_value(past, 2)?;
            builder.add(&cached, &one)?
        }
        None => one,
    };
    let scalar = builder.integers(&[])?;
    let first = builder.emit("Reshape", &[&first, &scalar], &[])?;
    builder.emit("Trilu", &[&all, &first], &[("upper", Attribute::Int(1))])
}
