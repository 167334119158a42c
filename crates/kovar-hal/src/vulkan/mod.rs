//! Vulkan 1.2 with timeline semaphores and `VK_KHR_push_descriptor`, loaded at run time.
//!
//! One queue of the first compute family executes everything, in the order of submission. Buffers come from
//! `gpu-allocator`, kernels from SPIR-V with all their slots in one push-descriptor set, so that a dispatch allocates
//! nothing. Every command buffer begins with a barrier against what ran before and ends with one towards the host.
//! Command pools, command buffers and query pools are taken back when a command buffer is dropped and used again.
//!
//! Labels and object names go to `VK_EXT_debug_utils`. Labels are recorded only while validation is on or a tool that
//! shows them is attached; names are given always.

mod adapter;
mod capabilities;
mod device;
mod features;
mod instance;
mod memory;
mod order;
mod pipeline;
mod queue;
mod quirks;
mod recorder;
mod recording;
mod timing;
mod validation;

use crate::{Adapter, Result};

/// Every device that this backend can use, discrete before integrated before virtual before software.
///
/// [`HalError::Unavailable`](crate::HalError::Unavailable) says why there is none: no loader, no driver, or no device
/// with what the backend needs.
pub fn adapters() -> Result<Vec<Box<dyn Adapter>>> {
    adapter::enumerate()
}
