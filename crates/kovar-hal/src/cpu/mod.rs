//! The host's processor as a device.
//!
//! A command buffer is a job list that all threads walk together (`walk.rs`); submissions queue behind each other
//! (`queue.rs`, `handover.rs`). Device time is the time since the device was opened.

mod adapter;
mod alone;
mod claims;
mod device;
mod handover;
mod kernel;
pub(crate) mod memory;
mod pipeline;
mod queue;
mod race;
mod recorder;
pub(crate) mod regions;
pub(crate) mod sync;
mod walk;

pub use kernel::{CpuDispatch, CpuKernel};

use crate::Adapter;

/// The processor of this machine.
pub fn adapter() -> Box<dyn Adapter> {
    Box::new(adapter::CpuAdapter::new())
}
