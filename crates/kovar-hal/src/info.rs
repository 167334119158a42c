use std::fmt;

/// The four backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// Worker threads of this process.
    Cpu,
    /// Any Vulkan 1.2 device with push descriptors and timeline semaphores.
    Vulkan,
    /// Apple GPUs.
    Metal,
    /// Records and counts, executes nothing.
    Null,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Cpu => "cpu",
            Backend::Vulkan => "vulkan",
            Backend::Metal => "metal",
            Backend::Null => "null",
        })
    }
}

/// What sort of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the host's memory.
    Integrated,
    /// A virtual GPU.
    Virtual,
    /// The host's processor, natively or behind a software driver.
    Cpu,
}

/// The form in which a device takes kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShaderFormat {
    /// SPIR-V of at most this version (major, minor).
    Spirv(u8, u8),
    /// Metal shading language of this version (major, minor).
    Msl(u8, u8),
    /// A Rust function.
    Cpu,
    /// Nothing is executed.
    None,
}

/// Memory of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Host and device share one memory: a host write needs no copy.
    pub unified: bool,
    /// Bytes of the largest heap that kernels use at full speed.
    pub total: u64,
    /// Bytes that this process may use now, where the driver tells.
    pub budget: Option<u64>,
}

/// Widths of a subgroup (SIMD group, warp, wave).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subgroup {
    /// The width that kernels get unless they ask for another.
    pub size: u32,
    /// Smallest width that a pipeline can require.
    pub min: u32,
    /// Largest width that a pipeline can require.
    pub max: u32,
    /// Whether a pipeline can require a width at all.
    pub selectable: bool,
}

/// One shape of cooperative matrix: D\[m,n\] = A\[m,k\] · B\[k,n\] + C\[m,n\] across a subgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CooperativeShape {
    /// Rows of A.
    pub m: u32,
    /// Columns of B.
    pub n: u32,
    /// Columns of A.
    pub k: u32,
    /// Component type of A and B, as `f16`, `bf16`, `i8`, `f32`.
    pub input: &'static str,
    /// Component type of C and D.
    pub output: &'static str,
}

/// Optional abilities.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Features {
    /// 16-bit floats in arithmetic and storage.
    pub f16: bool,
    /// bfloat16 in arithmetic.
    pub bf16: bool,
    /// Accelerated dot products of packed 8-bit integers.
    pub int_dot: bool,
    /// Subgroup operations in compute kernels.
    pub subgroups: bool,
    /// Cooperative-matrix shapes, empty when there are none.
    pub cooperative_matrix: Vec<CooperativeShape>,
    /// Host memory can become a buffer without a copy.
    pub host_import: bool,
    /// Resolution of device times in nanoseconds, if there are any.
    pub timestamp_ns: Option<f64>,
}

/// Limits that a caller must keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest grid, in workgroups, in each dimension.
    pub groups: [u32; 3],
    /// Largest workgroup, in threads, in each dimension.
    pub group_size: [u32; 3],
    /// Largest workgroup in all.
    pub group_threads: u32,
    /// Bytes of workgroup memory.
    pub group_memory: u32,
    /// Bytes of inline constants a dispatch.
    pub constants: u32,
    /// Storage bindings a kernel.
    pub bindings: u32,
    /// Alignment of the offset of a storage binding, in bytes: a power of two.
    pub storage_alignment: u64,
    /// Alignment of the offset of a uniform binding, in bytes.
    pub uniform_alignment: u64,
    /// Bytes of the largest buffer.
    pub buffer: u64,
    /// Bytes of the largest storage binding.
    pub binding: u64,
    /// Alignment of pointer and length of imported host memory, in bytes.
    pub import_alignment: u64,
}

/// What an adapter says of its device.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceInfo {
    /// The backend.
    pub backend: Backend,
    /// The device's own name.
    pub name: String,
    /// Driver name and version.
    pub driver: String,
    /// What sort of device.
    pub kind: DeviceKind,
    /// Its memory.
    pub memory: MemoryInfo,
    /// Its subgroups.
    pub subgroup: Subgroup,
    /// Optional abilities.
    pub features: Features,
    /// Limits.
    pub limits: Limits,
    /// The form in which it takes kernels.
    pub shader: ShaderFormat,
}

impl DeviceInfo {
    /// The same device as [`OpenOptions::discrete`](crate::OpenOptions) has it.
    pub(crate) fn discrete(mut self) -> DeviceInfo {
        self.memory.unified = false;
        self.features.host_import = false;
        self
    }
}
