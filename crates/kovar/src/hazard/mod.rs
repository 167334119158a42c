//! Which commands may run at the same time.

mod access;
mod chain;
pub mod explain;
mod ranges;
mod rows;
mod trace;
mod tracker;
mod verify;

pub use access::{Access, Conflict, HazardKind, Mode, NodeId, ResourceId};
pub use chain::{Link, verify_chain, verify_traces};
pub use explain::Explanation;
pub use rows::Rows;
pub use trace::Trace;
pub(crate) use trace::{Cause, Tracing};
pub use tracker::Tracker;
pub use verify::{Step, Verdict, Violation, verify};
