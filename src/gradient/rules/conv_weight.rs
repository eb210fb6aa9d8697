//! The derivative of a convolution with respect to its weight.
//!
//! `dw[m, c, j] = Σ over samples n and places o of c[n, m, o] · x[n, c, o·stride + j·dilation − pad]` is a convolution
//! itself: samples are its channels, channels its samples, and stride and dilation change places. A kernel of one
//! element is a matrix product, which is up to nine times as fast.
//!
//! A transposed convolution is the adjoint of one, `⟨c, Wᵀx⟩ = ⟨W c, x⟩`: its weight's derivative is that of the
//! convolution which takes the cotangent to the input.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, Node},
        linear::{Map, Pair, Site},
    },
    window::{Pad, Window},
};

/// The map from a weight's tangent to the output's.
pub(super) fn of_weight(builder: &mut Builder, site: &Site, window: &Window) -> Result<Map> {
    let (input, weight) = (site.operand(0)?.to_owned(), site.x().to_owned());
    let is_transposed = site.node.op == "ConvTranspose";
    // What the convolution is taken of: a transposed one goes from its output to its input.
    let (wide, narrow) = if is_transposed { (site.y(), site.operand(0)?) } else { (site.operand(0)?, site.y()) };
    let groups = site.node.int("group").unwrap_or(1);
    let backward = Backward {
        pads: pads(builder, site, window, wide, narrow)?,
        strides: window.strides(),
        dilations: window.dilations(),
        groups,
        kernel: window.axes.iter().map(|axis| axis.kernel).collect(),
        channels: known(&builder.shape(&weight)?, 1..2).map(|sizes| sizes.iter().product()),
        spatial: known(&builder.shape(wide)?, 2..2 + window.axes.len()),
        weight,
    };
    if groups != 1 && (backward.spatial.is_none() || backward.channels.is_none()) {
        return Err(site.refuse(
            "its weight is differentiated or depends on the input, it has groups, and the size of its input is not known",
        ));
    }
    let (node, fixed) = (site.node.clone(), input.clone());
    Ok(Pair::of(
        move |builder, tangent| forward(builder, &node, &input, tangent),
        move |builder, cotangent| match is_transposed {
            true => backward.emit(builder, cotangent, &fixed),
            false => backward.emit(builder, &fixed, cotangent),
        },
    ))
}

/// The sizes of some axes, if all are known.
fn known(shape: &[Dim], axes: std::ops::Range<usize>) -> Option<Vec<i64>> {
    shape.get(axes)?.iter().map(|dim| dim.known().and_then(|size| i64::try_from(size).ok())).collect()
}

fn pads(builder: &Builder, site: &Site, window: &Window, wide: &str, narrow: &str) -> Result<Vec<i64>> {
    let (from, to) = (builder.shape(wide)?, builder.shape(narrow)?);
    let (from, to) = (known(&from, 2..from.len()), known(&to, 2..to.len()));
    let sides = window.axes.iter().enumerate().map(|(at, axis)| match axis.pad {
        Pad::Explicit(before, behind) => Some((before, behind)),
        Pad::Same(_) => Some(axis.explicit(*from.as_ref()?.get(at)?, *to.as_ref()?.get(at)?)),
    });
    let sides: Option<Vec<(i64, i64)>> = sides.collect();
    let sides = sides.ok_or_else(|| {
        site.refuse(
            "its weight is differentiated or depends on the input, its padding is automatic, and its input's size is \
             not known",
        )
    })?;
    Ok(sides.iter().map(|side| side.0).chain(sides.iter().map(|side| side.1)).collect())
}

/// The forward node again, on a weight's tangent and without its bias.
fn forward(builder: &mut Builder, node: &Node, input: &str, tangent: &str) -> Result<String> {
    let attributes: Vec<(&str, Attribute)> =
        node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    builder.emit(&node.op, &[input, tangent], &attributes)
}

struct Backward {
    weight: String,
    pads: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    groups: i64,
    kernel: Vec<i64>,
    /// Of one group of the wide side.
    channels: Option<i64>,
    /// Sizes of the wide side.
    spatial: Option<Vec<i64>>,
}

impl Backward {
    /// The gradient from what the convolution takes and the cotangent of what it gives.
    fn emit(&self, builder: &mut Builder, wide: &str, narrow: &str) -> Result<String> {
        if let Some(gradient) = self.product(builder, wide, narrow)? {
            return Ok(gradient);
        }
        let rank = self.kernel.len();
        let exchanged: Vec<usize> = [1, 0].into_iter().chain(2..rank + 2).collect();
        let samples = self.samples_as_channels(builder, wide, &exchanged)?;
        let kernel = builder.permuted(narrow, &exchanged)?;
        let attributes = [
            ("strides", Attribute::Ints(self.dilations.clone())),
            ("dilations", Attribute::Ints(self.strides.clone())),
            ("pads", Attribute::Ints(self.pads.clone())),
            ("group", Attribute::Int(self.groups)),
        ];
        let whole = builder.emit("Conv", &[&samples, &kernel], &attributes)?;
        // Where the stride does not divide, the last columns of the input were seen by no place of the kernel.
        let axes: Vec<i64> = (2..rank as i64 + 2).collect();
        let (starts, ends) = (builder.integers(&vec![0; rank])?, builder.integers(&self.kernel)?);
        let axes = builder.integers(&axes)?;
        let cut = builder.emit("Slice", &[&whole, &starts, &ends, &axes], &[])?;
        let gradient = builder.permuted(&cut, &exchanged)?;
        builder.refine(&gradient, &self.weight);
        Ok(gradient)
    }

    /// For kernels of one element, strides and pads that change nothing: `Σₙ c[n] · x[n]ᵀ`.
    fn product(&self, builder: &mut Builder, wide: &str, narrow: &str) -> Result<Option<String>> {
        let is_one = |sizes: &[i64]| sizes.iter().all(|&size| size == 1);
        let is_plain = is_one(&self.kernel) && is_one(&self.strides) && self.pads.iter().all(|&pad| pad == 0);
        if !is_plain || self.groups != 1 {
            return Ok(None);
        }
        let rows = builder.reshaped(narrow, &[0, 0, -1])?;
        let columns = builder.reshaped(wide, &[0, 0, -1])?;
        let columns = builder.matrix_transposed(&columns)?;
        let products = builder.emit("MatMul", &[&rows, &columns], &[])?;
        let sum = builder.reduce_sum(&products, &[0], false)?;
        let gradient = builder.reshaped_like(&sum, &self.weight)?;
        builder.refine(&gradient, &self.weight);
        Ok(Some(gradient))
    }

    /// `[n, groups·c, …]` as `[c, groups·n, …]`.
    fn samples_as_channels(&self, builder: &mut Builder, wide: &str, exchanged: &[usize]) -> Result<String> {
        let (Some(spatial), Some(channels), true) = (&self.spatial, self.channels, self.groups != 1) else {
            return builder.permuted(wide, exchanged);
        };
        let split = builder.reshaped(wide, &[&[-1, self.groups, channels], spatial.as_slice()].concat())?;
        let order: Vec<usize> = [2, 1, 0].into_iter().chain(3..spatial.len() + 3).collect();
        let turned = builder.permuted(&split, &order)?;
        builder.reshaped(&turned, &[&[channels, -1], spatial.as_slice()].concat())
    }
}
