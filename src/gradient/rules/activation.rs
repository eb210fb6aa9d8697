//! Activation functions: elementwise, with attributes or bounds. At a kink the derivative is that of one side.

use super::{
    super::{builder::Builder, error::Result, linear::Site},
    Derivative as D, Rule,
    elementwise::{broadcasting, gaussian, some, unary},
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
    rule("Mish", unary, D::Factor(mish)),
    rule("Gelu", unary, D::Factor(gelu)),
];

fn attribute(site: &Site, name: &str, default: f64) -> f64 {
    site.node.float(name).map_or(default, f64::from)
}

/// `y·(1 − y)`.
fn sigmoid_slope(builder: &mut Builder, y: &str) -> Result<String> {
    let square = builder.mul(y, y)?;
    builder.sub(y, &square)
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
        return Err(site.refuse("a bound depends on the input; only constant bounds are supported"));
    }
    some(builder, |b| {
        let unchanged = b.emit("Equal", &[site.x(), site.y()], &[])?;
        b.mask(&unchanged, site.x())
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

/// `scale` where 0 < y < 1.
fn between_bounds(builder: &mut Builder, y: &str, scale: f64) -> Result<String> {
    let (zero, one) = (builder.scalar(0.0, y)?, builder.scalar(1.0, y)?);
    let above = builder.emit("Greater", &[y, &zero], &[])?;
    let below = builder.emit("Less", &[y, &one], &[])?;
    let inside = builder.emit("And", &[&above, &below], &[])?;
    let mask = builder.mask(&inside, y)?;
    builder.scaled(&mask, scale)
}

fn hard_sigmoid(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let alpha = attribute(site, "alpha", 0.2);
    some(builder, |b| between_bounds(b, site.y(), alpha))
}

/// y = x·h with h = clip(x/6 + 1/2, 0, 1): h + x·h′.
fn hard_swish(builder: &mut Builder, site: &Site) -> Result<Option<String>> {
    let x = site.x();
    some(builder, |b| {
        let sixth = b.scaled(x, 1.0 / 6.0)?;
        let shifted = b.shifted(&sixth, 0.5)?;
        let (zero, one) = (b.scalar(0.0, x)?, b.scalar(1.0, x)?);
        let gate = b.emit("Clip", &[&shifted, &zero, &one], &[])?;
        let slope = between_bounds(b, &gate, 1.0 / 6.0)?;
        let product = b.mul(x, &slope)?;
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
        let (gate, slope) = if tanh_form { gelu_tanh(b, x)? } else { gelu_erf(b, x)? };
        let product = b.mul(x, &slope)?;
        b.add(&gate, &product)
    })
}

/// Φ(x) = (1 + erf(x/√2))/2 and its derivative φ(x) = exp(−x²/2)/√(2π).
fn gelu_erf(builder: &mut Builder, x: &str) -> Result<(String, String)> {
    let scaled = builder.scaled(x, std::f64::consts::FRAC_1_SQRT_2)?;
    let erf = builder.unary("Erf", &scaled)?;
    let shifted = builder.shifted(&erf, 1.0)?;
    let gate = builder.scaled(&shifted, 0.5)?;
    let density = gaussian(builder, x, 0.5, 0.5 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2)?;
    Ok((gate, density))
}

/// g(x) = (1 + t)/2 with t = tanh(√(2/π)(x + 0.044715x³)), and g′(x) = (1 − t²)/2·√(2/π)(1 + 3·0.044715x²).
fn gelu_tanh(builder: &mut Builder, x: &str) -> Result<(String, String)> {
    const CUBIC: f64 = 0.044_715;
    let root = (2.0 / std::f64::consts::PI).sqrt();
    let square = builder.mul(x, x)?;
    let scaled = builder.scaled(&square, root * CUBIC)?;
    let inner = builder.shifted(&scaled, root)?;
    let argument = builder.mul(x, &inner)?;
    let tanh = builder.unary("Tanh", &argument)?;
    let shifted = builder.shifted(&tanh, 1.0)?;
    let gate = builder.scaled(&shifted, 0.5)?;
    let outer = tanh_slope(builder, &tanh)?;
    let growth = builder.scaled(&square, 1.5 * root * CUBIC)?;
    let growth = builder.shifted(&growth, 0.5 * root)?;
    let slope = builder.mul(&outer, &growth)?;
    Ok((gate, slope))
}
