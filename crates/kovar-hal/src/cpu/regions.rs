//! Large blocks, cut from regions of huge pages.
//!
//! Rows of weights and heads of keys and values lie pages apart: with pages of 4 KiB, looking up each is a good part of
//! reading it. Linux puts memory that asks for it on pages of 2 MiB, but only where a whole one lies in one mapping; so
//! blocks share mappings that are larger than most of them. A block that is freed gives its memory back at once, its
//! addresses with the last block of the region.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

/// Blocks below this size have memory of their own.
const LARGE: usize = 128 << 10;
/// Bytes of a region. The C library never keeps a block of this size for itself, so that its memory comes from the system, zeroed.
const REGION: usize = 32 << 20;
/// Blocks from this size on have a region of their own.
const OWN: usize = 8 << 20;
/// A huge page; where they have another size, or there are none, this only aligns.
const HUGE: usize = 2 << 20;
/// Bytes of the largest ordinary page of any system: pieces share none.
const PAGE: usize = 64 << 10;

/// Zeroed memory from the allocator.
struct Mapping {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: it owns the memory, and says nothing about what is in it.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(len: usize) -> Option<Mapping> {
        // No alignment beyond the allocator's own: with more, zeroed memory is cleared by hand.
        let layout = Layout::from_size_align(len.checked_add(HUGE)?, align_of::<u64>()).ok()?;
        // SAFETY: the layout has a size of at least `HUGE`.
        let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })?;
        let mapping = Mapping { base, layout };
        prefer_huge_pages(mapping.first(), len);
        Some(mapping)
    }

    /// Its first byte on a huge page.
    fn first(&self) -> *mut u8 {
        let base = self.base.as_ptr();
        base.wrapping_add(base.align_offset(HUGE))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `new`.
        unsafe { std::alloc::dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// A part of a region, zeroed, that starts on a page and is nobody else's.
pub(crate) struct Piece {
    region: Arc<Mapping>,
    host: *mut u8,
    len: usize,
}

impl Piece {
    pub(crate) fn host(&self) -> *mut u8 {
        self.host
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        // Nothing to give back early where the region goes with its last piece.
        if Arc::strong_count(&self.region) > 1 {
            // SAFETY: whole pages of the piece, which nobody uses any more, nor will.
            unsafe { give_back(self.host, self.len) };
        }
    }
}

/// Where large blocks of a device come from.
#[derive(Default)]
pub(crate) struct Regions {
    open: Mutex<Option<Open>>,
}

/// A region that still has room.
struct Open {
    region: Arc<Mapping>,
    used: usize,
}

impl Regions {
    /// Whether blocks of a size come from regions.
    pub(crate) fn is_for(bytes: usize) -> bool {
        bytes >= LARGE
    }

    /// Memory for a block; `None` if there is none left.
    pub(crate) fn take(&self, bytes: usize) -> Option<Piece> {
        let len = bytes.checked_next_multiple_of(PAGE)?;
        if len >= OWN {
            let region = Arc::new(Mapping::new(len)?);
            return Some(Piece { host: region.first(), region, len });
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_none_or(|open| REGION - open.used < len) {
            *open = Some(Open { region: Arc::new(Mapping::new(REGION)?), used: 0 });
        }
        let Open { region, used } = open.as_mut()?;
        let host = region.first().wrapping_add(*used);
        *used += len;
        Some(Piece { region: region.clone(), host, len })
    }
}

/// A hint: a system that does not follow it serves the memory just as well.
#[cfg(all(target_os = "linux", not(miri)))]
fn prefer_huge_pages(first: *mut u8, len: usize) {
    // SAFETY: whole pages of a fresh mapping, whose contents stay.
    let _ = unsafe { rustix::mm::madvise(first.cast(), len, rustix::mm::Advice::LinuxHugepage) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn prefer_huge_pages(_: *mut u8, _: usize) {}

/// Lets the system have pages.
///
/// # Safety
/// Nobody reads them before they are written again.
#[cfg(all(target_os = "linux", not(miri)))]
unsafe fn give_back(host: *mut u8, len: usize) {
    // Where it fails, they go with their region.
    // SAFETY: whole pages, promised to be unused by the caller.
    let _ = unsafe { rustix::mm::madvise(host.cast(), len, rustix::mm::Advice::LinuxDontNeed) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
unsafe fn give_back(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_zeroed_and_apart() {
        let regions = Regions::default();
        let sizes = [LARGE, 300_000, OWN - 1, 5 << 20, OWN, REGION + 1, 7 << 20, 7 << 20, 7 << 20, 7 << 20];
        let pieces: Vec<Piece> = sizes.iter().map(|&size| regions.take(size).unwrap()).collect();
        for (i, (piece, &size)) in pieces.iter().zip(&sizes).enumerate() {
            assert!(piece.host().addr().is_multiple_of(PAGE));
            // SAFETY: the piece has that many bytes.
            let bytes = unsafe { std::slice::from_raw_parts_mut(piece.host(), size) };
            assert!(bytes.iter().all(|&byte| byte == 0), "piece {i}");
            bytes.fill(i as u8 + 1);
        }
        for (i, (piece, &size)) in pieces.iter().zip(&sizes).enumerate() {
            // SAFETY: as above.
            assert!(unsafe { std::slice::from_raw_parts(piece.host(), size) }.iter().all(|&byte| byte == i as u8 + 1));
        }
    }

    #[test]
    fn others_keep_their_contents_when_a_piece_goes() {
        let regions = Regions::default();
        let [before, piece, after] = [(); 3].map(|()| regions.take(LARGE + 1).unwrap());
        for piece in [&before, &after] {
            // SAFETY: within the piece, here and below.
            unsafe { std::slice::from_raw_parts_mut(piece.host(), LARGE + 1) }.fill(7);
        }
        drop(piece);
        drop(regions);
        for piece in [&before, &after] {
            // SAFETY: as above.
            assert!(unsafe { std::slice::from_raw_parts(piece.host(), LARGE + 1) }.iter().all(|&byte| byte == 7));
        }
    }

    #[test]
    fn what_cannot_be_had_is_none() {
        assert!(Regions::default().take(usize::MAX).is_none());
        assert!(Regions::default().take(isize::MAX as usize).is_none());
    }
}
