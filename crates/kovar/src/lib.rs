//! GPU compute for language-model inference.
//!
//! A program records kernels into a [`CommandEncoder`]; Kovar finds out which of them may overlap, places the barriers,
//! and runs the same recording on Metal, Vulkan and the CPU.
#![warn(missing_docs)]

mod admission;
mod arena;
mod buffer;
mod capture;
pub mod check;
mod claim;
mod device;
mod dtype;
mod encoder;
mod error;
mod event;
mod file;
mod flight;
mod graph;
pub mod hazard;
mod hold;
mod kernel;
mod map;
mod misuse;
mod notify;
mod options;
mod picture;
mod poison;
mod pool;
pub mod profile;
mod residency;
mod settings;
mod staging;
mod stats;

pub use admission::{Admission, MemoryNeed};
pub use arena::Arena;
pub use buffer::{Buffer, Shape};
pub use capture::Capture;
pub use device::Device;
pub use dtype::{DType, Element};
pub use encoder::{
    CommandEncoder, Completed, Dispatch, DispatchRecord, EncodeWorker, MAX_SLOTS, OpKind, Recording, Session, Stage,
    Submission, Touch, Waited,
};
pub use error::{Error, Result};
pub use event::Event;
pub use file::{FileBuffers, Placement};
pub use graph::{
    Executable, ExecutableOptions, Flow, Graph, Match, Matched, MemoryPlan, Place, Replacement, Rule, Schedule,
};
pub use hazard::{Explanation, Trace};
pub use hold::Kept;
pub use kernel::{ConstantsKind, CpuFactory, Kernel, KernelSource, Reflection, Slot, Specialization, to_msl};
pub use kovar_hal::cpu::{CpuDispatch, CpuKernel};
pub use kovar_hal::{
    Backend, CooperativeShape, CpuChecks, CpuPaging, CpuSchedule, DeviceInfo, DeviceKind, Features, HalError, Limits,
    MemoryInfo, MemoryKind, Race, RacePlace, RaceSide, ShaderFormat, Subgroup, TimeSpan, Timing,
};
pub use map::{Mapped, MappedMut};
pub use misuse::{Misfit, Misuse, Trap, Unbindable};
pub use options::{Barriers, DeviceChoice, DeviceOptions, EncoderOptions, Split};
pub use pool::PoolStats;
pub use settings::Settings;
pub use stats::{KernelStats, Stats};

/// Runs the code of the page for those who come from mlx-native.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/from-mlx-native.md")]
struct FromMlxNative;

/// Compiles the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
