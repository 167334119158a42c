//! Which commands may run at the same time.

mod access;
pub mod explain;
mod ranges;
mod trace;
mod tracker;
mod verify;

pub use access::{Access, Conflict, HazardKind, Mode, NodeId, ResourceId};
pub use explain::Explanation;
pub(crate) use trace::{Cause, Tracing};
pub use trace::{Trace, verify_traces};
pub use tracker::Tracker;
pub use verify::{Step, Verdict, Violation, verify};
