use std::ops::Range;

/// Rows that the tracker is told one by one; of more it is told the bytes from the first to the last.
const ROWS: usize = 64;

/// Elements of a slot that a dispatch touches, where that is less than all of them: counted from the first of the buffer
/// in the slot.
///
/// Of at most 64 rows the hazard tracker knows each; more count as everything from the first to the last, which may cost a
/// barrier and never loses one.
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

    /// The ranges of elements that the tracker is told.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let each = if self.count <= ROWS { self.count } else { 0 };
        let rows = (0..each).map(|row| self.start + row * self.stride..self.start + row * self.stride + self.len);
        rows.chain(self.hull().filter(|_| each == 0))
    }
}
