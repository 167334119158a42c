use bytemuck::NoUninit;

use super::touch::Touch;
use crate::profile::Cost;
use crate::{Buffer, Kernel};

/// Slots that a kernel can have.
pub const MAX_SLOTS: usize = 16;

/// What a command is, for profiles and for rewriting graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum OpKind {
    /// Anything else.
    #[default]
    Other,
    /// Rows of a table.
    Embedding,
    /// Root-mean-square or layer norm.
    Norm,
    /// A matrix times one vector or few.
    MatVec,
    /// A matrix times many.
    MatMul,
    /// Rotary position.
    Rotary,
    /// Attention.
    Attention,
    /// Keys or values into a cache.
    CacheWrite,
    /// An activation.
    Activation,
    /// Anything element by element.
    Elementwise,
    /// Change of element type.
    Cast,
    /// Copy or fill.
    Transfer,
    /// Choice of a token.
    Sampling,
}

/// Size of a dispatch, as the caller gives it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum GridSize<'a> {
    None,
    Threads([u32; 3]),
    Groups([u32; 3]),
    Indirect(&'a Buffer),
}

/// A kernel with its arguments: the one way to run one.
///
/// ```
/// # use kovar::{Backend, Device, DeviceOptions, Dispatch, KernelSource, OpKind};
/// static COPY: KernelSource = KernelSource::wgsl(
///     "copy",
///     "@group(0) @binding(0) var<storage, read> x: array<f32>;
///      @group(0) @binding(1) var<storage, read_write> y: array<f32>;
///      var<immediate> n: u32;
///      @compute @workgroup_size(64)
///      fn main(@builtin(global_invocation_id) id: vec3<u32>) { if (id.x < n) { y[id.x] = x[id.x]; } }",
/// );
/// let device = Device::open(&DeviceOptions::of(Backend::Null))?;
/// let (x, y) = (device.upload(&[1.0f32; 100], &[100])?, device.upload(&[0.0f32; 100], &[100])?);
/// let copy = device.kernel(&COPY, &[])?;
/// let mut encoder = device.encoder()?;
/// encoder.dispatch(
///     Dispatch::new(&copy).bind(0, &x).bind(1, &y).constants(&100u32).threads([100, 1, 1]).kind(OpKind::Transfer),
/// )?;
/// encoder.commit()?.wait()?;
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Clone, Copy)]
#[must_use = "give it to an encoder"]
pub struct Dispatch<'a> {
    pub(crate) kernel: &'a Kernel,
    pub(crate) slots: [Option<&'a Buffer>; MAX_SLOTS],
    /// One past the last slot that is bound.
    pub(crate) past: usize,
    /// A slot bound twice, or one past the last.
    pub(crate) misbound: Option<usize>,
    pub(crate) touches: &'a [Touch],
    pub(crate) constants: &'a [u8],
    pub(crate) grid: GridSize<'a>,
    pub(crate) group_memory: &'a [u32],
    pub(crate) label: &'a str,
    pub(crate) kind: OpKind,
    pub(crate) cost: Option<&'a Cost>,
    pub(crate) opaque: bool,
}

impl<'a> Dispatch<'a> {
    /// A dispatch of this kernel, with nothing bound.
    #[inline]
    pub fn new(kernel: &'a Kernel) -> Dispatch<'a> {
        Dispatch {
            kernel,
            slots: [None; MAX_SLOTS],
            past: 0,
            misbound: None,
            touches: &[],
            constants: &[],
            grid: GridSize::None,
            group_memory: &[],
            label: "",
            kind: OpKind::Other,
            cost: None,
            opaque: false,
        }
    }

    /// Puts a buffer, or the part of one that a view shows, into a slot.
    #[inline]
    pub fn bind(mut self, slot: usize, buffer: &'a Buffer) -> Dispatch<'a> {
        match self.slots.get_mut(slot) {
            Some(free @ None) => {
                *free = Some(buffer);
                self.past = self.past.max(slot + 1);
            }
            _ => self.misbound = Some(slot),
        }
        self
    }

    /// The kernel's constants, as a struct with the layout of its block.
    #[inline]
    pub fn constants<T: NoUninit>(mut self, constants: &'a T) -> Dispatch<'a> {
        self.constants = bytemuck::bytes_of(constants);
        self
    }

    /// The grid in threads: rounded up to whole workgroups, so the kernel checks its bounds.
    #[inline]
    pub fn threads(mut self, threads: [u32; 3]) -> Dispatch<'a> {
        self.grid = GridSize::Threads(threads);
        self
    }

    /// The grid in workgroups.
    #[inline]
    pub fn groups(mut self, groups: [u32; 3]) -> Dispatch<'a> {
        self.grid = GridSize::Groups(groups);
        self
    }

    /// The grid in workgroups, read from three u32 in a buffer when the dispatch executes.
    #[inline]
    pub fn indirect(mut self, groups: &'a Buffer) -> Dispatch<'a> {
        self.grid = GridSize::Indirect(groups);
        self
    }

    /// Narrows what the dispatch touches of the slots that are named, which is all of the buffer otherwise.
    ///
    /// This form is `unsafe` because nobody can check it when it is recorded: two kernels that meet in bytes which neither
    /// was said to touch run at the same time, and on the CPU that is a data race of Rust functions. The race detector
    /// ([`CpuChecks::races`](crate::CpuChecks)) sees a wrong claim when it runs.
    ///
    /// # Safety
    /// Of each slot that is named the kernel touches no other elements than these, in this dispatch and, if it is baked
    /// into a [`DispatchRecord`](crate::DispatchRecord), with every buffer that the record is given.
    ///
    /// ```
    /// # use kovar::{Backend, Device, DeviceOptions, DType, Dispatch, KernelSource, Touch};
    /// static SET: KernelSource = KernelSource::wgsl(
    ///     "set",
    ///     "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
    ///      var<immediate> first: u32;
    ///      @compute @workgroup_size(64)
    ///      fn main(@builtin(global_invocation_id) id: vec3<u32>) { x[first + id.x] = 1.0; }",
    /// );
    /// let device = Device::open(&DeviceOptions::of(Backend::Null))?;
    /// let (set, x) = (device.kernel(&SET, &[])?, device.buffer(DType::F32, &[128])?);
    /// let mut encoder = device.encoder()?;
    /// for first in [0u32, 64] {
    ///     let touches = [Touch::elements(0, first as usize..first as usize + 64)];
    ///     let dispatch = Dispatch::new(&set).bind(0, &x).constants(&first).groups([1, 1, 1]);
    ///     // SAFETY: one workgroup of 64 threads writes one element each, from `first` on.
    ///     encoder.dispatch(unsafe { dispatch.touching(&touches) })?;
    /// }
    /// assert_eq!(encoder.stats().barriers(), 0);
    /// # Ok::<(), kovar::Error>(())
    /// ```
    #[inline]
    pub unsafe fn touching(mut self, touches: &'a [Touch]) -> Dispatch<'a> {
        self.touches = touches;
        self
    }

    /// Bytes of each `threadgroup` argument of hand-written Metal code, for this dispatch alone. What the WGSL says counts
    /// without it. Every other form has its workgroup memory from its source and its constants, and is refused.
    #[inline]
    pub fn threadgroup_memory(mut self, bytes: &'a [u32]) -> Dispatch<'a> {
        self.group_memory = bytes;
        self
    }

    /// A name for vendor tools and profiles; the kernel's without one.
    #[inline]
    pub fn label(mut self, label: &'a str) -> Dispatch<'a> {
        self.label = label;
        self
    }

    /// What it is.
    #[inline]
    pub fn kind(mut self, kind: OpKind) -> Dispatch<'a> {
        self.kind = kind;
        self
    }

    /// What it moves and computes, for profiles.
    #[inline]
    pub fn cost(mut self, cost: &'a Cost) -> Dispatch<'a> {
        self.cost = Some(cost);
        self
    }

    /// Says that the kernel touches more than its slots show (memory behind an address in a buffer, say). A graph then
    /// moves nothing across it. Barriers around it are the caller's, with `force_barrier`.
    #[inline]
    pub fn opaque(mut self) -> Dispatch<'a> {
        self.opaque = true;
        self
    }
}
