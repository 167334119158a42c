use std::ops::Range;

use crate::Buffer;
use crate::hazard::Rows;

/// Elements of a slot that a dispatch touches, where that is less than all of them: counted from the first of the buffer
/// in the slot. The hazard tracker knows rows exactly, whatever their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    pub(super) slot: usize,
    start: usize,
    len: usize,
    stride: usize,
    count: usize,
}

impl Touch {
    /// One range of elements.
    pub const fn elements(slot: usize, range: Range<usize>) -> Touch {
        Touch { slot, start: range.start, len: range.end.saturating_sub(range.start), stride: 0, count: 1 }
    }

    /// `count` rows of `len` elements, the first at `start` and each `stride` elements after the one before: some columns
    /// of a matrix, say.
    pub const fn rows(slot: usize, start: usize, len: usize, stride: usize, count: usize) -> Touch {
        Touch { slot, start, len, stride, count }
    }

    /// The slot.
    pub const fn slot(&self) -> usize {
        self.slot
    }

    /// From the first element to one past the last; `None` if there are none, or more than numbers can tell.
    pub(crate) fn hull(&self) -> Option<Range<usize>> {
        let before = self.stride.checked_mul(self.count.checked_sub(1)?)?;
        let end = self.start.checked_add(before)?.checked_add(self.len)?;
        (self.len > 0).then_some(self.start..end)
    }

    /// Its bytes of a buffer in which it lies.
    pub(crate) fn bytes(&self, buffer: &Buffer) -> Option<(Range<u64>, Option<Rows>)> {
        let bytes = |elements: usize| (elements * buffer.dtype().size()) as u64;
        Rows::new(buffer.offset + bytes(self.start), bytes(self.len), bytes(self.stride), self.count as u64)
    }
}
