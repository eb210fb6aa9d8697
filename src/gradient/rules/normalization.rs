//! Normalisation, with statistics of the tensor itself or with constants of the model.

use super::{
    super::{
        builder::Builder,
        error::Result,
        fold,
        graph::{Dim, ElementType, Node, ValueType},
        linear::{Chain, Elementwise, Linear, Map, Reshaped, Site},
        shape::{Inference, Inferred},
        tensor::Tensor,
    },
    Derivative as D, Rule, rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("BatchNormalization", type_of_x, D::Linear(batch_normalization)),
    rule("LayerNormalization", layer_type, D::Linear(layer_normalization)),
    rule("RMSNormalization", type_of_x, D::Linear(root_mean_square)),
    rule("InstanceNormalization", type_of_x, D::Linear(instance_normalization)),
    rule("GroupNormalization", type_of_x, D::Composed(group_normalization)),
    rule("MeanVarianceNormalization", type_of_x, D::Composed(mean_variance)),
    rule("LpNormalization", type_of_x, D::Composed(by_norm)),
];

/// Most groups of a group normalisation.
const MOST_GROUPS: u64 = 1 << 20;

pub(super) fn type_of_x(inference: &Inference) -> Inferred {
    Ok(vec![inference.value_type(0)?.clone()])
}

fn epsilon_of(node: &Node) -> f64 {
    node.float("epsilon").map_or(1e-5, f64::from)
}

/// y = scale·(x − mean)/√(var + ε) + shift, each by channel.
fn batch_normalization(builder: &mut Builder, site: &Site) -> Result<Map> {
    let (x, scale, mean, variance) = (site.operand(0)?, site.operand(1)?, site.operand(3)?, site.operand(4)?);
    let element = builder.element(x)?;
    if let (0, Some(affine)) = (site.input, fold::affine(builder.graph(), site.node)) {
        let mut dims = vec![1; builder.rank(x)?.saturating_sub(1).max(1)];
        dims.splice(..1, [affine.factor.len() as u64]);
        let factor = builder.constant(Tensor::from_floats(element, dims, &affine.factor)?);
        return Ok(Elementwise::at(site, Some(factor)));
    }
    let shifted = builder.shifted(variance, epsilon_of(site.node))?;
    let deviation = builder.unary("Sqrt", &shifted)?;
    let factor = builder.div(scale, &deviation)?;
    if site.input == 0 {
        let factor = if builder.element(&factor)? == element { factor } else { builder.cast(&factor, element)? };
        let factor = by_channel(builder, &factor, x)?;
        return Ok(Elementwise::at(site, Some(factor)));
    }
    if builder.element(site.x())? != element {
        return Err(site.refuse("its parameters depend on the input and are of another type than it"));
    }
    let mean = by_channel(builder, mean, x)?;
    let centred = builder.sub(x, &mean)?;
    let factor = match site.input {
        1 => {
            let deviation = by_channel(builder, &deviation, x)?;
            Some(builder.div(&centred, &deviation)?)
        }
        2 => None,
        3 => {
            let factor = builder.unary("Neg", &factor)?;
            Some(by_channel(builder, &factor, x)?)
        }
        _ => {
            let slope = builder.div(&factor, &shifted)?;
            let slope = builder.scaled(&slope, -0.5)?;
            let slope = by_channel(builder, &slope, x)?;
            Some(builder.mul(&centred, &slope)?)
        }
    };
    channelwise(builder, site, factor)
}

/// A vector over the channels, in a shape that broadcasts over a tensor with the channels on axis 1.
fn by_channel(builder: &mut Builder, vector: &str, like: &str) -> Result<String> {
    let axes: Vec<i64> = (1..builder.rank(like)? as i64 - 1).collect();
    if axes.is_empty() { Ok(vector.to_owned()) } else { builder.unsqueezed(vector, &axes) }
}

/// `J t = factor ⊙ broadcast(t)` for an input that is a vector over the channels.
fn channelwise(builder: &mut Builder, site: &Site, factor: Option<String>) -> Result<Map> {
    let shaped = by_channel(builder, site.x(), site.y())?;
    let reshaped = Reshaped { input: site.x().to_owned(), output: shaped.clone() };
    let elementwise = Elementwise { factor, input: shaped, output: site.y().to_owned() };
    Ok(Box::new(Chain(vec![Box::new(reshaped), Box::new(elementwise)])))
}

/// The derivative of y = scale ⊙ x̂ with x̂ = (x − mean)/σ by the tensor's own statistics over some axes:
/// `J t = scale ⊙ (t − mean(t) − x̂ ⊙ mean(x̂ ⊙ t))/σ`, where the first mean belongs to the centring.
struct Normalised {
    /// x̂.
    normal: String,
    /// 1/σ, with the axes kept as 1.
    inverse: String,
    axes: String,
    centred: bool,
    scale: Option<String>,
}

impl Normalised {
    /// The part without the scale, which is its own adjoint.
    fn projected(&self, builder: &mut Builder, value: &str) -> Result<String> {
        let product = builder.mul(&self.normal, value)?;
        let share = builder.emit("ReduceMean", &[&product, &self.axes], &[])?;
        let along = builder.mul(&self.normal, &share)?;
        let mut rest = builder.sub(value, &along)?;
        if self.centred {
            let mean = builder.emit("ReduceMean", &[value, &self.axes], &[])?;
            rest = builder.sub(&rest, &mean)?;
        }
        builder.mul(&rest, &self.inverse)
    }

    fn scaled(&self, builder: &mut Builder, value: &str) -> Result<String> {
        match &self.scale {
            Some(scale) => builder.mul(value, scale),
            None => Ok(value.to_owned()),
        }
    }
}

impl Linear for Normalised {
    fn apply(&self, builder: &mut Builder, tangent: &str) -> Result<String> {
        let projected = self.projected(builder, tangent)?;
        self.scaled(builder, &projected)
    }

    fn transpose(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        let scaled = self.scaled(builder, cotangent)?;
        self.projected(builder, &scaled)
    }
}

/// x̂ and 1/σ with σ² the variance, or the mean square, over some axes and ε.
fn statistics(builder: &mut Builder, x: &str, axes: &str, epsilon: f64, centred: bool) -> Result<(String, String)> {
    let centre = if centred {
        let mean = builder.emit("ReduceMean", &[x, axes], &[])?;
        builder.sub(x, &mean)?
    } else {
        x.to_owned()
    };
    let squares = builder.mul(&centre, &centre)?;
    let variance = builder.emit("ReduceMean", &[&squares, axes], &[])?;
    let variance = builder.shifted(&variance, epsilon)?;
    let deviation = builder.unary("Sqrt", &variance)?;
    let inverse = builder.unary("Reciprocal", &deviation)?;
    Ok((builder.mul(&centre, &inverse)?, inverse))
}

/// The axes from the attribute's on, as a value.
fn trailing_axes(builder: &mut Builder, site: &Site) -> Result<String> {
    let rank = builder.rank(site.operand(0)?)?;
    let inference = Inference { graph: builder.graph(), node: site.node };
    let first = inference.axis("axis", -1, rank).map_err(|_| site.refuse("its axis is beyond its input's"))?;
    let axes: Vec<i64> = (first as i64..rank as i64).collect();
    builder.integers(&axes)
}

fn layer_type(inference: &Inference) -> Inferred {
    let x = inference.value_type(0)?;
    let statistics = match &x.shape {
        Some(shape) => {
            let first = inference.axis("axis", -1, shape.len())?;
            let kept =
                shape.iter().enumerate().map(|(axis, dim)| if axis < first { dim.clone() } else { Dim::Known(1) });
            Some(kept.collect())
        }
        None => None,
    };
    let statistics = ValueType { element: ElementType::Float32, shape: statistics };
    Ok(vec![x.clone(), statistics.clone(), statistics])
}

/// The operator itself tells the mean and 1/σ, so that the forward pass keeps its one kernel.
fn layer_normalization(builder: &mut Builder, site: &Site) -> Result<Map> {
    if site.output != 0 {
        return Err(site.refuse("its mean and deviation are differentiated only through its first output"));
    }
    if site.input == 2 {
        return Ok(Elementwise::at(site, None));
    }
    let (x, scale) = (site.operand(0)?, site.operand(1)?);
    let axes = trailing_axes(builder, site)?;
    let (normal, inverse) = if builder.element(x)? == ElementType::Float32 {
        let mean = builder.optional_output(site.node, 1)?;
        let inverse = builder.optional_output(site.node, 2)?;
        let centred = builder.sub(x, &mean)?;
        (builder.mul(&centred, &inverse)?, inverse)
    } else {
        statistics(builder, x, &axes, epsilon_of(site.node), true)?
    };
    Ok(match site.input {
        0 => Box::new(Normalised { normal, inverse, axes, centred: true, scale: Some(scale.to_owned()) }),
        _ => Elementwise::at(site, Some(normal)),
    })
}

fn root_mean_square(builder: &mut Builder, site: &Site) -> Result<Map> {
    let (x, scale) = (site.operand(0)?, site.operand(1)?);
    let axes = trailing_axes(builder, site)?;
    let (normal, inverse) = statistics(builder, x, &axes, epsilon_of(site.node), false)?;
    Ok(match site.input {
        0 => Box::new(Normalised { normal, inverse, axes, centred: false, scale: Some(scale.to_owned()) }),
        _ => Elementwise::at(site, Some(normal)),
    })
}

/// Each channel of each sample by its own statistics.
fn instance_normalization(builder: &mut Builder, site: &Site) -> Result<Map> {
    let (x, scale) = (site.operand(0)?, site.operand(1)?);
    if site.input == 2 {
        return channelwise(builder, site, None);
    }
    let axes: Vec<i64> = (2..builder.rank(x)? as i64).collect();
    let axes = builder.integers(&axes)?;
    let (normal, inverse) = statistics(builder, x, &axes, epsilon_of(site.node), true)?;
    if site.input == 1 {
        return channelwise(builder, site, Some(normal));
    }
    let scale = by_channel(builder, scale, x)?;
    Ok(Box::new(Normalised { normal, inverse, axes, centred: true, scale: Some(scale) }))
}

/// The groups take the place of the channels of an instance normalisation, which has a kernel.
fn group_normalization(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let site = Site { node, input: 0, output: 0 };
    let (x, scale, shift) = (site.operand(0)?, site.operand(1)?, site.operand(2)?);
    let groups = node.int("num_groups").and_then(|groups| u64::try_from(groups).ok()).filter(|groups| *groups > 0);
    let groups = groups.ok_or_else(|| site.refuse("it does not say how many groups"))?;
    // Also keeps what is allocated for the groups within what the input has.
    let channels = builder.shape(x)?.get(1).and_then(Dim::known);
    if channels.is_none_or(|channels| groups > channels) || groups > MOST_GROUPS {
        return Err(site.refuse("the number of its groups does not fit that of its channels"));
    }
    let grouped = builder.reshaped(x, &[0, groups as i64, -1])?;
    let element = builder.element(x)?;
    let normal = if element == ElementType::Float32 {
        let neutral = |value: f64| Tensor::from_floats(element, vec![groups], &vec![value; groups as usize]);
        let (ones, zeros) = (builder.constant(neutral(1.0)?), builder.constant(neutral(0.0)?));
        let epsilon = super::super::graph::Attribute::Float(epsilon_of(node) as f32);
        builder.emit("InstanceNormalization", &[&grouped, &ones, &zeros], &[("epsilon", epsilon)])?
    } else {
        let axes = builder.integers(&[2])?;
        statistics(builder, &grouped, &axes, epsilon_of(node), true)?.0
    };
    let normal = builder.reshaped_like(&normal, x)?;
    let (scale, shift) = (by_channel(builder, scale, x)?, by_channel(builder, shift, x)?);
    let scaled = builder.mul(&normal, &scale)?;
    Ok(vec![builder.add(&scaled, &shift)?])
}

/// A constant tensor gives 0, and a derivative that is finite.
fn mean_variance(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let axes = builder.integers(node.ints("axes").unwrap_or(&[0, 2, 3]))?;
    let (normal, _) = statistics(builder, node.input(0).unwrap_or(""), &axes, 1e-18, true)?;
    Ok(vec![normal])
}

/// y = x/‖x‖ₚ along an axis, with p 1 or 2. Zeros give zeros.
fn by_norm(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let x = node.input(0).unwrap_or("");
    let axis = builder.integers(&[node.int("axis").unwrap_or(-1)])?;
    let norm = if node.int("p").unwrap_or(2) == 1 {
        let sum = builder.emit("ReduceL1", &[x, &axis], &[])?;
        builder.shifted(&sum, 1e-30)?
    } else {
        let squares = builder.emit("ReduceSumSquare", &[x, &axis], &[])?;
        let squares = builder.shifted(&squares, 1e-30)?;
        builder.unary("Sqrt", &squares)?
    };
    Ok(vec![builder.div(x, &norm)?])
}
