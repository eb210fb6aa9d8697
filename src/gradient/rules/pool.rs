//! Pooling over windows. Pooling over everything is a reduction.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, ElementType, Node, ValueType},
        linear::{Map, Pair, Selected, Site},
        shape::{Cause, Inference, Inferred, wrong},
        tensor::Tensor,
    },
    Derivative as D, Rule, rule,
    window::{Transposition, Window},
};

pub(super) const RULES: &[Rule] =
    &[rule("MaxPool", pool_type, D::Linear(max_pool)), rule("AveragePool", pool_type, D::Linear(average_pool))];

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
    if site.node.int("storage_order").unwrap_or(0) != 0 {
        return Err(site.refuse("column-major indices (storage_order = 1) are not supported"));
    }
    let indices = builder.optional_output(site.node, 1)?;
    Ok(Box::new(Selected { input: site.x().to_owned(), indices }))
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
    let uniform = divisors.uniform();
    let ones = kernel.iter().product::<u64>() as usize;
    let weight = Tensor::from_floats(element, kernel, &vec![uniform.unwrap_or(1.0); ones])?;
    let scale = match uniform {
        Some(_) => None,
        None => Some(Tensor::from_floats(element, divisors.shape(), &divisors.product())?),
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
            let scale = builder.constant(scale.clone());
            cotangent = builder.mul(&cotangent, &scale)?;
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
    let shape = builder.shape(value)?;
    let spatial: Option<Vec<i64>> = shape.iter().skip(2).map(|dim| dim.known().map(|size| size as i64)).collect();
    if let Some(spatial) = spatial {
        return builder.reshaped(value, &[vec![-1, 1], spatial].concat());
    }
    let mut sizes = vec![builder.integers(&[-1, 1])?];
    for axis in 2..shape.len() {
        sizes.push(builder.size_value(value, axis)?);
    }
    let sizes: Vec<&str> = sizes.iter().map(String::as_str).collect();
    let target = builder.emit("Concat", &sizes, &[("axis", Attribute::Int(0))])?;
    builder.emit("Reshape", &[value, &target], &[])
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

fn divisors(builder: &Builder, site: &Site, window: &Window) -> Result<Divisors> {
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
            None => {
                return Err(site
                    .refuse("windows that reach beyond the input need a fixed input size; export the model with one"));
            }
        });
    }
    Ok(Divisors { axes })
}
