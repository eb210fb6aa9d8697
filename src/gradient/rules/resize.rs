//! Resampling: `Resize`, which is linear and treats each axis by itself.
//!
//! The matrix of an axis is what the operator makes of the identity matrix. So the taps are those that the runtime
//! computes, rounding included, whatever the mode, and sizes may be free. Where all sizes are known the runtime folds
//! the matrix into a constant.

use super::{
    super::{
        builder::Builder,
        error::{GradientError, Result},
        graph::{Attribute, Dim, ElementType, Integer, Node, ValueType},
        linear::{Map, Pair, Site},
        shape::{Inference, Inferred, derived, resolve_axis, wrong},
        sizes::Size,
        tensor::Tensor,
    },
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[rule("Resize", resize_type, D::Linear(resized))];

/// Largest identity matrix that is written into the graph; larger ones are made at run time.
const LARGEST_CONSTANT: u64 = 1024;
/// Most elements of a matrix, if its sizes are known.
const LARGEST_MATRIX: u64 = 1 << 26;
/// Most elements of the matrices that keep an aspect ratio, which involve two axes.
const LARGEST_PAIR: u64 = 1 << 26;

/// How much an axis is resized, as far as the file tells.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    /// A factor, with the output's size rounded down.
    Scale(f32),
    Size,
    /// A factor or size that only the run shows.
    Unknown,
}

/// The axes that a node resizes, in the order of its `scales`, `sizes` and `roi`.
fn axes(node: &Node, rank: usize) -> Result<Vec<usize>, String> {
    match node.ints("axes") {
        Some(axes) if !axes.is_empty() => axes.iter().map(|&axis| resolve_axis(axis, rank)).collect(),
        _ => Ok((0..rank).collect()),
    }
}

/// Whether an input is given and has contents; older exporters write empty tensors for what they leave out.
fn is_given(inference: &Inference, index: usize) -> bool {
    let is_empty = |name: &str| inference.graph.shape(name) == Some(&[Dim::Known(0)]);
    inference.node.input(index).is_some_and(|name| !is_empty(name))
}

/// The constant factors, if they are given and constant.
fn scales(inference: &Inference) -> Option<Vec<f32>> {
    let tensor = inference.graph.initializers.get(inference.node.input(2)?)?;
    Some(tensor.floats()?.into_iter().map(|scale| scale as f32).collect())
}

fn keeps_ratio(node: &Node) -> bool {
    node.text("keep_aspect_ratio_policy").unwrap_or("stretch") != "stretch"
}

fn resize_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let axes = axes(inference.node, shape.len()).or_else(wrong)?;
    let mut resized = shape.to_vec();
    let sizes = if is_given(inference, 3) { inference.integers(3) } else { None };
    let scales = if is_given(inference, 3) { None } else { scales(inference) };
    let policy = kept_ratio(inference, &axes);
    for (position, &axis) in axes.iter().enumerate() {
        let Some(dim) = resized.get_mut(axis) else { continue };
        let scale = scales.as_ref().and_then(|scales| scales.get(position));
        *dim = match (sizes.and_then(|sizes| sizes.get(position)), scale) {
            _ if keeps_ratio(inference.node) && is_given(inference, 3) => match (policy, dim.known()) {
                (Some((ratio, _)), Some(size)) => Dim::Known((ratio * size as f32).round() as u64),
                _ => inference.fresh(0, axis),
            },
            (Some(Integer::Known(size)), _) => match u64::try_from(*size) {
                Ok(size) => Dim::Known(size),
                Err(_) => return wrong(format!("a size of {size}")),
            },
            (Some(Integer::Symbol(name)), _) => Dim::Symbol(name.clone()),
            (_, Some(1.0)) => dim.clone(),
            (_, Some(scale)) => match dim.known() {
                Some(size) => Dim::Known((size as f32 * scale).floor() as u64),
                None => derived("resized", &[&dim.to_string(), &scale.to_string()], ""),
            },
            _ => inference.fresh(0, axis),
        };
    }
    Ok(vec![ValueType::new(inference.element(0)?, resized)])
}

/// The one factor of all axes that keeps the aspect ratio, and the position of the axis that sets it.
fn kept_ratio(inference: &Inference, axes: &[usize]) -> Option<(f32, usize)> {
    let (shape, sizes) = (inference.shape(0).ok()?, inference.known_integers(3).ok()?);
    let is_smaller = |a: f32, b: f32| match inference.node.text("keep_aspect_ratio_policy") {
        Some("not_smaller") => a > b,
        _ => a < b,
    };
    let mut chosen: Option<(f32, usize)> = None;
    for (position, (&axis, &size)) in axes.iter().zip(&sizes).enumerate() {
        let ratio = size as f32 / shape.get(axis)?.known()? as f32;
        if chosen.is_none_or(|(other, _)| is_smaller(ratio, other)) {
            chosen = Some((ratio, position));
        }
    }
    chosen
}

/// The resizing of one axis.
#[derive(Clone, Debug)]
struct AxisPlan {
    axis: usize,
    /// Its place in the node's `scales`, `sizes` and `roi`.
    position: usize,
    /// How often nearest-neighbour resizing repeats each element, where it does nothing else.
    repeats: Option<i64>,
    /// Whether the output may have the input's size although coordinates are scaled.
    may_keep_size: bool,
}

fn resized(builder: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return Err(site.refuse("it is differentiable in its first input only"));
    }
    let plans = plans(builder, site)?;
    let (node, same) = (site.node.clone(), site.node.clone());
    Ok(Pair::of(
        move |builder, tangent| {
            let inputs: Vec<&str> =
                [tangent].into_iter().chain(node.inputs.iter().skip(1).map(String::as_str)).collect();
            builder.emit("Resize", &inputs, &attributes(&node, None))
        },
        move |builder, cotangent| pulled_back(builder, &same, &plans, cotangent),
    ))
}

/// The node's attributes for a tangent, whose continuation beyond the borders is 0.
fn attributes(node: &Node, axes: Option<&[i64]>) -> Vec<(&'static str, Attribute)> {
    const KEPT: [&str; 8] = [
        "antialias",
        "axes",
        "coordinate_transformation_mode",
        "cubic_coeff_a",
        "exclude_outside",
        "keep_aspect_ratio_policy",
        "mode",
        "nearest_mode",
    ];
    let kept = KEPT.into_iter().filter_map(|name| Some((name, node.attributes.get(name)?.clone())));
    match axes {
        None => kept.collect(),
        Some(axes) => {
            kept.filter(|(name, _)| *name != "axes").chain([("axes", Attribute::Ints(axes.to_vec()))]).collect()
        }
    }
}

/// The axes that change, the last first.
fn plans(builder: &Builder, site: &Site) -> Result<Vec<AxisPlan>> {
    let node = site.node;
    let inference = Inference { graph: builder.graph(), node };
    let (input, output) = (builder.shape(site.x())?, builder.shape(site.y())?);
    let axes = axes(node, input.len()).map_err(|reason| site.refuse(&reason))?;
    let scales = if is_given(&inference, 3) { None } else { scales(&inference) };
    let crops = node.text("coordinate_transformation_mode") == Some("tf_crop_and_resize");
    let mut plans = Vec::new();
    for (position, &axis) in axes.iter().enumerate() {
        let scale = scales.as_ref().and_then(|scales| scales.get(position));
        let extent = match scale {
            Some(scale) => Extent::Scale(*scale),
            None if is_given(&inference, 3) => Extent::Size,
            None => Extent::Unknown,
        };
        let (Some(from), Some(to)) = (input.get(axis), output.get(axis)) else { continue };
        let keeps_size = match extent {
            Extent::Scale(scale) => scale == 1.0,
            Extent::Size => from == to && (from.known().is_some() || !keeps_ratio(node)),
            Extent::Unknown => false,
        };
        // Cubic interpolation is the only kind that crops where it does not scale.
        if keeps_size && !(crops && node.text("mode") == Some("cubic") && axis + 2 >= input.len()) {
            continue;
        }
        let factor = match (extent, from.known().zip(to.known())) {
            (Extent::Scale(scale), _) => Some(scale),
            (Extent::Size, Some((from, to))) if from > 0 && to % from == 0 => Some((to / from) as f32),
            _ => None,
        };
        let may_keep_size = match (extent, from.known()) {
            (Extent::Size, _) => false,
            (Extent::Scale(scale), Some(_)) if scale != 1.0 => from == to,
            (Extent::Scale(scale), None) => (1.0..2.0).contains(&scale),
            _ => true,
        };
        let repeats = factor.and_then(|factor| repeats(node, factor));
        plans.push(AxisPlan { axis, position, repeats, may_keep_size });
    }
    plans.sort_by_key(|plan| std::cmp::Reverse(plan.axis));
    Ok(plans)
}

/// The factor as a number of repetitions, if nearest-neighbour resizing by it repeats each element.
fn repeats(node: &Node, factor: f32) -> Option<i64> {
    let is_nearest = node.text("mode").unwrap_or("nearest") == "nearest";
    if !is_nearest || factor.fract() != 0.0 || !(1.0..4096.0).contains(&factor) {
        return None;
    }
    let coordinates = node.text("coordinate_transformation_mode").unwrap_or("half_pixel");
    let exact = match (coordinates, node.text("nearest_mode").unwrap_or("round_prefer_floor")) {
        ("half_pixel", "round_prefer_floor" | "round_prefer_ceil") => true,
        ("asymmetric" | "tf_half_pixel_for_nn", "floor") => true,
        ("asymmetric", "round_prefer_floor") => factor == 2.0,
        _ => false,
    };
    exact.then_some(factor as i64)
}

fn pulled_back(builder: &mut Builder, node: &Node, plans: &[AxisPlan], cotangent: &str) -> Result<String> {
    let input = node.input(0).unwrap_or("");
    let value = match pooled(builder, input, plans, cotangent)? {
        Some(pooled) => pooled,
        None => {
            let mut value = cotangent.to_owned();
            for plan in plans {
                let matrix = matrix(builder, node, plan)?;
                value = contracted(builder, &value, &matrix, plan.axis)?;
            }
            value
        }
    };
    // Inference does not see that the sizes are those of the input again.
    builder.shaped_like(&value, input);
    Ok(value)
}

/// Sums over blocks, as averages times their sizes, where every resized axis is spatial and repeats its elements.
fn pooled(builder: &mut Builder, input: &str, plans: &[AxisPlan], cotangent: &str) -> Result<Option<String>> {
    let rank = builder.rank(input)?;
    let is_float = builder.element(input)? == ElementType::Float32;
    if !is_float || !(3..=5).contains(&rank) || plans.is_empty() || plans.iter().any(|plan| plan.axis < 2) {
        return Ok(None);
    }
    let mut kernel = vec![1; rank - 2];
    for plan in plans {
        let (Some(repeats), Some(size)) = (plan.repeats, kernel.get_mut(plan.axis - 2)) else { return Ok(None) };
        *size = repeats;
    }
    let block: i64 = kernel.iter().product();
    let window = [("kernel_shape", Attribute::Ints(kernel.clone())), ("strides", Attribute::Ints(kernel))];
    let averages = builder.emit("AveragePool", &[cotangent], &window)?;
    builder.scaled(&averages, block as f64).map(Some)
}

/// `[size before, size after]`: what each element of the axis contributes to each element of the result.
fn matrix(builder: &mut Builder, node: &Node, plan: &AxisPlan) -> Result<String> {
    let input = node.input(0).unwrap_or("");
    let size = |name: Option<&str>| builder.graph().shape(name?)?.get(plan.axis)?.known();
    let elements = size(node.input(0)).zip(size(node.output(0)));
    if elements.is_some_and(|(from, to)| from.max(to).checked_mul(from).is_none_or(|n| n > LARGEST_MATRIX)) {
        return Err(GradientError::Unsupported("it resizes an axis that is too long; use a smaller input".to_owned()));
    }
    let identity = identity(builder, input, plan.axis)?;
    let gives_sizes = is_given(&Inference { graph: builder.graph(), node }, 3);
    let matrix = if gives_sizes && keeps_ratio(node) {
        ratio_matrix(builder, node, plan, &identity)?
    } else {
        let region = region(builder, node, &[plan.position])?;
        if gives_sizes {
            let size = builder.size_value(node.output(0).unwrap_or(""), plan.axis)?;
            builder.emit("Resize", &[&identity, &region, "", &size], &attributes(node, Some(&[1])))?
        } else {
            let scale = picked(builder, node, 2, &[plan.position])?;
            if plan.may_keep_size {
                scale_matrix(builder, node, &identity, &region, &scale)?
            } else {
                builder.emit("Resize", &[&identity, &region, &scale], &attributes(node, Some(&[1])))?
            }
        }
    };
    let element = builder.element(input)?;
    if element == ElementType::Float32 { Ok(matrix) } else { builder.cast(&matrix, element) }
}

/// The identity matrix of the size of an axis.
fn identity(builder: &mut Builder, value: &str, axis: usize) -> Result<String> {
    let size = builder.shape(value)?.get(axis).and_then(Dim::known);
    if let Some(size) = size.filter(|&size| size <= LARGEST_CONSTANT) {
        return builder.shared_constant(&format!("identity {size}"), || Tensor::identity(ElementType::Float32, size));
    }
    let size = builder.size_value(value, axis)?;
    let shape = builder.emit("Concat", &[&size, &size], &[("axis", Attribute::Int(0))])?;
    let zero = Tensor::from_floats(ElementType::Float32, vec![1], &[0.0])?;
    let zeros = builder.emit("ConstantOfShape", &[&shape], &[("value", Attribute::Tensor(zero))])?;
    builder.unary("EyeLike", &zeros)
}

/// Entries of a node's input that has one for each resized axis.
fn picked(builder: &mut Builder, node: &Node, index: usize, positions: &[usize]) -> Result<String> {
    let Some(name) = node.input(index) else { return Ok(String::new()) };
    let positions: Vec<i64> = positions.iter().map(|&position| position as i64).collect();
    let positions = builder.integers(&positions)?;
    builder.emit("Gather", &[name, &positions], &[("axis", Attribute::Int(0))])
}

/// The region of interest of some axes, where the mode has one.
fn region(builder: &mut Builder, node: &Node, positions: &[usize]) -> Result<String> {
    let crops = node.text("coordinate_transformation_mode") == Some("tf_crop_and_resize");
    if !crops || !is_given(&Inference { graph: builder.graph(), node }, 1) {
        return Ok(String::new());
    }
    let rank = builder.rank(node.input(0).unwrap_or(""))?;
    let n_axes = axes(node, rank).map_err(GradientError::Invalid)?.len();
    let ends = positions.iter().map(|position| position + n_axes);
    picked(builder, node, 1, &positions.iter().copied().chain(ends).collect::<Vec<_>>())
}

/// The matrix of an axis that is scaled, yet may keep its size. The runtime copies what keeps all its sizes, so another
/// axis is resized along, and then cut off.
fn scale_matrix(builder: &mut Builder, node: &Node, identity: &str, region: &str, scale: &str) -> Result<String> {
    let spread = builder.unsqueezed(identity, &[0, 3])?;
    let two = Tensor::from_floats(builder.element(scale)?, vec![1], &[2.0])?;
    let two = builder.constant(two);
    let scales = builder.joined(&[scale.to_owned(), two])?;
    let region = match region {
        "" => String::new(),
        region => {
            let ends = Tensor::from_floats(builder.element(region)?, vec![2], &[0.0, 1.0])?;
            let ends = builder.constant(ends);
            let all = builder.joined(&[region.to_owned(), ends])?;
            let order = builder.integers(&[0, 2, 1, 3])?;
            builder.emit("Gather", &[&all, &order], &[("axis", Attribute::Int(0))])?
        }
    };
    let resized = builder.emit("Resize", &[&spread, &region, &scales], &attributes(node, Some(&[2, 3])))?;
    first_of(builder, &resized, 3)
}

/// `[1, rows, …]` at the first place of an axis, as a matrix.
fn first_of(builder: &mut Builder, value: &str, axis: i64) -> Result<String> {
    let first = builder.constant(Tensor::from_integers(vec![], &[0])?);
    let row = builder.emit("Gather", &[value, &first], &[("axis", Attribute::Int(axis))])?;
    let axes = builder.integers(&[0])?;
    builder.emit("Squeeze", &[&row, &axes], &[])
}

/// The matrix of an axis whose factor another axis sets: that other axis is resized along, and then cut off.
fn ratio_matrix(builder: &mut Builder, node: &Node, plan: &AxisPlan, identity: &str) -> Result<String> {
    let refused = || {
        GradientError::Unsupported(
            "keeping the aspect ratio needs fixed and moderate sizes; export the model with fixed sizes".to_owned(),
        )
    };
    let input = node.input(0).unwrap_or("");
    let rank = builder.rank(input)?;
    let axes = axes(node, rank).map_err(GradientError::Invalid)?;
    let inference = Inference { graph: builder.graph(), node };
    let (_, leading) = kept_ratio(&inference, &axes).ok_or_else(refused)?;
    let known = |axis: usize| inference.shape(0).ok().and_then(|shape| shape.get(axis)?.known());
    let size = known(plan.axis).ok_or_else(refused)?;
    let breadth = axes.get(leading).and_then(|&axis| known(axis)).ok_or_else(refused)?;
    let elements = size.checked_mul(size).and_then(|elements| elements.checked_mul(breadth));
    elements.filter(|&elements| elements <= LARGEST_PAIR).ok_or_else(refused)?;
    let positions = [leading, plan.position];
    let spread = builder.unsqueezed(identity, &[0, 2])?;
    let target = builder.integers(&[1, 1, breadth as i64, 1])?;
    let spread = builder.emit("Expand", &[&spread, &target], &[])?;
    let (region, sizes) = (region(builder, node, &positions)?, picked(builder, node, 3, &positions)?);
    let resized = builder.emit("Resize", &[&spread, &region, "", &sizes], &attributes(node, Some(&[2, 3])))?;
    // All rows along the other axis are the same.
    first_of(builder, &resized, 2)
}

/// `Σ_o matrix[i, o]·value[…, o, …]` along an axis.
fn contracted(builder: &mut Builder, value: &str, matrix: &str, axis: usize) -> Result<String> {
    let shape = builder.shape(value)?;
    let behind = shape.len() - axis - 1;
    match behind {
        0 => {
            let transposed = builder.matrix_transposed(matrix)?;
            builder.emit("MatMul", &[value, &transposed], &[])
        }
        1 => builder.emit("MatMul", &[matrix, value], &[]),
        _ => {
            // All axes behind as one, as columns of matrices.
            let flat = builder.emit("Flatten", &[value], &[("axis", Attribute::Int(axis as i64 + 1))])?;
            let moved = builder.reshaped_to(&flat, &[Size::Known(-1), Size::Of(value, axis), Size::Of(&flat, 1)])?;
            let product = builder.emit("MatMul", &[matrix, &moved], &[])?;
            let of = |other: usize| if other == axis { Size::Of(matrix, 0) } else { Size::Of(value, other) };
            let sizes: Vec<Size> = (0..shape.len()).map(of).collect();
            builder.reshaped_to(&product, &sizes)
        }
    }
}
