use std::ptr::NonNull;

use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder, MTLCommandQueue,
    MTLDevice, MTLFence, MTLResource, MTLResourceOptions,
};

use super::device::Shared;
use super::fault::classify;
use super::list::Object;
use super::object::{leak, release, report};
use crate::{BufferDesc, HalError, MemoryKind, RawBuffer, Result};

fn out_of_memory(desc: &BufferDesc<'_>, reason: impl Into<String>) -> HalError {
    HalError::OutOfMemory { label: desc.label.into(), bytes: desc.size, reason: reason.into() }
}

/// The options of every buffer: the layer above tracks hazards.
fn options(memory: MemoryKind) -> MTLResourceOptions {
    let storage = match memory {
        // One memory, coherent and cached on both sides, so that reading back needs nothing else.
        MemoryKind::Shared | MemoryKind::Readback => MTLResourceOptions::StorageModeShared,
        MemoryKind::Device => MTLResourceOptions::StorageModePrivate,
    };
    storage | MTLResourceOptions::HazardTrackingModeUntracked
}

pub(crate) fn create(shared: &Shared, desc: &BufferDesc<'_>) -> Result<RawBuffer> {
    // A fill on macOS takes multiples of 4, and a kernel may read the last bytes as a vector.
    let len = desc.size.max(1).checked_next_multiple_of(16).filter(|len| *len <= shared.info.limits.buffer);
    let Some(len) = len.and_then(|len| usize::try_from(len).ok()) else {
        let reason = format!("a buffer of this device has at most {} bytes", shared.info.limits.buffer);
        return Err(out_of_memory(desc, reason));
    };
    autoreleasepool(|_| {
        let buffer = shared.device.newBufferWithLength_options(len, options(desc.memory));
        let buffer = buffer.ok_or_else(|| out_of_memory(desc, "Metal gave no buffer"))?;
        buffer.setLabel(Some(&NSString::from_str(desc.label)));
        let host = if desc.memory == MemoryKind::Device {
            // On a queue of its own: the device's may be waiting for an event that the caller is about to signal.
            clear(&shared.setup, &buffer, None, desc.label).map_err(|error| shared.loss.note(error))?;
            std::ptr::null_mut()
        } else {
            let host = buffer.contents().cast::<u8>().as_ptr();
            // SAFETY: `contents` of a shared buffer is `length` bytes of host memory, which nobody else knows of yet.
            unsafe { host.write_bytes(0, len) };
            host
        };
        Ok(RawBuffer { id: leak(buffer).0, host, len: desc.size })
    })
}

/// Fills a buffer with zeros on a queue, updates a fence, and waits. In a pool.
pub(crate) fn clear(
    queue: &ProtocolObject<dyn MTLCommandQueue>,
    buffer: &ProtocolObject<dyn MTLBuffer>,
    fence: Option<&ProtocolObject<dyn MTLFence>>,
    label: &str,
) -> Result<()> {
    let failed = |reason: &str| HalError::Driver { call: "zero-filling a buffer", reason: reason.into() };
    let commands = queue.commandBuffer().ok_or_else(|| failed("Metal gave no command buffer"))?;
    commands.setLabel(Some(&NSString::from_str(label)));
    let encoder = commands.blitCommandEncoder().ok_or_else(|| failed("Metal gave no encoder"))?;
    encoder.fillBuffer_range_value(buffer, NSRange::new(0, buffer.length()), 0);
    if let Some(fence) = fence {
        encoder.updateFence(fence);
    }
    encoder.endEncoding();
    commands.commit();
    commands.waitUntilCompleted();
    if commands.status() == MTLCommandBufferStatus::Completed {
        return Ok(());
    }
    Err(commands.error().map_or_else(
        || failed("the command buffer ended with an error that Metal does not name"),
        |error| classify(label, &report(&error)),
    ))
}

/// # Safety
/// Pointer and length are multiples of the page size, and the memory outlives the buffer.
pub(crate) unsafe fn import(shared: &Shared, memory: NonNull<u8>, len: u64, label: &str) -> Option<RawBuffer> {
    let bytes = usize::try_from(len).ok().filter(|_| len <= shared.info.limits.buffer)?;
    autoreleasepool(|_| {
        let options = options(MemoryKind::Shared);
        // SAFETY: the memory is whole pages and outlives the buffer (caller), as Apple asks; no deallocator, so Metal never
        // frees it. Apple wants one region of `mmap` or `vm_allocate`; for any other Metal returns nothing.
        let buffer = unsafe {
            shared.device.newBufferWithBytesNoCopy_length_options_deallocator(memory.cast(), bytes, options, None)
        }?;
        buffer.setLabel(Some(&NSString::from_str(label)));
        Some(RawBuffer { id: leak(buffer).0, host: memory.as_ptr(), len })
    })
}

/// # Safety
/// The buffer came from this module, is freed once, and nothing uses it.
pub(crate) unsafe fn free(buffer: RawBuffer) {
    // SAFETY: `create` and `import` leaked this reference; command buffers hold none, but have ended (caller).
    autoreleasepool(|_| unsafe { release::<dyn MTLBuffer>(Object(buffer.id)) });
}
