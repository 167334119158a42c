//! Metal on Apple silicon.
//!
//! A recorder writes a packed list (`list.rs`, `recorder.rs`), because a Metal command buffer is executed once and a
//! recording may be submitted again. A submission turns lists into Metal calls (`script.rs`: one concurrent compute pass
//! opened lazily, barriers, fences, waits first, signals last) and makes them (`carry_out.rs`). What is decided is decided
//! in portable code, which is tested on every platform against Apple's rules (`check.rs`); the part that needs a Mac to
//! run carries out.
//!
//! The device's clock is the host's uptime in nanoseconds. Metal's own validation is switched on from outside the process
//! (`MTL_DEBUG_LAYER=1`); a device opened with validation keeps references to what command buffers use, asks Metal for
//! the state of each encoder after an error, writes all labels, and holds every submission against `check.rs`. Without it
//! labels of regions and dispatches are written only while something captures.

// Where there is no Metal, the portable part is compiled for its tests.
#![cfg_attr(not(target_vendor = "apple"), allow(dead_code))]

mod call;
mod check;
mod clock;
mod completion;
mod facts;
mod fault;
mod folder;
mod keep_alive;
mod list;
mod recorder;
mod script;
#[cfg(test)]
mod tests;
mod timeline;

#[cfg(target_vendor = "apple")]
mod adapter;
#[cfg(target_vendor = "apple")]
mod archive;
#[cfg(target_vendor = "apple")]
mod capture;
#[cfg(target_vendor = "apple")]
mod carry_out;
#[cfg(target_vendor = "apple")]
mod command;
#[cfg(target_vendor = "apple")]
mod counters;
#[cfg(target_vendor = "apple")]
mod device;
#[cfg(target_vendor = "apple")]
mod event;
#[cfg(target_vendor = "apple")]
mod memory;
#[cfg(target_vendor = "apple")]
mod object;
#[cfg(target_vendor = "apple")]
mod pipeline;
#[cfg(target_vendor = "apple")]
mod queue;
#[cfg(target_vendor = "apple")]
mod residency;

/// Every GPU that this backend can use.
///
/// # Errors
/// [`HalError::Unavailable`](crate::HalError::Unavailable) says why there is none: only Apple's own GPUs are taken, from
/// the family Apple7 (M1) on.
#[cfg(target_vendor = "apple")]
pub fn adapters() -> crate::Result<Vec<Box<dyn crate::Adapter>>> {
    adapter::adapters()
}
