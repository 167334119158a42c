//! The staging ring: host memory through which bytes go to and from memory that the host does not see.

use std::collections::VecDeque;
use std::ops::Range;

use kovar_hal::RawBuffer;

/// Bytes of the ring.
pub(crate) const RING: u64 = 16 << 20;

/// Bytes of one copy at most: while the device copies one part, the host fills the next.
pub(crate) const PART: usize = 4 << 20;

/// Slices start at such an offset.
const ALIGN: u64 = 256;

/// Made when first used, and kept.
#[derive(Default)]
pub(crate) struct Ring {
    pub(crate) raw: Option<RawBuffer>,
    pub(crate) slices: Slices,
}

/// Which bytes of the ring are taken, and until when. They are given back in the order in which they were taken.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    taken: VecDeque<Slice>,
}

#[derive(Debug)]
struct Slice {
    bytes: Range<u64>,
    /// The submission that uses it.
    until: u64,
}

impl Slices {
    /// Where a slice of so many bytes fits now. It is free until it is [taken](Slices::take).
    pub(crate) fn room(&self, len: u64) -> Option<u64> {
        let (Some(oldest), Some(newest)) = (self.taken.front(), self.taken.back()) else {
            return (len <= RING).then_some(0);
        };
        let (tail, head) = (oldest.bytes.start, newest.bytes.end.next_multiple_of(ALIGN));
        let fits = |from: u64, to: u64| from.checked_add(len).is_some_and(|end| end <= to).then_some(from);
        if newest.bytes.start < tail { fits(head, tail) } else { fits(head, RING).or_else(|| fits(0, tail)) }
    }

    /// Takes bytes for a submission. `at` is what [`room`](Slices::room) said last.
    pub(crate) fn take(&mut self, at: u64, len: u64, until: u64) {
        self.taken.push_back(Slice { bytes: at..at + len, until });
    }

    /// The submission that has to end for the oldest slice to be free.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.taken.front().map(|slice| slice.until)
    }

    /// Frees what submissions up to this one used.
    pub(crate) fn free(&mut self, ended: u64) {
        while self.oldest().is_some_and(|until| until <= ended) {
            self.taken.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn meet(a: &Range<u64>, b: &Range<u64>) -> bool {
        a.start < b.end && b.start < a.end
    }

    proptest! {
        #[test]
        fn slices_never_overlap_and_one_more_part_always_comes_free(
            steps in vec((1u64..=PART as u64, 0usize..4), 1..60),
        ) {
            let (mut slices, mut model, mut next) = (Slices::default(), VecDeque::new(), 1);
            for (len, ended) in steps {
                let at = loop {
                    if let Some(at) = slices.room(len) {
                        break at;
                    }
                    let oldest = slices.oldest();
                    prop_assert!(oldest.is_some(), "an empty ring has no room for {len} bytes");
                    slices.free(oldest.unwrap());
                    model.pop_front();
                };
                let bytes = at..at + len;
                prop_assert!(bytes.end <= RING && at.is_multiple_of(ALIGN));
                prop_assert!(model.iter().all(|(other, _)| !meet(other, &bytes)), "{bytes:?} in {model:?}");
                slices.take(at, len, next);
                model.push_back((bytes, next));
                next += 1;
                for _ in 0..ended.min(model.len()) {
                    if let Some((_, until)) = model.pop_front() {
                        slices.free(until);
                    }
                }
            }
        }

        /// What a download relies on: it reads a part before it asks for the one after the next.
        #[test]
        fn a_ring_with_one_part_in_it_has_room_for_another(
            at in 0u64..=(RING - PART as u64) / ALIGN, first in 1u64..=PART as u64, second in 1u64..=PART as u64,
        ) {
            let mut slices = Slices::default();
            slices.take(at * ALIGN, first, 1);
            prop_assert!(slices.room(second).is_some());
        }
    }

    #[test]
    fn more_than_the_ring_has_no_room() {
        assert_eq!(Slices::default().room(RING + 1), None);
        assert_eq!(Slices::default().room(RING), Some(0));
    }
}
