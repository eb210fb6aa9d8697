//! Convolution and transposed convolution in one to three dimensions.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, Node, ValueType, display_shape},
        linear::{Elementwise, Linear, Map, Pair, Site},
        shape::{Cause, Inference, Inferred, derived, wrong},
        tensor::Tensor,
    },
    Derivative as D, Rule, conv_weight, rule, subpixel,
    window::{Adjoint, Transposition, Window},
};

pub(super) const RULES: &[Rule] =
    &[rule("Conv", conv_type, D::Linear(conv)), rule("ConvTranspose", transposed_type, D::Linear(conv_transpose))];

/// The window that a weight's kernel and a node's attributes describe.
fn window_of(node: &Node, weight: &[Dim]) -> Inferred<Window> {
    let kernel: Option<Vec<i64>> =
        weight.iter().skip(2).map(|dim| dim.known().and_then(|size| i64::try_from(size).ok())).collect();
    Window::of(node, &kernel.ok_or(Cause::Unknown)?)
}

fn groups_of(node: &Node) -> i64 {
    node.int("group").unwrap_or(1)
}

fn conv_type(inference: &Inference) -> Inferred {
    let (input, weight) = (inference.shape(0)?, inference.shape(1)?);
    let (Some((batch, rest)), Some((rows, weight_rest))) = (input.split_first(), weight.split_first()) else {
        return wrong("its input and weight must have channels");
    };
    let (Some((channels, spatial)), Some((columns, _))) = (rest.split_first(), weight_rest.split_first()) else {
        return wrong("its input and weight must have channels");
    };
    let groups = u64::try_from(groups_of(inference.node)).unwrap_or(0);
    let fits = match (channels.known(), columns.known(), rows.known()) {
        (Some(channels), Some(columns), Some(rows)) => {
            groups > 0 && columns.checked_mul(groups) == Some(channels) && rows % groups == 0
        }
        _ => groups > 0,
    };
    if !fits {
        return wrong(format!(
            "an input of {} does not fit a weight of {} in {groups} groups",
            display_shape(input),
            display_shape(weight)
        ));
    }
    let mut shape = vec![batch.clone(), rows.clone()];
    shape.extend(window_of(inference.node, weight)?.output(spatial)?);
    Ok(vec![ValueType::new(inference.element(0)?, shape)])
}

/// The window of a node whose types are known.
fn known_window(builder: &Builder, site: &Site, weight: &str) -> Result<Window> {
    window_of(site.node, &builder.shape(weight)?).map_err(|cause| match cause {
        Cause::Unknown => site.refuse("the shape of its weight is not known"),
        Cause::Wrong(reason) => site.refuse(&reason),
    })
}

/// Linear in the input: tangents are convolved with the same weight, cotangents with the adjoint one.
fn conv(builder: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return weight_or_bias(builder, site);
    }
    let weight = site.operand(1)?.to_owned();
    let window = known_window(builder, site, &weight)?;
    let node = site.node.clone();
    let (input, output, groups) = (site.x().to_owned(), site.y().to_owned(), groups_of(site.node));
    let kernel = weight.clone();
    let apply = move |builder: &mut Builder, tangent: &str| same_node(builder, &node, tangent, &kernel);
    let transpose = move |builder: &mut Builder, cotangent: &str| {
        let transposition = Transposition { window: &window, weight: &weight, groups, input: &input, output: &output };
        pulled(builder, &transposition, cotangent)
    };
    Ok(Pair::of(apply, transpose))
}

/// The adjoint of a convolution, in the form that is fastest on the device.
///
/// On a CPU, measured against `ConvTranspose`: a convolution with the reversed kernel is 2 to 17 times faster, but exists for
/// stride 1 only. Strided stems come out by phases. A depthwise cotangent is spread out with zeros, which costs a transposed
/// convolution of one tap, and then convolved: 1.5 times faster for kernels of 3, 2 to 3 times for kernels of 5. Other
/// strided convolutions would compute s² times as much that way.
fn pulled(builder: &mut Builder, transposition: &Transposition, cotangent: &str) -> Result<String> {
    let &Transposition { window, weight, groups, input, output } = transposition;
    if builder.target().transposes_convolutions() {
        return transposition.emit(builder, cotangent);
    }
    if groups == 1 {
        let (input, output) = (builder.shape(input)?, builder.shape(output)?);
        if let Some(adjoint) = subpixel::adjoint(builder, window, weight, [&input, &output], cotangent)? {
            return Ok(adjoint);
        }
    }
    let geometry: Option<Vec<Adjoint>> = transposition.adjoints(builder)?.into_iter().collect();
    let reflected = geometry.as_ref().and_then(|geometry| reflected_pads(window, geometry));
    let (Some(geometry), Some(pads)) = (geometry, reflected) else { return transposition.emit(builder, cotangent) };
    let is_plain = window.axes.iter().all(|axis| axis.stride == 1);
    let is_depthwise = builder.shape(weight)?.get(1) == Some(&Dim::Known(1)) && groups > 1;
    if !(is_plain || is_depthwise) {
        return transposition.emit(builder, cotangent);
    }
    let Some(kernel) = adjoint_weight(builder, weight, groups)? else {
        return transposition.emit(builder, cotangent);
    };
    let spread =
        if is_plain { cotangent.to_owned() } else { spread_out(builder, transposition, &geometry, cotangent)? };
    convolved(builder, &spread, &kernel, window, pads, groups)
}

/// A cotangent with zeros between its elements and behind them, as many as the stride jumps over.
fn spread_out(
    builder: &mut Builder,
    transposition: &Transposition,
    geometry: &[Adjoint],
    cotangent: &str,
) -> Result<String> {
    let channels = builder.shape(transposition.weight)?.first().and_then(Dim::known).unwrap_or(1);
    let mut dims = vec![channels, 1];
    dims.extend(transposition.window.axes.iter().map(|_| 1));
    let ones = Tensor::from_floats(builder.element(cotangent)?, dims, &vec![1.0; channels as usize])?;
    let ones = builder.constant(ones);
    let attributes = [
        ("strides", Attribute::Ints(transposition.window.strides())),
        ("group", Attribute::Int(channels as i64)),
        ("output_padding", Attribute::Ints(geometry.iter().map(|axis| axis.add_behind).collect())),
    ];
    builder.emit("ConvTranspose", &[cotangent, &ones], &attributes)
}

/// The forward node again, on a tangent and without its bias.
fn same_node(builder: &mut Builder, node: &Node, tangent: &str, weight: &str) -> Result<String> {
    let attributes: Vec<(&str, Attribute)> =
        node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    builder.emit(&node.op, &[tangent, weight], &attributes)
}

/// The padding of a plain convolution that is the adjoint of one with stride 1, or of one whose cotangent was spread out;
/// `None` where there is no such one.
fn reflected_pads(window: &Window, pads: &[Adjoint]) -> Option<Vec<i64>> {
    let sides = window.axes.iter().zip(pads).map(|(axis, pad)| {
        let (front, behind) = (axis.span() - 1 - pad.cut_front, axis.span() - 1 - pad.cut_behind);
        (pad.add_behind < axis.stride && front >= 0 && behind >= 0).then_some((front, behind))
    });
    let (front, behind): (Vec<i64>, Vec<i64>) = sides.collect::<Option<Vec<_>>>()?.into_iter().unzip();
    Some([front, behind].concat())
}

/// The weight with input and output channels exchanged and kernels reversed: a constant if the weight is one, else made
/// at run time; `None` where its sizes are not known.
fn adjoint_weight(builder: &mut Builder, weight: &str, groups: i64) -> Result<Option<String>> {
    let Some(n_groups) = usize::try_from(groups).ok().filter(|&groups| groups > 0) else { return Ok(None) };
    let purpose = format!("adjoint kernel in {groups} groups");
    let constant = builder.derived_constant(weight, &purpose, |tensor| tensor.adjoint_kernel(n_groups));
    if constant.is_some() {
        return Ok(constant);
    }
    let sizes =
        builder.shape(weight)?.iter().map(|dim| dim.known().and_then(|size| i64::try_from(size).ok())).collect();
    let Some(sizes): Option<Vec<i64>> = sizes else { return Ok(None) };
    let [rows, columns, kernel @ ..] = sizes.as_slice() else { return Ok(None) };
    let (rows, columns) = (*rows, *columns);
    let axes: Vec<i64> = (2..kernel.len() as i64 + 2).collect();
    let mut value = weight.to_owned();
    if kernel.iter().any(|&size| size > 1) {
        let backwards = [vec![-1; kernel.len()], vec![i64::MIN; kernel.len()], axes, vec![-1; kernel.len()]];
        let mut inputs = vec![value];
        for numbers in backwards {
            inputs.push(builder.integers(&numbers)?);
        }
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        value = builder.emit("Slice", &inputs, &[])?;
    }
    if groups == 1 {
        let exchanged: Vec<usize> = [1, 0].into_iter().chain(2..kernel.len() + 2).collect();
        return builder.permuted(&value, &exchanged).map(Some);
    }
    let value = builder.reshaped(&value, &[&[groups, rows / groups, columns], kernel].concat())?;
    let exchanged: Vec<usize> = [0, 2, 1].into_iter().chain(3..kernel.len() + 3).collect();
    let value = builder.permuted(&value, &exchanged)?;
    builder.reshaped(&value, &[&[groups * columns, rows / groups], kernel].concat()).map(Some)
}

fn convolved(
    builder: &mut Builder,
    value: &str,
    weight: &str,
    window: &Window,
    pads: Vec<i64>,
    groups: i64,
) -> Result<String> {
    let attributes = [
        ("dilations", Attribute::Ints(window.dilations())),
        ("group", Attribute::Int(groups)),
        ("pads", Attribute::Ints(pads)),
    ];
    builder.emit("Conv", &[value, weight], &attributes)
}

/// The bias is added to each channel.
fn weight_or_bias(builder: &mut Builder, site: &Site) -> Result<Map> {
    if site.input == 1 {
        if site.node.op == "ConvTranspose" && has_automatic_pads(site.node) {
            return Err(site.refuse(AUTOMATIC));
        }
        let window = known_window(builder, site, site.x())?;
        return conv_weight::of_weight(builder, site, &window);
    }
    let axes: Vec<i64> = (1..builder.rank(site.y())? as i64 - 1).collect();
    let (bias, output) = (site.x().to_owned(), site.y().to_owned());
    let (from, to) = (axes.clone(), output.clone());
    let apply = move |builder: &mut Builder, tangent: &str| {
        let shaped = builder.unsqueezed(tangent, &from)?;
        builder.expanded_like(&shaped, &to)
    };
    let transpose = move |builder: &mut Builder, cotangent: &str| {
        let shaped = builder.unsqueezed(&bias, &axes)?;
        let summed =
            Elementwise { factor: None, input: shaped, output: output.clone() }.transpose(builder, cotangent)?;
        builder.reshaped_like(&summed, &bias)
    };
    Ok(Pair::of(apply, transpose))
}

/// Why a transposed convolution has no derivative.
const AUTOMATIC: &str = "its padding is automatic; export it with explicit pads";

/// Whether a transposed convolution's padding follows from sizes that only the run shows.
fn has_automatic_pads(node: &Node) -> bool {
    !matches!(node.text("auto_pad"), None | Some("NOTSET")) || node.ints("output_shape").is_some()
}

fn transposed_type(inference: &Inference) -> Inferred {
    let (input, weight) = (inference.shape(0)?, inference.shape(1)?);
    let node = inference.node;
    let ([batch, _, spatial @ ..], [_, columns, ..]) = (input, weight) else {
        return wrong("its input and weight must have channels");
    };
    let window = window_of(node, weight)?;
    if window.axes.len() != spatial.len() {
        return wrong(format!("{} spatial axes, but the window has {}", spatial.len(), window.axes.len()));
    }
    let groups = u64::try_from(groups_of(node)).unwrap_or(0);
    let rows = columns.known().and_then(|columns| columns.checked_mul(groups)).ok_or(Cause::Unknown)?;
    let mut shape = vec![batch.clone(), Dim::Known(rows)];
    if has_automatic_pads(node) {
        shape.extend((0..spatial.len()).map(|axis| inference.fresh(0, axis + 2)));
        return Ok(vec![ValueType::new(inference.element(0)?, shape)]);
    }
    let pads = node.ints("pads").map_or_else(|| vec![0; 2 * spatial.len()], <[i64]>::to_vec);
    let added = node.ints("output_padding").map_or_else(|| vec![0; spatial.len()], <[i64]>::to_vec);
    let (front, behind) = pads.split_at_checked(spatial.len()).unwrap_or_default();
    let sides = front.iter().zip(behind).zip(&added);
    for ((axis, dim), ((front, behind), added)) in window.axes.iter().zip(spatial).zip(sides) {
        // Cutting what was padded, and a kernel's extent, leave this beyond (size − 1)·stride.
        let extra = axis.span().saturating_add(*added).saturating_sub(front + behind);
        shape.push(match dim.known().and_then(|size| i64::try_from(size).ok()) {
            Some(size) => {
                let size =
                    size.checked_sub(1).and_then(|s| s.checked_mul(axis.stride)).and_then(|s| s.checked_add(extra));
                match size.and_then(|size| u64::try_from(size).ok()) {
                    Some(size) => Dim::Known(size),
                    None => return wrong("its output would have no elements"),
                }
            }
            None if axis.stride == 1 && extra == 1 => dim.clone(),
            None => derived("stretched", &[&dim.to_string(), &axis.stride.to_string(), &extra.to_string()], ""),
        });
    }
    Ok(vec![ValueType::new(inference.element(0)?, shape)])
}

/// Linear in the input; its adjoint is the convolution with the same weight.
fn conv_transpose(builder: &mut Builder, site: &Site) -> Result<Map> {
    if site.input != 0 {
        return weight_or_bias(builder, site);
    }
    let node = site.node;
    if has_automatic_pads(node) {
        return Err(site.refuse(AUTOMATIC));
    }
    let weight = site.operand(1)?.to_owned();
    known_window(builder, site, &weight)?;
    let (forward, mut backward) = (node.clone(), node.clone());
    backward.op = "Conv".to_owned();
    backward.attributes.retain(|name, _| matches!(name.as_str(), "strides" | "dilations" | "group" | "pads"));
    let kernel = weight.clone();
    Ok(Pair::of(
        move |builder, tangent| same_node(builder, &forward, tangent, &kernel),
        move |builder, cotangent| same_node(builder, &backward, cotangent, &weight),
    ))
}
