//! Reductions over axes.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Dim, ElementType, ValueType},
        linear::{Chain, Elementwise, Map, Site, Summed},
        shape::{Cause, Inference, Inferred, resolve_axes},
    },
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("ReduceSum", reduce_type, D::Linear(|b, s| weighted_sum(b, s, |_, _, _| Ok(None)))),
    rule("ReduceMean", reduce_type, D::Linear(mean)),
    rule("ReduceMax", reduce_type, D::Linear(|b, s| weighted_sum(b, s, extremum))),
    rule("ReduceMin", reduce_type, D::Linear(|b, s| weighted_sum(b, s, extremum))),
    rule("ReduceProd", reduce_type, D::Linear(|b, s| weighted_sum(b, s, product_of_others))),
    rule(
        "ReduceSumSquare",
        reduce_type,
        D::Linear(|b, s| weighted_sum(b, s, |b, s, _| b.scaled(s.x(), 2.0).map(Some))),
    ),
    rule("ReduceL1", reduce_type, D::Linear(|b, s| weighted_sum(b, s, |b, s, _| b.unary("Sign", s.x()).map(Some)))),
    rule("ReduceL2", reduce_type, D::Linear(|b, s| weighted_sum(b, s, |b, s, y| b.div(s.x(), y).map(Some)))),
    rule("ReduceLogSum", reduce_type, D::Linear(|b, s| weighted_sum(b, s, log_sum))),
    rule("ReduceLogSumExp", reduce_type, D::Linear(|b, s| weighted_sum(b, s, log_sum_exp))),
    rule("GlobalAveragePool", global_type, D::Linear(mean)),
    rule("GlobalMaxPool", global_type, D::Linear(|b, s| weighted_sum(b, s, extremum))),
    rule("ArgMax", arg_type, D::Zero),
    rule("ArgMin", arg_type, D::Zero),
];

/// The shape without, or with 1 at, the axes.
fn reduced(shape: &[Dim], axes: &[usize], keep_dims: bool) -> Vec<Dim> {
    let dims = shape.iter().enumerate();
    if keep_dims {
        dims.map(|(axis, dim)| if axes.contains(&axis) { Dim::Known(1) } else { dim.clone() }).collect()
    } else {
        dims.filter(|(axis, _)| !axes.contains(axis)).map(|(_, dim)| dim.clone()).collect()
    }
}

fn reduce_type(inference: &Inference) -> Inferred {
    let element = inference.element(0)?;
    let keep_dims = inference.node.int("keepdims").unwrap_or(1) != 0;
    let Ok(shape) = inference.shape(0) else { return Ok(vec![ValueType { element, shape: None }]) };
    let all = || (0..shape.len()).collect::<Vec<usize>>();
    let axes = match inference.node.input(1).map(|_| inference.known_integers(1)) {
        Some(Ok(axes)) if !axes.is_empty() => resolve_axes(&axes, shape.len()).map_err(Cause::Wrong)?,
        Some(Err(_)) if keep_dims => {
            return Ok(vec![ValueType::new(element, inference.fresh_shape(0, shape.len()))]);
        }
        Some(Err(_)) => return Ok(vec![ValueType { element, shape: None }]),
        _ if inference.node.int("noop_with_empty_axes").unwrap_or(0) != 0 => vec![],
        _ => all(),
    };
    Ok(vec![ValueType::new(element, reduced(shape, &axes, keep_dims))])
}

pub(super) fn global_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let axes: Vec<usize> = (2..shape.len()).collect();
    Ok(vec![ValueType::new(inference.element(0)?, reduced(shape, &axes, true))])
}

fn arg_type(inference: &Inference) -> Inferred {
    let shape = inference.shape(0)?;
    let axis = inference.axis("axis", 0, shape.len())?;
    let keep_dims = inference.node.int("keepdims").unwrap_or(1) != 0;
    Ok(vec![ValueType::new(ElementType::Int64, reduced(shape, &[axis], keep_dims))])
}

/// The axes of a reduction, counted from the front, and whether they stay as 1.
fn axes_of(builder: &Builder, site: &Site) -> Result<(Vec<i64>, bool)> {
    let rank = builder.rank(site.x())?;
    if site.node.op.starts_with("Global") {
        return Ok(((2..rank as i64).collect(), true));
    }
    let keep_dims = site.node.int("keepdims").unwrap_or(1) != 0;
    let inference = Inference { graph: builder.graph(), node: site.node };
    let given = match site.node.input(1) {
        Some(_) => inference
            .known_integers(1)
            .map_err(|_| site.refuse("its axes are not constant; only constant axes are supported"))?,
        None => vec![],
    };
    let axes = match given.is_empty() {
        true if site.node.int("noop_with_empty_axes").unwrap_or(0) != 0 => vec![],
        true => (0..rank).collect(),
        false => resolve_axes(&given, rank).map_err(|reason| site.refuse(&reason))?,
    };
    Ok((axes.into_iter().map(|axis| axis as i64).collect(), keep_dims))
}

type Weight = fn(&mut Builder, &Site, &str) -> Result<Option<String>>;

/// `J t = Σ w ⊙ t`. The weight is given the output with the reduced axes kept as 1.
fn weighted_sum(builder: &mut Builder, site: &Site, weight: Weight) -> Result<Map> {
    let (axes, keep_dims) = axes_of(builder, site)?;
    let kept = if keep_dims || axes.is_empty() { site.y().to_owned() } else { builder.unsqueezed(site.y(), &axes)? };
    let factor = weight(builder, site, &kept)?;
    let x = site.x().to_owned();
    let sum = Box::new(Summed { input: x.clone(), axes, keep_dims });
    Ok(match factor {
        None => sum,
        factor => Box::new(Chain(vec![Box::new(Elementwise { factor, input: x.clone(), output: x }), sum])),
    })
}

/// Each element weighs 1 over the number of elements that share an output.
fn mean(builder: &mut Builder, site: &Site) -> Result<Map> {
    let (axes, keep_dims) = axes_of(builder, site)?;
    let shape = builder.shape(site.x())?;
    let sizes: Option<Vec<u64>> = axes.iter().map(|&axis| shape.get(axis as usize).and_then(Dim::known)).collect();
    let factor = match sizes {
        Some(sizes) => builder.scalar(1.0 / sizes.iter().product::<u64>().max(1) as f64, site.x())?,
        None => {
            let element = builder.element(site.x())?;
            let (all, kept) = (builder.unary("Size", site.x())?, builder.unary("Size", site.y())?);
            let (all, kept) = (builder.cast(&all, element)?, builder.cast(&kept, element)?);
            builder.div(&kept, &all)?
        }
    };
    let (input, output) = (site.x().to_owned(), site.y().to_owned());
    let sum = Box::new(Summed { input, axes, keep_dims });
    // The factor follows the sum, where there are fewer elements.
    let scale = Elementwise { factor: Some(factor), input: output.clone(), output };
    Ok(Box::new(Chain(vec![sum, Box::new(scale)])))
}

/// 1 for the elements that give the extremum, shared evenly among equals.
fn extremum(builder: &mut Builder, site: &Site, kept: &str) -> Result<Option<String>> {
    let (axes, _) = axes_of(builder, site)?;
    let equal = builder.emit("Equal", &[site.x(), kept], &[])?;
    let mask = builder.mask(&equal, site.x())?;
    let count = builder.reduce_sum(&mask, &axes, true)?;
    builder.div(&mask, &count).map(Some)
}

/// y = log Σ x: exp(−y).
fn log_sum(builder: &mut Builder, _: &Site, kept: &str) -> Result<Option<String>> {
    let negative = builder.unary("Neg", kept)?;
    builder.unary("Exp", &negative).map(Some)
}

/// y = log Σ exp x: exp(x − y).
fn log_sum_exp(builder: &mut Builder, site: &Site, kept: &str) -> Result<Option<String>> {
    let difference = builder.sub(site.x(), kept)?;
    builder.unary("Exp", &difference).map(Some)
}

/// The product of all other elements: with one zero among them only the zero's own is not 0, with two all are 0.
fn product_of_others(builder: &mut Builder, site: &Site, _: &str) -> Result<Option<String>> {
    let x = site.x();
    let (axes, _) = axes_of(builder, site)?;
    let (zero, one) = (builder.scalar(0.0, x)?, builder.scalar(1.0, x)?);
    let is_zero = builder.emit("Equal", &[x, &zero], &[])?;
    let zeros = builder.mask(&is_zero, x)?;
    let count = builder.reduce_sum(&zeros, &axes, true)?;
    let factors = builder.emit("Where", &[&is_zero, &one, x], &[])?;
    let product = if axes.is_empty() {
        factors.clone()
    } else {
        let axes = builder.integers(&axes)?;
        builder.emit("ReduceProd", &[&factors, &axes], &[])?
    };
    let others = builder.div(&product, &factors)?;
    let zeros_of_others = builder.sub(&count, &zeros)?;
    let none = builder.emit("Equal", &[&zeros_of_others, &zero], &[])?;
    builder.emit("Where", &[&none, &others, &zero], &[]).map(Some)
}
