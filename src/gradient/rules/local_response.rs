//! Local response normalisation: each element by the mean square of its neighbours across the channels.
//!
//! It is written as other operators, which is several times as fast as ONNX Runtime's own kernel, forwards too.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, ElementType, Node},
        linear::Site,
        tensor::Tensor,
    },
    Derivative as D, Rule,
    normalization::type_of_x,
    rule,
};

pub(super) const RULES: &[Rule] = &[rule("LRN", type_of_x, D::Composed(local_response))];

/// Most channels that are summed by a product with a banded matrix.
const MOST_CHANNELS: u64 = 2048;

/// y = x·s^−β with s = k + α·M(x²), where M is the mean over a window of channels, those beyond the ends being 0.
fn local_response(builder: &mut Builder, node: &Node) -> Result<Vec<String>> {
    let site = Site { node, input: 0, output: 0 };
    let attribute = |name: &str, default: f64| node.float(name).map_or(default, f64::from);
    let (alpha, beta, bias) = (attribute("alpha", 1e-4), attribute("beta", 0.75), attribute("bias", 1.0));
    let size = node.int("size").filter(|size| (1..1 << 16).contains(size) && size % 2 == 1);
    let size = size.ok_or_else(|| site.refuse("its `size` must be odd"))?;
    let x = site.operand(0)?;
    let shape = builder.shape(x)?;
    let [_, channels, _, _] = shape.as_slice() else { return Err(site.refuse("its input is not of rank 4")) };
    let squares = builder.mul(x, x)?;
    let base = match Dim::known(channels).filter(|channels| *channels <= MOST_CHANNELS) {
        Some(channels) if builder.element(x)? == ElementType::Float32 => {
            banded(builder, &squares, channels, size, alpha, bias)?
        }
        _ => {
            let mean = pooled(builder, &squares, size)?;
            let scaled = builder.scaled(&mean, alpha)?;
            builder.shifted(&scaled, bias)?
        }
    };
    let power = inverse_power(builder, &base, beta)?;
    Ok(vec![builder.mul(x, &power)?])
}

/// s by a 1×1 convolution with a band of weights: more products than the window has, but about ten times as fast as a
/// pool over the channels, for which ONNX Runtime has no fast kernel.
fn banded(builder: &mut Builder, squares: &str, channels: u64, size: i64, alpha: f64, bias: f64) -> Result<String> {
    let reach = size.unsigned_abs() / 2;
    let weight = |row: u64, column: u64| if row.abs_diff(column) <= reach { alpha / size as f64 } else { 0.0 };
    let weights: Vec<f64> =
        (0..channels).flat_map(|row| (0..channels).map(move |column| weight(row, column))).collect();
    let weights = Tensor::from_floats(ElementType::Float32, vec![channels, channels, 1, 1], &weights)?;
    let biases = vec![bias; channels as usize];
    let biases = Tensor::from_floats(ElementType::Float32, vec![channels], &biases)?;
    let (weights, biases) = (builder.constant(weights), builder.constant(biases));
    builder.emit("Conv", &[squares, &weights, &biases], &[])
}

/// The mean over the window where the channels are not known: an average pool over their axis.
fn pooled(builder: &mut Builder, value: &str, size: i64) -> Result<String> {
    let attributes = [
        ("kernel_shape", Attribute::Ints(vec![size, 1, 1])),
        ("pads", Attribute::Ints(vec![size / 2, 0, 0, size / 2, 0, 0])),
        ("count_include_pad", Attribute::Int(1)),
    ];
    let plane = builder.unsqueezed(value, &[1])?;
    let mean = builder.emit("AveragePool", &[&plane], &attributes)?;
    builder.reshaped_like(&mean, value)
}

/// s^−β. A general power is slow.
fn inverse_power(builder: &mut Builder, base: &str, beta: f64) -> Result<String> {
    if beta == 1.0 {
        return builder.unary("Reciprocal", base);
    }
    if beta == 0.5 {
        let root = builder.unary("Sqrt", base)?;
        return builder.unary("Reciprocal", &root);
    }
    let log = builder.unary("Log", base)?;
    let exponent = builder.scaled(&log, -beta)?;
    builder.unary("Exp", &exponent)
}
