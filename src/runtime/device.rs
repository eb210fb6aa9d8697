//! What sessions compute on: how they are opened there, where their tensors lie, and what their errors mean.

use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
};

use ort::{
    environment::Environment,
    ep,
    memory::{AllocationDevice, Allocator, AllocatorType, MemoryInfo, MemoryType},
    session::{Session, builder::GraphOptimizationLevel},
    value::Tensor,
};

use super::{RuntimeError, one_line, trial};
use crate::config::{DeviceConfig, Precision};

/// A place that models run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    Cpu,
    /// A graphics card by its number.
    Cuda(u32),
    /// The processor, used as a graphics card is: tensors are bound, few sessions work at once, batches and graphs are
    /// those for cards.
    Rehearsal,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(number) => write!(f, "cuda:{number}"),
            Device::Rehearsal => f.write_str("rehearsal"),
        }
    }
}

impl Device {
    /// ONNX Runtime's name of what runs nodes there.
    pub fn provider(self) -> &'static str {
        match self {
            Device::Cpu | Device::Rehearsal => "CPUExecutionProvider",
            Device::Cuda(_) => "CUDAExecutionProvider",
        }
    }

    /// Whether it is used as a graphics card is.
    pub fn is_card(self) -> bool {
        self != Device::Cpu
    }

    fn number(self) -> i32 {
        match self {
            Device::Cuda(number) => i32::try_from(number).unwrap_or(i32::MAX),
            Device::Cpu | Device::Rehearsal => 0,
        }
    }

    /// Its memory, as ONNX Runtime's options of a run name it.
    pub(super) fn arena(self) -> String {
        match self {
            Device::Cpu | Device::Rehearsal => "cpu:0".to_owned(),
            Device::Cuda(number) => format!("gpu:{number}"),
        }
    }

    /// Where its own tensors lie.
    pub(super) fn memory(self) -> ort::Result<MemoryInfo<'static>> {
        let place = match self {
            Device::Cuda(_) => AllocationDevice::CUDA,
            Device::Cpu | Device::Rehearsal => AllocationDevice::CPU,
        };
        MemoryInfo::new(place, self.number(), AllocatorType::Device, MemoryType::Default)
    }

    /// A tensor in its own memory.
    pub(super) fn tensor(self, session: &Session, shape: &[usize]) -> ort::Result<Tensor<f32>> {
        match self {
            Device::Cpu | Device::Rehearsal => Tensor::new(&Allocator::default(), shape.to_vec()),
            Device::Cuda(_) => Tensor::new(&Allocator::new(session, self.memory()?)?, shape.to_vec()),
        }
    }

    /// A tensor in the processor's memory that the device can read at full speed: pinned where it is a graphics card's.
    pub(super) fn staged(self, session: &Session, shape: &[usize]) -> ort::Result<Tensor<f32>> {
        if let Device::Cuda(_) = self {
            let pinned = MemoryInfo::new(
                AllocationDevice::CUDA_PINNED,
                self.number(),
                AllocatorType::Device,
                MemoryType::CPUInput,
            );
            let pinned = pinned.and_then(|memory| Allocator::new(session, memory));
            match pinned.and_then(|allocator| Tensor::new(&allocator, shape.to_vec())) {
                Ok(tensor) => return Ok(tensor),
                // Slower, and no less right.
                Err(cause) => tracing::debug!(device = %self, cause = one_line(&cause), "no pinned memory"),
            }
        }
        Tensor::new(&Allocator::default(), shape.to_vec())
    }

    /// Opens a session. `captured` has its runs recorded as CUDA graphs; `arena_bytes` is the most that it may take.
    pub(super) fn open(
        self,
        environment: &Environment,
        config: &DeviceConfig,
        arena_bytes: Option<u64>,
        captured: bool,
        model: &[u8],
    ) -> ort::Result<Session> {
        self.builder(environment, config, arena_bytes, captured)?.commit_from_memory(model)
    }

    /// How sessions are opened: they compute on the thread that calls them.
    pub(super) fn builder(
        self,
        environment: &Environment,
        config: &DeviceConfig,
        arena_bytes: Option<u64>,
        captured: bool,
    ) -> ort::Result<ort::session::builder::SessionBuilder> {
        let builder = Session::builder(environment)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_optimization_level(GraphOptimizationLevel::All)?;
        let Device::Cuda(_) = self else { return Ok(builder) };
        let provider = ep::CUDA::default()
            .with_device_id(self.number())
            // The fastest algorithm on trial is not always the same; the one that is thought to be fastest is.
            .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
            .with_arena_extend_strategy(ep::ArenaExtendStrategy::SameAsRequested)
            .with_tf32(config.precision == Precision::Tf32)
            .with_prefer_nhwc(config.channels_last)
            .with_cuda_graph(captured);
        let provider = match arena_bytes.and_then(|bytes| usize::try_from(bytes).ok()) {
            Some(bytes) => provider.with_memory_limit(bytes),
            None => provider,
        };
        Ok(builder.with_deterministic_compute(true)?.with_execution_providers([provider.build().error_on_failure()])?)
    }

    /// Runs a small graph that takes a kernel of each library: whether the device is there and can be used.
    ///
    /// # Errors
    /// [`RuntimeError::Device`], which says what mends it.
    pub(super) fn try_out(self, environment: &Environment, config: &DeviceConfig) -> Result<(), RuntimeError> {
        let failed = |cause: &dyn fmt::Display| RuntimeError::Device(self, explained(&one_line(cause)));
        let mut session =
            self.open(environment, config, None, false, &trial::model()).map_err(|cause| failed(&cause))?;
        let values = ([1_usize, 1, 2, 2], vec![1.0_f32, -2.0, 3.0, -4.0]);
        let input = Tensor::from_array(values).map_err(|cause| failed(&cause))?;
        let outputs = session.run(ort::inputs![trial::INPUT => input]).map_err(|cause| failed(&cause))?;
        let given = outputs.get(trial::OUTPUT).and_then(|value| value.try_extract_array::<f32>().ok());
        let given: Vec<f32> = given.map(|array| array.iter().copied().collect()).unwrap_or_default();
        // The square of the matrix, without its negative elements.
        if given == [0.0, 6.0, 0.0, 10.0] {
            return Ok(());
        }
        Err(failed(&format!("it computes {given:?} where it should [0, 6, 0, 10]")))
    }
}

/// What is wrong with a run beyond the run itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// There was no memory for it.
    OutOfMemory,
    /// Nothing that was opened on the device works any more.
    Lost,
}

/// ONNX Runtime passes on what its libraries said.
const OUT_OF_MEMORY: &[&str] = &[
    "out of memory",
    "Failed to allocate memory for requested buffer",
    "is smaller than requested bytes",
    "_ALLOC_FAILED",
    "ALLOCATION_FAILED",
    "std::bad_alloc",
];
const LOST: &[&str] = &[
    "illegal memory access",
    "unspecified launch failure",
    "device-side assert",
    "uncorrectable ECC error",
    "uncorrectable NVLink error",
    "launch timed out",
    "illegal instruction",
    "misaligned address",
    "hardware stack error",
    "GPU is lost",
    "STATUS_EXECUTION_FAILED",
    "cudaErrorLaunchFailure",
    "context is destroyed",
    "CUDA failure 999",
];

impl Fault {
    pub(super) fn of(message: &str) -> Option<Fault> {
        let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
        if says(OUT_OF_MEMORY) {
            return Some(Fault::OutOfMemory);
        }
        says(LOST).then_some(Fault::Lost)
    }
}

/// Why a graphics card cannot be used, with what mends it.
fn explained(message: &str) -> String {
    let says = |words: &[&str]| words.iter().any(|words| message.contains(words));
    let mend =
        if says(&["is not enabled in this build", "was not found", "providers_shared"]) && !says(&["libcu", "libnv"]) {
            "this ONNX Runtime is not for graphics cards; run \"make setup DEVICE=cuda\""
        } else if says(&["libcuda.so"]) {
            "there is no NVIDIA driver; install version 580 or newer"
        } else if says(&["libcudnn", "CUDNN"]) {
            "cuDNN 9 for CUDA 13 is missing or does not fit; install it, or name its folder in LD_LIBRARY_PATH"
        } else if says(&["libcu", "libnv", "cannot open shared object file"]) {
            "CUDA 13 is missing or incomplete; install its runtime libraries, or name their folder in LD_LIBRARY_PATH"
        } else if says(&["driver version is insufficient", "CUDA failure 35", "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"]) {
            "there is no NVIDIA driver, or one too old for CUDA 13; install version 580 or newer"
        } else if says(&["no CUDA-capable device", "CUDA failure 100"]) {
            "there is no graphics card that CUDA sees; look at nvidia-smi and CUDA_VISIBLE_DEVICES"
        } else if says(&["Invalid device ID", "invalid device ordinal", "CUDA failure 101"]) {
            "there is no card of this number; nvidia-smi --list-gpus has those there are"
        } else if says(&["no kernel image", "CUDA failure 209"]) {
            "ONNX Runtime has no code for this card; it takes one of compute capability 7.5 or newer"
        } else if Fault::of(message) == Some(Fault::OutOfMemory) {
            "its memory is taken; nvidia-smi tells by whom"
        } else {
            "use --device cpu meanwhile"
        };
    format!("{mend} ({message})")
}

/// Troubles to order, for [`Device::Rehearsal`].
#[derive(Debug)]
pub struct Troubles {
    /// Rows of a batch from which on memory is short.
    rows: AtomicUsize,
    /// Runs after which the device is lost, and how often.
    losses: AtomicUsize,
}

impl Default for Troubles {
    fn default() -> Self {
        Troubles { rows: AtomicUsize::new(usize::MAX), losses: AtomicUsize::new(0) }
    }
}

impl Troubles {
    /// Batches of more rows find no memory from now on.
    pub fn short_of_memory_beyond(&self, rows: usize) {
        self.rows.store(rows, Ordering::SeqCst);
    }

    /// The next runs, so many, find the device lost.
    pub fn lose(&self, runs: usize) {
        self.losses.store(runs, Ordering::SeqCst);
    }

    /// What a run on so many rows meets.
    pub(super) fn met(&self, rows: usize) -> Result<(), RuntimeError> {
        if rows > self.rows.load(Ordering::SeqCst) {
            let cause = format!("Failed to allocate memory for requested buffer of size {}", rows * 1_024);
            return Err(RuntimeError::OutOfMemory(Device::Rehearsal, cause));
        }
        let lost = self.losses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |losses| losses.checked_sub(1));
        match lost {
            Ok(_) => Err(RuntimeError::Lost(Device::Rehearsal, "CUDA failure 719: unspecified launch failure".into())),
            Err(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_from_what_libraries_say() {
        let of = |message| Fault::of(message);
        for message in [
            "CUDA failure 2: out of memory ; GPU=0 ; hostname=a ; expr=cudaMalloc((void**)&p, size);",
            "/onnxruntime/core/framework/bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 301989888",
            "Available memory of 1048576 is smaller than requested bytes of 2097152",
            "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0",
            "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        ] {
            assert_eq!(of(message), Some(Fault::OutOfMemory), "{message}");
        }
        for message in [
            "CUDA failure 700: an illegal memory access was encountered ; GPU=0",
            "CUDA failure 719: unspecified launch failure ; GPU=3",
            "CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0",
        ] {
            assert_eq!(of(message), Some(Fault::Lost), "{message}");
        }
        assert_eq!(of("Got invalid dimensions for input: x"), None);
    }

    #[test]
    fn what_cannot_be_loaded_is_told_with_its_mend() {
        let cases = [
            ("CUDA execution provider is not enabled in this build.", "make setup DEVICE=cuda"),
            (
                "Failed to load library libonnxruntime_providers_cuda.so: libcublasLt.so.13: cannot open",
                "CUDA 13 is missing",
            ),
            ("Failed to load library libonnxruntime_providers_cuda.so: libcudnn.so.9: cannot open", "cuDNN 9"),
            ("libonnxruntime_providers_cuda.so: libcuda.so.1: cannot open shared object file", "no NVIDIA driver"),
            ("CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version", "NVIDIA driver"),
            ("CUDA failure 100: no CUDA-capable device is detected", "CUDA_VISIBLE_DEVICES"),
            ("CUDA failure 101: invalid device ordinal", "nvidia-smi --list-gpus"),
            ("Invalid device ID: 7, must be between 0 (inclusive) and 1 (exclusive).", "nvidia-smi --list-gpus"),
            ("CUDA failure 209: no kernel image is available for execution on the device", "compute capability"),
            ("CUDA failure 2: out of memory", "memory is taken"),
            ("something new", "--device cpu"),
        ];
        for (message, mend) in cases {
            let told = explained(message);
            assert!(told.contains(mend) && told.contains(message), "{told}");
        }
    }
}
