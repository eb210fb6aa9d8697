//! The adjoint of a strided convolution on images of few channels, as a plain convolution and `DepthToSpace`.
//!
//! Each of the s·s positions modulo the stride is one output channel of a convolution on the small cotangent. ONNX
//! Runtime's CPU runs that faster than `ConvTranspose` where few channels come out, as in front of a network, and the
//! convolution does not compute much more than it must; measured on kernels of 7, 4 and 16.

use super::{
    super::{
        builder::Builder,
        error::Result,
        graph::{Attribute, Dim, ElementType},
        tensor::Tensor,
    },
    window::{Window, WindowAxis},
};

/// Most channels of the images.
const MOST_CHANNELS: u64 = 4;

/// Products of the plain convolution for each one of the transposed, at most.
const MOST_WORK: u64 = 2;

/// Channels that ONNX Runtime computes at once.
const BLOCK: u64 = 16;

/// How one axis of the result takes from the cotangent.
struct Phases {
    /// For each position modulo the stride: distance in the cotangent from `first`, and tap of the kernel.
    taps: Vec<Vec<(usize, usize)>>,
    /// Extent of the plain kernel.
    extent: usize,
    pads: [i64; 2],
}

/// dx[s·q + r] = Σ W[j]·c[q + (r + p − j)/s] over the taps j that the stride meets.
fn phases(axis: &WindowAxis, input: &Dim, output: &Dim) -> Option<Phases> {
    let (input, output) = (i64::try_from(input.known()?).ok()?, i64::try_from(output.known()?).ok()?);
    let stride = axis.stride;
    let pad = axis.explicit(input, output).0;
    // Beyond its kernel a stride leaves gaps, which are not worth computing.
    if axis.dilation != 1 || !(2..=axis.kernel).contains(&stride) || input % stride != 0 {
        return None;
    }
    let taps_of = |position: i64| {
        let shifted = position + pad;
        let taps = (shifted.rem_euclid(stride)..axis.kernel).step_by(usize::try_from(stride).unwrap_or(1));
        taps.map(move |tap| ((shifted - tap) / stride, tap))
    };
    let distances = || (0..stride).flat_map(taps_of).map(|(distance, _)| distance);
    let (first, last) = (distances().min()?, distances().max()?);
    let pads = [-first, input / stride - 1 + last - (output - 1)];
    let taps = (0..stride)
        .map(|position| taps_of(position).map(|(distance, tap)| ((distance - first) as usize, tap as usize)).collect());
    pads.iter().all(|&pad| pad >= 0).then(|| Phases { taps: taps.collect(), extent: (last - first + 1) as usize, pads })
}

/// Emits the adjoint for a weight `[K, C, kernel…]`; `None` where another form is better or the only one.
pub(super) fn adjoint(
    builder: &mut Builder,
    window: &Window,
    weight: &str,
    [input, output]: [&[Dim]; 2],
    cotangent: &str,
) -> Result<Option<String>> {
    let ([rows, columns], [_, channels, height, width], [_, _, out_height, out_width]) =
        (window.axes.as_slice(), input, output)
    else {
        return Ok(None);
    };
    let phases = phases(rows, height, out_height).zip(phases(columns, width, out_width));
    let (Some((vertical, horizontal)), Some(channels)) = (phases, channels.known()) else { return Ok(None) };
    let made = (channels * (rows.stride * columns.stride) as u64).next_multiple_of(BLOCK)
        * (vertical.extent * horizontal.extent) as u64;
    let needed = channels * (rows.kernel * columns.kernel) as u64;
    if rows.stride != columns.stride || channels > MOST_CHANNELS || made > MOST_WORK * needed {
        return Ok(None);
    }
    let purpose = format!("sub-pixel kernel of stride {} from {:?}{:?}", rows.stride, vertical.pads, horizontal.pads);
    let kernel = builder.derived_constant(weight, &purpose, |weight| kernel(weight, &vertical, &horizontal));
    let Some(kernel) = kernel else { return Ok(None) };
    let pads = vec![vertical.pads[0], horizontal.pads[0], vertical.pads[1], horizontal.pads[1]];
    let phases = builder.emit("Conv", &[cotangent, &kernel], &[("pads", Attribute::Ints(pads))])?;
    let options = [("blocksize", Attribute::Int(rows.stride)), ("mode", Attribute::Text("DCR".to_owned()))];
    builder.emit("DepthToSpace", &[&phases], &options).map(Some)
}

/// The weight `[s·s·C, K, extents]` that computes each phase of each channel.
fn kernel(weight: &Tensor, vertical: &Phases, horizontal: &Phases) -> Option<Tensor> {
    let values = weight.floats().filter(|_| weight.element() == ElementType::Float32)?;
    let &[outputs, channels, height, width] = weight.dims() else { return None };
    let (outputs, channels, width) = (outputs as usize, channels as usize, width as usize);
    let tap = |output: usize, channel: usize, row: usize, column: usize| {
        let plane = output * channels + channel;
        values.get((plane * height as usize + row) * width + column).copied()
    };
    let (tall, wide) = (vertical.extent, horizontal.extent);
    let dims =
        vec![(vertical.taps.len() * horizontal.taps.len() * channels) as u64, outputs as u64, tall as u64, wide as u64];
    let mut kernel = vec![0.0; dims.iter().product::<u64>() as usize];
    let phases = vertical.taps.iter().flat_map(|rows| horizontal.taps.iter().map(move |columns| (rows, columns)));
    let planes = phases.flat_map(|phase| {
        (0..channels).flat_map(move |channel| (0..outputs).map(move |output| (phase, channel, output)))
    });
    for (((rows, columns), channel, output), plane) in planes.zip(kernel.chunks_exact_mut(tall * wide)) {
        for (&(row, from_row), &(column, from_column)) in
            rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)))
        {
            *plane.get_mut(row * wide + column)? += tap(output, channel, from_row, from_column)?;
        }
    }
    Tensor::from_floats(ElementType::Float32, dims, &kernel).ok()
}
