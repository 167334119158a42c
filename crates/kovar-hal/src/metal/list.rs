//! What a recorder writes: a packed list of commands, which every submission encodes afresh.
//!
//! Metal executes a command buffer once. A recording that is submitted again is therefore kept in this form and encoded
//! each time; live recording and replay are the same path by construction.

use std::ops::Range;

use crate::Timing;

/// Address of a Metal object, opaque to everything that also runs where there is no Metal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Object(pub(crate) usize);

/// What encoding needs to know of a pipeline: `RawPipeline` is the address of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PipelineRecord {
    /// The `MTLComputePipelineState`, of which the record holds one reference.
    pub(crate) state: Object,
    pub(crate) group_size: [u32; 3],
    pub(crate) constants_index: u32,
    pub(crate) sizes_index: Option<u32>,
    pub(crate) sized: Vec<u32>,
    /// Bytes of each threadgroup argument, multiples of 16.
    pub(crate) group_memory: Vec<u32>,
}

/// A range of one of the list's arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: u32,
    pub(crate) len: u32,
}

impl Span {
    pub(crate) fn range(self) -> Range<usize> {
        self.first as usize..self.first as usize + self.len as usize
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) buffer: Object,
    pub(crate) offset: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Groups {
    Direct([u32; 3]),
    Indirect(Bound),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Dispatch {
    /// Address of the `PipelineRecord`, alive for as long as the list can be submitted (contract of `Recorder`).
    pub(crate) pipeline: *const PipelineRecord,
    pub(crate) bindings: Span,
    pub(crate) constants: Span,
    pub(crate) sizes: Span,
    /// Of [`List::group_memory`]; empty for that of the pipeline.
    pub(crate) group_memory: Span,
    pub(crate) groups: Groups,
    /// Empty for none.
    pub(crate) label: Span,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Command {
    Dispatch(Dispatch),
    Copy { from: Bound, to: Bound, len: u64 },
    Fill { to: Bound, len: u64, byte: u8 },
    Barrier,
    Push(Span),
    Pop,
}

/// A finished recording.
#[derive(Debug, Default)]
pub(crate) struct List {
    pub(crate) label: String,
    pub(crate) timing: Timing,
    pub(crate) commands: Vec<Command>,
    pub(crate) bindings: Vec<Bound>,
    pub(crate) bytes: Vec<u8>,
    /// Bytes of threadgroup arguments, multiples of 16, of dispatches that have their own.
    pub(crate) group_memory: Vec<u32>,
    pub(crate) text: String,
    /// With [`Timing::Dispatches`]: for each dispatch, copy and fill as recorded, the number of its pass, or `None`
    /// where nothing is executed.
    pub(crate) timed: Vec<Option<u32>>,
    /// Passes that are timed.
    pub(crate) timed_passes: u32,
}

impl List {
    pub(crate) fn text(&self, at: Span) -> &str {
        self.text.get(at.range()).unwrap_or_default()
    }
}

// SAFETY: the addresses in a list are read while it is encoded alone, and whoever submits vouches that what they point
// to is alive and unchanging (contract of `Recorder` and `Device::submit`).
unsafe impl Send for List {}
// SAFETY: as above; a list is never written after `finish`.
unsafe impl Sync for List {}
