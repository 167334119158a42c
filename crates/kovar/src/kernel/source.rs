use std::borrow::Cow;
use std::sync::Arc;

use kovar_hal::cpu::CpuKernel;

/// Values for the `override` constants of a kernel, by name.
pub type Specialization<'a> = &'a [(&'a str, f64)];

/// Makes the Rust form of a kernel for some specialisation. The error says which one it does not have.
pub type CpuFactory = fn(Specialization<'_>) -> Result<Arc<dyn CpuKernel>, String>;

/// A kernel as its author writes it: WGSL for GPUs, a Rust function for the CPU.
///
/// The WGSL has one `@compute` entry point; its buffers are `@group(0)`, bindings 0.. without gaps; inline constants are
/// a `var<immediate>`, larger ones a `var<uniform>`. An override named `SG` gets the device's subgroup size.
///
/// ```
/// use kovar::KernelSource;
///
/// static DOUBLE: KernelSource = KernelSource::wgsl(
///     "double",
///     "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
///      @compute @workgroup_size(64)
///      fn main(@builtin(global_invocation_id) id: vec3<u32>) {
///          if (id.x < arrayLength(&x)) { x[id.x] *= 2.0; }
///      }",
/// );
/// assert_eq!(DOUBLE.name(), "double");
/// ```
#[derive(Debug, Clone)]
pub struct KernelSource {
    pub(crate) name: Cow<'static, str>,
    pub(crate) wgsl: Cow<'static, str>,
    pub(crate) cpu: Option<CpuFactory>,
    pub(crate) native_msl: Option<Cow<'static, str>>,
    pub(crate) native_spirv: Option<Cow<'static, [u32]>>,
    /// The only subgroup width that it works with.
    pub(crate) subgroup: Option<u32>,
    /// Its workgroups are whole subgroups.
    pub(crate) whole_subgroups: bool,
    /// Slots that its Rust form reads at any byte.
    pub(crate) unaligned: &'static [usize],
}

impl KernelSource {
    /// A kernel whose source is part of the program.
    pub const fn wgsl(name: &'static str, source: &'static str) -> KernelSource {
        KernelSource {
            name: Cow::Borrowed(name),
            wgsl: Cow::Borrowed(source),
            cpu: None,
            native_msl: None,
            native_spirv: None,
            subgroup: None,
            whole_subgroups: false,
            unaligned: &[],
        }
    }

    /// A kernel whose source is made at run time.
    pub fn from_text(name: impl Into<String>, source: impl Into<String>) -> KernelSource {
        KernelSource {
            name: Cow::Owned(name.into()),
            wgsl: Cow::Owned(source.into()),
            cpu: None,
            native_msl: None,
            native_spirv: None,
            subgroup: None,
            whole_subgroups: false,
            unaligned: &[],
        }
    }

    /// Adds the Rust form.
    #[must_use]
    pub const fn with_cpu(mut self, factory: CpuFactory) -> KernelSource {
        self.cpu = Some(factory);
        self
    }

    /// Says that the Rust form reads these slots at any byte, as elements of alignment 1. To other slots, and to all of them
    /// on a GPU, a buffer that begins at no multiple of the device's alignment cannot be bound. See
    /// [`FileBuffers::unaligned`](crate::FileBuffers::unaligned).
    #[must_use]
    pub const fn unaligned(mut self, slots: &'static [usize]) -> KernelSource {
        self.unaligned = slots;
        self
    }

    /// Replaces the translated MSL by hand-written code with the same slots: buffer index = slot, inline constants at
    /// the index after the last slot. The entry point is named `main_`.
    #[must_use]
    pub fn with_msl(mut self, source: &'static str) -> KernelSource {
        self.native_msl = Some(Cow::Borrowed(source));
        self
    }

    /// Replaces the translated SPIR-V by words of the same interface: set 0, binding = slot, inline constants as push
    /// constants. The entry point is named `main`.
    #[must_use]
    pub fn with_spirv(mut self, words: &'static [u32]) -> KernelSource {
        self.native_spirv = Some(Cow::Borrowed(words));
        self
    }

    /// Says that its WGSL works with subgroups of this width alone. The pipeline asks for it and the override `SG` gets it;
    /// a device that lacks the width refuses the kernel with [`Error::Unfit`](crate::Error::Unfit).
    #[must_use]
    pub const fn with_subgroup(mut self, width: u32) -> KernelSource {
        self.subgroup = Some(width);
        self
    }

    /// Says that its workgroups are whole subgroups: their first axis is a multiple of the width, which is when Vulkan
    /// promises full ones. Where that is not so the kernel is refused with [`Error::Unfit`](crate::Error::Unfit).
    ///
    /// ```
    /// use kovar::{Backend, Device, DeviceOptions, Error, KernelSource, Misfit};
    ///
    /// static KERNEL: KernelSource = KernelSource::wgsl(
    ///     "whole",
    ///     "override W: u32;
    ///      @group(0) @binding(0) var<storage, read_write> x: array<f32>;
    ///      @compute @workgroup_size(W) fn main(@builtin(local_invocation_index) i: u32) { x[i] = 1.0; }",
    /// )
    /// .whole_subgroups();
    /// // Subgroups of the null device have 32 threads.
    /// let device = Device::open(&DeviceOptions::of(Backend::Null))?;
    /// device.kernel(&KERNEL, &[("W", 64.0)])?;
    /// let refused = device.kernel(&KERNEL, &[("W", 48.0)]);
    /// assert!(matches!(refused, Err(Error::Unfit { misfit: Misfit::PartialSubgroup { subgroup: 32, .. }, .. })));
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub const fn whole_subgroups(mut self) -> KernelSource {
        self.whole_subgroups = true;
        self
    }

    /// Its name, in errors, profiles and vendor tools.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its WGSL.
    pub fn source(&self) -> &str {
        &self.wgsl
    }
}
