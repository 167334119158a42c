use std::alloc::Layout;
use std::ptr::NonNull;

use crate::{BufferDesc, HalError, MemoryKind, RawBuffer, Result};

/// Buffers start on a page, so that vector loads never straddle a line that another buffer owns.
const ALIGN: usize = 4096;

/// What `RawBuffer::id` points to.
struct Block {
    /// First byte of the buffer.
    host: *mut u8,
    /// What it lies in, if that is of the allocator.
    allocated: Option<(*mut u8, Layout)>,
}

fn out_of_memory(desc: &BufferDesc<'_>) -> HalError {
    HalError::OutOfMemory { label: desc.label.into(), bytes: desc.size, reason: "the system allocator refused".into() }
}

/// Zeroed host memory. Large blocks come from the system untouched, so their pages cost nothing until used: for that the
/// allocator must not be asked for more than its own alignment, with which zeroed memory is not cleared by hand.
pub(crate) fn allocate(desc: &BufferDesc<'_>) -> Result<RawBuffer> {
    let size = usize::try_from(desc.size.max(1)).ok().and_then(|size| size.checked_add(ALIGN));
    let layout = size.and_then(|size| Layout::from_size_align(size, align_of::<u64>()).ok());
    let layout = layout.ok_or_else(|| out_of_memory(desc))?;
    // SAFETY: the layout has a size of at least 1.
    let base = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or_else(|| out_of_memory(desc))?.as_ptr();
    let host = base.wrapping_add(base.align_offset(ALIGN));
    let id = Box::into_raw(Box::new(Block { host, allocated: Some((base, layout)) })) as usize;
    Ok(RawBuffer { id, host, len: desc.size })
}

pub(crate) fn import(memory: NonNull<u8>, len: u64) -> RawBuffer {
    let id = Box::into_raw(Box::new(Block { host: memory.as_ptr(), allocated: None })) as usize;
    RawBuffer { id, host: memory.as_ptr(), len }
}

/// Bytes of the smallest page of any system.
const PAGE: usize = 4096;

/// Brings the pages of a buffer that nobody else knows of yet into memory.
///
/// # Safety
/// The buffer came from this module and is alive.
pub(crate) unsafe fn prefault(buffer: RawBuffer) {
    // SAFETY: `id` is a living box of this module (caller).
    let Block { host, allocated } = unsafe { &*(buffer.id as *const Block) };
    for at in (0..buffer.len as usize).step_by(PAGE) {
        // SAFETY: the byte lies in the buffer. Fresh memory is zero already, but has no page until it is written; imported
        // memory is only read.
        unsafe {
            match allocated {
                Some(_) => host.add(at).write_volatile(0),
                None => drop(host.add(at).read_volatile()),
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
    if let Some((base, layout)) = block.allocated {
        // SAFETY: allocated with this layout in `allocate`.
        unsafe { std::alloc::dealloc(base, layout) };
    }
}
