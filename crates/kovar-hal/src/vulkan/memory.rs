use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ash::{ext, vk};
use gpu_allocator::vulkan::{Allocation, AllocationCreateDesc, AllocationScheme, Allocator, AllocatorCreateDesc};
use gpu_allocator::{AllocationError, AllocationSizes, MemoryLocation};

use super::capabilities::{Capabilities, main_heap};
use super::device::Gpu;
use super::instance::Instance;
use crate::{BufferDesc, HalError, MemoryKind, RawBuffer, Result};

/// From this size on a buffer gets an allocation of its own: it would fill most of a block.
const DEDICATED: u64 = 64 << 20;

/// Up to this size the host clears a buffer that it sees across a bus; above, the device does it faster in spite of
/// the round trip.
const HOST_CLEAR: u64 = 64 << 10;

/// Of priorities from 0 to 1, of which drivers take 0.5 without being told.
const HIGHEST: f32 = 1.0;

/// Buffers start on such an address, so that the host can view them as elements of any type.
const ALIGN: u64 = 256;

const USAGE: vk::BufferUsageFlags = vk::BufferUsageFlags::from_raw(
    vk::BufferUsageFlags::STORAGE_BUFFER.as_raw()
        | vk::BufferUsageFlags::UNIFORM_BUFFER.as_raw()
        | vk::BufferUsageFlags::TRANSFER_SRC.as_raw()
        | vk::BufferUsageFlags::TRANSFER_DST.as_raw()
        | vk::BufferUsageFlags::INDIRECT_BUFFER.as_raw(),
);

/// What `RawBuffer::id` points to.
pub(crate) struct Buffer {
    pub(crate) raw: vk::Buffer,
    kind: MemoryKind,
    memory: Memory,
}

enum Memory {
    Allocated(Allocation),
    Imported(vk::DeviceMemory),
}

impl Buffer {
    /// # Safety
    /// The buffer is alive, and stays so while the reference does.
    pub(crate) unsafe fn get<'a>(buffer: RawBuffer) -> &'a Buffer {
        // SAFETY: `id` is a box that `create` or `import` leaked; the caller vouches that it was not taken back.
        unsafe { &*(buffer.id as *const Buffer) }
    }
}

/// Memory of a device: the types to try for each kind of buffer, best first, and the allocator.
pub(crate) struct Heap {
    shared: Vec<u32>,
    device: Vec<u32>,
    readback: Vec<u32>,
    // `None` once the device is being destroyed.
    allocator: Mutex<Option<Allocator>>,
}

/// Indices of the memory types that `rank` accepts, by rank, in the driver's order among equals.
fn ranked(
    memory: &vk::PhysicalDeviceMemoryProperties,
    rank: impl Fn(u32, vk::MemoryPropertyFlags) -> Option<u32>,
) -> Vec<u32> {
    use vk::MemoryPropertyFlags as F;
    let special =
        F::PROTECTED | F::LAZILY_ALLOCATED | F::DEVICE_COHERENT_AMD | F::DEVICE_UNCACHED_AMD | F::RDMA_CAPABLE_NV;
    let types = memory.memory_types_as_slice().iter().enumerate();
    let mut list: Vec<(u32, u32)> = types
        .filter(|(_, t)| !t.property_flags.intersects(special))
        .filter_map(|(index, t)| Some((rank(t.heap_index, t.property_flags)?, index as u32)))
        .collect();
    list.sort_by_key(|(rank, _)| *rank);
    list.into_iter().map(|(_, index)| index).collect()
}

impl Heap {
    pub(crate) fn new(
        instance: &Instance,
        physical_device: vk::PhysicalDevice,
        device: &ash::Device,
        capabilities: &Capabilities,
    ) -> Result<Heap> {
        use vk::MemoryPropertyFlags as F;
        let memory = &capabilities.memory;
        let main = main_heap(memory);
        let host = F::HOST_VISIBLE | F::HOST_COHERENT;
        let unified = capabilities.info.memory.unified;
        // Within a rank: cached, if that costs the device nothing.
        let uncached = |flags: F| u32::from(!flags.contains(F::HOST_CACHED));
        let shared = ranked(memory, |heap, flags| {
            let local = flags.contains(F::DEVICE_LOCAL);
            flags.contains(host).then(|| match (local, heap == main) {
                (true, true) => uncached(flags),
                (false, _) => 2 + uncached(flags),
                (true, false) => 4,
            })
        });
        let mut device_types = ranked(memory, |heap, flags| {
            flags.contains(F::DEVICE_LOCAL).then(|| match (heap == main, flags.contains(host)) {
                (true, true) => u32::from(unified) * uncached(flags),
                (true, false) => 2,
                (false, _) => 3,
            })
        });
        if device_types.is_empty() {
            device_types = ranked(memory, |_, _| Some(0));
        }
        let readback = ranked(memory, |_, flags| {
            let fast = flags.contains(F::HOST_CACHED);
            flags.contains(host).then(|| u32::from(!fast) * 2 + u32::from(flags.contains(F::DEVICE_LOCAL) && !unified))
        });
        let allocator = Allocator::new(&AllocatorCreateDesc {
            instance: instance.raw.clone(),
            device: device.clone(),
            physical_device,
            debug_settings: Default::default(),
            buffer_device_address: false,
            allocation_sizes: AllocationSizes::new(16 << 20, 16 << 20)
                .with_max_device_memblock_size(256 << 20)
                .with_max_host_memblock_size(256 << 20),
        })
        .map_err(|e| HalError::Driver { call: "gpu_allocator::Allocator::new", reason: e.to_string() })?;
        Ok(Heap { shared, device: device_types, readback, allocator: Mutex::new(Some(allocator)) })
    }

    fn types(&self, kind: MemoryKind) -> &[u32] {
        match kind {
            MemoryKind::Shared => &self.shared,
            MemoryKind::Device => &self.device,
            MemoryKind::Readback => &self.readback,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Allocator>> {
        self.allocator.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(
        &self,
        raw: vk::Buffer,
        mut needs: vk::MemoryRequirements,
        desc: &BufferDesc<'_>,
    ) -> Result<Allocation> {
        let allowed = needs.memory_type_bits;
        needs.alignment = needs.alignment.max(ALIGN);
        let mut reason = String::from("no memory type fits");
        for index in self.types(desc.memory).iter().filter(|index| allowed & (1 << **index) != 0) {
            // The allocator takes the first type that is allowed: leave it this one.
            needs.memory_type_bits = 1 << index;
            let wanted = AllocationCreateDesc {
                name: desc.label,
                requirements: needs,
                location: MemoryLocation::Unknown,
                linear: true,
                allocation_scheme: match needs.size >= DEDICATED {
                    true => AllocationScheme::DedicatedBuffer(raw),
                    false => AllocationScheme::GpuAllocatorManaged,
                },
            };
            match self.lock().as_mut().map(|allocator| allocator.allocate(&wanted)) {
                Some(Ok(allocation)) => return Ok(allocation),
                Some(Err(AllocationError::OutOfMemory)) => reason = "the heap is full".into(),
                Some(Err(e)) => reason = e.to_string(),
                None => reason = "the device is closed".into(),
            }
        }
        Err(HalError::OutOfMemory { label: desc.label.into(), bytes: desc.size, reason })
    }

    fn free(&self, allocation: Allocation) {
        if let Some(allocator) = self.lock().as_mut() {
            let freed = allocator.free(allocation);
            debug_assert!(freed.is_ok(), "an allocation was freed twice: {freed:?}");
        }
    }

    /// Gives all blocks back to the driver.
    pub(crate) fn close(&self) {
        drop(self.lock().take());
    }
}

impl Gpu {
    pub(crate) fn create_buffer(&self, desc: &BufferDesc<'_>) -> Result<RawBuffer> {
        let limit = self.capabilities.info.limits.buffer;
        if desc.size > limit {
            let reason = format!("the device's largest buffer has {limit} bytes");
            return Err(HalError::OutOfMemory { label: desc.label.into(), bytes: desc.size, reason });
        }
        // A multiple of 4, so that fills reach the last byte.
        let info = vk::BufferCreateInfo::default().size(desc.size.next_multiple_of(4).max(4)).usage(USAGE);
        // SAFETY: the device is alive.
        let raw = unsafe { self.raw.create_buffer(&info, None) }
            .map_err(|e| self.no_memory("vkCreateBuffer", e, desc.label, desc.size))?;
        // SAFETY: the buffer was just made and has no memory yet; memory and offset are the allocator's.
        let made = unsafe {
            self.heap.allocate(raw, self.raw.get_buffer_memory_requirements(raw), desc).and_then(
                |allocation| match self.raw.bind_buffer_memory(raw, allocation.memory(), allocation.offset()) {
                    Ok(()) => Ok(allocation),
                    Err(e) => {
                        self.heap.free(allocation);
                        Err(self.no_memory("vkBindBufferMemory", e, desc.label, desc.size))
                    }
                },
            )
        };
        let allocation = made.inspect_err(|_| {
            // SAFETY: nothing has used it.
            unsafe { self.raw.destroy_buffer(raw, None) }
        })?;
        self.name(raw, desc.label);
        let host = allocation.mapped_ptr().map_or(std::ptr::null_mut(), |at| at.as_ptr().cast::<u8>());
        let buffer = Box::new(Buffer { raw, kind: desc.memory, memory: Memory::Allocated(allocation) });
        if let Err(e) = self.clear(raw, host, info.size) {
            self.free_buffer(*buffer);
            return Err(e);
        }
        let hidden = self.capabilities.discrete && desc.memory == MemoryKind::Device;
        let host = if hidden { std::ptr::null_mut() } else { host };
        Ok(RawBuffer { id: Box::into_raw(buffer) as usize, host, len: desc.size })
    }

    /// Fresh memory holds what some earlier buffer left there.
    fn clear(&self, raw: vk::Buffer, host: *mut u8, size: u64) -> Result<()> {
        if host.is_null() || (size > HOST_CLEAR && !self.capabilities.info.memory.unified) {
            return self.fill_and_wait(raw);
        }
        // SAFETY: the mapping covers the buffer, which nobody else knows yet.
        unsafe { std::ptr::write_bytes(host, 0, size as usize) };
        Ok(())
    }

    /// # Safety
    /// As for `Device::import_buffer`.
    pub(crate) unsafe fn import_buffer(&self, memory: NonNull<u8>, len: u64, label: &str) -> Result<Option<RawBuffer>> {
        let limits = &self.capabilities.info.limits;
        let Some(functions) = self.host_memory.as_ref().filter(|_| !self.capabilities.discrete) else {
            return Ok(None);
        };
        let aligned = (memory.as_ptr() as u64 | len).is_multiple_of(limits.import_alignment);
        if !aligned || len == 0 || len > limits.buffer {
            return Ok(None);
        }
        let handle = vk::ExternalMemoryHandleTypeFlags::HOST_ALLOCATION_EXT;
        let Some(types) = host_pointer_types(functions, handle, memory) else { return Ok(None) };
        let mut external = vk::ExternalMemoryBufferCreateInfo::default().handle_types(handle);
        let info = vk::BufferCreateInfo::default().size(len).usage(USAGE).push_next(&mut external);
        // SAFETY: the device is alive.
        let raw = unsafe { self.raw.create_buffer(&info, None) }
            .map_err(|e| self.no_memory("vkCreateBuffer", e, label, len))?;
        // SAFETY: as above; the caller keeps the memory for as long as the buffer, and alignment was looked at.
        let imported = unsafe {
            let needs = self.raw.get_buffer_memory_requirements(raw);
            let allowed = types & needs.memory_type_bits;
            let coherent = self.heap.readback.iter().find(|index| allowed & (1 << **index) != 0);
            coherent.filter(|_| needs.size <= len).and_then(|index| {
                let mut pointer = vk::ImportMemoryHostPointerInfoEXT::default()
                    .handle_type(handle)
                    .host_pointer(memory.as_ptr().cast());
                let info = vk::MemoryAllocateInfo::default()
                    .allocation_size(len)
                    .memory_type_index(*index)
                    .push_next(&mut pointer);
                let device_memory = self.raw.allocate_memory(&info, None).ok()?;
                match self.raw.bind_buffer_memory(raw, device_memory, 0) {
                    Ok(()) => Some(device_memory),
                    Err(_) => {
                        self.raw.free_memory(device_memory, None);
                        None
                    }
                }
            })
        };
        let Some(device_memory) = imported else {
            // Some kinds of host memory cannot be imported: read-only mappings on some drivers.
            // SAFETY: nothing has used it.
            unsafe { self.raw.destroy_buffer(raw, None) };
            return Ok(None);
        };
        self.name(raw, label);
        let buffer = Box::new(Buffer { raw, kind: MemoryKind::Shared, memory: Memory::Imported(device_memory) });
        Ok(Some(RawBuffer { id: Box::into_raw(buffer) as usize, host: memory.as_ptr(), len }))
    }

    /// Asks the driver to page out other memory before that of this buffer, where it lies in the device's.
    ///
    /// # Safety
    /// The buffer is alive.
    pub(crate) unsafe fn raise_priority(&self, buffer: RawBuffer) {
        let Some(functions) = &self.paging else { return };
        // SAFETY: passed on from the caller.
        let buffer = unsafe { Buffer::get(buffer) };
        if let (MemoryKind::Device, Memory::Allocated(allocation)) = (buffer.kind, &buffer.memory) {
            // SAFETY: the device has the extension, and the memory lives as long as the buffer. A block that buffers share
            // has one priority: it is raised again, which changes nothing.
            unsafe { (functions.fp().set_device_memory_priority_ext)(self.raw.handle(), allocation.memory(), HIGHEST) };
        }
    }

    /// # Safety
    /// As for `Device::destroy_buffer`.
    pub(crate) unsafe fn destroy_buffer(&self, buffer: RawBuffer) {
        // SAFETY: `id` is the box that `create` or `import` leaked, and this is its only release.
        self.free_buffer(*unsafe { Box::from_raw(buffer.id as *mut Buffer) });
    }

    fn free_buffer(&self, buffer: Buffer) {
        // SAFETY: whoever gives the buffer up vouches that nothing uses it.
        unsafe { self.raw.destroy_buffer(buffer.raw, None) };
        match buffer.memory {
            Memory::Allocated(allocation) => self.heap.free(allocation),
            // SAFETY: the one buffer bound to it is gone.
            Memory::Imported(memory) => unsafe { self.raw.free_memory(memory, None) },
        }
    }

    fn no_memory(&self, call: &'static str, result: vk::Result, label: &str, bytes: u64) -> HalError {
        match result {
            vk::Result::ERROR_OUT_OF_HOST_MEMORY | vk::Result::ERROR_OUT_OF_DEVICE_MEMORY => {
                HalError::OutOfMemory { label: label.into(), bytes, reason: format!("{call}: {result}") }
            }
            other => self.failure(call, other, label),
        }
    }
}

/// Memory types as which a host address can be imported.
fn host_pointer_types(
    functions: &ext::external_memory_host::Device,
    handle: vk::ExternalMemoryHandleTypeFlags,
    memory: NonNull<u8>,
) -> Option<u32> {
    let mut properties = vk::MemoryHostPointerPropertiesEXT::default();
    // SAFETY: the device is alive and has the extension; the pointer is only looked at.
    let result = unsafe {
        (functions.fp().get_memory_host_pointer_properties_ext)(
            functions.device(),
            handle,
            memory.as_ptr().cast(),
            &mut properties,
        )
    };
    (result == vk::Result::SUCCESS && properties.memory_type_bits != 0).then_some(properties.memory_type_bits)
}
