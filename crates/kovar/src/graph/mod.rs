//! Captured recordings: rewritten, reordered, proved, and run again and again.

mod executable;
mod fuse;
#[allow(clippy::module_inception)]
mod graph;
mod named;
mod plan;
mod reorder;

pub use executable::{Executable, ExecutableOptions};
pub use fuse::{Flow, Match, Matched, Place, Replacement, Rule};
pub use graph::{Graph, Schedule};
pub use plan::MemoryPlan;
