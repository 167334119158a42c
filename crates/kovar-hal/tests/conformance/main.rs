//! What every backend must do, run against each device that the machine has.
//!
//! A case gets a [`rig::Rig`]: an open device with helpers that destroy what they made. When the case ends, the device
//! must be usable, and vendor validation must have been silent.

// A test fails by panicking, and so do its helpers.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

mod dispatch;
mod events;
mod faults;
mod hazards;
mod kernels;
mod lifetime;
mod memory;
mod null;
mod order;
mod rig;
mod threads;
mod timing;
