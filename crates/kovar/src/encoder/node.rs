use kovar_hal::{Binding, DispatchCommand, Grid, RawBuffer, Recorder};
use smallvec::SmallVec;

use super::dispatch::OpKind;
use crate::hazard::{Access, ResourceId};
use crate::kernel::Kernel;
use crate::profile::{About, Cost};

pub(crate) type Accesses = SmallVec<[Access; 8]>;

/// A command as a graph keeps it: what the live path would have sent to the recorder, with allocations by number.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) work: Work,
    pub(crate) accesses: Accesses,
    pub(crate) label: Box<str>,
    pub(crate) kind: OpKind,
    pub(crate) cost: Cost,
    /// Touches what the accesses do not say: never moved, never passed.
    pub(crate) opaque: bool,
}

/// A range of a numbered allocation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) resource: ResourceId,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

#[derive(Debug, Clone)]
pub(crate) enum Work {
    Dispatch(Box<Kernelled>),
    /// From the first access to the second.
    Copy,
    /// The first access, with this word.
    Fill(u32),
    /// A forced barrier.
    Barrier,
}

#[derive(Debug, Clone)]
pub(crate) struct Kernelled {
    pub(crate) kernel: Kernel,
    pub(crate) parts: SmallVec<[Part; 8]>,
    pub(crate) constants: SmallVec<[u8; 32]>,
    pub(crate) grid: NodeGrid,
    /// Threadgroup memory that is not the kernel's own.
    pub(crate) memory: SmallVec<[u32; 2]>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum NodeGrid {
    Groups([u32; 3]),
    Indirect(Part),
}

impl Node {
    pub(crate) fn barrier() -> Node {
        Node {
            work: Work::Barrier,
            accesses: Accesses::new(),
            label: "barrier".into(),
            kind: OpKind::Other,
            cost: Cost::default(),
            opaque: true,
        }
    }

    /// `accesses` starts with the slots in order and ends with the indirect grid, if there is one; `ring` is the block
    /// that holds the constants, if they are in a uniform slot, the last.
    pub(crate) fn dispatch(
        kernel: &Kernel,
        bindings: &[Binding],
        accesses: Accesses,
        ring: Option<ResourceId>,
        constants: &[u8],
        grid: Grid,
        memory: &[u32],
    ) -> Node {
        let slots = accesses.iter().map(|a| a.resource).take(kernel.reflection().slots.len());
        let parts =
            slots.chain(ring).zip(bindings).map(|(resource, b)| Part { resource, offset: b.offset, len: b.len });
        let work = Kernelled {
            kernel: kernel.clone(),
            parts: parts.collect(),
            constants: SmallVec::from_slice(constants),
            memory: SmallVec::from_slice(memory),
            grid: match (grid, accesses.last()) {
                (Grid::Groups(groups), _) => NodeGrid::Groups(groups),
                (Grid::Indirect { offset, .. }, Some(read)) => {
                    NodeGrid::Indirect(Part { resource: read.resource, offset, len: read.range.end - read.range.start })
                }
                (Grid::Indirect { .. }, None) => NodeGrid::Groups([0; 3]),
            },
        };
        Node {
            work: Work::Dispatch(Box::new(work)),
            accesses,
            label: Box::default(),
            kind: OpKind::Other,
            cost: Cost::default(),
            opaque: false,
        }
    }
}

impl Node {
    /// What a recorder is told of it.
    pub(crate) fn about(&self) -> About<'_> {
        let (kernel, groups) = match &self.work {
            Work::Dispatch(work) => match work.grid {
                NodeGrid::Groups(groups) => (Some(&work.kernel), Some(groups)),
                NodeGrid::Indirect(_) => (Some(&work.kernel), None),
            },
            Work::Copy | Work::Fill(_) | Work::Barrier => (None, None),
        };
        About { label: &self.label, kernel, kind: self.kind, groups, cost: Some(&self.cost) }
    }
}

impl Work {
    /// Records a copy or fill.
    ///
    /// # Safety
    /// As for `Recorder::copy` and `fill`.
    pub(crate) unsafe fn transfer(
        &self,
        recorder: &mut dyn Recorder,
        accesses: &[Access],
        raw: impl Fn(ResourceId) -> RawBuffer,
    ) {
        let end = |a: &Access| (raw(a.resource), a.range.start, a.range.end - a.range.start);
        match (self, accesses) {
            (Work::Copy, [from, to]) => {
                let ((source, from, len), (target, to, _)) = (end(from), end(to));
                // SAFETY: passed on from the caller.
                unsafe { recorder.copy(source, from, target, to, len) }
            }
            (Work::Fill(word), [to]) => {
                let (target, to, len) = end(to);
                // SAFETY: passed on from the caller.
                unsafe { recorder.fill(target, to, len, *word) }
            }
            _ => debug_assert!(false, "not a transfer"),
        }
    }
}

impl Kernelled {
    /// Records the dispatch on the allocations that `binding` says.
    ///
    /// # Safety
    /// As for `Recorder::dispatch`.
    pub(crate) unsafe fn record(&self, recorder: &mut dyn Recorder, label: &str, binding: impl Fn(&Part) -> Binding) {
        let bindings: SmallVec<[Binding; 17]> = self.parts.iter().map(&binding).collect();
        let grid = match &self.grid {
            NodeGrid::Groups(groups) => Grid::Groups(*groups),
            NodeGrid::Indirect(part) => {
                let at = binding(part);
                Grid::Indirect { buffer: at.buffer, offset: at.offset }
            }
        };
        let pipeline = self.kernel.0.pipeline;
        let (constants, group_memory) = (&self.constants, &self.memory);
        let command = DispatchCommand { pipeline, bindings: &bindings, constants, grid, group_memory, label };
        // SAFETY: passed on from the caller.
        unsafe { recorder.dispatch(&command) }
    }
}
