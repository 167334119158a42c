//! The hardware layer: buffers, pipelines, recorders and events on four backends.
//!
//! # The contract
//!
//! **No policy lives here.** A backend does what it is told: it tracks no hazards, pools no memory, caches no pipelines
//! and validates nothing beyond debug assertions. The crate `kovar` above decides where barriers go, keeps resources
//! alive for as long as the device uses them, and checks every argument. Whoever calls this crate directly takes that
//! work over, which is why the calls that could break memory safety are `unsafe`.
//!
//! **Resources are plain handles.** [`RawBuffer`], [`RawPipeline`] and [`RawEvent`] are `Copy` and carry no reference
//! count. The caller destroys each exactly once, after the last submission that uses it has completed, and before the
//! device is dropped. A recorder and a command buffer keep no resource alive.
//!
//! **Order.** Within a command buffer, commands between two barriers form a *group*: they may run in any order and at
//! the same time, and a command of a later group sees all writes of the earlier ones. A barrier is global: it orders
//! every command before it against every command after it, for shader reads and writes, indirect arguments, copies and
//! fills. Command buffers of one device execute in the order of their submission, and a backend puts a barrier between
//! two of them, so that a recording begins with everything before it done and visible. Host writes made before `submit`
//! are visible to the submission; device writes are visible to the host once `wait_event` has returned `true` for a
//! signal of that submission.
//!
//! **Events** are timelines: a 64-bit value that only grows. A submission waits for values and signals values; the host
//! can do both as well. A wait for a value that nobody signals ends with its time limit, never otherwise.
//!
//! **Asynchrony.** `submit` does not wait for the device. The CPU backend has worker threads of its own, and a thread
//! that waits for one of its events helps with the work instead of sleeping.
//!
//! **A command buffer can be submitted again** when it was recorded as reusable and its last execution has completed.
//!
//! **Errors.** A call that fails leaves everything as it was, with one exception: after [`HalError::DeviceLost`] every
//! call on that device fails the same way, and only destruction and opening the device anew are useful. What goes wrong
//! while the device executes is returned by [`CommandBuffer::status`] once the submission has ended, and its events are
//! signalled all the same, so that nobody waits for ever.
//!
//! **Who validates what.** Sizes, alignments, limits, slots and lifetimes: the caller, against [`DeviceInfo`]. Existence
//! of memory, of driver features asked for when opening, and of compiled code: the backend.
//!
//! **Threads.** Devices are `Sync`; recorders are `Send` and used by one thread at a time.

#![warn(missing_docs)]

mod desc;
mod error;
mod info;
mod race;
mod timeline;
mod traits;

pub mod cpu;
pub mod faulty;
#[cfg(feature = "metal")]
pub mod metal;
pub mod null;
#[cfg(feature = "vulkan")]
pub mod vulkan;

pub use desc::{
    Binding, BindingKind, BufferDesc, ClockPair, Code, CpuChecks, CpuPaging, CpuSchedule, DispatchCommand, Grid,
    MemoryKind, OpenOptions, PipelineDesc, RawBuffer, RawEvent, RawPipeline, RecorderDesc, SubmitDesc, TimeSpan,
    Timing,
};
pub use error::HalError;
pub use info::{
    Backend, CooperativeShape, DeviceInfo, DeviceKind, Features, Limits, MemoryInfo, ShaderFormat, Subgroup,
};
pub use race::{Race, RacePlace, RaceSide};
pub use traits::{Adapter, CommandBuffer, Device, Recorder, Result};

/// The adapters of one backend; other backends are left alone, which saves loading their drivers.
///
/// # Errors
/// [`HalError::Unavailable`] with the reason: no driver, or not compiled in.
pub fn adapters_of(backend: Backend) -> Result<Vec<Box<dyn Adapter>>> {
    match backend {
        Backend::Cpu => Ok(vec![cpu::adapter()]),
        Backend::Null => Ok(vec![null::adapter()]),
        #[cfg(all(feature = "metal", target_vendor = "apple"))]
        Backend::Metal => metal::adapters(),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => vulkan::adapters(),
        #[allow(unreachable_patterns)]
        backend => Err(HalError::Unavailable { backend, reason: "it is not compiled in on this platform".into() }),
    }
}

/// Every adapter of every backend compiled in, the most capable first: Metal, Vulkan (discrete before integrated), CPU,
/// software Vulkan. A backend whose driver is missing contributes nothing and is named with its reason in the second
/// list. The null device is not listed; ask for it with [`null::adapter`].
pub fn adapters() -> (Vec<Box<dyn Adapter>>, Vec<HalError>) {
    #[allow(unused_mut)]
    let mut found: Vec<Box<dyn Adapter>> = Vec::new();
    #[allow(unused_mut)]
    let mut missing = Vec::new();
    #[cfg(all(feature = "metal", target_vendor = "apple"))]
    match metal::adapters() {
        Ok(list) => found.extend(list),
        Err(reason) => missing.push(reason),
    }
    #[cfg(feature = "vulkan")]
    match vulkan::adapters() {
        Ok(list) => found.extend(list),
        Err(reason) => missing.push(reason),
    }
    found.push(cpu::adapter());
    // A software driver runs on the same processor as our own threads, and slower.
    found.sort_by_key(|adapter| adapter.info().kind == DeviceKind::Cpu && adapter.info().backend != Backend::Cpu);
    (found, missing)
}
