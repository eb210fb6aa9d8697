//! Sliding windows: the geometry that convolution and pooling share.
//!
//! Invariant: every list of a [`Window`] has one entry for each spatial axis.

use super::super::{
    builder::Builder,
    error::Result,
    graph::{Attribute, Dim, Node},
    shape::{Inferred, derived, wrong},
    sizes::Size,
};

/// A window's geometry, with padding made explicit.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) axes: Vec<WindowAxis>,
}

/// One spatial axis of a window. All sizes are positive, pads may be 0.
#[derive(Clone, Debug)]
pub(super) struct WindowAxis {
    pub(super) kernel: i64,
    pub(super) stride: i64,
    pub(super) dilation: i64,
    pub(super) pad: Pad,
    pub(super) ceil: bool,
}

/// Padding in front and behind.
#[derive(Clone, Copy, Debug)]
pub(super) enum Pad {
    Explicit(i64, i64),
    /// As much that the output has ⌈size/stride⌉ elements; an odd one goes behind (`true`: in front).
    Same(bool),
}

/// Sizes beyond this are no window but an attack on the arithmetic.
const LARGEST: i64 = 1 << 31;

impl Window {
    /// Reads a node's attributes.
    pub(super) fn of(node: &Node, kernel: &[i64]) -> Inferred<Window> {
        let rank = kernel.len();
        let list = |name: &str, length: usize, default: i64, least: i64| {
            let values = node.ints(name).filter(|values| !values.is_empty());
            let values = values.map_or_else(|| vec![default; length], <[i64]>::to_vec);
            if values.len() != length || values.iter().any(|value| !(least..LARGEST).contains(value)) {
                return wrong(format!("the attribute `{name}` is {values:?}, but the window has {rank} axes"));
            }
            Ok(values)
        };
        let (strides, dilations) = (list("strides", rank, 1, 1)?, list("dilations", rank, 1, 1)?);
        let pads = list("pads", 2 * rank, 0, 0)?;
        let (before, behind) = pads.split_at_checked(rank).unwrap_or_default();
        let automatic = match node.text("auto_pad").unwrap_or("NOTSET") {
            "SAME_UPPER" => Some(Pad::Same(false)),
            "SAME_LOWER" => Some(Pad::Same(true)),
            "VALID" => Some(Pad::Explicit(0, 0)),
            _ => None,
        };
        let ceil = node.int("ceil_mode").unwrap_or(0) != 0;
        let mut axes = Vec::with_capacity(rank);
        let sizes = kernel.iter().zip(&strides).zip(&dilations).zip(before.iter().zip(behind));
        for (((&kernel, &stride), &dilation), (&before, &behind)) in sizes {
            if !(1..LARGEST).contains(&kernel) {
                return wrong(format!("a window of size {kernel}"));
            }
            let pad = automatic.unwrap_or(Pad::Explicit(before, behind));
            axes.push(WindowAxis { kernel, stride, dilation, pad, ceil });
        }
        Ok(Window { axes })
    }

    /// The spatial shape of the output.
    pub(super) fn output(&self, input: &[Dim]) -> Inferred<Vec<Dim>> {
        if input.len() != self.axes.len() {
            return wrong(format!("{} spatial axes, but the window has {}", input.len(), self.axes.len()));
        }
        self.axes.iter().zip(input).map(|(axis, dim)| axis.output(dim)).collect()
    }

    pub(super) fn strides(&self) -> Vec<i64> {
        self.axes.iter().map(|axis| axis.stride).collect()
    }

    pub(super) fn dilations(&self) -> Vec<i64> {
        self.axes.iter().map(|axis| axis.dilation).collect()
    }
}

impl WindowAxis {
    /// The extent of a dilated kernel.
    pub(super) fn span(&self) -> i64 {
        (self.kernel - 1).saturating_mul(self.dilation).saturating_add(1)
    }

    /// Padding in front and behind where it does not depend on the size.
    pub(super) fn fixed_pads(&self) -> Option<(i64, i64)> {
        match self.pad {
            Pad::Explicit(before, behind) => Some((before, behind)),
            Pad::Same(_) => None,
        }
    }

    /// Whether the axis has no padding, whatever its size.
    pub(super) fn is_unpadded(&self) -> bool {
        matches!(self.pad, Pad::Explicit(0, 0)) || (matches!(self.pad, Pad::Same(_)) && self.span() == 1)
    }

    /// One over the number of elements along this axis that each window of an average counts.
    pub(super) fn shares(&self, input: i64, output: i64, include_pad: bool) -> Vec<f64> {
        let (before, behind) = self.explicit(input, output);
        let (first, last) = if include_pad { (-before, input + behind) } else { (0, input) };
        let count = |window: i64| {
            let start = window * self.stride - before;
            let inside = |tap: &i64| (first..last).contains(&(start + tap * self.dilation));
            (0..self.kernel).filter(inside).count().max(1)
        };
        (0..output).map(|window| 1.0 / count(window) as f64).collect()
    }

    fn output(&self, input: &Dim) -> Inferred<Dim> {
        let (span, stride) = (self.span(), self.stride);
        let Some(size) = input.known().and_then(|size| i64::try_from(size).ok()) else {
            return Ok(self.symbolic_output(input));
        };
        let output = match self.pad {
            Pad::Same(_) => ceil_div(size, stride),
            Pad::Explicit(before, behind) => {
                let room = size + before + behind - span;
                if room < 0 {
                    return wrong(format!("a window of extent {span} on {size} elements with pads {before}, {behind}"));
                }
                let floor = room / stride + 1;
                let ceiling = ceil_div(room, stride) + 1;
                // A window must begin on the input or the padding in front of it.
                let begins_inside = (ceiling - 1) * stride < size + before;
                if self.ceil && begins_inside { ceiling } else { floor }
            }
        };
        Ok(Dim::Known(output.unsigned_abs()))
    }

    fn symbolic_output(&self, input: &Dim) -> Dim {
        let keeps_size = match self.pad {
            Pad::Same(_) => self.stride == 1,
            Pad::Explicit(before, behind) => self.stride == 1 && before + behind == self.span() - 1,
        };
        if keeps_size {
            return input.clone();
        }
        let geometry = format!("{},{},{:?},{}", self.span(), self.stride, self.pad, self.ceil);
        derived("window", &[&input.to_string(), &geometry], "")
    }

    /// Padding in front and behind of an axis of known size, such that windows end exactly at the padding's end or,
    /// where some of the input is not covered, before it.
    pub(super) fn explicit(&self, size: i64, output: i64) -> (i64, i64) {
        match self.pad {
            Pad::Explicit(before, behind) => (before, behind),
            Pad::Same(in_front) => {
                let full = (output - 1).saturating_mul(self.stride).saturating_add(self.span());
                let total = full.saturating_sub(size).max(0);
                let small = total / 2;
                if in_front { (total - small, small) } else { (small, total - small) }
            }
        }
    }
}

fn ceil_div(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

/// How the transposed window lies on an axis: what to cut off the full result in front and behind, and what to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Adjoint {
    pub(super) cut_front: i64,
    pub(super) cut_behind: i64,
    pub(super) add_behind: i64,
}

impl Adjoint {
    /// The same with as much cut off behind as in front, and what is left to cut off there once that is done.
    fn even(self, stride: i64) -> (Adjoint, [i64; 2]) {
        let Adjoint { cut_front, cut_behind, add_behind } = self;
        let excess = cut_behind - add_behind;
        let both = |cut: i64, add_behind: i64| Adjoint { cut_front: cut, cut_behind: cut, add_behind };
        match cut_front - excess {
            missing if (0..stride).contains(&missing) => (both(cut_front, missing), [0, 0]),
            missing if missing < 0 => (both(cut_front, 0), [0, -missing]),
            _ => {
                let cut = excess.max(0);
                (both(cut, (-excess).max(0)), [cut_front - cut, 0])
            }
        }
    }
}

/// The geometry of the transposed window on an axis; `None` where it depends on a size that only the run shows.
pub(super) fn adjoint(axis: &WindowAxis, input: &Dim, output: &Dim) -> Option<Adjoint> {
    let sizes = (input.known().and_then(|size| i64::try_from(size).ok()))
        .zip(output.known().and_then(|size| i64::try_from(size).ok()));
    if let Some((size, output)) = sizes {
        let (cut_front, _) = axis.explicit(size, output);
        // The full result has (output − 1)·stride + span elements, from −cut_front on.
        let full = (output - 1).saturating_mul(axis.stride).saturating_add(axis.span());
        let excess = full.saturating_sub(cut_front).saturating_sub(size);
        return Some(Adjoint { cut_front, cut_behind: excess.max(0), add_behind: (-excess).max(0) });
    }
    if axis.stride != 1 {
        return None;
    }
    // With stride 1 the sizes cancel, so any will do.
    let (cut_front, cut_behind) = axis.explicit(1, 1);
    Some(Adjoint { cut_front, cut_behind, add_behind: 0 })
}

/// What the transposed window does to a cotangent.
pub(super) struct Transposition<'a> {
    pub(super) window: &'a Window,
    /// `[channels of the cotangent, channels of the result / groups, kernel…]`.
    pub(super) weight: &'a str,
    pub(super) groups: i64,
    /// The forward input: its spatial axes, from the third on, are those of the result.
    pub(super) input: &'a str,
    pub(super) output: &'a str,
}

impl Transposition<'_> {
    /// Emits the transposed convolution of a cotangent, trimmed to the sizes of the forward input.
    pub(super) fn emit(&self, builder: &mut Builder, cotangent: &str) -> Result<String> {
        let mut pads = self.adjoints(builder)?;
        let mut cuts = vec![[0, 0]; pads.len()];
        if builder.target().pads_evenly() {
            for ((pad, cut), axis) in pads.iter_mut().zip(&mut cuts).zip(&self.window.axes) {
                if let Some(pad) = pad {
                    (*pad, *cut) = pad.even(axis.stride);
                }
            }
        }
        let front: Vec<i64> = pads.iter().map(|pad| pad.map_or(0, |pad| pad.cut_front)).collect();
        let behind: Vec<i64> = pads.iter().map(|pad| pad.map_or(0, |pad| pad.cut_behind)).collect();
        let added: Vec<i64> = pads.iter().map(|pad| pad.map_or(0, |pad| pad.add_behind)).collect();
        let attributes = [
            ("strides", Attribute::Ints(self.window.strides())),
            ("dilations", Attribute::Ints(self.window.dilations())),
            ("group", Attribute::Int(self.groups)),
            ("pads", Attribute::Ints([front, behind].concat())),
            ("output_padding", Attribute::Ints(added)),
        ];
        let full = builder.emit("ConvTranspose", &[cotangent, self.weight], &attributes)?;
        let full = cut_off(builder, &full, &cuts)?;
        let open = self.window.axes.iter().zip(&pads).enumerate().filter(|(_, (_, pad))| pad.is_none());
        let open: Vec<(usize, &WindowAxis)> = open.map(|(axis, (window, _))| (axis + 2, window)).collect();
        if open.is_empty() { Ok(full) } else { self.trimmed(builder, &full, &open) }
    }

    /// The geometry of each spatial axis; `None` for those that only the run can trim.
    pub(super) fn adjoints(&self, builder: &Builder) -> Result<Vec<Option<Adjoint>>> {
        let (input, output) = (builder.shape(self.input)?, builder.shape(self.output)?);
        let axes = self.window.axes.iter().zip(input.iter().skip(2).zip(output.iter().skip(2)));
        Ok(axes.map(|(axis, (input, output))| adjoint(axis, input, output)).collect())
    }

    /// Adds what a stride may have left uncovered, then cuts out the sizes that the run finds.
    fn trimmed(&self, builder: &mut Builder, full: &str, open: &[(usize, &WindowAxis)]) -> Result<String> {
        let axes: Vec<i64> = open.iter().map(|(axis, _)| *axis as i64).collect();
        let axes = builder.integers(&axes)?;
        let mut pads = vec![0; open.len()];
        pads.extend(open.iter().map(|(_, axis)| axis.stride - 1));
        let pads = builder.integers(&pads)?;
        let padded = builder.emit("Pad", &[full, &pads, "", &axes], &[])?;
        let (mut starts, mut sizes) = (Vec::new(), Vec::new());
        for (axis, window) in open {
            starts.push(self.start(builder, *axis, window)?);
            sizes.push(Size::Of(self.input, *axis));
        }
        let (starts, sizes) = (builder.joined(&starts)?, builder.shape_of_sizes(&sizes)?);
        let ends = builder.add(&starts, &sizes)?;
        builder.emit("Slice", &[&padded, &starts, &ends, &axes], &[])
    }

    /// How many elements of the full result lie in front of the input: its padding there.
    fn start(&self, builder: &mut Builder, axis: usize, window: &WindowAxis) -> Result<String> {
        let in_front = match window.pad {
            Pad::Explicit(before, _) => return builder.integers(&[before]),
            Pad::Same(in_front) => in_front,
        };
        let full = builder.size_value(self.output, axis)?;
        let stride = builder.integers(&[window.stride])?;
        let full = builder.mul(&full, &stride)?;
        let rest = builder.integers(&[window.span() - window.stride])?;
        let full = builder.add(&full, &rest)?;
        let size = builder.size_value(self.input, axis)?;
        let total = builder.sub(&full, &size)?;
        let (zero, two) = (builder.integers(&[0])?, builder.integers(&[2])?);
        let total = builder.emit("Max", &[&total, &zero], &[])?;
        let half = builder.div(&total, &two)?;
        if in_front { builder.sub(&total, &half) } else { Ok(half) }
    }
}

/// A value without the first and last elements of its spatial axes.
fn cut_off(builder: &mut Builder, value: &str, cuts: &[[i64; 2]]) -> Result<String> {
    let cuts: Vec<(i64, [i64; 2])> = (2..).zip(cuts.iter().copied()).filter(|(_, cut)| *cut != [0, 0]).collect();
    if cuts.is_empty() {
        return Ok(value.to_owned());
    }
    let starts: Vec<i64> = cuts.iter().map(|(_, [front, _])| *front).collect();
    let ends: Vec<i64> = cuts.iter().map(|(_, [_, behind])| if *behind == 0 { i64::MAX } else { -behind }).collect();
    let axes: Vec<i64> = cuts.iter().map(|(axis, _)| *axis).collect();
    let (starts, ends, axes) = (builder.integers(&starts)?, builder.integers(&ends)?, builder.integers(&axes)?);
    builder.emit("Slice", &[value, &starts, &ends, &axes], &[])
}
