use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::CommandBuffer;
use crate::cpu::CpuKernel;

/// How a device is opened.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Turn the vendor's validation on (Vulkan: the Khronos layer with synchronisation validation; an error if it is
    /// not installed). Messages come out of [`Device::validation_messages`](crate::Device::validation_messages).
    pub validation: bool,
    /// CPU: worker threads, the waiting host thread among them. None: one a core.
    pub threads: Option<usize>,
    /// CPU: the order in which dispatches and tasks of a group run.
    pub schedule: CpuSchedule,
    /// CPU: what is looked at while kernels run.
    pub checks: CpuChecks,
    /// CPU: when the pages of a buffer come into memory, and whether they stay.
    pub paging: CpuPaging,
    /// CPU, Vulkan and null: act as a device with memory of its own, whose [`MemoryKind::Device`] the host does not see and
    /// which imports nothing. For tests on machines that have no such device.
    pub discrete: bool,
}

/// What the CPU backend looks at while kernels run. All of it is off by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuChecks {
    /// Log the bytes that each task touches, and report two tasks that touch the same bytes, one of them writing, with
    /// nothing that orders them: two of one dispatch, or two of commands with no barrier between. The submission then
    /// ends with [`HalError::Race`](crate::HalError::Race), which names both.
    ///
    /// Everything runs on one thread, in the order of recording or as [`CpuSchedule::Shuffled`] has it. A task writes
    /// what it asked for with `slice_mut`, and reads what it asked for with `slice_range`, or all of a slot with `slice`;
    /// bytes that change without having been asked for are a fault.
    pub races: bool,
}

/// When the pages of a buffer of the CPU backend come into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuPaging {
    /// When they are first touched.
    #[default]
    OnTouch,
    /// When the buffer is made, imported files included: no kernel waits for a page then.
    Prefault,
    /// Before the first submission after the buffer was made; they are locked there, so that the system never takes them
    /// away. Unix only; more than the system's limit (`ulimit -l`) is an error.
    Locked,
}

/// Order of execution on the CPU backend. Any order is legal; legal recordings give the same bytes in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CpuSchedule {
    /// All threads, tasks claimed as they come.
    #[default]
    Parallel,
    /// One thread, dispatches and tasks of each group shuffled by this seed.
    Shuffled(u64),
}

/// Where a buffer lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MemoryKind {
    /// Host and device both see it.
    Shared,
    /// Fastest for kernels; the host may not see it.
    Device,
    /// Written by the device, read by the host through its caches.
    Readback,
}

/// A buffer to be made. Its bytes are zero.
#[derive(Debug, Clone, Copy)]
pub struct BufferDesc<'a> {
    /// Bytes, at least 1.
    pub size: u64,
    /// Where.
    pub memory: MemoryKind,
    /// Shown in vendor tools and errors.
    pub label: &'a str,
}

/// A buffer: an opaque backend handle, and its host address where the host sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawBuffer {
    /// The backend's own handle.
    pub id: usize,
    /// First byte as the host sees it, or null.
    pub host: *mut u8,
    /// Bytes.
    pub len: u64,
}

// SAFETY: the handle is an address that the backend allows any thread to use; access to the bytes behind `host` is the
// caller's to order (see the contract).
unsafe impl Send for RawBuffer {}
// SAFETY: as above.
unsafe impl Sync for RawBuffer {}

/// A compiled kernel: an opaque backend handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawPipeline(pub usize);

/// A timeline event: an opaque backend handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawEvent(pub usize);

/// How a kernel uses a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BindingKind {
    /// Storage, read only.
    Read,
    /// Storage, written, perhaps read.
    Write,
    /// A uniform block.
    Uniform,
}

/// Code in the form that the device's [`ShaderFormat`](crate::ShaderFormat) asks for.
#[derive(Clone)]
pub enum Code {
    /// SPIR-V words. Slots are bindings 0.. of set 0; inline constants are push constants.
    Spirv(Vec<u32>),
    /// Metal source. Slot `i` is buffer index `i`.
    Msl {
        /// The source.
        source: String,
        /// Buffer index of the inline constants.
        constants_index: u32,
        /// Buffer index of an array of u32 with the byte lengths of the bindings in `sized`, if the code wants one.
        sizes_index: Option<u32>,
        /// Slots with run-time sized arrays, in the order of that array.
        sized: Vec<u32>,
    },
    /// A Rust function.
    Cpu(Arc<dyn CpuKernel>),
    /// Nothing, for the null device.
    None,
}

/// A pipeline to be made.
pub struct PipelineDesc<'a> {
    /// Shown in vendor tools and errors.
    pub label: &'a str,
    /// The code.
    pub code: Code,
    /// Name of the entry point in the code.
    pub entry: &'a str,
    /// Slots 0.. in order.
    pub bindings: &'a [BindingKind],
    /// Bytes of inline constants.
    pub constants: u32,
    /// Threads of a workgroup.
    pub group_size: [u32; 3],
    /// Bytes of each threadgroup argument (Metal: naga passes workgroup variables so), in order.
    pub group_memory: &'a [u32],
    /// Subgroup width to require, where it is selectable.
    pub subgroup: Option<u32>,
}

/// A range of a buffer in a slot.
#[derive(Debug, Clone, Copy)]
pub struct Binding {
    /// The buffer.
    pub buffer: RawBuffer,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// Size of a dispatch.
#[derive(Debug, Clone, Copy)]
pub enum Grid {
    /// Workgroups in x, y, z.
    Groups([u32; 3]),
    /// Three u32 read from a buffer when the dispatch executes, clamped to nothing: the writer keeps the limits.
    Indirect {
        /// The buffer.
        buffer: RawBuffer,
        /// First byte, a multiple of 4.
        offset: u64,
    },
}

/// One kernel to run.
pub struct DispatchCommand<'a> {
    /// What.
    pub pipeline: RawPipeline,
    /// On what: one for each slot of the pipeline, in order.
    pub bindings: &'a [Binding],
    /// Inline constants, as many bytes as the pipeline says.
    pub constants: &'a [u8],
    /// How much.
    pub grid: Grid,
    /// Metal: bytes of each threadgroup argument, where they are not those of the pipeline; empty elsewhere.
    pub group_memory: &'a [u32],
    /// Shown in vendor tools; empty for none.
    pub label: &'a str,
}

/// What times a command buffer keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Timing {
    /// None.
    Off,
    /// Start and end of the whole.
    #[default]
    Whole,
    /// Those, and start and end of each dispatch, copy and fill. Serialises them.
    Dispatches,
}

/// A recorder to be made.
#[derive(Debug, Clone, Copy)]
pub struct RecorderDesc<'a> {
    /// Shown in vendor tools and errors.
    pub label: &'a str,
    /// Times to keep.
    pub timing: Timing,
    /// The command buffer will be submitted more than once.
    pub reusable: bool,
}

/// Start and end in nanoseconds of the device's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeSpan {
    /// Start.
    pub start: u64,
    /// End.
    pub end: u64,
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockPair {
    /// Nanoseconds of the device's clock.
    pub device: u64,
    /// The host's.
    pub host: Instant,
    /// How far apart the two readings may be at most.
    pub error: Duration,
}

/// Command buffers to execute in order, after the waits, before the signals.
pub struct SubmitDesc<'a> {
    /// Labels errors.
    pub label: &'a str,
    /// What to execute.
    pub commands: &'a [Arc<dyn CommandBuffer>],
    /// Events and the values to wait for.
    pub waits: &'a [(RawEvent, u64)],
    /// Events and the values they get.
    pub signals: &'a [(RawEvent, u64)],
}
