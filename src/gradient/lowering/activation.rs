//! Elementwise operators and norms in double.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Node},
    },
    float, operand,
};

/// `max(x, 0)`.
fn positive(builder: &mut Builder, x: &str) -> Result<String> {
    let zero = builder.scalar(0.0, x)?;
    builder.emit("Max", &[x, &zero], &[])
}

/// `min(x, 0)`.
fn negative(builder: &mut Builder, x: &str) -> Result<String> {
    let zero = builder.scalar(0.0, x)?;
    builder.emit("Min", &[x, &zero], &[])
}

pub(super) fn leaky_relu(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let (above, below) = (positive(builder, x)?, negative(builder, x)?);
    let below = builder.scaled(&below, float(node, "alpha", 0.01))?;
    builder.add(&above, &below).map(Some)
}

pub(super) fn prelu(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let (above, below) = (positive(builder, x)?, negative(builder, x)?);
    let below = builder.mul(&below, operand(node, 1)?)?;
    builder.add(&above, &below).map(Some)
}

/// `scale · (max(x, 0) + alpha · (exp(min(x, 0) / divisor) − 1))`.
fn exponential(builder: &mut Builder, x: &str, scale: f64, alpha: f64, divisor: f64) -> Result<Option<String>> {
    let (above, below) = (positive(builder, x)?, negative(builder, x)?);
    let below = builder.scaled(&below, 1.0 / divisor)?;
    let below = builder.unary("Exp", &below)?;
    let below = builder.shifted(&below, -1.0)?;
    let below = builder.scaled(&below, alpha)?;
    let sum = builder.add(&above, &below)?;
    builder.scaled(&sum, scale).map(Some)
}

pub(super) fn elu(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    exponential(builder, operand(node, 0)?, 1.0, float(node, "alpha", 1.0), 1.0)
}

pub(super) fn selu(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    // The defaults of the specification, as float32 has them.
    let alpha = float(node, "alpha", f64::from(1.673_263_2_f32));
    let gamma = float(node, "gamma", f64::from(1.050_701_f32));
    exponential(builder, operand(node, 0)?, gamma, alpha, 1.0)
}

pub(super) fn celu(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let alpha = float(node, "alpha", 1.0);
    exponential(builder, operand(node, 0)?, 1.0, alpha, alpha)
}

/// `min(max(alpha · x + beta, 0), 1)`.
fn hard(builder: &mut Builder, x: &str, alpha: f64, beta: f64) -> Result<String> {
    let line = builder.scaled(x, alpha)?;
    let line = builder.shifted(&line, beta)?;
    let line = positive(builder, &line)?;
    let one = builder.scalar(1.0, x)?;
    builder.emit("Min", &[&line, &one], &[])
}

pub(super) fn hard_sigmoid(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let default = f64::from(0.2_f32);
    hard(builder, operand(node, 0)?, float(node, "alpha", default), float(node, "beta", 0.5)).map(Some)
}

pub(super) fn hard_swish(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let gate = hard(builder, x, 1.0 / 6.0, 0.5)?;
    builder.mul(x, &gate).map(Some)
}

/// `max(x, 0) + log(1 + exp(−|x|))`.
fn softened(builder: &mut Builder, x: &str) -> Result<String> {
    let above = positive(builder, x)?;
    let size = builder.unary("Abs", x)?;
    let size = builder.unary("Neg", &size)?;
    let decay = builder.unary("Exp", &size)?;
    let decay = builder.shifted(&decay, 1.0)?;
    let decay = builder.unary("Log", &decay)?;
    builder.add(&above, &decay)
}

pub(super) fn softplus(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    softened(builder, operand(node, 0)?).map(Some)
}

pub(super) fn softsign(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let size = builder.unary("Abs", x)?;
    let size = builder.shifted(&size, 1.0)?;
    builder.div(x, &size).map(Some)
}

pub(super) fn mish(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let soft = softened(builder, x)?;
    let gate = builder.unary("Tanh", &soft)?;
    builder.mul(x, &gate).map(Some)
}

pub(super) fn cosine(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let shifted = builder.shifted(operand(node, 0)?, std::f64::consts::FRAC_PI_2)?;
    builder.unary("Sin", &shifted).map(Some)
}

/// The error function to about 1e-9: its Taylor series about 0 for small arguments, the Gauss-Legendre rule otherwise
/// would need branches, so `erf x = 2/√π ∫₀ˣ exp(−t²) dt` is taken by a fixed rule of 40 points on the clamped range.
fn error_function(builder: &mut Builder, x: &str) -> Result<String> {
    // Beyond ±6 the function is ±1 to 1e-16.
    let (low, high) = (builder.scalar(-6.0, x)?, builder.scalar(6.0, x)?);
    let x = builder.emit("Max", &[x, &low], &[])?;
    let x = builder.emit("Min", &[&x, &high], &[])?;
    let mut sum: Option<String> = None;
    for (point, weight) in gauss_legendre(40) {
        // The rule on 0..1, scaled by x.
        let at = builder.scaled(&x, point)?;
        let square = builder.mul(&at, &at)?;
        let square = builder.unary("Neg", &square)?;
        let value = builder.unary("Exp", &square)?;
        let value = builder.scaled(&value, weight * std::f64::consts::FRAC_2_SQRT_PI)?;
        sum = Some(match sum {
            Some(sum) => builder.add(&sum, &value)?,
            None => value,
        });
    }
    builder.mul(&sum.unwrap_or_default(), &x)
}

/// Points and weights of the Gauss-Legendre rule on 0..1, by Newton's method on the Legendre polynomial.
fn gauss_legendre(n: usize) -> Vec<(f64, f64)> {
    let roots = (0..n).map(|index| {
        let mut root = (std::f64::consts::PI * (index as f64 + 0.75) / (n as f64 + 0.5)).cos();
        let mut slope = 1.0;
        for _ in 0..20 {
            let (mut before, mut value) = (1.0, root);
            for degree in 2..=n {
                let degree = degree as f64;
                (before, value) = (value, ((2.0 * degree - 1.0) * root * value - (degree - 1.0) * before) / degree);
            }
            slope = n as f64 * (root * value - before) / (root * root - 1.0);
            root -= value / slope;
        }
        (0.5 + 0.5 * root, 1.0 / ((1.0 - root * root) * slope * slope))
    });
    roots.collect()
}

pub(super) fn erf(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    error_function(builder, operand(node, 0)?).map(Some)
}

pub(super) fn gelu(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let gate = if node.text("approximate") == Some("tanh") {
        let square = builder.mul(x, x)?;
        let square = builder.scaled(&square, 0.044_715)?;
        let square = builder.shifted(&square, 1.0)?;
        let inner = builder.mul(x, &square)?;
        let inner = builder.scaled(&inner, std::f64::consts::FRAC_2_PI.sqrt())?;
        builder.unary("Tanh", &inner)?
    } else {
        let inner = builder.scaled(x, std::f64::consts::FRAC_1_SQRT_2)?;
        error_function(builder, &inner)?
    };
    let gate = builder.shifted(&gate, 1.0)?;
    let gate = builder.scaled(&gate, 0.5)?;
    builder.mul(x, &gate).map(Some)
}

fn reduced(builder: &mut Builder, node: &Node, value: &str) -> Result<String> {
    let mut inputs = vec![value];
    inputs.extend(node.input(1));
    let attributes: Vec<(&str, Attribute)> =
        node.attributes.iter().map(|(name, attribute)| (name.as_str(), attribute.clone())).collect();
    builder.emit("ReduceSum", &inputs, &attributes)
}

pub(super) fn reduce_l2(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let x = operand(node, 0)?;
    let square = builder.mul(x, x)?;
    let sum = reduced(builder, node, &square)?;
    builder.unary("Sqrt", &sum).map(Some)
}

pub(super) fn reduce_l1(builder: &mut Builder, node: &Node) -> Result<Option<String>> {
    let size = builder.unary("Abs", operand(node, 0)?)?;
    reduced(builder, node, &size).map(Some)
}
