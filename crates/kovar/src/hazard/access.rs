use std::fmt;
use std::ops::Range;

use super::rows::{Rows, Span};
use serde::{Deserialize, Serialize};

/// An allocation, numbered densely from 0 by whoever owns the tracker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(pub u32);

/// A command, numbered in the order of recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NodeId(pub u32);

/// What a command does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mode {
    /// Reads them.
    Read,
    /// Writes them, perhaps reads them too.
    Write,
}

/// Bytes that a command touches: half open, within one allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The allocation.
    pub resource: ResourceId,
    /// The bytes, from the first to the last.
    pub range: Range<u64>,
    /// The rows among them, if not all are touched.
    pub rows: Option<Rows>,
    /// What happens to them.
    pub mode: Mode,
}

impl Access {
    /// All bytes of a range.
    pub const fn new(resource: ResourceId, range: Range<u64>, mode: Mode) -> Access {
        Access { resource, range, rows: None, mode }
    }

    pub(crate) fn span(&self) -> Span {
        Span { hull: self.range.clone(), rows: self.rows }
    }
}

/// The three ways in which two accesses conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HazardKind {
    /// Read after write.
    Raw,
    /// Write after read.
    War,
    /// Write after write.
    Waw,
}

impl fmt::Display for HazardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HazardKind::Raw => "RAW",
            HazardKind::War => "WAR",
            HazardKind::Waw => "WAW",
        })
    }
}

/// Two commands that must not run at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// How they conflict.
    pub kind: HazardKind,
    /// The earlier command.
    pub earlier: NodeId,
    /// The allocation.
    pub resource: ResourceId,
    /// Bytes that both touch.
    pub range: Range<u64>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conflict { kind, earlier, resource, range } = self;
        write!(
            f,
            "{kind} with command {} on bytes {}..{} of allocation {}",
            earlier.0, range.start, range.end, resource.0
        )
    }
}
