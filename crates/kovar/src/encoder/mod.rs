//! One recorder for a whole forward pass.

mod arguments;
mod command;
mod commit;
mod dispatch;
mod effects;
#[allow(clippy::module_inception)]
mod encoder;
mod issue;
mod lists;
mod node;
mod record;
mod ring;
mod send;
mod session;
mod submission;
mod touch;
mod worker;

pub use dispatch::{Dispatch, MAX_SLOTS, OpKind};
pub use encoder::CommandEncoder;
pub(crate) use encoder::{Captured, names};
pub(crate) use issue::Issuer;
pub(crate) use lists::Shelf;
pub(crate) use node::{Accesses, Kernelled, Node, NodeGrid, Part, Work};
pub use record::DispatchRecord;
pub use session::{Session, Stage};
pub use submission::{Completed, Submission, Waited};
pub use touch::Touch;
pub use worker::{EncodeWorker, Recording};
