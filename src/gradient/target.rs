//! The device that a derived graph will run on, and what depends on it: every choice between two forms is a method here.
//!
//! Both forms give the same numbers but for rounding, on either device. Those for a CPU were measured there. Those for CUDA
//! follow from which kernels ONNX Runtime's CUDA execution provider has and what they do (its `docs/OperatorKernels.md` and
//! `core/providers/cuda`); none of them was ever timed.

use super::graph::Graph;

/// The device that a graph is derived for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Target {
    /// ONNX Runtime's own CPU kernels. Exported graphs have these forms.
    #[default]
    Cpu,
    /// Graphics cards, by ONNX Runtime's CUDA execution provider.
    Cuda,
}

impl Graph {
    /// The graph, to be derived in the forms that are fast on a device. What is derived from it is for the same device.
    #[must_use]
    pub fn for_target(self, target: Target) -> Graph {
        Graph { target, ..self }
    }

    /// The device that the graph is for.
    pub fn target(&self) -> Target {
        self.target
    }
}

impl Target {
    /// Whether convolutions take images in blocks of channels, so that passes are saved by staying in that layout.
    pub(super) fn has_blocked_layout(self) -> bool {
        self == Target::Cpu
    }

    /// Whether the adjoint of every convolution is a transposed one with the same weight. It is a kernel of its own in cuDNN
    /// (backward data), for all strides, dilations and groups; on the CPU plain convolutions are faster where they will do.
    pub(super) fn transposes_convolutions(self) -> bool {
        self == Target::Cuda
    }

    /// Whether a transposed convolution is padded by as much behind as in front. cuDNN's kernels are made for that, and ONNX
    /// Runtime passes a transposed convolution's padding on to them as it is.
    pub(super) fn pads_evenly(self) -> bool {
        self == Target::Cuda
    }

    /// Whether the sum of what several updates scatter to one place depends on the order in which threads come to it, and so
    /// differs from run to run in its last bits.
    pub(super) fn scatters_in_any_order(self) -> bool {
        self == Target::Cuda
    }

    /// Whether the indices of a max-pooling may come in another shape than its values. Of images with channels last ONNX
    /// Runtime gives indices in the order of channels first, as it should, but in the shape of channels last.
    pub(super) fn misshapes_indices(self) -> bool {
        self == Target::Cuda
    }

    /// Whether some operators have kernels in an old version alone, which others have in the newest: ONNX Runtime 1.31 has none
    /// on CUDA for `MaxPool`, `InstanceNormalization`, `Elu`, `Selu`, `ThresholdedRelu` and `EyeLike` of opset 22.
    pub(super) fn has_kernels_of_old_opsets(self) -> bool {
        self == Target::Cuda
    }

    /// Whether `Pad` takes integers.
    pub(super) fn pads_integers(self) -> bool {
        self == Target::Cpu
    }
}
