//! Pooling over windows. Pooling over everything is a reduction.

use super::{
    super::{
        builder::Builder,
        error::{GradientError, Result},
        graph::{Attribute, ElementType, Node, ValueType},
        linear::{Linear, Map, Pair, Selected, Site},
        shape::{Cause, Inference, Inferred, wrong},
        sizes::Size,
        tensor::Tensor,
    },
    Derivative as D, Rule,
    reduce::global_type,
    rule,
    window::{Transposition, Window},
};

pub(super) const RULES: &[Rule] = &[
    rule("MaxPool", pool_type, D::Linear(max_pool)),
    rule("AveragePool", pool_type, D::Linear(average_pool)),
    rule("LpPool", pool_type, D::Composed(norm_pool)),
    rule("GlobalLpPool", global_type, D::Composed(global_norm_pool)),
];

/// Most elements of an averaging window, whose weights become a constant.
const LARGEST_WINDOW: i64 = 1 << 20;
/// Longest axis whose windows are counted one by one.
const LARGEST_AXIS: u64 = 1 << 20;

fn window_of(node: &Node) -> Inferred<Window> {
    match node.ints("kernel_shape") {
        Some(kernel) => Window::of(node, kernel),
        None => wrong("the attribute `kernel_shape` is missing"),
    }
}

/// The second output, which only `MaxPool` has, holds the indices of the maxima.
fn pool_type(inference: &Inference) -> Inferred {
    let [batch, channels, spatial @ ..] = inference.shape(0)? else {
        return wrong("its input must have channels");
    };
    let mut shape = vec![batch.clone(), channels.clone()];
    shape.extend(window_of(inference.node)?.output(spatial)?);
    Ok(vec![ValueType::new(inference.element(0)?, shape.clone()), ValueType::new(ElementType::Int64, shape)])
}

/// Each output is one input element, which the operator's second output names. Windows may overlap.
fn max_pool(builder: &mut Builder, site: &Site) -> Result<Map> {
    let indices = if site.node.int("storage_order").unwrap_or(0) == 0 {
        builder.optional_output(site.node, 1)?
    } else {
        // Its indices count columns first, so the node is repeated with rows first.
        let kept = site.node.attributes.iter().filter(|(name, _)| *name != "storage_order");
        let attributes: Vec<(&str, Attribute)> = kept.map(|(name, value)| (name.as_str(), value.clone())).collect();
        let mut outputs = builder.emit_all("MaxPool", &[site.x()], &attributes, 2)?;
        outputs.pop().unwrap_or_default()
    };
    let indices = if builder.target().misshapes_indices() {
        let flat = builder.reshaped(&indices, &[-1])?;
        builder.reshaped_like(&flat, site.y())?
    } else {
        indices
    };
    let rounds = if builder.target().scatters_in_any_order() { rounds(builder, site) } else { None };
    let selected = Selected { input: site.x().to_owned(), indices };
    Ok(match rounds {
        Some(rounds) => Box::new(InRounds { selected, rounds }),
        None => Box::new(selected),
    })
}

/// Most rounds in which the maxima of overlapping windows are written: those of three windows over each other on each of
/// three axes. Each costs a pass over the input.
const MOST_ROUNDS: i64 = 27;

/// How far apart windows that share no element are along each axis; `None` where no windows share any, or where so many
/// do that there are too many rounds.
fn rounds(builder: &Builder, site: &Site) -> Option<Vec<i64>> {
    let (window, output) = (window_of(site.node).ok()?, builder.shape(site.y()).ok()?);
    let apart = window.axes.iter().zip(output.iter().skip(2)).map(|(axis, output)| {
        let apart = (axis.span() - 1) / axis.stride + 1;
        output.known().and_then(|size| i64::try_from(size).ok()).map_or(apart, |size| apart.min(size.max(1)))
    });
    let apart: Vec<i64> = apart.collect();
    let count = apart.iter().try_fold(1i64, |count, &apart| count.checked_mul(apart))?;
    (2..=MOST_ROUNDS).contains(&count).then_some(apart)
}

/// [`Selected`] by windows that overlap, whose transpose writes those that do not at once and the others in further rounds:
/// so sums have one order, and the same bits in every run, where one scattering adds in any order.
struct InRounds {
    selected: Selected,
    /// A window comes along an axis only with those that this many places lie between.
    rounds: Vec<i64>,
}

impl Linear for InRounds {
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String> {
        self.selected.apply(builder, tangent)
    }

    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        let n_axes = self.rounds.len();
        let axes = builder.integers(&(2..n_axes as i64 + 2).collect::<Vec<_>>())?;
        let (ends, steps) = (builder.integers(&vec![i64::MAX; n_axes])?, builder.integers(&self.rounds)?);
        let mut sums = self.selected.nothing(builder)?;
        for round in 0..self.rounds.iter().product() {
            let mut rest = round;
            let starts = self.rounds.iter().map(|&apart| {
                let start = rest % apart;
                rest /= apart;
                start
            });
            let starts = builder.integers(&starts.collect::<Vec<_>>())?;
            let mut of_round = |value: &str| builder.emit("Slice", &[value, &starts, &ends, &axes, &steps], &[]);
            let (indices, updates) = (of_round(&self.selected.indices)?, of_round(cotangent)?);
            sums = Selected::added(builder, &sums, &indices, &updates)?;
        }
        builder.reshaped_like(&sums, &self.selected.input)
    }
}

/// Linear: sums over windows, each divided by its number of elements. The adjoint is a transposed convolution of each
/// channel by itself, so channels are treated as batch.
fn average_pool(builder: &mut Builder, site: &Site) -> Result<Map> {
    let window = window_of(site.node).map_err(|cause| match cause {
        Cause::Unknown => site.refuse("its window is not known"),
        Cause::Wrong(reason) => site.refuse(&reason),
    })?;
    let element = builder.element(site.x())?;
    let divisors = divisors(builder, site, &window)?;
    let kernel: Vec<u64> = [1, 1].into_iter().chain(window.axes.iter().map(|axis| axis.kernel as u64)).collect();
    let uniform = divisors.as_ref().and_then(Divisors::uniform);
    let ones = kernel.iter().product::<u64>() as usize;
    let weight = Tensor::from_floats(element, kernel, &vec![uniform.unwrap_or(1.0); ones])?;
    let scale = match (uniform, divisors) {
        (Some(_), _) => None,
        (None, Some(divisors)) => {
            let scale = Tensor::from_floats(element, divisors.shape(), &divisors.product())?;
            Some(builder.constant(scale))
        }
        (None, None) => Some(run_time_divisors(builder, site, &window)?),
    };
    let (input, output, node) = (site.x().to_owned(), site.y().to_owned(), site.node.clone());
    let apply = move |builder: &mut Builder, tangent: &str| {
        let attributes: Vec<(&str, Attribute)> =
            node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        builder.emit("AveragePool", &[tangent], &attributes)
    };
    let transpose = move |builder: &mut Builder, cotangent: &str| {
        let mut cotangent = cotangent.to_owned();
        if let Some(scale) = &scale {
            cotangent = builder.mul(&cotangent, scale)?;
        }
        let planes = planes(builder, &cotangent)?;
        let weight = builder.constant(weight.clone());
        let transposition =
            Transposition { window: &window, weight: &weight, groups: 1, input: &input, output: &output };
        let sums = transposition.emit(builder, &planes)?;
        builder.reshaped_like(&sums, &input)
    };
    Ok(Pair::of(apply, transpose))
}

/// `[N, C, …]` as `[N·C, 1, …]`.
fn planes(builder: &mut Builder, value: &str) -> Result<String> {
    let spatial = (2..builder.rank(value)?).map(|axis| Size::Of(value, axis));
    let sizes: Vec<Size> = [Size::Known(-1), Size::Known(1)].into_iter().chain(spatial).collect();
    builder.reshaped_to(value, &sizes)
}

/// One over the number of elements that each window counts, for sizes that only the run shows: a convolution of ones.
fn run_time_divisors(builder: &mut Builder, site: &Site, window: &Window) -> Result<String> {
    let include_pad = site.node.int("count_include_pad").unwrap_or(0) != 0;
    let rank = builder.rank(site.x())?;
    let sizes: Vec<Size> =
        [Size::Known(1); 2].into_iter().chain((2..rank).map(|axis| Size::Of(site.x(), axis))).collect();
    let mut shape = builder.shape_of_sizes(&sizes)?;
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    for axis in &window.axes {
        let (front, end) = axis.fixed_pads().unwrap_or((0, 0));
        // A window that begins on the padding or the input may end beyond both.
        let extra = if axis.ceil { axis.stride - 1 } else { 0 };
        let (front, end, counted) = if include_pad { (0, 0, front + end) } else { (front, end, 0) };
        before.push((front, counted));
        behind.push(end + extra);
    }
    let counted: Vec<i64> = [0, 0].into_iter().chain(before.iter().map(|(_, counted)| *counted)).collect();
    if counted.iter().any(|&counted| counted != 0) {
        let counted = builder.integers(&counted)?;
        shape = builder.add(&shape, &counted)?;
    }
    let one = Tensor::from_floats(ElementType::Float32, vec![1], &[1.0])?;
    let ones = builder.emit("ConstantOfShape", &[&shape], &[("value", Attribute::Tensor(one))])?;
    let kernel: Vec<u64> = [1, 1].into_iter().chain(window.axes.iter().map(|axis| axis.kernel as u64)).collect();
    let n_taps = kernel.iter().product::<u64>() as usize;
    let weight = Tensor::from_floats(ElementType::Float32, kernel, &vec![1.0; n_taps])?;
    let weight = builder.constant(weight);
    let pads = before.iter().map(|(front, _)| *front).chain(behind).collect();
    let mut attributes =
        vec![("strides", Attribute::Ints(window.strides())), ("dilations", Attribute::Ints(window.dilations()))];
    match site.node.attributes.get("auto_pad").filter(|_| window.axes.iter().any(|axis| axis.fixed_pads().is_none())) {
        Some(automatic) => attributes.push(("auto_pad", automatic.clone())),
        None => attributes.push(("pads", Attribute::Ints(pads))),
    }
    let counts = builder.emit("Conv", &[&ones, &weight], &attributes)?;
    let ends: Vec<Size> = (2..rank).map(|axis| Size::Of(site.y(), axis)).collect();
    let ends = builder.shape_of_sizes(&ends)?;
    let starts = builder.integers(&vec![0; rank - 2])?;
    let axes = builder.integers(&(2..rank as i64).collect::<Vec<_>>())?;
    let counts = builder.emit("Slice", &[&counts, &starts, &ends, &axes], &[])?;
    let shares = builder.unary("Reciprocal", &counts)?;
    let element = builder.element(site.x())?;
    if element == ElementType::Float32 { Ok(shares) } else { builder.cast(&shares, element) }
}

/// Added to a sum of powers, so that a sum of 0 has a derivative of 0 instead of none.
const SMALLEST: f64 = 1e-30;

/// `(Σ |x|^p)^(1/p)`, with the sum over windows as an average times their size.
fn norm_pool(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let window = window_of(node).map_err(|_| GradientError::Unsupported("its window is not known".to_owned()))?;
    if window.axes.iter().any(|axis| axis.ceil) {
        return Err(GradientError::Unsupported(
            "windows beyond the padding (ceil_mode = 1) are not supported".to_owned(),
        ));
    }
    let powers = powers(builder, node)?;
    let kept = ["auto_pad", "dilations", "kernel_shape", "pads", "strides"];
    let kept = kept.into_iter().filter_map(|name| Some((name, node.attributes.get(name)?.clone())));
    let attributes: Vec<(&str, Attribute)> = kept.chain([("count_include_pad", Attribute::Int(1))]).collect();
    let averages = builder.emit("AveragePool", &[&powers], &attributes)?;
    let n_taps: f64 = window.axes.iter().map(|axis| axis.kernel as f64).product();
    let sums = builder.scaled(&averages, n_taps)?;
    Ok(vec![rooted(builder, node, &sums)?])
}

fn global_norm_pool(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let powers = powers(builder, node)?;
    let axes: Vec<i64> = (2..builder.rank(&powers)? as i64).collect();
    let sums = builder.reduce_sum(&powers, &axes, true)?;
    Ok(vec![rooted(builder, node, &sums)?])
}

fn exponent(node: &Node) -> i64 {
    node.int("p").unwrap_or(2)
}

fn powers(builder: &mut Builder, node: &Node) -> Result<String> {
    let x = node.input(0).unwrap_or("");
    match exponent(node) {
        ..1 => Err(GradientError::Unsupported("it is of a norm below 1".to_owned())),
        1 => builder.unary("Abs", x),
        2 => builder.mul(x, x),
        p => {
            let (size, p) = (builder.unary("Abs", x)?, builder.scalar(p as f64, x)?);
            builder.emit("Pow", &[&size, &p], &[])
        }
    }
}

fn rooted(builder: &mut Builder, node: &Node, sums: &str) -> Result<String> {
    let p = exponent(node);
    if p == 1 {
        return Ok(sums.to_owned());
    }
    let sums = builder.shifted(sums, SMALLEST)?;
    let root = builder.scalar(1.0 / p as f64, &sums)?;
    builder.emit("Pow", &[&sums, &root], &[])
}

/// One over the number of elements that a window counts, as factors along each axis.
struct Divisors {
    axes: Vec<Vec<f64>>,
}

impl Divisors {
    /// The one value, if all windows have the same.
    fn uniform(&self) -> Option<f64> {
        self.axes.iter().try_fold(1.0, |product, axis| {
            let first = *axis.first()?;
            axis.iter().all(|value| *value == first).then_some(product * first)
        })
    }

    fn shape(&self) -> Vec<u64> {
        [1, 1].into_iter().chain(self.axes.iter().map(|axis| axis.len() as u64)).collect()
    }

    fn product(&self) -> Vec<f64> {
        self.axes
            .iter()
            .fold(vec![1.0], |outer, axis| outer.iter().flat_map(|a| axis.iter().map(move |b| a * b)).collect())
    }
}

/// `None` where only the run shows them.
fn divisors(builder: &Builder, site: &Site, window: &Window) -> Result<Option<Divisors>> {
    let include_pad = site.node.int("count_include_pad").unwrap_or(0) != 0;
    let (input, output) = (builder.shape(site.x())?, builder.shape(site.y())?);
    let taps = window.axes.iter().try_fold(1i64, |taps, axis| taps.checked_mul(axis.kernel));
    if taps.is_none_or(|taps| taps > LARGEST_WINDOW) {
        return Err(site.refuse("its window is too large; use a global pooling"));
    }
    let mut axes = Vec::new();
    for (axis, (input, output)) in window.axes.iter().zip(input.iter().skip(2).zip(output.iter().skip(2))) {
        let sizes = input.known().zip(output.known());
        axes.push(match sizes {
            Some((_, output)) if output > LARGEST_AXIS => return Err(site.refuse("its output is too large")),
            Some((input, output)) => axis.shares(input as i64, output as i64, include_pad),
            None if !axis.ceil && (include_pad || axis.is_unpadded()) => vec![1.0 / axis.kernel as f64],
            None => return Ok(None),
        });
    }
    Ok(Some(Divisors { axes }))
}
