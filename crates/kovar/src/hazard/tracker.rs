use std::ops::Range;

use super::access::{Access, Conflict, HazardKind, Mode, NodeId, ResourceId};
use super::ranges::Ranges;
use super::rows::Span;

/// What the open group has touched of one allocation.
#[derive(Debug, Default)]
struct Touched {
    group: u32,
    reads: Ranges,
    writes: Ranges,
    /// What lies in rows.
    rows: Vec<(Span, Mode, NodeId)>,
}

/// Sets of rows in one allocation and group that are known exactly. Further ones count as all from their first byte to their
/// last, so that a check takes no longer; that may cost a barrier and never loses one.
const SETS: usize = 256;

impl Touched {
    /// A command that conflicts with an access: through bytes that it wrote, or that it read if the access writes.
    #[inline]
    fn conflict(&self, access: &Access) -> Option<(HazardKind, NodeId, Range<u64>)> {
        let writes = access.mode == Mode::Write;
        if !self.rows.is_empty() || access.rows.is_some() {
            return self.conflict_in_rows(access);
        }
        if let Some((node, hit)) = self.writes.overlap(&access.range) {
            return Some((if writes { HazardKind::Waw } else { HazardKind::Raw }, node, hit));
        }
        let read = if writes { self.reads.overlap(&access.range) } else { None };
        read.map(|(node, hit)| (HazardKind::War, node, hit))
    }

    fn conflict_in_rows(&self, access: &Access) -> Option<(HazardKind, NodeId, Range<u64>)> {
        let writes = access.mode == Mode::Write;
        let after_write = if writes { HazardKind::Waw } else { HazardKind::Raw };
        let span = access.span();
        let in_rows = |mode: Mode| {
            let of_mode = self.rows.iter().rev().filter(move |(_, other, _)| *other == mode);
            of_mode.filter_map(|(other, _, node)| Some((*node, span.meets(other)?))).next()
        };
        let written = self.writes.meets(&span).or_else(|| in_rows(Mode::Write));
        let read = || self.reads.meets(&span).or_else(|| in_rows(Mode::Read)).filter(|_| writes);
        written.map(|(node, hit)| (after_write, node, hit)).or_else(|| read().map(|(n, hit)| (HazardKind::War, n, hit)))
    }
}

/// The one hazard tracker: it knows which bytes the open group reads and writes, and says whether a further command may
/// join. Two accesses conflict when their half-open byte ranges in one allocation meet, or rows in those ranges do, and one of
/// them writes.
///
/// Closing a group costs one addition, whatever its size; a check costs a lookup an access.
///
/// ```
/// use kovar::hazard::{Access, Mode, NodeId, ResourceId, Tracker};
///
/// let mut tracker = Tracker::default();
/// let write = Access::new(ResourceId(0), 0..16, Mode::Write);
/// let read = Access::new(ResourceId(0), 8..24, Mode::Read);
/// tracker.record(NodeId(0), &[write]);
/// let conflict = tracker.conflict(std::slice::from_ref(&read)).unwrap();
/// assert_eq!(conflict.range, 8..16);
/// tracker.close_group();
/// assert!(tracker.conflict(&[read]).is_none());
/// ```
#[derive(Debug, Default)]
pub struct Tracker {
    table: Vec<Touched>,
    group: u32,
    open: usize,
}

impl Tracker {
    /// The first conflict of these accesses with the open group, if there is one.
    #[inline]
    pub fn conflict(&self, accesses: &[Access]) -> Option<Conflict> {
        // Nearly always there is none, and so no result is made up.
        for access in accesses {
            let touched = self.table.get(access.resource.0 as usize).filter(|t| t.group == self.group);
            if let Some(touched) = touched
                && let Some((kind, earlier, range)) = touched.conflict(access)
            {
                return Some(Conflict { kind, earlier, resource: access.resource, range });
            }
        }
        None
    }

    /// Adds a command to the open group.
    #[inline]
    pub fn record(&mut self, node: NodeId, accesses: &[Access]) {
        self.open += 1;
        for access in accesses {
            let Access { resource, range, rows, mode } = access;
            let at = resource.0 as usize;
            if at >= self.table.len() {
                self.table.resize_with(at + 1, Touched::default);
            }
            let touched = &mut self.table[at];
            if touched.group != self.group {
                touched.group = self.group;
                touched.reads.clear();
                touched.writes.clear();
                touched.rows.clear();
            }
            if rows.is_some() && touched.rows.len() < SETS {
                touched.rows.push((access.span(), *mode, node));
                continue;
            }
            match mode {
                Mode::Read => touched.reads.insert(range.clone(), node),
                Mode::Write => touched.writes.insert(range.clone(), node),
            }
        }
    }

    /// Ends the open group: what follows is ordered after it.
    pub fn close_group(&mut self) {
        self.open = 0;
        self.group = self.group.wrapping_add(1);
        // After 2^32 groups an old stamp could pass for new.
        if self.group == 0 {
            self.table.clear();
        }
    }

    /// Forgets all but the memory of its lists.
    pub(crate) fn restart(&mut self) {
        self.close_group();
    }

    /// Commands in the open group.
    pub fn len(&self) -> usize {
        self.open
    }

    /// Whether the open group is empty.
    pub fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Bytes of an allocation that the open group has touched, if any: for diagnosis.
    pub fn touches(&self, resource: ResourceId) -> bool {
        self.table.get(resource.0 as usize).is_some_and(|t| t.group == self.group)
    }
}
