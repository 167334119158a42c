use kovar_hal::{MemoryKind, RawBuffer};
use rustc_hash::FxHashMap;

/// Smallest block: below it, bookkeeping costs more than it saves.
const SMALLEST: u64 = 256;

/// State of a device's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Bytes in buffers that somebody holds.
    pub live: u64,
    /// Bytes waiting for reuse.
    pub free: u64,
    /// The largest sum of both so far.
    pub peak: u64,
    /// Times a block was used again.
    pub reused: u64,
}

/// Blocks of freed memory by size class. A block comes back by itself when the last handle of a buffer is dropped and no
/// submission uses it, so that nothing can be returned twice or handed out twice.
#[derive(Default)]
pub(crate) struct Pool {
    free: FxHashMap<(MemoryKind, u64), Vec<RawBuffer>>,
    pub(crate) stats: PoolStats,
}

/// The size class of a request: four steps to a power of two, so that at most a quarter is waste.
pub(crate) fn size_class(bytes: u64) -> Option<u64> {
    let bytes = bytes.max(SMALLEST);
    let step = (bytes.checked_next_power_of_two()? / 8).max(SMALLEST / 4);
    bytes.checked_next_multiple_of(step)
}

impl Pool {
    pub(crate) fn take(&mut self, memory: MemoryKind, class: u64) -> Option<RawBuffer> {
        let raw = self.free.get_mut(&(memory, class))?.pop()?;
        self.stats.free -= class;
        self.stats.live += class;
        self.stats.reused += 1;
        Some(raw)
    }

    pub(crate) fn took_new(&mut self, class: u64) {
        self.stats.live += class;
        self.stats.peak = self.stats.peak.max(self.stats.live + self.stats.free);
    }

    pub(crate) fn give(&mut self, memory: MemoryKind, class: u64, raw: RawBuffer) {
        self.stats.live -= class;
        self.stats.free += class;
        self.free.entry((memory, class)).or_default().push(raw);
    }

    /// Empties the pool.
    pub(crate) fn drain(&mut self) -> Vec<RawBuffer> {
        self.stats.free = 0;
        self.free.drain().flat_map(|(_, list)| list).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn classes_hold_the_request_and_waste_at_most_a_quarter(bytes in 1u64..1 << 40) {
            let class = size_class(bytes).unwrap();
            prop_assert!(class >= bytes);
            if bytes >= SMALLEST {
                prop_assert!((class - bytes) * 4 <= class, "{bytes} in {class}");
            }
            prop_assert_eq!(size_class(class), Some(class));
        }
    }

    #[test]
    fn a_request_beyond_64_bits_has_no_class() {
        assert_eq!(size_class(u64::MAX), None);
    }
}
