//! Convolution, pooling, resizing and their kin in double: slices, sums and matrix products.

use super::{
    super::{
        builder::Builder,
        error::{GradientError, Result},
        graph::{ElementType, Node},
        tensor::Tensor,
    },
    attribute_int, float, ints, operand, sizes,
};

/// Most taps of a window, and most elements of a matrix, that are written out.
const LARGEST_WINDOW: usize = 1 << 12;
const LARGEST_MATRIX: usize = 1 << 24;

/// One spatial axis of a window over a tensor of known sizes.
struct Axis {
    size: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
    behind: usize,
}

impl Axis {
    /// From the first element of a window to its last.
    fn extent(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }
}

fn list(node: &Node, name: &str, length: usize, default: usize) -> Result<Vec<usize>> {
    let values = node.ints(name).filter(|values| !values.is_empty());
    let values = values.map_or_else(|| vec![default as i64; length], <[i64]>::to_vec);
    let values: Option<Vec<usize>> = values.into_iter().map(|value| usize::try_from(value).ok()).collect();
    values
        .filter(|values| values.len() == length && values.iter().all(|&value| value < 1 << 31))
        .ok_or_else(|| GradientError::Request(format!("the attribute `{name}` does not fit its window")))
}

fn axes(builder: &Builder, node: &Node, kernel: &[usize]) -> Result<Vec<Axis>> {
    let input = sizes(builder, operand(node, 0)?)?;
    let output = sizes(builder, node.output(0).unwrap_or(""))?;
    let rank = kernel.len();
    let (strides, dilations) = (list(node, "strides", rank, 1)?, list(node, "dilations", rank, 1)?);
    let pads = list(node, "pads", 2 * rank, 0)?;
    if kernel.iter().product::<usize>() > LARGEST_WINDOW {
        return Err(GradientError::Request(format!("a window of {kernel:?} is too large for double precision")));
    }
    if input.len() != rank + 2 || output.len() != rank + 2 {
        return Err(GradientError::Request("its window does not fit its input".to_owned()));
    }
    let automatic = node.text("auto_pad").unwrap_or("NOTSET");
    let (before, behind) = pads.split_at(rank);
    let settings = kernel.iter().zip(strides).zip(dilations).zip(before.iter().zip(behind));
    let outer = input.iter().skip(2).zip(output.iter().skip(2));
    let made = settings.zip(outer).map(|((((&kernel, stride), dilation), (&before, &behind)), (&size, &output))| {
        let mut axis = Axis { size, output, kernel, stride, dilation, before, behind };
        if kernel == 0 || stride == 0 || dilation == 0 || output == 0 {
            return Err(GradientError::Request("a window of no size".to_owned()));
        }
        let total = ((output - 1) * stride + axis.extent()).saturating_sub(size);
        (axis.before, axis.behind) = match automatic {
            "SAME_UPPER" => (total / 2, total - total / 2),
            "SAME_LOWER" => (total - total / 2, total / 2),
            "VALID" => (0, 0),
            _ => (before, behind),
        };
        Ok(axis)
    });
    made.collect()
}

fn pad(builder: &mut Builder, value: &str, before: &[usize], behind: &[usize]) -> Result<String> {
    if before.iter().chain(behind).all(|&size| size == 0) {
        return Ok(value.to_owned());
    }
    let outer = [0, 0];
    let pads = outer.iter().chain(before).chain(&outer).chain(behind).copied();
    let pads = builder.integers(&ints(pads))?;
    builder.emit("Pad", &[value, &pads], &[])
}

/// `value[:, :, start : start + (count − 1)·step + 1 : step]` on the spatial axes.
fn slice(builder: &mut Builder, value: &str, parts: &[(usize, usize, usize)]) -> Result<String> {
    let starts = builder.integers(&ints(parts.iter().map(|part| part.0)))?;
    let ends = builder.integers(&ints(parts.iter().map(|part| part.0 + (part.1 - 1) * part.2 + 1)))?;
    let axes = builder.integers(&ints(2..parts.len() + 2))?;
    let steps = builder.integers(&ints(parts.iter().map(|part| part.2)))?;
    builder.emit("Slice", &[value, &starts, &ends, &axes, &steps], &[])
}

/// The input as each tap of a window sees it, in the kernel's row-major order.
fn taps(builder: &mut Builder, x: &str, axes: &[Axis]) -> Result<Vec<String>> {
    let before: Vec<usize> = axes.iter().map(|axis| axis.before).collect();
    // As far as the last window reaches, which may be beyond the padding where sizes are rounded up.
    let behind: Vec<usize> = axes
        .iter()
        .map(|axis| ((axis.output - 1) * axis.stride + axis.extent()).saturating_sub(axis.size + axis.before))
        .collect();
    let padded = pad(builder, x, &before, &behind)?;
    let kernel: Vec<usize> = axes.iter().map(|axis| axis.kernel).collect();
    let mut values = Vec::new();
    for tap in 0..kernel.iter().product() {
        let places = places(tap, &kernel);
        let parts: Vec<(usize, usize, usize)> =
            places.iter().zip(axes).map(|(place, axis)| (place * axis.dilation, axis.output, axis.stride)).collect();
        values.push(slice(builder, &padded, &parts)?);
    }
    Ok(values)
}

/// The coordinates of a flat, row-major index.
fn places(mut flat: usize, sizes: &[usize]) -> Vec<usize> {
    let mut places: Vec<usize> = sizes
        .iter()
        .rev()
        .map(|&size| {
            let place = flat % size.max(1);
            flat /= size.max(1);
            place
        })
        .collect();
    places.reverse();
    places
}

fn total(builder: &mut Builder, values: Vec<String>) -> Result<String> {
    let mut values = values.into_iter();
    let first = values.next().ok_or_else(|| GradientError::Request("an empty window".to_owned()))?;
    values.try_fold(first, |sum, value| builder.add(&sum, &value))
}

fn reshaped(builder: &mut Builder, value: &str, dims: impl IntoIterator<Item = usize>) -> Result<String> {
    builder.reshaped(value, &ints(dims))
}

/// The weight `[rows, columns, kernel…]`, as matrices `[groups, rows/groups, columns]` for each tap.
fn tap_weights(builder: &mut Builder, weight: &str, groups: usize) -> Result<Vec<String>> {
    let dims = sizes(builder, weight)?;
    let [rows, columns, kernel @ ..] = dims.as_slice() else {
        return Err(GradientError::Request("a weight without kernel".to_owned()));
    };
    if groups == 0 || rows % groups != 0 {
        return Err(GradientError::Request(format!("{rows} rows in {groups} groups")));
    }
    let n_taps: usize = kernel.iter().product();
    let matrices = reshaped(builder, weight, [groups, rows / groups, *columns, n_taps])?;
    (0..n_taps)
        .map(|tap| {
            let tap = builder.constant(Tensor::from_integers(vec![], &[tap as i64])?);
            builder.emit("Gather", &[&matrices, &tap], &[("axis", attribute_int(3))])
        })
        .collect()
}

fn with_bias(builder: &mut Builder, node: &Node, value: &str, rank: usize) -> Result<String> {
    let Some(bias) = node.input(2) else { return Ok(value.to_owned()) };
    let bias = builder.unsqueezed(bias, &ints(1..rank + 1))?;
    builder.add(value, &bias)
}

/// Σ over the taps of weight · input.
pub(super) fn convolution(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let (x, weight) = (operand(node, 0)?, operand(node, 1)?);
    let kernel = sizes(builder, weight)?.split_off(2);
    let groups = usize::try_from(node.int("group").unwrap_or(1)).unwrap_or(0);
    let axes = axes(builder, node, &kernel)?;
    let output = sizes(builder, node.output(0).unwrap_or(""))?;
    let input = sizes(builder, x)?;
    let weights = tap_weights(builder, weight, groups)?;
    let [batch, channels, ..] = input.as_slice() else { return Ok(None) };
    let places: usize = axes.iter().map(|axis| axis.output).product();
    let mut products = Vec::new();
    for (tap, weight) in taps(builder, x, &axes)?.iter().zip(&weights) {
        let columns = reshaped(builder, tap, [*batch, groups, channels / groups, places])?;
        products.push(builder.emit("MatMul", &[weight, &columns], &[])?);
    }
    let sum = total(builder, products)?;
    let sum = reshaped(builder, &sum, output)?;
    with_bias(builder, node, &sum, kernel.len()).map(Some)
}

/// Every input element spreads the kernel: the input with zeros between its elements, times the weight of each tap,
/// moved by the tap.
pub(super) fn transposed_convolution(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let (x, weight) = (operand(node, 0)?, operand(node, 1)?);
    let dims = sizes(builder, weight)?;
    let kernel = dims.get(2..).unwrap_or_default().to_vec();
    let rank = kernel.len();
    let groups = usize::try_from(node.int("group").unwrap_or(1)).unwrap_or(0).max(1);
    let input = sizes(builder, x)?;
    let [batch, channels, spatial @ ..] = input.as_slice() else { return Ok(None) };
    let (strides, dilations) = (list(node, "strides", rank, 1)?, list(node, "dilations", rank, 1)?);
    let (pads, extra) = (list(node, "pads", 2 * rank, 0)?, list(node, "output_padding", rank, 0)?);
    let automatic = node.text("auto_pad").unwrap_or("NOTSET");
    let given = node.ints("output_shape").map(|_| list(node, "output_shape", rank, 1)).transpose()?;
    let chosen = automatic.starts_with("SAME") || given.is_some();
    let spread = spread(builder, x, &strides)?;
    let weights = tap_weights(builder, weight, groups)?;
    let per_group = dims.get(1).copied().unwrap_or(0);
    let long: Vec<usize> = spatial.iter().zip(&strides).map(|(size, stride)| (size - 1) * stride + 1).collect();
    let columns = reshaped(builder, &spread, [*batch, groups, channels / groups, long.iter().product()])?;
    let mut parts = Vec::new();
    for (tap, weight) in weights.iter().enumerate() {
        let rows = builder.matrix_transposed(weight)?;
        let product = builder.emit("MatMul", &[&rows, &columns], &[])?;
        let shape = [*batch, groups * per_group].into_iter().chain(long.iter().copied());
        let product = reshaped(builder, &product, shape)?;
        let places = places(tap, &kernel);
        let before: Vec<usize> = places.iter().zip(&dilations).map(|(place, dilation)| place * dilation).collect();
        let behind: Vec<usize> = kernel
            .iter()
            .zip(&dilations)
            .zip(before.iter().zip(&extra))
            .map(|((kernel, dilation), (before, extra))| (kernel - 1) * dilation - before + extra)
            .collect();
        parts.push(pad(builder, &product, &before, &behind)?);
    }
    let sum = total(builder, parts)?;
    let mut crops = Vec::new();
    for axis in 0..rank {
        let at = |values: &[usize]| values.get(axis).copied().unwrap_or(0);
        let full = at(&long) + (at(&kernel) - 1) * at(&dilations) + at(&extra);
        let ends = pads.get(axis).zip(pads.get(axis + rank)).map_or(0, |(before, behind)| before + behind);
        let size = match &given {
            Some(given) => at(given),
            None if chosen => at(spatial) * at(&strides),
            None => full.saturating_sub(ends),
        };
        let surplus = full.saturating_sub(size);
        let start = match automatic {
            _ if !chosen => at(&pads),
            "SAME_UPPER" => surplus / 2,
            _ => surplus - surplus / 2,
        };
        crops.push((start, size.max(1), 1));
    }
    let cropped = slice(builder, &sum, &crops)?;
    with_bias(builder, node, &cropped, rank).map(Some)
}

/// Zeros between the elements, `stride − 1` along each spatial axis.
fn spread(builder: &mut Builder, x: &str, strides: &[usize]) -> Result<String> {
    let mut value = x.to_owned();
    for (axis, &stride) in strides.iter().enumerate().filter(|(_, stride)| **stride > 1) {
        let dims = sizes(builder, &value)?;
        let apart = builder.unsqueezed(&value, &[axis as i64 + 3])?;
        let mut pads = vec![0; 2 * (dims.len() + 1)];
        if let Some(behind) = pads.get_mut(dims.len() + 1 + axis + 3) {
            *behind = stride - 1;
        }
        let pads = builder.integers(&ints(pads))?;
        let apart = builder.emit("Pad", &[&apart, &pads], &[])?;
        let mut merged = dims;
        let mut length = 0;
        if let Some(size) = merged.get_mut(axis + 2) {
            length = (*size - 1) * stride + 1;
            *size *= stride;
        }
        let parts: Vec<(usize, usize, usize)> = merged
            .iter()
            .enumerate()
            .skip(2)
            .map(|(at, &size)| if at == axis + 2 { (0, length, 1) } else { (0, size, 1) })
            .collect();
        let joined = reshaped(builder, &apart, merged)?;
        value = slice(builder, &joined, &parts)?;
    }
    Ok(value)
}

/// The sum over the taps times one over how many of them count.
pub(super) fn average_pool(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let rank = sizes(builder, x)?.len().saturating_sub(2);
    let axes = axes(builder, node, &list(node, "kernel_shape", rank, 1)?)?;
    let includes_padding = node.int("count_include_pad").unwrap_or(0) != 0;
    let counts: Vec<Vec<f64>> = axes
        .iter()
        .map(|axis| {
            let (low, high) = if includes_padding {
                (0, axis.before + axis.size + axis.behind)
            } else {
                (axis.before, axis.before + axis.size)
            };
            let inside = |output: usize| {
                let taps = (0..axis.kernel).map(|tap| output * axis.stride + tap * axis.dilation);
                taps.filter(|place| (low..high).contains(place)).count() as f64
            };
            (0..axis.output).map(inside).collect()
        })
        .collect();
    let output: Vec<usize> = axes.iter().map(|axis| axis.output).collect();
    let factors: Vec<f64> = (0..output.iter().product())
        .map(|flat| {
            let places = places(flat, &output);
            let count = places.iter().zip(&counts).filter_map(|(&place, counts)| counts.get(place)).product::<f64>();
            1.0 / count.max(1.0)
        })
        .collect();
    let dims = output.iter().map(|&size| size as u64).collect();
    let factor = builder.constant(Tensor::from_floats(ElementType::Float64, dims, &factors)?);
    let taps = taps(builder, x, &axes)?;
    let sum = total(builder, taps)?;
    builder.mul(&sum, &factor).map(Some)
}

fn over_places(builder: &mut Builder, op: &str, x: &str) -> Result<String> {
    let axes = ints(2..builder.rank(x)?);
    let axes = builder.integers(&axes)?;
    builder.emit(op, &[x, &axes], &[])
}

pub(super) fn global_average_pool(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    over_places(builder, "ReduceMean", operand(node, 0)?).map(Some)
}

pub(super) fn global_max_pool(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    over_places(builder, "ReduceMax", operand(node, 0)?).map(Some)
}

/// `x / (bias + alpha/size · Σ over neighbouring channels of x²)^beta`.
pub(super) fn local_response_normalization(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let dims = sizes(builder, x)?;
    let [batch, channels, spatial @ ..] = dims.as_slice() else { return Ok(None) };
    let size = usize::try_from(node.int("size").unwrap_or(1)).unwrap_or(1).max(1);
    let mut band = vec![0.0; channels.saturating_mul(*channels).min(LARGEST_MATRIX)];
    for (flat, entry) in band.iter_mut().enumerate() {
        let (row, column) = (flat / channels, flat % channels);
        if column + (size - 1) / 2 >= row && column <= row + size / 2 {
            *entry = 1.0;
        }
    }
    let band = Tensor::from_floats(ElementType::Float64, vec![*channels as u64; 2], &band)?;
    let band = builder.constant(band);
    let square = builder.mul(x, x)?;
    let square = reshaped(builder, &square, [*batch, *channels, spatial.iter().product()])?;
    let sum = builder.emit("MatMul", &[&band, &square], &[])?;
    let sum = reshaped(builder, &sum, dims)?;
    let scaled = builder.scaled(&sum, float(node, "alpha", f64::from(1e-4_f32)) / size as f64)?;
    let shifted = builder.shifted(&scaled, float(node, "bias", 1.0))?;
    let beta = builder.scalar(float(node, "beta", 0.75), x)?;
    let power = builder.emit("Pow", &[&shifted, &beta], &[])?;
    builder.div(x, &power).map(Some)
}

/// `scale · (x − mean)/√(var + ε) + shift` over the places of each channel.
pub(super) fn instance_normalization(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let mean = over_places(builder, "ReduceMean", x)?;
    let centred = builder.sub(x, &mean)?;
    let square = builder.mul(&centred, &centred)?;
    let variance = over_places(builder, "ReduceMean", &square)?;
    let shifted = builder.shifted(&variance, float(node, "epsilon", f64::from(1e-5_f32)))?;
    let deviation = builder.unary("Sqrt", &shifted)?;
    let normalised = builder.div(&centred, &deviation)?;
    let axes = ints(1..builder.rank(x)? - 1);
    let scale = builder.unsqueezed(operand(node, 1)?, &axes)?;
    let shift = builder.unsqueezed(operand(node, 2)?, &axes)?;
    let scaled = builder.mul(&normalised, &scale)?;
    builder.add(&scaled, &shift).map(Some)
}

/// A matrix for each axis that changes; nearest and linear modes.
pub(super) fn resize(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let input = sizes(builder, x)?;
    let mode = node.text("mode").unwrap_or("nearest");
    let coordinates = node.text("coordinate_transformation_mode").unwrap_or("half_pixel");
    let plain = node.int("antialias").unwrap_or(0) == 0
        && node.int("exclude_outside").unwrap_or(0) == 0
        && node.text("keep_aspect_ratio_policy").is_none_or(|policy| policy == "stretch")
        && node.ints("axes").is_none();
    if !plain || !matches!(mode, "nearest" | "linear") {
        return Ok(None);
    }
    let scales = node.input(2).and_then(|name| builder.graph().initializers.get(name)).and_then(Tensor::floats);
    let scales = scales.filter(|scales| scales.len() == input.len() && node.input(3).is_none());
    let wanted = node.input(3).and_then(|name| builder.graph().initializers.get(name)).and_then(Tensor::integers);
    let output: Option<Vec<usize>> = match (&scales, wanted) {
        (Some(scales), _) => {
            Some(input.iter().zip(scales).map(|(&size, scale)| (size as f64 * scale) as usize).collect())
        }
        (None, Some(wanted)) => wanted.into_iter().map(|size| usize::try_from(size).ok()).collect(),
        (None, None) => sizes(builder, node.output(0).unwrap_or("")).ok(),
    };
    let Some(output) = output.filter(|output| output.len() == input.len()) else { return Ok(None) };
    let mut value = x.to_owned();
    for (axis, (&from, &to)) in input.iter().zip(&output).enumerate() {
        let scale = scales.as_ref().and_then(|scales| scales.get(axis).copied()).unwrap_or(to as f64 / from as f64);
        if from == to && scale == 1.0 {
            continue;
        }
        if from == 0 || to == 0 || from.saturating_mul(to) > LARGEST_MATRIX {
            return Ok(None);
        }
        let mut matrix = vec![0.0; from * to];
        for (place, row) in matrix.chunks_exact_mut(from).enumerate() {
            let at = place as f64;
            let source = match coordinates {
                "half_pixel" => (at + 0.5) / scale - 0.5,
                "pytorch_half_pixel" if to > 1 => (at + 0.5) / scale - 0.5,
                "pytorch_half_pixel" => 0.0,
                "asymmetric" => at / scale,
                "align_corners" if to > 1 => at * (from - 1) as f64 / (to - 1) as f64,
                "align_corners" => 0.0,
                _ => return Ok(None),
            };
            for (tap, weight) in weights(node, mode, source, from) {
                if let Some(entry) = row.get_mut(tap) {
                    *entry += weight;
                }
            }
        }
        let matrix = Tensor::from_floats(ElementType::Float64, vec![to as u64, from as u64], &matrix)?;
        let matrix = builder.constant(matrix);
        // The axis goes last but one, is multiplied from the left, and goes back.
        let inner: usize = input.iter().skip(axis + 1).product();
        let outer: usize = output.iter().take(axis).product();
        let columns = reshaped(builder, &value, [outer, from, inner])?;
        let product = builder.emit("MatMul", &[&matrix, &columns], &[])?;
        let dims = output.iter().take(axis + 1).chain(input.iter().skip(axis + 1)).copied();
        value = reshaped(builder, &product, dims)?;
    }
    Ok(Some(value))
}

/// The input elements that make an output element, with their weights.
fn weights(node: &Node, mode: &str, source: f64, size: usize) -> Vec<(usize, f64)> {
    let last = (size - 1) as f64;
    if mode == "nearest" {
        let nearest = match node.text("nearest_mode").unwrap_or("round_prefer_floor") {
            "round_prefer_ceil" => (source + 0.5).floor(),
            "floor" => source.floor(),
            "ceil" => source.ceil(),
            _ => (source - 0.5).ceil(),
        };
        return vec![(nearest.clamp(0.0, last) as usize, 1.0)];
    }
    let source = source.clamp(0.0, last);
    let (left, fraction) = (source.floor() as usize, source.fract());
    vec![(left, 1.0 - fraction), ((left + 1).min(size - 1), fraction)]
}
