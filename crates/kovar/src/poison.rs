//! Bytes that hold the result of a failed submission, and what a recording does to the bytes it uses.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What a command does to a range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    Read,
    /// Writes without reading. A kernel is taken to write all of what is bound.
    Write,
    /// Reads and writes.
    Update,
}

/// What a recording does to an allocation: three ranges, so that it costs a few comparisons an access. Where they are not
/// exact, `reads` and `writes` say too much and `fresh` too little.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// Bytes that it reads as they were before it.
    pub(crate) reads: Range<u64>,
    /// Bytes that it writes.
    pub(crate) writes: Range<u64>,
    /// Bytes that it overwrites before it reads them.
    pub(crate) fresh: Range<u64>,
}

fn within(inner: &Range<u64>, outer: &Range<u64>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// From the first byte to the last of both, of which the first may be empty.
pub(crate) fn hull(a: &Range<u64>, b: &Range<u64>) -> Range<u64> {
    if a.is_empty() { b.clone() } else { a.start.min(b.start)..a.end.max(b.end) }
}

impl Effect {
    #[inline]
    pub(crate) fn add(&mut self, touch: Use, range: &Range<u64>) {
        let known = |touched: &Range<u64>| within(range, touched);
        let nothing_new = match touch {
            Use::Read => known(&self.reads) || known(&self.fresh),
            Use::Write => known(&self.writes) && known(&self.fresh),
            Use::Update => known(&self.writes) && (known(&self.reads) || known(&self.fresh)),
        };
        if !nothing_new {
            self.widen(touch, range);
        }
    }

    fn widen(&mut self, touch: Use, range: &Range<u64>) {
        if touch != Use::Write && !within(range, &self.fresh) {
            self.reads = hull(&self.reads, range);
        }
        if touch != Use::Read {
            self.writes = hull(&self.writes, range);
        }
        let read_before = self.reads.start < range.end && range.start < self.reads.end;
        if touch == Use::Write && !read_before {
            let adjoins = range.start <= self.fresh.end && self.fresh.start <= range.end;
            if self.fresh.is_empty() || adjoins {
                self.fresh = hull(&self.fresh, range);
            }
        }
    }
}

/// The poisoned bytes of an allocation: disjoint ranges.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    any: AtomicBool,
    ranges: Mutex<Vec<Range<u64>>>,
}

impl Poison {
    fn change(&self, change: impl FnOnce(&mut Vec<Range<u64>>)) {
        let mut ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut ranges);
        self.any.store(!ranges.is_empty(), Ordering::Release);
    }

    /// Whether any of these bytes are poisoned.
    pub(crate) fn hits(&self, range: &Range<u64>) -> bool {
        self.any.load(Ordering::Acquire) && {
            let ranges = self.ranges.lock().unwrap_or_else(PoisonError::into_inner);
            ranges.iter().any(|bad| bad.start < range.end && range.start < bad.end)
        }
    }

    pub(crate) fn add(&self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.change(|ranges| {
            remove(ranges, range);
            ranges.push(range.clone());
        });
    }

    /// These bytes were written anew.
    pub(crate) fn clear(&self, range: &Range<u64>) {
        if self.any.load(Ordering::Acquire) {
            self.change(|ranges| remove(ranges, range));
        }
    }
}

fn remove(ranges: &mut Vec<Range<u64>>, gone: &Range<u64>) {
    let left = ranges.drain(..).flat_map(|bad| {
        let low = bad.start..bad.end.min(gone.start);
        let high = bad.start.max(gone.end)..bad.end;
        [low, high].into_iter().filter(|part| !part.is_empty())
    });
    *ranges = left.collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const BYTES: u64 = 24;

    fn range() -> impl Strategy<Value = Range<u64>> {
        (0..BYTES, 0..BYTES).prop_map(|(a, b)| a.min(b)..a.max(b) + 1)
    }

    fn touch() -> impl Strategy<Value = Use> {
        prop_oneof![Just(Use::Read), Just(Use::Write), Just(Use::Update)]
    }

    proptest! {
        #[test]
        fn poison_is_a_set_of_bytes(steps in vec((any::<bool>(), range()), 0..20), asked in range()) {
            let (poison, mut model) = (Poison::default(), [false; BYTES as usize + 1]);
            for (add, range) in steps {
                if add { poison.add(&range) } else { poison.clear(&range) }
                model[range.start as usize..range.end as usize].fill(add);
            }
            let wanted = model[asked.start as usize..asked.end as usize].contains(&true);
            prop_assert_eq!(poison.hits(&asked), wanted);
        }

        #[test]
        fn an_effect_misses_no_read_and_no_write_and_promises_no_byte_too_many(
            steps in vec((touch(), range()), 0..12),
        ) {
            let mut effect = Effect::default();
            let (mut read, mut written) = ([false; BYTES as usize + 1], [false; BYTES as usize + 1]);
            for (touch, range) in steps {
                effect.add(touch, &range);
                for at in range.start as usize..range.end as usize {
                    read[at] |= touch != Use::Write && !written[at];
                    written[at] |= touch != Use::Read;
                }
            }
            for at in 0..=BYTES {
                let i = at as usize;
                prop_assert!(!read[i] || effect.reads.contains(&at), "byte {at} is read: {effect:?}");
                prop_assert!(!written[i] || effect.writes.contains(&at), "byte {at} is written: {effect:?}");
                prop_assert!(!effect.fresh.contains(&at) || (written[i] && !read[i]), "byte {at}: {effect:?}");
            }
        }
    }
}
