//! Kernels: one WGSL source, translated for the device, reflected once.

mod cache;
mod fit;
mod lint;
mod reflect;
mod registry;
mod source;
mod store;
mod tally;
mod translate;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use kovar_hal::RawPipeline;

use crate::device::Core;

pub(crate) use cache::DiskCache;
pub use reflect::{ConstantsKind, Reflection, Slot};
pub(crate) use registry::Registry;
pub use source::{CpuFactory, KernelSource, Specialization};
pub(crate) use tally::Tally;
pub use translate::to_msl;

/// A kernel made for one device and one set of specialisation constants. Cheap to clone.
#[derive(Clone)]
pub struct Kernel(pub(crate) Arc<KernelInner>);

pub(crate) struct KernelInner {
    pub(crate) core: Arc<Core>,
    pub(crate) name: Box<str>,
    pub(crate) pipeline: RawPipeline,
    /// Its code on this device is hand-written MSL.
    pub(crate) native_msl: bool,
    pub(crate) reflection: Reflection,
    pub(crate) constants: Box<[(Box<str>, f64)]>,
    /// Slots that its code on this device reads at any byte.
    pub(crate) unaligned: &'static [usize],
    /// Dispatches handed to the device.
    pub(crate) dispatches: AtomicU64,
}

impl Kernel {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The value that a constant was given when the kernel was made.
    pub fn constant(&self, name: &str) -> Option<f64> {
        self.0.constants.iter().find(|(known, _)| known.as_ref() == name).map(|(_, value)| *value)
    }

    /// What was read off its code: slots, access, constants, workgroup size.
    pub fn reflection(&self) -> &Reflection {
        &self.0.reflection
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").field("name", &self.0.name).field("reflection", &self.0.reflection).finish()
    }
}

impl Drop for KernelInner {
    fn drop(&mut self) {
        // SAFETY: this is the only owner, and submissions that use a kernel hold a clone of it until they have ended.
        unsafe { self.core.hal.destroy_pipeline(self.pipeline) }
    }
}
