//! Operators that choose, sort, reverse or frame elements.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, ElementType, Integer, ValueType},
        linear::{Map, Pair, Site},
        shape::{Cause, Inference, Inferred, wrong},
        sizes::Size,
        tensor::Tensor,
    },
    Derivative as D, Rule,
    movement::selected,
    movement_types::{product, quotient, same_as_first},
    rule,
    scatter::unpooled,
};

pub(super) const RULES: &[Rule] = &[
    rule("GatherND", gather_nd_type, D::Linear(selected)),
    rule("TopK", top_k_type, D::Linear(top_k)),
    rule("Compress", compress_type, D::Linear(selected)),
    rule("ReverseSequence", same_as_first, D::Linear(symmetric)),
    rule("OneHot", one_hot_type, D::Linear(one_hot)),
    rule("CenterCropPad", center_crop_pad_type, D::Linear(framed)),
    rule("MaxUnpool", max_unpool_type, D::Linear(unpooled)),
    rule("Col2Im", columns_type, D::Linear(columns)),
    rule("Unique", unique_type, D::Refused("which elements are equal changes abruptly")),
];

fn gather_nd_type(inference: &Inference) -> Inferred {
    let (data, indices) = (inference.shape(0)?, inference.shape(1)?);
    let batch = usize::try_from(inference.node.int("batch_dims").unwrap_or(0)).map_err(|_| Cause::Unknown)?;
    let Some((depth, places)) = indices.split_last() else { return wrong("its indices must have an axis") };
    let depth = usize::try_from(depth.known().ok_or(Cause::Unknown)?).map_err(|_| Cause::Unknown)?;
    let Some(rest) = batch.checked_add(depth).and_then(|start| data.get(start..)) else {
        return wrong(format!("indices of {depth} axes after {batch}, into {} axes", data.len()));
    };
    Ok(vec![ValueType::new(inference.element(0)?, places.iter().chain(rest).cloned().collect())])
}

fn top_k_type(inference: &Inference) -> Inferred {
    let mut shape = inference.shape(0)?.to_vec();
    let axis = inference.axis("axis", -1, shape.len())?;
    let count = inference.known_integers(1).ok().and_then(|k| u64::try_from(*k.first()?).ok());
    if let Some(dim) = shape.get_mut(axis) {
        *dim = count.map_or_else(|| inference.fresh(0, axis), Dim::Known);
    }
    let indices = ValueType::new(ElementType::Int64, shape.clone());
    Ok(vec![ValueType::new(inference.element(0)?, shape), indices])
}

/// The values are those at the places that the second output names, each of them once.
fn top_k(builder: &mut Builder, site: &Site) -> Result<Map> {
    let indices = builder.optional_output(site.node, 1)?;
    Ok(elements_at(site, indices, site.node.int("axis").unwrap_or(-1)))
}

/// `GatherElements`: the elements of the first input that indices along one axis name.
pub(super) fn elements(_: &mut Builder, site: &Site) -> Result<Map> {
    Ok(elements_at(site, site.operand(1)?.to_owned(), site.node.int("axis").unwrap_or(0)))
}

fn elements_at(site: &Site, indices: String, axis: i64) -> Map {
    let (input, same) = (site.x().to_owned(), indices.clone());
    Pair::of(
        move |builder, tangent| builder.emit("GatherElements", &[tangent, &indices], &[("axis", Attribute::Int(axis))]),
        move |builder, cotangent| {
            let zeros = builder.zeros_like(&input)?;
            let options = [("axis", Attribute::Int(axis)), ("reduction", Attribute::Text("add".to_owned()))];
            builder.emit("ScatterElements", &[&zeros, &same, cotangent], &options)
        },
    )
}

fn compress_type(inference: &Inference) -> Inferred {
    let element = inference.element(0)?;
    if inference.node.int("axis").is_none() {
        return Ok(vec![ValueType::new(element, vec![inference.fresh(0, 0)])]);
    }
    let mut shape = inference.shape(0)?.to_vec();
    let axis = inference.axis("axis", 0, shape.len())?;
    if let Some(dim) = shape.get_mut(axis) {
        *dim = inference.fresh(0, axis);
    }
    Ok(vec![ValueType::new(element, shape)])
}

/// An exchange of elements is its own transpose.
fn symmetric(_: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return Err(site.refuse("it is differentiable in its first input only"));
    }
    let (node, same) = (site.node.clone(), site.node.clone());
    Ok(Pair::of(
        move |builder, tangent| builder.repeated_with(&node, 0, tangent),
        move |builder, cotangent| builder.repeated_with(&same, 0, cotangent),
    ))
}

fn one_hot_type(inference: &Inference) -> Inferred {
    let mut shape = inference.shape(0)?.to_vec();
    let axis = inference.axis("axis", -1, shape.len() + 1)?;
    let depth = inference.known_integers(1).ok().and_then(|depth| u64::try_from(*depth.first()?).ok());
    shape.insert(axis, depth.map_or_else(|| inference.fresh(0, axis), Dim::Known));
    Ok(vec![ValueType::new(inference.element(2)?, shape)])
}

/// Linear in its values: that of "off" goes everywhere but to the places, that of "on" to these.
fn one_hot(_: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 2 {
        return Err(site.refuse("it is differentiable in its values only"));
    }
    let (node, same, values) = (site.node.clone(), site.node.clone(), site.x().to_owned());
    Ok(Pair::of(
        move |builder, tangent| builder.repeated_with(&node, 2, tangent),
        move |builder, cotangent| {
            let element = builder.element(&values)?;
            let mut sums = Vec::new();
            for indicator in [[1.0, 0.0], [0.0, 1.0]] {
                let indicator = builder.constant(Tensor::from_floats(element, vec![2], &indicator)?);
                let places = builder.repeated_with(&same, 2, &indicator)?;
                let chosen = builder.mul(cotangent, &places)?;
                let sum = builder.emit("ReduceSum", &[&chosen], &[("keepdims", Attribute::Int(0))])?;
                sums.push(builder.reshaped(&sum, &[1])?);
            }
            builder.joined(&sums)
        },
    ))
}

fn center_crop_pad_type(inference: &Inference) -> Inferred {
    let mut shape = inference.shape(0)?.to_vec();
    let target = inference.integers(1);
    for (position, axis) in frame_axes(inference, shape.len())?.into_iter().enumerate() {
        if let Some(dim) = shape.get_mut(axis) {
            *dim = match target.and_then(|target| target.get(position)) {
                Some(Integer::Known(size)) => Dim::Known(size.unsigned_abs()),
                Some(Integer::Symbol(name)) => Dim::Symbol(name.clone()),
                _ => inference.fresh(0, axis),
            };
        }
    }
    Ok(vec![ValueType::new(inference.element(0)?, shape)])
}

fn frame_axes(inference: &Inference, rank: usize) -> Inferred<Vec<usize>> {
    match inference.node.ints("axes") {
        Some(axes) => {
            let resolved = axes.iter().map(|&axis| super::super::shape::resolve_axis(axis, rank));
            resolved.collect::<Result<_, _>>().map_err(Cause::Wrong)
        }
        None => Ok((0..rank).collect()),
    }
}

/// Cutting to the middle and framing with zeros undo each other, odd sizes included.
fn framed(builder: &mut Builder, site: &Site) -> Result<Map> {
    let rank = builder.rank(site.x())?;
    let axes = frame_axes(&Inference { graph: builder.graph(), node: site.node }, rank)
        .map_err(|_| site.refuse("its axes are outside its input"))?;
    let (node, input) = (site.node.clone(), site.x().to_owned());
    Ok(Pair::of(
        {
            let node = node.clone();
            move |builder, tangent| builder.repeated_with(&node, 0, tangent)
        },
        move |builder, cotangent| {
            let sizes: Vec<Size> = axes.iter().map(|&axis| Size::Of(&input, axis)).collect();
            let target = builder.shape_of_sizes(&sizes)?;
            let mut outputs = builder.repeated(&node, &[(0, cotangent), (1, &target)])?;
            Ok(outputs.pop().unwrap_or_default())
        },
    ))
}

fn max_unpool_type(inference: &Inference) -> Inferred {
    let [batch, channels, spatial @ ..] = inference.shape(0)? else { return wrong("its input must have channels") };
    let element = inference.element(0)?;
    if inference.node.input(2).is_some() {
        let target = inference.known_integers(2).unwrap_or_default();
        let known = |axis: usize| target.get(axis).and_then(|&size| u64::try_from(size).ok());
        let dim = |axis: usize| known(axis).map_or_else(|| inference.fresh(0, axis), Dim::Known);
        return Ok(vec![ValueType::new(element, (0..spatial.len() + 2).map(dim).collect())]);
    }
    let Some(kernel) = inference.node.ints("kernel_shape") else { return wrong("it has no `kernel_shape`") };
    let strides = inference.node.ints("strides").unwrap_or_default();
    let pads = inference.node.ints("pads").unwrap_or_default();
    let mut shape = vec![batch.clone(), channels.clone()];
    for (axis, (dim, &kernel)) in spatial.iter().zip(kernel).enumerate() {
        let stride = strides.get(axis).copied().unwrap_or(1);
        let pad = |at: usize| pads.get(at).copied().unwrap_or(0);
        let size = dim.known().and_then(|size| i64::try_from(size).ok()).and_then(|size| {
            let reach = size.checked_sub(1)?.checked_mul(stride)?.checked_add(kernel)?;
            u64::try_from(reach.checked_sub(pad(axis))?.checked_sub(pad(axis + spatial.len()))?).ok()
        });
        shape.push(size.map_or_else(|| inference.fresh(0, axis + 2), Dim::Known));
    }
    Ok(vec![ValueType::new(element, shape)])
}

fn columns_type(inference: &Inference) -> Inferred {
    let [batch, rows, _] = inference.shape(0)? else { return wrong("its input must have three axes") };
    let (image, block) = (inference.known_integers(1)?, inference.known_integers(2)?);
    let block: Vec<Dim> = block.iter().map(|size| Dim::Known(size.unsigned_abs())).collect();
    let channels = quotient(std::slice::from_ref(rows), &[product(&block)]).ok_or(Cause::Unknown)?;
    let image = image.iter().map(|size| Dim::Known(size.unsigned_abs()));
    Ok(vec![ValueType::new(inference.element(0)?, [batch.clone(), channels].into_iter().chain(image).collect())])
}

/// Blocks summed into an image. The transpose takes the blocks out again: a convolution with one output for each
/// element of a block.
fn columns(builder: &mut Builder, site: &Site) -> Result<Map> {
    let inference = Inference { graph: builder.graph(), node: site.node };
    let block = inference.known_integers(2).map_err(|_| site.refuse("its block's shape is not known"))?;
    let count = block.iter().try_fold(1i64, |count, &size| count.checked_mul(size));
    let Some(count) = count.filter(|count| (1..=1024).contains(count)) else {
        return Err(site.refuse("its blocks have more than 1024 elements"));
    };
    if block.len() != 2 && site.node.ints("dilations").is_some_and(|dilations| dilations.iter().any(|&d| d != 1)) {
        return Err(site.refuse("ONNX Runtime misplaces dilated blocks of other than two axes"));
    }
    let taken = count as u64;
    let dims: Vec<u64> = [taken, 1].into_iter().chain(block.iter().map(|size| size.unsigned_abs())).collect();
    let weight = Tensor::identity(builder.element(site.x())?, taken)?.reshaped(dims)?;
    let (node, same, input) = (site.node.clone(), site.node.clone(), site.x().to_owned());
    Ok(Pair::of(
        move |builder, tangent| builder.repeated_with(&node, 0, tangent),
        move |builder, cotangent| {
            let rank = builder.rank(cotangent)?;
            let spatial = (2..rank).map(|axis| Size::Of(cotangent, axis));
            let sizes: Vec<Size> = [Size::Known(-1), Size::Known(1)].into_iter().chain(spatial).collect();
            let planes = builder.reshaped_to(cotangent, &sizes)?;
            let weight = builder.constant(weight.clone());
            let kept = ["strides", "pads", "dilations"];
            let options: Vec<(&str, Attribute)> =
                kept.iter().filter_map(|&name| Some((name, same.attributes.get(name)?.clone()))).collect();
            let blocks = builder.emit("Conv", &[&planes, &weight], &options)?;
            builder.reshaped_like(&blocks, &input)
        },
    ))
}

fn unique_type(inference: &Inference) -> Inferred {
    let value = ValueType { element: inference.element(0)?, shape: None };
    let index = |output: usize| ValueType::new(ElementType::Int64, vec![inference.fresh(output, 0)]);
    Ok(vec![value, index(1), index(2), index(3)])
}
