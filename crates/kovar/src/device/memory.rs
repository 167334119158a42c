use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use kovar_hal::{BufferDesc, MemoryKind, RawBuffer};

use super::Device;
use crate::buffer::{Allocation, Buffer, Home, Shape, byte_len};
use crate::poison::Poison;
use crate::pool::{Lease, PoolStats, size_class};
use crate::residency::Owner;
use crate::{DType, Element, Error, Result};

impl Device {
    /// State of its buffer pool.
    pub fn pool_stats(&self) -> PoolStats {
        self.0.core.pool().stats
    }

    /// Gives the free blocks of the pool back to the system.
    pub fn trim_pool(&self) {
        let blocks = self.0.core.pool().drain();
        for raw in blocks {
            // SAFETY: blocks in the pool are used by nobody.
            unsafe { self.0.core.destroy(raw, None) };
        }
    }

    /// Bytes that may still be allocated, where the driver tells.
    pub fn memory_left(&self) -> Option<u64> {
        self.0.core.hal.memory_left()
    }

    /// A zero-filled buffer in memory that host and device share.
    ///
    /// # Errors
    /// [`Error::Shape`] for a shape without elements or too large, device errors when memory is short.
    pub fn buffer(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        self.buffer_in(MemoryKind::Shared, dtype, shape, "buffer")
    }

    /// A zero-filled buffer in memory of a kind, under a name that errors and vendor tools show.
    ///
    /// # Errors
    /// As [`buffer`](Device::buffer).
    pub fn buffer_in(&self, memory: MemoryKind, dtype: DType, shape: &[usize], label: &str) -> Result<Buffer> {
        let (_, bytes) = byte_len(label, dtype, shape)?;
        // Kernels read words: the last one must be whole.
        let desc = BufferDesc { size: bytes.next_multiple_of(16), memory, label };
        self.check_size(label, dtype, shape, desc.size)?;
        let raw = self.0.core.create(&desc)?;
        Ok(self.wrap(Memory { raw, kind: memory, home: Home::Device, owner: None }, dtype, shape, label))
    }

    /// A buffer for intermediate results, from the pool: its bytes are whatever the last user left. The memory returns
    /// to the pool when the last handle is dropped and no submission uses it.
    ///
    /// # Errors
    /// As [`buffer`](Device::buffer).
    pub fn scratch(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let label = "scratch";
        let (_, bytes) = byte_len(label, dtype, shape)?;
        let memory = MemoryKind::Shared;
        self.0.core.reap()?;
        let core = &self.0.core;
        let lease = Lease { class: size_class(bytes).unwrap_or(bytes), asked: bytes };
        self.check_size(label, dtype, shape, lease.class)?;
        let pooled = core.pool().take(memory, lease);
        let raw = match pooled {
            Some(raw) => raw,
            None => {
                let raw = core.create(&BufferDesc { size: lease.class, memory, label })?;
                core.pool().lend(lease);
                raw
            }
        };
        Ok(self.wrap(Memory { raw, kind: memory, home: Home::Pool(lease), owner: None }, dtype, shape, label))
    }

    /// A buffer without memory, for a capture.
    pub(crate) fn transient(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let label = "scratch";
        let (_, bytes) = byte_len(label, dtype, shape)?;
        let len = bytes.next_multiple_of(16);
        self.check_size(label, dtype, shape, len)?;
        let raw = RawBuffer { id: usize::MAX, host: std::ptr::null_mut(), len };
        Ok(self.wrap(Memory { raw, kind: MemoryKind::Device, home: Home::None, owner: None }, dtype, shape, label))
    }

    /// A buffer with these elements.
    ///
    /// # Errors
    /// As [`buffer`](Device::buffer), and [`Error::Length`] if the shape has another number of elements.
    pub fn upload<T: Element>(&self, data: &[T], shape: &[usize]) -> Result<Buffer> {
        let buffer = self.buffer(T::DTYPE, shape)?;
        buffer.write(data)?;
        Ok(buffer)
    }

    /// Makes a buffer of host memory: without a copy where the device can import it, else with one. Which of the two
    /// happened is the second part of the result: `true` for no copy.
    ///
    /// The bytes are those of `owner`, which stays alive as long as the buffer; the device never writes them.
    ///
    /// # Errors
    /// As [`buffer`](Device::buffer), and [`Error::Length`] if the shape has another number of bytes.
    pub fn import<O>(&self, owner: Arc<O>, dtype: DType, shape: &[usize], label: &str) -> Result<(Buffer, bool)>
    where
        O: AsRef<[u8]> + Send + Sync + 'static,
    {
        self.import_with(owner, dtype, shape, label, |_| ())
    }

    /// As [`import`](Device::import), and tells of each part that is copied: its bytes, when they are in the buffer or on
    /// their way to it. Without a copy it tells nothing.
    ///
    /// # Errors
    /// As [`import`](Device::import).
    pub fn import_with<O>(
        &self,
        owner: Arc<O>,
        dtype: DType,
        shape: &[usize],
        label: &str,
        mut progress: impl FnMut(u64),
    ) -> Result<(Buffer, bool)>
    where
        O: AsRef<[u8]> + Send + Sync + 'static,
    {
        let bytes = (*owner).as_ref();
        let (_, wanted) = byte_len(label, dtype, shape)?;
        if bytes.len() as u64 != wanted {
            return Err(Error::Length { label: label.into(), given: bytes.len(), actual: wanted as usize });
        }
        let limits = &self.info().limits;
        let align = limits.import_alignment.max(dtype.size() as u64);
        let fits = (bytes.as_ptr() as u64).is_multiple_of(align) && wanted.is_multiple_of(limits.import_alignment);
        if self.imports() && fits {
            let first = NonNull::from(bytes).cast::<u8>();
            // SAFETY: aligned as the device wants; the bytes live as long as `owner`, which the allocation keeps, behind an
            // `Arc` that hands out shared references only.
            if let Some(buffer) = unsafe { self.import_pages(first, wanted, owner.clone(), label) }? {
                return Ok((buffer.reinterpret(dtype, shape)?, true));
            }
        }
        let buffer = self.buffer_in(MemoryKind::Device, dtype, shape, label)?;
        buffer.write_bytes_with(bytes, &mut progress)?;
        Ok((buffer, false))
    }

    /// Whether host memory is worth importing: a discrete device would read it over a bus each time.
    pub(crate) fn imports(&self) -> bool {
        self.info().features.host_import && self.info().memory.unified
    }

    /// Bytes of host memory as a buffer, which the device never writes; `None` if the driver does not take them.
    ///
    /// # Safety
    /// Address and length are aligned as the device wants, and the bytes live, and stay where they are, as long as the owner.
    pub(crate) unsafe fn import_pages(
        &self,
        first: NonNull<u8>,
        len: u64,
        owner: Owner,
        label: &str,
    ) -> Result<Option<Buffer>> {
        // SAFETY: passed on from the caller; the allocation keeps the owner, and is read-only.
        let Some(raw) = unsafe { self.0.core.hal.import_buffer(first, len, label) }? else { return Ok(None) };
        self.0.core.residency.add(raw, &self.0.core.counters);
        let memory = Memory { raw, kind: MemoryKind::Shared, home: Home::Device, owner: Some(owner) };
        Ok(Some(self.wrap(memory, DType::U8, &[len as usize], label)))
    }

    fn check_size(&self, label: &str, dtype: DType, shape: &[usize], bytes: u64) -> Result<()> {
        let limit = self.info().limits.buffer;
        if bytes <= limit {
            return Ok(());
        }
        let reason = format!("{bytes} bytes, this device takes {limit} in one buffer");
        Err(Error::Shape { label: label.into(), shape: shape.to_vec(), dtype, reason })
    }

    fn wrap(&self, memory: Memory, dtype: DType, shape: &[usize], label: &str) -> Buffer {
        let Memory { raw, kind, home, owner } = memory;
        let core = self.0.core.clone();
        let id = core.next_allocation.fetch_add(1, Ordering::Relaxed);
        let allocation = Allocation {
            core,
            raw,
            memory: kind,
            label: label.into(),
            id,
            home,
            read_only: owner.is_some(),
            transient: home == Home::None,
            owner,
            last_use: AtomicU64::new(0),
            last_write: AtomicU64::new(0),
            views: AtomicI32::new(0),
            maps: AtomicI32::new(0),
            claims: Mutex::default(),
            parts: Mutex::default(),
            poison: Poison::default(),
            hint: AtomicU64::new(u64::MAX),
            kept: AtomicUsize::new(0),
        };
        let bytes = shape.iter().product::<usize>() as u64 * dtype.size() as u64;
        let (allocation, shape) = (Arc::new(allocation), Shape::from_slice(shape));
        Buffer { allocation, offset: 0, dtype, shape, bytes, name: None }
    }
}

/// Memory of a buffer to be, with how it goes away.
struct Memory {
    raw: RawBuffer,
    kind: MemoryKind,
    home: Home,
    owner: Option<Owner>,
}
