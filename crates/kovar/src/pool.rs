use kovar_hal::{MemoryKind, RawBuffer};
use rustc_hash::FxHashMap;

/// Smallest block: below it, bookkeeping costs more than it saves.
const SMALLEST: u64 = 256;

/// State of a device's pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolStats {
    /// Bytes in buffers that somebody holds.
    pub live: u64,
    /// Those of them that were asked for. The rest is waste: at most a quarter, but for buffers below 256 bytes.
    pub asked: u64,
    /// Bytes waiting for reuse.
    pub free: u64,
    /// The largest sum of both so far.
    pub peak: u64,
    /// Times a block was used again.
    pub reused: u64,
}

/// What of the pool a buffer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Size class: the bytes of the block.
    pub(crate) class: u64,
    /// Bytes that were asked for.
    pub(crate) asked: u64,
}

/// Memory on its way back. It can be neither copied nor made outside of the allocation that it comes from.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) memory: MemoryKind,
    pub(crate) lease: Lease,
    pub(crate) raw: RawBuffer,
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
    /// A block that is free.
    pub(crate) fn take(&mut self, memory: MemoryKind, lease: Lease) -> Option<RawBuffer> {
        let raw = self.free.get_mut(&(memory, lease.class))?.pop()?;
        self.stats.free -= lease.class;
        self.stats.reused += 1;
        self.lend(lease);
        Some(raw)
    }

    /// Takes note of a block that was made for this lease.
    pub(crate) fn lend(&mut self, lease: Lease) {
        self.stats.live += lease.class;
        self.stats.asked += lease.asked;
        self.stats.peak = self.stats.peak.max(self.stats.live + self.stats.free);
    }

    pub(crate) fn give(&mut self, block: Block) {
        let Block { memory, lease, raw } = block;
        self.stats.live -= lease.class;
        self.stats.asked -= lease.asked;
        self.stats.free += lease.class;
        self.free.entry((memory, lease.class)).or_default().push(raw);
    }

    pub(crate) fn give_all(&mut self, blocks: impl IntoIterator<Item = Block>) {
        blocks.into_iter().for_each(|block| self.give(block));
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
