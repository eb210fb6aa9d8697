//! The derivative of a convolution with respect to its weight.
//!
//! `dw[m, c, j] = Σ over samples n and places o of c[n, m, o] · x[n, c, o·stride + j·dilation − pad]` is a convolution
//! itself: samples are its channels, channels its samples, and stride and dilation change places.

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
    let groups = site.node.int("group").unwrap_or(1);
    let backward = Backward {
        input: input.clone(),
        pads: pads(builder, site, window, &input)?,
        strides: window.strides(),
        dilations: window.dilations(),
        groups,
        kernel: window.axes.iter().map(|axis| axis.kernel).collect(),
        channels: known(&builder.shape(&weight)?, 1..2).map(|sizes| sizes.iter().product()),
        spatial: known(&builder.shape(&input)?, 2..2 + window.axes.len()),
        weight,
    };
    if groups != 1 && (backward.spatial.is_none() || backward.channels.is_none()) {
        return Err(
            site.refuse("its weight depends on the input, it has groups, and the size of its input is not known")
        );
    }
    let node = site.node.clone();
    Ok(Pair::of(
        move |builder, tangent| forward(builder, &node, &input, tangent),
        move |builder, cotangent| backward.emit(builder, cotangent),
    ))
}

/// The sizes of some axes, if all are known.
fn known(shape: &[Dim], axes: std::ops::Range<usize>) -> Option<Vec<i64>> {
    shape.get(axes)?.iter().map(|dim| dim.known().and_then(|size| i64::try_from(size).ok())).collect()
}

fn pads(builder: &Builder, site: &Site, window: &Window, input: &str) -> Result<Vec<i64>> {
    let (from, to) = (builder.shape(input)?, builder.shape(site.y())?);
    let (from, to) = (known(&from, 2..from.len()), known(&to, 2..to.len()));
    let sides = window.axes.iter().enumerate().map(|(at, axis)| match axis.pad {
        Pad::Explicit(before, behind) => Some((before, behind)),
        Pad::Same(_) => Some(axis.explicit(*from.as_ref()?.get(at)?, *to.as_ref()?.get(at)?)),
    });
    let sides: Option<Vec<(i64, i64)>> = sides.collect();
    let sides = sides.ok_or_else(|| {
        site.refuse("its weight depends on the input, its padding is automatic, and its input's size is not known")
    })?;
    Ok(sides.iter().map(|side| side.0).chain(sides.iter().map(|side| side.1)).collect())
}

/// The forward node again, on a weight's tangent and without its bias.
fn forward(builder: &mut Builder, node: &Node, input: &str, tangent: &str) -> Result<String> {
    let attributes: Vec<(&str, Attribute)> =
        node.attributes.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    builder.emit("Conv", &[input, tangent], &attributes)
}

struct Backward {
    input: String,
    weight: String,
    pads: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    groups: i64,
    kernel: Vec<i64>,
    /// Of one group of the input.
    channels: Option<i64>,
    spatial: Option<Vec<i64>>,
}

impl Backward {
    fn emit(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        let rank = self.kernel.len();
        let exchanged: Vec<usize> = [1, 0].into_iter().chain(2..rank + 2).collect();
        let samples = self.samples_as_channels(builder, &exchanged)?;
        let kernel = builder.permuted(cotangent, &exchanged)?;
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

    /// `[n, groups·c, …]` as `[c, groups·n, …]`.
    fn samples_as_channels(&self, builder: &mut Builder, exchanged: &[usize]) -> Result<String> {
        let (Some(spatial), Some(channels), true) = (&self.spatial, self.channels, self.groups != 1) else {
            return builder.permuted(&self.input, exchanged);
        };
        let split = builder.reshaped(&self.input, &[&[-1, self.groups, channels], spatial.as_slice()].concat())?;
        let order: Vec<usize> = [2, 1, 0].into_iter().chain(3..spatial.len() + 3).collect();
        let turned = builder.permuted(&split, &order)?;
        builder.reshaped(&turned, &[&[channels, -1], spatial.as_slice()].concat())
    }
}
