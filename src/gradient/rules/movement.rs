//! Operators that move elements around: reshape, reorder, cut, join, repeat, select.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, ElementType, Node},
        linear::{Elementwise, Linear, Map, Pair, Permuted, Reshaped, Selected, Site},
        shape::{Inference, resolve_axis},
        tensor::Tensor,
    },
    Derivative as D, Rule,
    movement_types::{
        concat_type, constant_of_shape_type, depth_to_space_type, expand_type, flatten_type, gather_elements_type,
        gather_type, nonzero_type, pad_type, range_type, reshape_type, same_as_first, shape_type, size_type,
        slice_type, space_to_depth_type, split_type, squeeze_type, tile_type, transpose_type, unsqueeze_type,
    },
    rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("Reshape", reshape_type, D::Linear(reshaped)),
    rule("Flatten", flatten_type, D::Linear(reshaped)),
    rule("Squeeze", squeeze_type, D::Linear(reshaped)),
    rule("Unsqueeze", unsqueeze_type, D::Linear(reshaped)),
    rule("Transpose", transpose_type, D::Linear(transposed)),
    rule("Expand", expand_type, D::Linear(|_, s| Ok(Elementwise::at(s, None)))),
    rule("Concat", concat_type, D::Linear(concatenated)),
    rule("Split", split_type, D::Linear(split)),
    rule("Slice", slice_type, D::Linear(sliced)),
    rule("Pad", pad_type, D::Linear(padded)),
    rule("Gather", gather_type, D::Linear(selected)),
    rule("GatherElements", gather_elements_type, D::Linear(selected)),
    rule("Tile", tile_type, D::Linear(selected)),
    rule("DepthToSpace", depth_to_space_type, D::Linear(selected)),
    rule("SpaceToDepth", space_to_depth_type, D::Linear(selected)),
    rule("ScatterElements", same_as_first, D::Refused("scattering is not supported")),
    rule("Shape", shape_type, D::Zero),
    rule("Size", size_type, D::Zero),
    rule("ConstantOfShape", constant_of_shape_type, D::Zero),
    rule("Range", range_type, D::Zero),
    rule("NonZero", nonzero_type, D::Zero),
];

fn reshaped(_: &mut Builder, site: &Site) -> Result<Map> {
    Ok(Box::new(Reshaped { input: site.x().to_owned(), output: site.y().to_owned() }))
}

fn transposed(builder: &mut Builder, site: &Site) -> Result<Map> {
    let rank = builder.rank(site.x())?;
    let permutation = match site.node.ints("perm") {
        Some(axes) => axes.iter().filter_map(|&axis| usize::try_from(axis).ok()).collect(),
        None => (0..rank).rev().collect(),
    };
    Ok(Box::new(Permuted(permutation)))
}

/// The contents of a node's integer input, if all are known.
fn known(builder: &Builder, node: &Node, index: usize) -> Option<Vec<i64>> {
    Inference { graph: builder.graph(), node }.known_integers(index).ok()
}

/// The node again, with another first input.
fn same_node(builder: &mut Builder, node: &Node, first: &str) -> Result<Vec<String>> {
    let mut inputs: Vec<&str> = node.inputs.iter().map(String::as_str).collect();
    if let Some(input) = inputs.first_mut() {
        *input = first;
    }
    let attributes: Vec<(&str, Attribute)> =
        node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    builder.emit_all(&node.op, &inputs, &attributes, node.outputs.len())
}

fn same_node_output(builder: &mut Builder, node: &Node, first: &str, output: usize) -> Result<String> {
    let mut outputs = same_node(builder, node, first)?;
    Ok(outputs.swap_remove(output.min(outputs.len().saturating_sub(1))))
}

/// Puts a value at its place among parts that lie side by side along an axis, with zeros for the other parts.
fn embedded(builder: &mut Builder, value: &str, parts: &[String], index: usize, axis: usize) -> Result<String> {
    let mut sizes = Vec::with_capacity(parts.len());
    for part in parts {
        sizes.push(builder.shape(part)?.get(axis).and_then(Dim::known).map(|size| size as i64));
    }
    if let Some(sizes) = sizes.into_iter().collect::<Option<Vec<i64>>>() {
        let before: i64 = sizes.iter().take(index).sum();
        let behind: i64 = sizes.iter().skip(index + 1).sum();
        let pads = builder.integers(&[before, behind])?;
        let axes = builder.integers(&[axis as i64])?;
        return builder.emit("Pad", &[value, &pads, "", &axes], &[]);
    }
    let mut filled = Vec::with_capacity(parts.len());
    for (position, part) in parts.iter().enumerate() {
        filled.push(if position == index { value.to_owned() } else { builder.zeros_like(part)? });
    }
    let filled: Vec<&str> = filled.iter().map(String::as_str).collect();
    builder.emit("Concat", &filled, &[("axis", Attribute::Int(axis as i64))])
}

/// Cuts a value into parts of the sizes of others along an axis, and gives one of them.
fn cut(builder: &mut Builder, value: &str, parts: &[String], index: usize, axis: usize) -> Result<String> {
    let known: Result<Vec<Option<i64>>> = parts
        .iter()
        .map(|part| Ok(builder.shape(part)?.get(axis).and_then(Dim::known).map(|size| size as i64)))
        .collect();
    let sizes = match known?.into_iter().collect::<Option<Vec<i64>>>() {
        Some(sizes) => builder.integers(&sizes)?,
        None => {
            let mut sizes = Vec::with_capacity(parts.len());
            for part in parts {
                sizes.push(builder.size_value(part, axis)?);
            }
            let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
            builder.emit("Concat", &sizes, &[("axis", Attribute::Int(0))])?
        }
    };
    let axis = [("axis", Attribute::Int(axis as i64))];
    let mut outputs = builder.emit_all("Split", &[value, &sizes], &axis, parts.len())?;
    Ok(outputs.swap_remove(index.min(outputs.len().saturating_sub(1))))
}

fn axis_of(builder: &Builder, site: &Site, default: i64) -> Result<usize> {
    let rank = builder.rank(site.x())?;
    Inference { graph: builder.graph(), node: site.node }
        .axis("axis", default, rank)
        .map_err(|_| site.refuse("its axis is outside its input"))
}

fn concatenated(builder: &mut Builder, site: &Site) -> Result<Map> {
    let (axis, index) = (axis_of(builder, site, 0)?, site.input);
    let parts = site.node.inputs.clone();
    let same = parts.clone();
    Ok(Pair::of(
        move |builder, tangent| embedded(builder, tangent, &parts, index, axis),
        move |builder, cotangent| cut(builder, cotangent, &same, index, axis),
    ))
}

fn split(builder: &mut Builder, site: &Site) -> Result<Map> {
    let (axis, index) = (axis_of(builder, site, 0)?, site.output);
    let (node, parts) = (site.node.clone(), site.node.outputs.clone());
    if parts.iter().any(String::is_empty) {
        return Err(site.refuse("one of its outputs has no name"));
    }
    Ok(Pair::of(
        move |builder, tangent| same_node_output(builder, &node, tangent, index),
        move |builder, cotangent| embedded(builder, cotangent, &parts, index, axis),
    ))
}

/// A slice without steps is undone by padding; others by scattering.
fn sliced(builder: &mut Builder, site: &Site) -> Result<Map> {
    let Some((pads, axes)) = slice_pads(builder, site)? else { return selected(builder, site) };
    let node = site.node.clone();
    Ok(Pair::of(
        move |builder, tangent| same_node_output(builder, &node, tangent, 0),
        move |builder, cotangent| {
            let (pads, axes) = (builder.integers(&pads)?, builder.integers(&axes)?);
            builder.emit("Pad", &[cotangent, &pads, "", &axes], &[])
        },
    ))
}

/// The padding that undoes a slice, and its axes; `None` where steps or unknown sizes prevent that.
fn slice_pads(builder: &Builder, site: &Site) -> Result<Option<(Vec<i64>, Vec<i64>)>> {
    let node = site.node;
    let (Some(starts), Some(ends)) = (known(builder, node, 1), known(builder, node, 2)) else { return Ok(None) };
    let axes = match node.input(3) {
        Some(_) => known(builder, node, 3),
        None => Some((0..starts.len() as i64).collect()),
    };
    let plain = match node.input(4) {
        Some(_) => known(builder, node, 4).is_some_and(|steps| steps.iter().all(|&step| step == 1)),
        None => true,
    };
    let (Some(axes), true) = (axes, plain) else { return Ok(None) };
    let shape = builder.shape(site.x())?;
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    for ((&start, &end), &axis) in starts.iter().zip(&ends).zip(&axes) {
        let axis = resolve_axis(axis, shape.len()).map_err(|reason| site.refuse(&reason))?;
        let size = shape.get(axis).and_then(Dim::known).and_then(|size| i64::try_from(size).ok());
        let Some(size) = size else { return Ok(None) };
        let clamp = |at: i64| (if at < 0 { at.saturating_add(size) } else { at }).clamp(0, size);
        if clamp(start) > clamp(end) {
            return Ok(None);
        }
        before.push(clamp(start));
        behind.push(size - clamp(end));
    }
    Ok(Some(([before, behind].concat(), axes)))
}

/// Constant padding is undone by negative padding; other modes copy elements, so they are selections.
fn padded(builder: &mut Builder, site: &Site) -> Result<Map> {
    let node = site.node.clone();
    if site.input != 0 {
        return Err(site.refuse("its padding value depends on the input; only constant ones are supported"));
    }
    if node.text("mode").unwrap_or("constant") != "constant" {
        return selected(builder, site);
    }
    let (pads, axes) = (site.operand(1)?.to_owned(), node.input(3).unwrap_or("").to_owned());
    let (forward_pads, forward_axes) = (pads.clone(), axes.clone());
    let known = known(builder, &node, 1);
    Ok(Pair::of(
        // The padding of a tangent is 0, whatever that of the value is.
        move |builder, tangent| builder.emit("Pad", &pad_inputs(tangent, &forward_pads, &forward_axes), &[]),
        move |builder, cotangent| {
            let negative = match &known {
                Some(pads) => builder.integers(&pads.iter().map(|pad| pad.saturating_neg()).collect::<Vec<_>>())?,
                None => builder.unary("Neg", &pads)?,
            };
            builder.emit("Pad", &pad_inputs(cotangent, &negative, &axes), &[])
        },
    ))
}

fn pad_inputs<'a>(value: &'a str, pads: &'a str, axes: &'a str) -> Vec<&'a str> {
    if axes.is_empty() { vec![value, pads] } else { vec![value, pads, "", axes] }
}

/// Any operator whose outputs are each one element of its first input. Which one is found by running the operator
/// itself on the input's flat indices.
fn selected(_: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return Err(site.refuse("it is differentiable in its first input only"));
    }
    let (node, input) = (site.node.clone(), site.x().to_owned());
    let same = node.clone();
    Ok(Pair::of(
        move |builder, tangent| same_node_output(builder, &node, tangent, 0),
        move |builder, cotangent| {
            let positions = flat_indices(builder, &input)?;
            // Not every operator takes integers; those of a float's mantissa are exact.
            let exact = matches!(same.op.as_str(), "DepthToSpace" | "SpaceToDepth");
            let positions = if exact { builder.cast(&positions, ElementType::Float64)? } else { positions };
            let indices = same_node_output(builder, &same, &positions, 0)?;
            let indices = if exact { builder.cast(&indices, ElementType::Int64)? } else { indices };
            Selected { input: input.clone(), indices }.transpose(builder, cotangent)
        },
    ))
}

/// 0, 1, 2, … in the shape of a value.
fn flat_indices(builder: &mut Builder, value: &str) -> Result<String> {
    let size = builder.unary("Size", value)?;
    let (zero, one) = (Tensor::from_integers(vec![], &[0])?, Tensor::from_integers(vec![], &[1])?);
    let (zero, one) = (builder.constant(zero), builder.constant(one));
    let range = builder.emit("Range", &[&zero, &size, &one], &[])?;
    builder.reshaped_like(&range, value)
}
