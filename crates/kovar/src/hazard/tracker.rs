use super::access::{Access, Conflict, HazardKind, Mode, NodeId, ResourceId};
use super::ranges::Ranges;

/// What the open group has touched of one allocation.
#[derive(Debug, Default)]
struct Touched {
    group: u32,
    reads: Ranges,
    writes: Ranges,
}

/// The one hazard tracker: it knows which bytes the open group reads and writes, and says whether a further command may
/// join. Two accesses conflict when their half-open byte ranges in one allocation meet and one of them writes.
///
/// Closing a group costs one addition, whatever its size; a check costs a lookup an access.
///
/// ```
/// use kovar::hazard::{Access, Mode, NodeId, ResourceId, Tracker};
///
/// let mut tracker = Tracker::default();
/// let write = Access { resource: ResourceId(0), range: 0..16, mode: Mode::Write };
/// let read = Access { resource: ResourceId(0), range: 8..24, mode: Mode::Read };
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
    pub fn conflict(&self, accesses: &[Access]) -> Option<Conflict> {
        accesses.iter().find_map(|access| self.conflict_of(access))
    }

    fn conflict_of(&self, access: &Access) -> Option<Conflict> {
        let touched = self.table.get(access.resource.0 as usize).filter(|t| t.group == self.group)?;
        let found = |kind, (earlier, range)| Conflict { kind, earlier, resource: access.resource, range };
        match access.mode {
            Mode::Read => touched.writes.overlap(&access.range).map(|hit| found(HazardKind::Raw, hit)),
            Mode::Write => touched
                .writes
                .overlap(&access.range)
                .map(|hit| found(HazardKind::Waw, hit))
                .or_else(|| touched.reads.overlap(&access.range).map(|hit| found(HazardKind::War, hit))),
        }
    }

    /// Adds a command to the open group.
    pub fn record(&mut self, node: NodeId, accesses: &[Access]) {
        self.open += 1;
        for Access { resource, range, mode } in accesses {
            let at = resource.0 as usize;
            if at >= self.table.len() {
                self.table.resize_with(at + 1, Touched::default);
            }
            let touched = &mut self.table[at];
            if touched.group != self.group {
                touched.group = self.group;
                touched.reads.clear();
                touched.writes.clear();
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
