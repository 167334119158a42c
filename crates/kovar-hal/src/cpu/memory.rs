use std::alloc::Layout;
use std::ptr::NonNull;

use super::regions::{Piece, Regions};
use crate::{BufferDesc, HalError, MemoryKind, RawBuffer, Result};

/// Buffers start on a page, so that vector loads never straddle a line that another buffer owns.
const ALIGN: usize = 4096;

/// What `RawBuffer::id` points to.
struct Block {
    /// First byte of the buffer.
    host: *mut u8,
    place: Place,
}

/// What a buffer lies in.
enum Place {
    /// Memory of the caller.
    Imported,
    /// A block of the allocator.
    Block(NonNull<u8>, Layout),
    Region(Piece),
}

fn out_of_memory(desc: &BufferDesc<'_>) -> HalError {
    HalError::OutOfMemory { label: desc.label.into(), bytes: desc.size, reason: "the system allocator refused".into() }
}

fn buffer(host: *mut u8, len: u64, place: Place) -> RawBuffer {
    RawBuffer { id: Box::into_raw(Box::new(Block { host, place })) as usize, host, len }
}

/// Zeroed host memory. Large blocks come from the system untouched, so their pages cost nothing until used.
pub(crate) fn allocate(desc: &BufferDesc<'_>, regions: &Regions) -> Result<RawBuffer> {
    let size = usize::try_from(desc.size.max(1)).map_err(|_| out_of_memory(desc))?;
    if Regions::is_for(size) {
        let piece = regions.take(size).ok_or_else(|| out_of_memory(desc))?;
        return Ok(buffer(piece.host(), desc.size, Place::Region(piece)));
    }
    let layout = Layout::from_size_align(size + ALIGN, align_of::<u64>()).map_err(|_| out_of_memory(desc))?;
    // SAFETY: the layout has a size of at least 1.
    let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or_else(|| out_of_memory(desc))?;
    let host = base.as_ptr().wrapping_add(base.as_ptr().align_offset(ALIGN));
    Ok(buffer(host, desc.size, Place::Block(base, layout)))
}

pub(crate) fn import(memory: NonNull<u8>, len: u64) -> RawBuffer {
    buffer(memory.as_ptr(), len, Place::Imported)
}

/// Bytes of the smallest page of any system.
const PAGE: usize = 4096;

/// Brings the pages of a buffer that nobody else knows of yet into memory.
///
/// # Safety
/// The buffer came from this module and is alive.
pub(crate) unsafe fn prefault(buffer: RawBuffer) {
    // SAFETY: `id` is a living box of this module (caller).
    let Block { host, place } = unsafe { &*(buffer.id as *const Block) };
    for at in (0..buffer.len as usize).step_by(PAGE) {
        // SAFETY: the byte lies in the buffer. Fresh memory is zero already, but has no page until it is written; imported
        // memory is only read.
        unsafe {
            match place {
                Place::Imported => drop(host.add(at).read_volatile()),
                Place::Block(..) | Place::Region(_) => host.add(at).write_volatile(0),
            }
        }
    }
}

/// Locks the pages of a buffer in memory.
///
/// # Safety
/// The buffer came from this module and is alive.
#[cfg(unix)]
pub(crate) unsafe fn lock(buffer: RawBuffer) -> Result<()> {
    // SAFETY: as above; locking changes no byte.
    unsafe { rustix::mm::mlock(address(buffer).cast(), buffer.len as usize) }.map_err(|error| HalError::OutOfMemory {
        label: "pages to lock".into(),
        bytes: buffer.len,
        reason: format!("mlock: {error}; raise the limit (ulimit -l) or do without CpuPaging::Locked"),
    })
}

/// Gives the pages of a buffer free again, as far as no other buffer has a part of them.
///
/// # Safety
/// As for `lock`.
#[cfg(unix)]
pub(crate) unsafe fn unlock(buffer: RawBuffer) {
    // SAFETY: as above.
    let host = unsafe { address(buffer) };
    let skipped = host.align_offset(PAGE);
    let whole = (buffer.len as usize).saturating_sub(skipped) / PAGE * PAGE;
    if whole > 0 {
        // Pages that were not locked, or are gone, need no unlocking.
        // SAFETY: whole pages of the buffer; unlocking changes no byte.
        let _ = unsafe { rustix::mm::munlock(host.add(skipped).cast(), whole) };
    }
}

#[cfg(not(unix))]
pub(crate) unsafe fn lock(_: RawBuffer) -> Result<()> {
    Err(HalError::Unsupported { what: "locking memory", reason: "this system is no Unix".into() })
}

#[cfg(not(unix))]
pub(crate) unsafe fn unlock(_: RawBuffer) {}

/// Takes the address out of a buffer of device memory, as a device with memory of its own would have none.
pub(crate) fn hide(buffer: RawBuffer, memory: MemoryKind) -> RawBuffer {
    let host = if memory == MemoryKind::Device { std::ptr::null_mut() } else { buffer.host };
    RawBuffer { host, ..buffer }
}

/// First byte of a buffer, whether the host is to see it or not.
///
/// # Safety
/// The buffer came from this module and is alive.
pub(crate) unsafe fn address(buffer: RawBuffer) -> *mut u8 {
    // SAFETY: `id` is the box that `allocate` or `import` leaked, and it was not taken back (caller).
    unsafe { (*(buffer.id as *const Block)).host }
}

/// # Safety
/// The buffer came from this module and is freed once.
pub(crate) unsafe fn free(buffer: RawBuffer) {
    // SAFETY: `id` is the box that `allocate` or `import` leaked, and this is its only release.
    let block = unsafe { Box::from_raw(buffer.id as *mut Block) };
    match block.place {
        Place::Imported => {}
        // SAFETY: allocated with this layout in `allocate`.
        Place::Block(base, layout) => unsafe { std::alloc::dealloc(base.as_ptr(), layout) },
        Place::Region(piece) => drop(piece),
    }
}
