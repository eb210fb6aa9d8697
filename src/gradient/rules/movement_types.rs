//! The shapes that moving elements around gives.

use super::super::{
    graph::{Attribute, Dim, ElementType, Integer, ValueType},
    shape::{Cause, Inference, Inferred, broadcast, derived, resolve_axes, resolve_axis, wrong},
};

fn one(inference: &Inference, shape: Vec<Dim>) -> Inferred {
    Ok(vec![ValueType::new(inference.element(0)?, shape)])
}

pub(super) fn same_as_first(inference: &Inference) -> Inferred {
    Ok(vec![inference.value_type(0)?.clone()])
}

/// The product of dimensions, kept symbolic where one is.
pub(super) fn product(dims: &[Dim]) -> Dim {
    let known = dims.iter().filter_map(Dim::known).try_fold(1u64, |product, size| product.checked_mul(size));
    let symbols: Vec<String> = dims.iter().filter(|dim| dim.known().is_none()).map(Dim::to_string).collect();
    match (known, symbols.as_slice()) {
        (Some(known), []) => Dim::Known(known),
        (Some(1), [symbol]) => Dim::symbol(symbol),
        (known, symbols) => {
            let known = known.map_or_else(|| "?".to_owned(), |known| known.to_string());
            let operands: Vec<&str> = symbols.iter().map(String::as_str).chain([known.as_str()]).collect();
            derived("product", &operands, "")
        }
    }
}

/// What is left of `dims` when those of `taken` are divided out; `None` where that is not known.
pub(super) fn quotient(dims: &[Dim], taken: &[Dim]) -> Option<Dim> {
    let mut left: Vec<&Dim> = dims.iter().filter(|dim| dim.known().is_none()).collect();
    for symbol in taken.iter().filter(|dim| dim.known().is_none()) {
        left.remove(left.iter().position(|dim| *dim == symbol)?);
    }
    let known =
        |dims: &[Dim]| dims.iter().filter_map(Dim::known).try_fold(1u64, |product, size| product.checked_mul(size));
    let (all, taken) = (known(dims)?, known(taken)?);
    if taken == 0 || all % taken != 0 {
        return None;
    }
    let rest: Vec<Dim> = left.into_iter().cloned().chain([Dim::Known(all / taken)]).collect();
    Some(product(&rest))
}

pub(super) fn reshape_type(inference: &Inference) -> Inferred {
    let element = inference.element(0)?;
    let input = inference.shape(0).ok();
    let Some(target) = inference.integers(1) else {
        // The length of the target at least tells the rank.
        let rank = inference.shape(1)?.first().and_then(Dim::known).ok_or(Cause::Unknown)?;
        let rank =
            usize::try_from(rank).ok().filter(|&rank| rank <= crate::limits::TENSOR_RANK).ok_or(Cause::Unknown)?;
        return Ok(vec![ValueType::new(element, inference.fresh_shape(0, rank))]);
    };
    let copies_zero = inference.node.int("allowzero").unwrap_or(0) == 0;
    let mut free = Vec::new();
    let mut shape = Vec::with_capacity(target.len());
    for (axis, size) in target.iter().enumerate() {
        shape.push(match size {
            Integer::Known(0) if copies_zero => match input.map(|input| input.get(axis)) {
                Some(Some(dim)) => dim.clone(),
                Some(None) => return wrong(format!("it copies axis {axis}, which its input does not have")),
                None => inference.fresh(0, axis),
            },
            Integer::Known(-1) | Integer::Unknown => {
                free.push(axis);
                inference.fresh(0, axis)
            }
            Integer::Known(size) => match u64::try_from(*size) {
                Ok(size) => Dim::Known(size),
                Err(_) => return wrong(format!("the target has size {size}")),
            },
            Integer::Symbol(name) => Dim::Symbol(name.clone()),
        });
    }
    if let (Some(input), [axis]) = (input, free.as_slice()) {
        let others: Vec<Dim> = shape.iter().enumerate().filter(|(at, _)| at != axis).map(|(_, d)| d.clone()).collect();
        if let (Some(dim), Some(place)) = (quotient(input, &others), shape.get_mut(*axis)) {
            *place = dim;
        }
    }
    let all = |dims: &[Dim]| dims.iter().map(Dim::known).try_fold(1u64, |product, size| product.checked_mul(size?));
    if let (Some(from), Some(to)) = (input.and_then(all), all(&shape))
        && from != to
    {
        return wrong(format!("{from} elements do not fit {to}"));
    }
    Ok(vec![ValueType::new(element, shape)])
}

pub(super) fn flatten_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let rank = i64::try_from(shape.len()).unwrap_or(i64::MAX);
    let axis = inference.node.int("axis").unwrap_or(1);
    let axis = if axis < 0 { axis.saturating_add(rank) } else { axis };
    let Some((rows, columns)) = usize::try_from(axis).ok().and_then(|axis| shape.split_at_checked(axis)) else {
        return wrong(format!("axis {axis} of a tensor of rank {rank}"));
    };
    one(inference, vec![product(rows), product(columns)])
}

/// Constant axes of the second input, counted from the front of `rank` axes.
fn axes(inference: &Inference, rank: usize) -> Inferred<Vec<usize>> {
    resolve_axes(&inference.known_integers(1)?, rank).map_err(Cause::Wrong)
}

pub(super) fn squeeze_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let axes = match inference.node.input(1) {
        Some(_) => axes(inference, shape.len())?,
        None if shape.iter().any(|dim| dim.known().is_none()) => return Err(Cause::Unknown),
        None => (0..shape.len()).filter(|&axis| shape.get(axis) == Some(&Dim::Known(1))).collect(),
    };
    let kept = shape.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    one(inference, kept.map(|(_, dim)| dim.clone()).collect())
}

pub(super) fn unsqueeze_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let rank = shape.len() + inference.known_integers(1)?.len();
    let axes = axes(inference, rank)?;
    let mut dims = shape.iter();
    let placed = (0..rank).map(|axis| if axes.contains(&axis) { Some(Dim::Known(1)) } else { dims.next().cloned() });
    one(inference, placed.collect::<Option<Vec<Dim>>>().ok_or(Cause::Unknown)?)
}

pub(super) fn transpose_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let Some(permutation) = inference.node.ints("perm") else {
        return one(inference, shape.iter().rev().cloned().collect());
    };
    let mut sorted = permutation.to_vec();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..shape.len() as i64) {
        return wrong(format!("{permutation:?} is no permutation of {} axes", shape.len()));
    }
    let dims = permutation.iter().map(|&axis| shape.get(usize::try_from(axis).ok()?).cloned());
    one(inference, dims.collect::<Option<Vec<Dim>>>().ok_or(Cause::Unknown)?)
}

/// A target shape from integer contents.
fn target(inference: &Inference, index: usize) -> Inferred<Vec<Dim>> {
    let Some(values) = inference.integers(index) else {
        // The length at least tells the rank.
        let rank = inference.shape(index)?.first().and_then(Dim::known).ok_or(Cause::Unknown)?;
        let rank = usize::try_from(rank).ok().filter(|&rank| rank <= crate::limits::TENSOR_RANK);
        return Ok(inference.fresh_shape(0, rank.ok_or(Cause::Unknown)?));
    };
    let dims = values.iter().enumerate().map(|(axis, value)| match value {
        Integer::Known(size) => u64::try_from(*size).map(Dim::Known).or_else(|_| wrong(format!("a size of {size}"))),
        Integer::Symbol(name) => Ok(Dim::Symbol(name.clone())),
        Integer::Unknown => Ok(inference.fresh(0, axis)),
    });
    dims.collect()
}

pub(super) fn expand_type(inference: &Inference) -> Inferred {
    one(inference, broadcast(inference.shape(0)?, &target(inference, 1)?)?)
}

pub(super) fn constant_of_shape_type(inference: &Inference) -> Inferred {
    let element = match inference.node.attributes.get("value") {
        Some(Attribute::Tensor(tensor)) => tensor.element(),
        _ => ElementType::Float32,
    };
    let shape = match target(inference, 0) {
        Ok(shape) => Some(shape),
        Err(Cause::Unknown) => None,
        Err(contradiction) => return Err(contradiction),
    };
    Ok(vec![ValueType { element, shape }])
}

pub(super) fn concat_type(inference: &Inference) -> Inferred {
    let mut shape = inference.shape(0)?.to_vec();
    let axis = inference.axis("axis", 0, shape.len())?;
    let mut total: Option<u64> = Some(0);
    let mut names = Vec::new();
    for index in 0..inference.node.inputs.len() {
        let part = inference.shape(index)?;
        if part.len() != shape.len() {
            return wrong(format!("its inputs have {} and {} axes", shape.len(), part.len()));
        }
        for (at, (dim, other)) in shape.iter_mut().zip(part).enumerate() {
            if at == axis {
                total = total.zip(other.known()).and_then(|(a, b)| a.checked_add(b));
                names.push(other.to_string());
            } else if let (Dim::Symbol(_), Dim::Known(_)) = (&*dim, other) {
                *dim = other.clone();
            } else if matches!((dim.known(), other.known()), (Some(a), Some(b)) if a != b) {
                return wrong(format!("its inputs have sizes {dim} and {other} on axis {at}"));
            }
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if let Some(dim) = shape.get_mut(axis) {
        *dim = total.map_or_else(|| derived("sum", &names, ""), Dim::Known);
    }
    one(inference, shape)
}

pub(super) fn split_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let axis = inference.axis("axis", 0, shape.len())?;
    let parts = inference.node.outputs.len() as u64;
    let size = shape.get(axis).and_then(Dim::known);
    let sizes: Vec<Option<u64>> = match (inference.node.input(1), size) {
        (Some(_), _) => {
            let sizes = inference.integers(1).map(<[Integer]>::to_vec).unwrap_or_default();
            sizes.iter().map(|size| size.known().and_then(|size| u64::try_from(size).ok())).collect()
        }
        // All parts have one size, except that the last may be smaller.
        (None, Some(size)) => {
            let part = size.div_ceil(parts.max(1));
            (0..parts).map(|index| size.checked_sub(index * part).map(|rest| rest.min(part))).collect()
        }
        (None, None) => vec![],
    };
    let output = |index: usize| {
        let mut shape = shape.to_vec();
        if let Some(dim) = shape.get_mut(axis) {
            let size = sizes.get(index).copied().flatten();
            *dim = size.map_or_else(|| inference.fresh(index, axis), Dim::Known);
        }
        Ok(ValueType::new(inference.element(0)?, shape))
    };
    (0..inference.node.outputs.len()).map(output).collect()
}

pub(super) fn slice_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let (starts, ends) = (inference.known_integers(1), inference.known_integers(2));
    let axes = match (inference.node.input(3), inference.known_integers(3)) {
        (Some(_), Ok(axes)) => axes,
        (Some(_), Err(_)) => return one(inference, inference.fresh_shape(0, shape.len())),
        (None, _) => (0..inference.shape(1)?.first().and_then(Dim::known).ok_or(Cause::Unknown)? as i64).collect(),
    };
    let steps = match (inference.node.input(4), inference.known_integers(4)) {
        (Some(_), Ok(steps)) => steps,
        (Some(_), Err(_)) => vec![],
        (None, _) => vec![1; axes.len()],
    };
    let mut sliced = shape.to_vec();
    for (position, &axis) in axes.iter().enumerate() {
        let axis = resolve_axis(axis, shape.len()).map_err(Cause::Wrong)?;
        let at = |values: &Inferred<Vec<i64>>| values.as_ref().ok().and_then(|values| values.get(position).copied());
        let range = at(&starts).zip(at(&ends)).zip(steps.get(position).copied());
        let Some(dim) = sliced.get_mut(axis) else { continue };
        *dim = match (range, dim.known()) {
            (Some(((start, end), step)), Some(size)) => Dim::Known(slice_length(start, end, step, size)?),
            // The whole axis, as exporters write it.
            (Some(((0, i64::MAX), 1)), None) => dim.clone(),
            (None, _)
                if at(&starts) == Some(0) && steps.get(position) == Some(&1) && ends_at(inference, position, dim) =>
            {
                dim.clone()
            }
            _ => inference.fresh(0, axis),
        };
    }
    one(inference, sliced)
}

/// Whether the end of a slice is the size of the axis, by the name of that size.
fn ends_at(inference: &Inference, position: usize, dim: &Dim) -> bool {
    let end = inference.integers(2).and_then(|ends| ends.get(position));
    matches!((end, dim), (Some(Integer::Symbol(end)), Dim::Symbol(size)) if end == size)
}

fn slice_length(start: i64, end: i64, step: i64, size: u64) -> Inferred<u64> {
    let size = i64::try_from(size).map_err(|_| Cause::Unknown)?;
    let from_front = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
    let (start, end) = (from_front(start), from_front(end));
    let length = match step {
        0 => return wrong("a step of 0"),
        1.. => (end.clamp(0, size) - start.clamp(0, size)).max(0),
        // Backwards, one before the front is a valid end.
        ..0 => (start.clamp(0, size - 1) - end.clamp(-1, size - 1)).max(0),
    };
    Ok(length.unsigned_abs().div_ceil(step.unsigned_abs()))
}

pub(super) fn pad_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let Ok(pads) = inference.known_integers(1) else { return one(inference, inference.fresh_shape(0, shape.len())) };
    let axes: Vec<i64> = match (inference.node.input(3), inference.known_integers(3)) {
        (Some(_), Ok(axes)) => axes,
        (Some(_), Err(_)) => return one(inference, inference.fresh_shape(0, shape.len())),
        (None, _) => (0..shape.len() as i64).collect(),
    };
    let Some((before, behind)) = pads.split_at_checked(axes.len()).filter(|(a, b)| a.len() == b.len()) else {
        return wrong(format!("{} pads for {} axes", pads.len(), axes.len()));
    };
    let mut padded = shape.to_vec();
    for ((&axis, &before), &behind) in axes.iter().zip(before).zip(behind) {
        let axis = resolve_axis(axis, shape.len()).map_err(Cause::Wrong)?;
        let Some(dim) = padded.get_mut(axis) else { continue };
        let added = before.saturating_add(behind);
        *dim = match dim.known().and_then(|size| i64::try_from(size).ok()) {
            Some(size) => match u64::try_from(size.saturating_add(added)) {
                Ok(size) => Dim::Known(size),
                Err(_) => return wrong(format!("pads {before} and {behind} on {size} elements")),
            },
            None if added == 0 => dim.clone(),
            None => derived("sum", &[&dim.to_string(), &added.to_string()], ""),
        };
    }
    one(inference, padded)
}

pub(super) fn gather_type(inference: &Inference) -> Inferred {
    let (shape, indices) = (inference.shape(0)?, inference.shape(1)?);
    let axis = inference.axis("axis", 0, shape.len())?;
    let (before, rest) = shape.split_at_checked(axis).unwrap_or_default();
    let behind = rest.iter().skip(1);
    one(inference, before.iter().chain(indices).chain(behind).cloned().collect())
}

pub(super) fn gather_elements_type(inference: &Inference) -> Inferred {
    one(inference, inference.shape(1)?.to_vec())
}

pub(super) fn tile_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let Ok(repeats) = inference.known_integers(1) else { return one(inference, inference.fresh_shape(0, shape.len())) };
    let tiled = shape.iter().zip(&repeats).enumerate().map(|(axis, (dim, &repeat))| match (dim.known(), repeat) {
        (_, 1) => dim.clone(),
        (Some(size), repeat) => {
            let size = u64::try_from(repeat).ok().and_then(|repeat| repeat.checked_mul(size));
            size.map_or_else(|| inference.fresh(0, axis), Dim::Known)
        }
        (None, _) => inference.fresh(0, axis),
    });
    one(inference, tiled.collect())
}

fn blocks(inference: &Inference) -> Inferred<u64> {
    inference
        .node
        .int("blocksize")
        .and_then(|size| u64::try_from(size).ok())
        .filter(|size| (1..1 << 16).contains(size))
        .ok_or_else(|| Cause::Wrong("the attribute `blocksize` is missing or out of range".to_owned()))
}

pub(super) fn depth_to_space_type(inference: &Inference) -> Inferred {
    let block = blocks(inference)?;
    let [batch, channels, height, width] = inference.shape(0)? else { return wrong("its input must have four axes") };
    let stretched = |dim: &Dim| match dim.known() {
        Some(size) => Dim::Known(size.saturating_mul(block)),
        None => product(&[dim.clone(), Dim::Known(block)]),
    };
    let channels = quotient(std::slice::from_ref(channels), &[Dim::Known(block * block)]).ok_or(Cause::Unknown)?;
    one(inference, vec![batch.clone(), channels, stretched(height), stretched(width)])
}

pub(super) fn space_to_depth_type(inference: &Inference) -> Inferred {
    let block = blocks(inference)?;
    let [batch, channels, height, width] = inference.shape(0)? else { return wrong("its input must have four axes") };
    let shrunk = |dim: &Dim, axis: usize| match dim.known() {
        Some(size) => Dim::Known(size / block),
        None => inference.fresh(0, axis),
    };
    let channels = product(&[channels.clone(), Dim::Known(block * block)]);
    one(inference, vec![batch.clone(), channels, shrunk(height, 2), shrunk(width, 3)])
}

pub(super) fn shape_type(inference: &Inference) -> Inferred {
    let rank = inference.shape(0).map(<[Dim]>::len);
    let clamp = |at: i64, rank: i64| (if at < 0 { at.saturating_add(rank) } else { at }).clamp(0, rank);
    let length = match rank {
        Ok(rank) => {
            let rank = rank as i64;
            let start = clamp(inference.node.int("start").unwrap_or(0), rank);
            let end = clamp(inference.node.int("end").unwrap_or(rank), rank);
            Dim::Known((end - start).max(0).unsigned_abs())
        }
        Err(_) => inference.fresh(0, 0),
    };
    Ok(vec![ValueType::new(ElementType::Int64, vec![length])])
}

pub(super) fn size_type(_: &Inference) -> Inferred {
    Ok(vec![ValueType::new(ElementType::Int64, vec![])])
}

pub(super) fn range_type(inference: &Inference) -> Inferred {
    one(inference, vec![inference.fresh(0, 0)])
}

pub(super) fn nonzero_type(inference: &Inference) -> Inferred {
    let rank = inference.shape(0)?.len() as u64;
    Ok(vec![ValueType::new(ElementType::Int64, vec![Dim::Known(rank), inference.fresh(0, 1)])])
}

pub(super) fn eye_like_type(inference: &Inference) -> Inferred {
    let like = inference.value_type(0)?;
    let code = inference.node.int("dtype").and_then(|code| i32::try_from(code).ok());
    let element = code.map_or(Some(like.element), ElementType::from_code).ok_or(Cause::Unknown)?;
    Ok(vec![ValueType { element, shape: like.shape.clone() }])
}
