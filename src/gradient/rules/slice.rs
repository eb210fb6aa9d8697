//! Cutting ranges out of axes: `Slice`, and `Gather` of one place.
//!
//! What is cut out is put back by padding, which is much faster than scattering: a step becomes zeros in between.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, Node},
        linear::{Map, Pair, Site},
        shape::{Inference, resolve_axis},
        sizes::Size,
    },
    movement::selected,
};

/// Where a range begins.
#[derive(Clone, Debug)]
enum Start {
    /// As the operator takes it: counted from behind if negative, cut to the axis if outside.
    Known(i64),
    /// An int64 value of one element.
    Value(String),
}

/// A range of an axis.
#[derive(Clone, Debug)]
struct Cut {
    axis: usize,
    start: Start,
    step: i64,
}

/// The contents of a node's integer input, if all are known.
pub(super) fn known(builder: &Builder, node: &Node, index: usize) -> Option<Vec<i64>> {
    Inference { graph: builder.graph(), node }.known_integers(index).ok()
}

fn known_size(builder: &Builder, value: &str, axis: usize) -> Option<i64> {
    builder.graph().shape(value)?.get(axis).and_then(Dim::known).and_then(|size| i64::try_from(size).ok())
}

pub(super) fn sliced(builder: &mut Builder, site: &Site) -> Result<Map> {
    let Some(cuts) = cuts(builder, site)? else { return selected(builder, site) };
    let (node, input) = (site.node.clone(), site.x().to_owned());
    Ok(Pair::of(
        move |builder, tangent| builder.repeated_with(&node, 0, tangent),
        move |builder, cotangent| pasted(builder, cotangent, &input, &cuts),
    ))
}

/// The ranges of a slice; `None` where they cannot be put back by padding.
fn cuts(builder: &mut Builder, site: &Site) -> Result<Option<Vec<Cut>>> {
    let node = site.node;
    let Some(n_cuts) = builder.graph().shape(site.operand(1)?).and_then(|shape| shape.first()?.known()) else {
        return Ok(None);
    };
    let axes = match node.input(3) {
        Some(_) => known(builder, node, 3),
        None => Some((0..n_cuts as i64).collect()),
    };
    let steps = match node.input(4) {
        Some(_) => known(builder, node, 4),
        None => Some(vec![1; usize::try_from(n_cuts).unwrap_or(0)]),
    };
    let (Some(axes), Some(steps)) = (axes, steps) else { return Ok(None) };
    let starts = known(builder, node, 1);
    let rank = builder.rank(site.x())?;
    let mut cuts = Vec::new();
    for (position, (&axis, &step)) in axes.iter().zip(&steps).enumerate() {
        let axis = resolve_axis(axis, rank).map_err(|reason| site.refuse(&reason))?;
        let sizes = known_size(builder, site.x(), axis).zip(known_size(builder, site.y(), axis));
        let start = match starts.as_ref().and_then(|starts| starts.get(position)) {
            Some(&start) => Start::Known(start),
            None => {
                let position = builder.integers(&[position as i64])?;
                let options = [("axis", Attribute::Int(0))];
                Start::Value(builder.emit("Gather", &[site.operand(1)?, &position], &options)?)
            }
        };
        let is_backwards = step < 0;
        if step == 0 || matches!(sizes, Some((_, 0))) || (is_backwards && sizes.is_none()) {
            return Ok(None);
        }
        let start = match (start, sizes) {
            // The place of the last element taken is the first of the range read forwards.
            (Start::Known(start), Some((size, length))) if is_backwards => {
                let first = (if start < 0 { start.saturating_add(size) } else { start }).clamp(0, size - 1);
                Start::Known(first.saturating_add((length - 1).saturating_mul(step)))
            }
            (Start::Value(_), _) if is_backwards => return Ok(None),
            (start, _) => start,
        };
        cuts.push(Cut { axis, start, step });
    }
    Ok(Some(cuts))
}

/// The value at its place among zeros, in the shape of `input`.
fn pasted(builder: &mut Builder, value: &str, input: &str, cuts: &[Cut]) -> Result<String> {
    let mut value = value.to_owned();
    for cut in cuts {
        if cut.step < 0 {
            value = reversed(builder, &value, cut.axis)?;
        }
        if cut.step.unsigned_abs() > 1 {
            value = spaced(builder, &value, cut.axis, cut.step.saturating_abs())?;
        }
    }
    let fixed: Option<Vec<(i64, i64)>> = cuts.iter().map(|cut| fixed_pads(builder, &value, input, cut)).collect();
    let axes: Vec<i64> = cuts.iter().map(|cut| cut.axis as i64).collect();
    let pads = match fixed {
        Some(pads) => {
            if pads.iter().all(|pad| *pad == (0, 0)) {
                return Ok(value);
            }
            let (before, behind): (Vec<i64>, Vec<i64>) = pads.into_iter().unzip();
            builder.integers(&[before, behind].concat())?
        }
        None => run_time_pads(builder, &value, input, cuts)?,
    };
    let axes = builder.integers(&axes)?;
    builder.emit("Pad", &[&value, &pads, "", &axes], &[])
}

fn reversed(builder: &mut Builder, value: &str, axis: usize) -> Result<String> {
    let (last, end, axis) = (builder.integers(&[-1])?, builder.integers(&[-i64::MAX])?, axis as i64);
    let axis = builder.integers(&[axis])?;
    builder.emit("Slice", &[value, &last, &end, &axis, &last], &[])
}

/// Each element along an axis followed by `step − 1` zeros.
fn spaced(builder: &mut Builder, value: &str, axis: usize, step: i64) -> Result<String> {
    let rank = builder.rank(value)?;
    let inner = axis as i64 + 1;
    let apart = builder.unsqueezed(value, &[inner])?;
    let (pads, axes) = (builder.integers(&[0, step - 1])?, builder.integers(&[inner])?);
    let apart = builder.emit("Pad", &[&apart, &pads, "", &axes], &[])?;
    let size = |other: usize| if other == axis { Size::Times(value, axis, step) } else { Size::Of(value, other) };
    let sizes: Vec<Size> = (0..rank).map(size).collect();
    builder.reshaped_to(&apart, &sizes)
}

fn fixed_pads(builder: &Builder, value: &str, input: &str, cut: &Cut) -> Option<(i64, i64)> {
    let (size, length) = (known_size(builder, input, cut.axis)?, known_size(builder, value, cut.axis)?);
    let Start::Known(start) = cut.start else { return None };
    let before = (if start < 0 { start.saturating_add(size) } else { start }).clamp(0, size);
    Some((before, size - before - length))
}

fn run_time_pads(builder: &mut Builder, value: &str, input: &str, cuts: &[Cut]) -> Result<String> {
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    let zero = builder.integers(&[0])?;
    for cut in cuts {
        let (size, length) = (builder.size_value(input, cut.axis)?, builder.size_value(value, cut.axis)?);
        let start = match &cut.start {
            Start::Known(start) if *start >= 0 => {
                let start = builder.integers(&[*start])?;
                builder.emit("Min", &[&start, &size], &[])?
            }
            Start::Known(start) => {
                let start = builder.integers(&[*start])?;
                let start = builder.add(&start, &size)?;
                builder.emit("Max", &[&start, &zero], &[])?
            }
            Start::Value(start) => {
                let start = builder.cast(start, super::super::graph::ElementType::Int64)?;
                let from_behind = builder.emit("Less", &[&start, &zero], &[])?;
                let counted = builder.add(&start, &size)?;
                let counted = builder.emit("Where", &[&from_behind, &counted, &start], &[])?;
                let counted = builder.emit("Min", &[&counted, &size], &[])?;
                builder.emit("Max", &[&counted, &zero], &[])?
            }
        };
        let rest = builder.sub(&size, &start)?;
        behind.push(builder.sub(&rest, &length)?);
        before.push(start);
    }
    before.append(&mut behind);
    builder.joined(&before)
}

/// One place of an axis is a range; an order of all places has an inverse; other indices are scattered.
pub(super) fn gathered(builder: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return selected(builder, site);
    }
    let rank = builder.rank(site.x())?;
    let inference = Inference { graph: builder.graph(), node: site.node };
    let axis = inference.axis("axis", 0, rank).map_err(|_| site.refuse("its axis is outside its input"))?;
    let indices = inference.known_integers(1).ok();
    let index_rank = inference.shape(1).map(<[Dim]>::len).ok();
    let (node, input) = (site.node.clone(), site.x().to_owned());
    let apply = {
        let node = node.clone();
        move |builder: &mut Builder, tangent: &str| builder.repeated_with(&node, 0, tangent)
    };
    match (indices.as_deref(), index_rank) {
        (Some(&[index]), Some(index_rank @ (0 | 1))) => Ok(Pair::of(apply, move |builder, cotangent| {
            let kept = match index_rank {
                0 => builder.unsqueezed(cotangent, &[axis as i64])?,
                _ => cotangent.to_owned(),
            };
            pasted(builder, &kept, &input, &[Cut { axis, start: Start::Known(index), step: 1 }])
        })),
        (Some(indices), Some(1)) if is_permutation(indices, known_size(builder, site.x(), axis)) => {
            let mut inverse: Vec<(i64, i64)> = indices.iter().copied().zip(0..).collect();
            inverse.sort_unstable();
            let inverse: Vec<i64> = inverse.into_iter().map(|(_, position)| position).collect();
            Ok(Pair::of(apply, move |builder, cotangent| {
                let inverse = builder.integers(&inverse)?;
                builder.emit("Gather", &[cotangent, &inverse], &[("axis", Attribute::Int(axis as i64))])
            }))
        }
        _ => selected(builder, site),
    }
}

fn is_permutation(indices: &[i64], size: Option<i64>) -> bool {
    let mut sorted = indices.to_vec();
    sorted.sort_unstable();
    size == i64::try_from(indices.len()).ok() && sorted.into_iter().eq(0..indices.len() as i64)
}
