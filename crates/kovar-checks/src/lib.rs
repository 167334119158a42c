//! What every device must compute, as checks that the tests run on all devices of a machine and `kovar doctor` on one.
//!
//! A check panics where a device fails it.

// A test fails by panicking, and so does what it is made of.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

#[cfg(feature = "model")]
pub mod model;
pub mod ops;
