//! Activation functions: elementwise, with attributes or bounds. At a kink the derivative is that of one side.

use super::{
    super::{
        builder::Builder,
        error::Result,
        fuse::{gelu_gate, swish_gate},
        linear::Site,
    },
    Derivative as D, Rule,
    elementwise::{broadcasting, some, unary},
    rule,
};

pub(super) const RULES: &[Rule] = &[
    rule("Relu", unary, D::Factor(|b, s| b.above(s.y(), 0.0).map(Some))),
    rule("LeakyRelu", unary, D::Factor(leaky_relu)),
    rule("PRelu", prelu_type, D::Factor(prelu)),
    rule("Elu", unary, D::Factor(|b, s| exponential_unit(b, s, 1.0, attribute(s, "alpha", 1.0), 1.0))),
    rule("Selu", unary, D::Factor(selu)),
    rule("Celu", unary, D::Factor(celu)),
    rule("Clip", unary, D::Factor(clip)),
    rule("Sigmoid", unary, D::Factor(|b, s| some(b, |b| sigmoid_slope(b, s.y())))),
    rule("Tanh", unary, D::Factor(|b, s| some(b, |b| tanh_slope(b, s.y())))),
    rule("Softplus", unary, D::Factor(|b, s| b.unary("Sigmoid", s.x()).map(Some))),
    rule("Softsign", unary, D::Factor(softsign)),
    rule("HardSigmoid", unary, D::Factor(hard_sigmoid)),
    rule("HardSwish", unary, D::Factor(hard_swish)),
    rule("Swish", unary, D::Factor(swish)),
    rule("Mish", unary, D::Factor(mish)),
    rule("Gelu", unary, D::Factor(gelu)),
    rule("ThresholdedRelu", unary, D::Factor(|b, s| b.above(s.x(), attribute(s, "alpha", 1.0)).map(Some))),
    rule(
        "Shrink",
        unary,
        D::Factor(|b, s| {
            some(b, |b| {
                let size = b.unary("Abs", s.x())?;
                b.above(&size, attribute(s, "lambd", 0.5))
            })
        }),
    ),
];

fn attribute(site: &Site, name: &str, default: f64) -> f64 {
    site.node.float(name).map_or(default, f64::from)
}

/// `y·(1 − y)`.
fn sigmoid_slope(builder: &mut Builder, y: &str) -> Result<String> {
    let rest = builder.ramp(y, -1.0, 1.0)?;
    builder.mul(y, &rest)
}

/// `1 − y²`.
fn tanh_slope(builder: &mut Builder, y: &str) -> Result<String> {
    let square = builder.mul(y, y)?;
    let one = builder.scalar(1.0, y)?;
    builder.sub(&one, &square)
}

/// `α + (1 − α)·[x > 0]`.
fn leaky_relu(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let alpha = attribute(site, "alpha", 0.01);
    some(builder, |b| {
        let positive = b.above(site.x(), 0.0)?;
        let scaled = b.scaled(&positive, 1.0 - alpha)?;
        b.shifted(&scaled, alpha)
    })
}

fn prelu_type(inference: &super::super::shape::Inference) -> super::super::shape::Inferred {
    broadcasting(inference)
}

/// With respect to x: 1 above 0, the slope below. With respect to the slope: x below 0.
fn prelu(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let (x, slope) = (site.operand(0)?, site.operand(1)?);
    some(builder, |b| {
        let zero = b.scalar(0.0, x)?;
        if site.input == 1 {
            return b.emit("Min", &[x, &zero], &[]);
        }
        let one = b.scalar(1.0, x)?;
        let positive = b.emit("Greater", &[x, &zero], &[])?;
        b.emit("Where", &[&positive, &one, slope], &[])
    })
}

/// `above` for x > 0, else `below · exp(x·sharpness)`.
fn exponential_unit(
    builder: &mut Builder,
    site: &Site,
    above: f64,
    below: f64,
    sharpness: f64,
) -> Result<Option<String>> {
    let x = site.x();
    some(builder, |b| {
        let zero = b.scalar(0.0, x)?;
        let negative = b.emit("Min", &[x, &zero], &[])?;
        let exponent = b.scaled(&negative, sharpness)?;
        let exponential = b.unary("Exp", &exponent)?;
        let below = b.scaled(&exponential, below)?;
        let above = b.scalar(above, x)?;
        let positive = b.emit("Greater", &[x, &zero], &[])?;
        b.emit("Where", &[&positive, &above, &below], &[])
    })
}

fn selu(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let gamma = attribute(site, "gamma", 1.050_700_987_355_480_5);
    exponential_unit(builder, site, gamma, gamma * attribute(site, "alpha", 1.673_263_242_354_377_2), 1.0)
}

fn celu(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    exponential_unit(builder, site, 1.0, 1.0, 1.0 / attribute(site, "alpha", 1.0))
}

/// 1 where the value passes unchanged.
fn clip(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    if site.input != 0 {
        return some(builder, |b| clip_bound(b, site));
    }
    let bound = |index: usize| builder.graph().initializers.get(site.node.input(index)?)?.scalar();
    if (bound(1), bound(2)) == (Some(0.0), Some(6.0)) {
        // As networks have it: from the output alone, so that the clip can run inside the convolution before it.
        return some(builder, |b| between(b, site.y(), 0.0, 6.0));
    }
    some(builder, |b| {
        let unchanged = b.emit("Equal", &[site.x(), site.y()], &[])?;
        b.mask(&unchanged, site.x())
    })
}

/// 1 where the bound is the value: the upper one wins over the lower one.
fn clip_bound(builder: &mut Builder, site: &Site) -> Result<String> {
    let (bound, x) = (site.x(), site.operand(0)?);
    let beyond = if site.input == 1 {
        let below = builder.emit("Less", &[x, bound], &[])?;
        match site.node.input(2) {
            Some(upper) => {
                let first = builder.emit("LessOrEqual", &[bound, upper], &[])?;
                builder.emit("And", &[&below, &first], &[])?
            }
            None => below,
        }
    } else {
        let raised = match site.node.input(1) {
            Some(lower) => builder.emit("Max", &[x, lower], &[])?,
            None => x.to_owned(),
        };
        builder.emit("Greater", &[&raised, bound], &[])?
    };
    builder.mask(&beyond, site.y())
}

/// y = x·σ with σ = sigmoid(α·x): σ + α·y·(1 − σ).
fn swish(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let alpha = attribute(site, "alpha", 1.0);
    some(builder, |b| {
        let gate = swish_gate(b, site.x(), site.node)?;
        let rest = b.ramp(&gate, -1.0, 1.0)?;
        let mut product = b.mul(site.y(), &rest)?;
        if alpha != 1.0 {
            product = b.scaled(&product, alpha)?;
        }
        b.add(&gate, &product)
    })
}

/// `1 / (1 + |x|)²`.
fn softsign(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    some(builder, |b| {
        let size = b.unary("Abs", site.x())?;
        let shifted = b.shifted(&size, 1.0)?;
        let square = b.mul(&shifted, &shifted)?;
        b.unary("Reciprocal", &square)
    })
}

/// 1 where y lies between two values, which it takes nowhere else.
fn between(builder: &mut Builder, y: &str, low: f64, high: f64) -> Result<String> {
    let above = builder.above(y, low)?;
    let below = builder.below(y, high)?;
    builder.mul(&above, &below)
}

fn hard_sigmoid(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let alpha = attribute(site, "alpha", 0.2);
    some(builder, |b| {
        let inside = between(b, site.y(), 0.0, 1.0)?;
        b.scaled(&inside, alpha)
    })
}

/// y = x·h with h = clip(x/6 + 1/2, 0, 1): h + [−3 < x < 3]·x/6.
fn hard_swish(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let x = site.x();
    some(builder, |b| {
        let gate = b.ramp(x, 1.0 / 6.0, 0.5)?;
        let (above, below) = (b.above(x, -3.0)?, b.below(x, 3.0)?);
        let inside = b.mul(&above, &below)?;
        let sixth = b.ramp(&inside, 1.0 / 6.0, 0.0)?;
        let product = b.mul(x, &sixth)?;
        b.add(&gate, &product)
    })
}

/// y = x·tanh(softplus(x)) = x·w: w + x·(1 − w²)·sigmoid(x).
fn mish(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let x = site.x();
    some(builder, |b| {
        let softplus = b.unary("Softplus", x)?;
        let gate = b.unary("Tanh", &softplus)?;
        let sigmoid = b.unary("Sigmoid", x)?;
        let outer = tanh_slope(b, &gate)?;
        let slope = b.mul(&outer, &sigmoid)?;
        let product = b.mul(x, &slope)?;
        b.add(&gate, &product)
    })
}

/// y = x·Φ(x): Φ + x·φ, exactly or in the tanh form.
fn gelu(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let x = site.x();
    let tanh_form = site.node.text("approximate") == Some("tanh");
    some(builder, |b| {
        let (gate, product) = if tanh_form { gelu_tanh(b, x)? } else { gelu_erf(b, x)? };
        b.add(&gate, &product)
    })
}

/// Φ(x) = (1 + erf(s))/2 with s = x/√2, and x·φ(x) = x·exp(−x²/2)/√(2π) = (s/exp(s²))/√π.
fn gelu_erf(builder: &mut Builder, x: &str) -> Result<(String, String)> {
    let gate = gelu_gate(builder, x)?;
    let scaled = builder.scaled(x, std::f64::consts::FRAC_1_SQRT_2)?;
    let square = builder.mul(&scaled, &scaled)?;
    let exponential = builder.unary("Exp", &square)?;
    let quotient = builder.div(&scaled, &exponential)?;
    Ok((gate, builder.scaled(&quotient, 0.5 * std::f64::consts::FRAC_2_SQRT_PI)?))
}

/// g(x) = (1 + t)/2 with t = tanh(√(2/π)(x + 0.044715x³)), and x·g′(x) with g′(x) = (1 − t²)/2·√(2/π)(1 + 3·0.044715x²).
fn gelu_tanh(builder: &mut Builder, x: &str) -> Result<(String, String)> {
    const CUBIC: f64 = 0.044_715;
    let root = (2.0 / std::f64::consts::PI).sqrt();
    let square = builder.mul(x, x)?;
    let scaled = builder.scaled(&square, root * CUBIC)?;
    let inner = builder.shifted(&scaled, root)?;
    let argument = builder.mul(x, &inner)?;
    let tanh = builder.unary("Tanh", &argument)?;
    let gate = builder.ramp(&tanh, 0.5, 0.5)?;
    let outer = tanh_slope(builder, &tanh)?;
    let growth = builder.scaled(&square, 1.5 * root * CUBIC)?;
    let growth = builder.shifted(&growth, 0.5 * root)?;
    let slope = builder.mul(&outer, &growth)?;
    Ok((gate, builder.mul(x, &slope)?))
}
