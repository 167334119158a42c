use std::alloc::Layout;
use std::ptr::NonNull;

use crate::{BufferDesc, HalError, MemoryKind, RawBuffer, Result};

/// Buffers start on a page, so that vector loads never straddle a line that another buffer owns.
const ALIGN: usize = 4096;

/// What `RawBuffer::id` points to.
struct Block {
    host: *mut u8,
    layout: Option<Layout>,
}

fn out_of_memory(desc: &BufferDesc<'_>) -> HalError {
    HalError::OutOfMemory { label: desc.label.into(), bytes: desc.size, reason: "the system allocator refused".into() }
}

/// Zeroed host memory. Large blocks come from the system untouched, so their pages cost nothing until used.
pub(crate) fn allocate(desc: &BufferDesc<'_>) -> Result<RawBuffer> {
    let size = usize::try_from(desc.size.max(1)).map_err(|_| out_of_memory(desc))?;
    let layout = Layout::from_size_align(size, ALIGN).map_err(|_| out_of_memory(desc))?;
    // SAFETY: the layout has a size of at least 1.
    let host = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }).ok_or_else(|| out_of_memory(desc))?;
    let id = Box::into_raw(Box::new(Block { host: host.as_ptr(), layout: Some(layout) })) as usize;
    Ok(RawBuffer { id, host: host.as_ptr(), len: desc.size })
}

pub(crate) fn import(memory: NonNull<u8>, len: u64) -> RawBuffer {
    let id = Box::into_raw(Box::new(Block { host: memory.as_ptr(), layout: None })) as usize;
    RawBuffer { id, host: memory.as_ptr(), len }
}

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
    if let Some(layout) = block.layout {
        // SAFETY: allocated with this layout in `allocate`.
        unsafe { std::alloc::dealloc(block.host, layout) };
    }
}
