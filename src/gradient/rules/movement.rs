//! Operators that move elements around: reshape, reorder, cut, join, repeat, select.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, ElementType, Node},
        linear::{Elementwise, Linear, Map, Pair, Permuted, Reshaped, Selected, Site},
        shape::Inference,
        sizes::Size,
    },
    Derivative as D, Rule,
    movement_types::{
        concat_type, constant_of_shape_type, depth_to_space_type, expand_type, eye_like_type, flatten_type,
        gather_elements_type, gather_type, nonzero_type, pad_type, range_type, reshape_type, shape_type, size_type,
        slice_type, space_to_depth_type, split_type, squeeze_type, tile_type, transpose_type, unsqueeze_type,
    },
    rule,
    selection::elements,
    slice::{gathered, known, sliced},
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
    rule("Gather", gather_type, D::Linear(gathered)),
    rule("GatherElements", gather_elements_type, D::Linear(elements)),
    rule("Tile", tile_type, D::Linear(tiled)),
    rule("DepthToSpace", depth_to_space_type, D::Linear(selected)),
    rule("SpaceToDepth", space_to_depth_type, D::Linear(selected)),
    rule("Shape", shape_type, D::Zero),
    rule("Size", size_type, D::Zero),
    rule("ConstantOfShape", constant_of_shape_type, D::Zero),
    rule("Range", range_type, D::Factor(counted)),
    rule("NonZero", nonzero_type, D::Zero),
    rule("EyeLike", eye_like_type, D::Zero),
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

fn same_node_output(builder: &mut Builder, node: &Node, first: &str, output: usize) -> Result<String> {
    let mut outputs = builder.repeated(node, &[(0, first)])?;
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
    let (node, mut parts) = (site.node.clone(), site.node.outputs.clone());
    for (index, part) in parts.iter_mut().enumerate().filter(|(_, part)| part.is_empty()) {
        *part = builder.optional_output(site.node, index)?;
    }
    Ok(Pair::of(
        move |builder, tangent| same_node_output(builder, &node, tangent, index),
        move |builder, cotangent| embedded(builder, cotangent, &parts, index, axis),
    ))
}

/// The derivative of `Split` and `Concat` for all parts at once, where that takes fewer operations than one part after
/// another: what the parts have, side by side, with zeros for those that have nothing. `None` for a single one.
pub(crate) fn joined(
    builder: &mut Builder,
    node: &Node,
    parts: &[String],
    values: &[Option<String>],
) -> Result<Option<String>> {
    if values.iter().flatten().count() < 2 {
        return Ok(None);
    }
    let mut filled = Vec::with_capacity(parts.len());
    for (part, value) in parts.iter().zip(values) {
        filled.push(match value {
            Some(value) => value.clone(),
            None => builder.zeros_like(part)?,
        });
    }
    let filled: Vec<&str> = filled.iter().map(String::as_str).collect();
    builder.emit("Concat", &filled, &[("axis", Attribute::Int(node.int("axis").unwrap_or(0)))]).map(Some)
}

/// Constant padding is undone by negative padding; other modes copy elements, so they are selections.
fn padded(builder: &mut Builder, site: &Site) -> Result<Map> {
    let mut node = site.node.clone();
    if site.input != 0 {
        return padding_value(site);
    }
    if node.text("mode").unwrap_or("constant") != "constant" {
        // A padding value would have the wrong type for places, and is not used.
        if let Some(value) = node.inputs.get_mut(2) {
            value.clear();
        }
        return selected(builder, &Site { node: &node, ..*site });
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

/// A padding value goes to every place that is not of the padded tensor.
fn padding_value(site: &Site) -> Result<Map> {
    if site.input != 2 || site.node.text("mode").unwrap_or("constant") != "constant" {
        return Err(site.refuse("it is differentiable in its data and its padding value only"));
    }
    let (node, same) = (site.node.clone(), site.node.clone());
    let (data, value) = (site.operand(0)?.to_owned(), site.x().to_owned());
    let same_data = data.clone();
    Ok(Pair::of(
        move |builder, tangent| {
            let zeros = builder.zeros_like(&data)?;
            let mut outputs = builder.repeated(&node, &[(0, &zeros), (2, tangent)])?;
            Ok(outputs.pop().unwrap_or_default())
        },
        move |builder, cotangent| {
            let (zeros, one) = (builder.zeros_like(&same_data)?, builder.ones_like(&value)?);
            let mut outputs = builder.repeated(&same, &[(0, &zeros), (2, &one)])?;
            let masked = builder.mul(cotangent, &outputs.pop().unwrap_or_default())?;
            let sum = builder.emit("ReduceSum", &[&masked], &[("keepdims", Attribute::Int(0))])?;
            builder.reshaped_like(&sum, &value)
        },
    ))
}

/// start + i·step: the end only says how many.
fn counted(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    match site.input {
        0 => Ok(None),
        1 => builder.scalar(0.0, site.x()).map(Some),
        _ => {
            let positions = builder.flat_indices(site.y())?;
            builder.mask(&positions, site.x()).map(Some)
        }
    }
}

/// Repetitions are summed.
fn tiled(builder: &mut Builder, site: &Site) -> Result<Map> {
    let Some(repeats) = known(builder, site.node, 1).filter(|repeats| repeats.iter().all(|&repeat| repeat > 0)) else {
        return selected(builder, site);
    };
    let (node, input) = (site.node.clone(), site.x().to_owned());
    Ok(Pair::of(
        move |builder, tangent| same_node_output(builder, &node, tangent, 0),
        move |builder, cotangent| {
            let (mut sizes, mut axes) = (Vec::new(), Vec::new());
            for (axis, &repeat) in repeats.iter().enumerate() {
                if repeat != 1 {
                    axes.push(sizes.len() as i64);
                    sizes.push(Size::Known(repeat));
                }
                sizes.push(Size::Of(&input, axis));
            }
            if axes.is_empty() {
                return Ok(cotangent.to_owned());
            }
            let apart = builder.reshaped_to(cotangent, &sizes)?;
            builder.reduce_sum(&apart, &axes, false)
        },
    ))
}

fn pad_inputs<'a>(value: &'a str, pads: &'a str, axes: &'a str) -> Vec<&'a str> {
    if axes.is_empty() { vec![value, pads] } else { vec![value, pads, "", axes] }
}

/// Any operator whose outputs are each one element of its first input. Which one is found by running the operator
/// itself on the input's flat indices.
pub(super) fn selected(_: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return Err(site.refuse("it is differentiable in its first input only"));
    }
    let (node, input) = (site.node.clone(), site.x().to_owned());
    let same = node.clone();
    Ok(Pair::of(
        move |builder, tangent| same_node_output(builder, &node, tangent, 0),
        move |builder, cotangent| {
            let positions = builder.flat_indices(&input)?;
            // Not every operator takes integers; those of a float's mantissa are exact.
            let exact = match same.op.as_str() {
                "DepthToSpace" | "SpaceToDepth" => true,
                "Pad" => !builder.target().pads_integers(),
                _ => false,
            };
            let positions = if exact { builder.cast(&positions, ElementType::Float64)? } else { positions };
            let indices = same_node_output(builder, &same, &positions, 0)?;
            let indices = if exact { builder.cast(&indices, ElementType::Int64)? } else { indices };
            Selected { input: input.clone(), indices }.transpose(builder, cotangent)
        },
    ))
}
