//! What runs, how long it takes, and how near that is to what the device can do.
//!
//! A [`Profiler`] keeps the times of every submission of a device; a [`Report`] sums them up by command buffer and by
//! command.

mod clocks;
pub mod columns;
mod cost;
mod page;
mod recorder;
mod report;
mod summary;
mod trace;

pub use clocks::Clock;
pub use cost::Cost;
pub(crate) use recorder::{About, Collector, Listing};
pub use recorder::{Command, HostSpan, HostWork, Profile, Profiler, Run};
pub use report::{BufferTimes, CommandTimes, Peaks, Report};
pub use summary::Summary;
