use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kovar_hal::{MemoryKind, RawBuffer};
use smallvec::SmallVec;

use crate::claim::Claim;
use crate::device::{Core, Progress};
use crate::map::HostView;
use crate::poison::Poison;
use crate::pool::{Block, Lease};
use crate::residency::Owner;
use crate::staging::PART;
use crate::{DType, Element, Error, Result};

/// Sizes of the axes, outermost first.
pub type Shape = SmallVec<[usize; 4]>;

/// Device memory with what is needed to release it at the right time.
pub(crate) struct Allocation {
    pub(crate) core: Arc<Core>,
    pub(crate) raw: RawBuffer,
    pub(crate) memory: MemoryKind,
    pub(crate) label: Box<str>,
    pub(crate) id: u64,
    pub(crate) home: Home,
    /// Owner of imported memory, kept alive by this field.
    pub(crate) owner: Option<Owner>,
    /// Bytes of imported memory are never written.
    pub(crate) read_only: bool,
    /// Has no memory until the plan of a graph gives it some.
    pub(crate) transient: bool,
    /// Submissions, as values of the device's timeline, that last used and last wrote these bytes, executables aside.
    pub(crate) last_use: AtomicU64,
    pub(crate) last_write: AtomicU64,
    /// Host views: 0 none, n readers, -1 a writer.
    pub(crate) views: AtomicI32,
    /// Those of them that the caller holds, counted alike.
    pub(crate) maps: AtomicI32,
    /// Executables that use these bytes.
    pub(crate) claims: Mutex<SmallVec<[Claim; 1]>>,
    /// Names of parts that have one: where they begin, and end.
    pub(crate) parts: Mutex<BTreeMap<u64, (u64, Arc<str>)>>,
    /// What failed submissions left.
    pub(crate) poison: Poison,
    /// Encoder that met this allocation last, and its number there: saves the encoder a lookup.
    pub(crate) hint: AtomicU64,
    /// The set that it was put into last: see `Kept`.
    pub(crate) kept: AtomicUsize,
}

/// Where memory goes when its last user is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// To the pool.
    Pool(Lease),
    /// To the device.
    Device,
    /// There is none, or it is gone already.
    None,
}

impl Allocation {
    /// Gives a part a name.
    pub(crate) fn name_part(&self, bytes: Range<u64>, name: Arc<str>) {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(bytes.start, (bytes.end, name));
    }

    /// What to call these bytes: by the part in which they begin, else as the whole.
    pub(crate) fn name_of(&self, bytes: &Range<u64>) -> String {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.range(..=bytes.start).next_back().filter(|(_, (end, _))| bytes.start < *end);
        format!("{} #{}", part.map_or(&*self.label, |(_, (_, name))| &**name), self.id)
    }

    /// The memory, if it is of the pool; the allocation has none any more.
    pub(crate) fn into_block(mut self) -> Option<Block> {
        match self.home {
            Home::Pool(lease) => {
                self.home = Home::None;
                Some(Block { memory: self.memory, lease, raw: self.raw })
            }
            _ => None,
        }
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        // Submissions in flight hold a clone of the allocation, so nothing uses it any more.
        match self.home {
            Home::Pool(lease) => self.core.pool().give(Block { memory: self.memory, lease, raw: self.raw }),
            // SAFETY: as said, and it is destroyed once.
            Home::Device => unsafe { self.core.destroy(self.raw, self.owner.take()) },
            Home::None => {}
        }
    }
}

/// Memory of a device: a typed, shaped view of an allocation. A clone is another handle of the same bytes.
///
/// Bytes are zero when a buffer is created. The host reads and writes through [`read`](Buffer::read) and
/// [`write`](Buffer::write), which wait for the submissions that use the buffer, so that the two never meet.
///
/// ```
/// use kovar::{DType, Device, DeviceOptions, Backend};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.upload(&[1.0f32, 2.0, 3.0, 4.0], &[2, 2])?;
/// let row = x.view(2..4)?;
/// row.write(&[30.0f32, 40.0])?;
/// assert_eq!(x.read::<f32>()?, [1.0, 2.0, 30.0, 40.0]);
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Clone)]
pub struct Buffer {
    pub(crate) allocation: Arc<Allocation>,
    pub(crate) offset: u64,
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    /// Bytes of the view.
    pub(crate) bytes: u64,
    /// Name of a part of an allocation that others share: a tensor in a file.
    pub(crate) name: Option<Arc<str>>,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer")
            .field("label", &self.label())
            .field("dtype", &self.dtype)
            .field("shape", &self.shape)
            .field("offset", &self.offset)
            .finish()
    }
}

/// Elements and bytes of a shape, if they fit.
pub(crate) fn byte_len(label: &str, dtype: DType, shape: &[usize]) -> Result<(usize, u64)> {
    let wrong =
        |reason: &str| Error::Shape { label: label.into(), shape: shape.to_vec(), dtype, reason: reason.into() };
    let count = shape.iter().try_fold(1usize, |n, axis| n.checked_mul(*axis)).ok_or_else(|| wrong("too large"))?;
    if count == 0 {
        return Err(wrong("has no elements"));
    }
    let bytes = count.checked_mul(dtype.size()).filter(|n| isize::try_from(*n).is_ok());
    Ok((count, bytes.ok_or_else(|| wrong("too large"))? as u64))
}

impl Buffer {
    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes of the axes, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Never true: a buffer has at least one element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the view.
    pub fn byte_len(&self) -> u64 {
        self.bytes
    }

    /// First byte of the view within its allocation.
    pub fn byte_offset(&self) -> u64 {
        self.offset
    }

    /// Where the memory lives.
    pub fn memory(&self) -> MemoryKind {
        self.allocation.memory
    }

    /// The name it was created under.
    pub fn label(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.allocation.label)
    }

    /// Whether two buffers share an allocation.
    pub fn same_allocation(&self, other: &Buffer) -> bool {
        Arc::ptr_eq(&self.allocation, &other.allocation)
    }

    /// Some elements, counted in row-major order, as a buffer of one axis that shares the bytes.
    ///
    /// # Errors
    /// [`Error::Range`] if they do not lie in this buffer or there are none.
    pub fn view(&self, range: Range<usize>) -> Result<Buffer> {
        if range.start >= range.end || range.end > self.len() {
            let Range { start, end } = range;
            return Err(Error::Range { label: self.label().into(), start, end, len: self.len() });
        }
        Ok(Buffer {
            allocation: self.allocation.clone(),
            offset: self.offset + (range.start * self.dtype.size()) as u64,
            dtype: self.dtype,
            bytes: (range.len() * self.dtype.size()) as u64,
            shape: smallvec::smallvec![range.end - range.start],
            name: self.name.clone(),
        })
    }

    /// The same bytes with other axes.
    ///
    /// # Errors
    /// [`Error::Shape`] if the number of elements differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Buffer> {
        let (count, _) = byte_len(self.label(), self.dtype, shape)?;
        if count != self.len() {
            return Err(Error::Shape {
                label: self.label().into(),
                shape: shape.to_vec(),
                dtype: self.dtype,
                reason: format!("the buffer has {} elements in {:?}", self.len(), self.shape),
            });
        }
        Ok(Buffer { shape: Shape::from_slice(shape), ..self.clone() })
    }

    /// The same bytes as elements of another type.
    ///
    /// # Errors
    /// [`Error::Shape`] if the sizes differ or the offset is not aligned to the new type.
    pub fn reinterpret(&self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let (_, bytes) = byte_len(self.label(), dtype, shape)?;
        if bytes != self.byte_len() || !self.offset.is_multiple_of(dtype.size() as u64) {
            return Err(Error::Shape {
                label: self.label().into(),
                shape: shape.to_vec(),
                dtype,
                reason: format!("the view has {} bytes at offset {}", self.byte_len(), self.offset),
            });
        }
        Ok(Buffer { dtype, shape: Shape::from_slice(shape), ..self.clone() })
    }

    /// Whether the caller holds a view that a command which reads, or writes, these bytes would meet.
    #[inline]
    pub(crate) fn is_mapped_against(&self, writes: bool) -> bool {
        let maps = self.allocation.maps.load(Ordering::Relaxed);
        maps != 0 && (writes || maps < 0)
    }

    /// Its bytes within the allocation.
    pub(crate) fn byte_range(&self) -> Range<u64> {
        self.offset..self.offset + self.byte_len()
    }

    pub(crate) fn check_memory(&self) -> Result<()> {
        if self.allocation.transient { Err(Error::Transient { label: self.label().into() }) } else { Ok(()) }
    }

    pub(crate) fn check_elements<T: Element>(&self, given: usize) -> Result<()> {
        if T::DTYPE != self.dtype {
            return Err(Error::DType { label: self.label().into(), wanted: T::DTYPE, actual: self.dtype });
        }
        if given != self.len() {
            return Err(Error::Length { label: self.label().into(), given, actual: self.len() });
        }
        Ok(())
    }

    /// Copies the elements to the host, after the submissions that write them have ended.
    ///
    /// # Errors
    /// [`Error::DType`] for another element type, [`Error::Poisoned`] after a failed submission, device errors.
    pub fn read<T: Element>(&self) -> Result<Vec<T>> {
        let mut out = vec![T::zeroed(); self.len()];
        self.read_into(&mut out)?;
        Ok(out)
    }

    /// As [`read`](Buffer::read), into existing memory of the same length.
    pub fn read_into<T: Element>(&self, out: &mut [T]) -> Result<()> {
        self.check_elements::<T>(out.len())?;
        self.read_bytes(bytemuck::cast_slice_mut(out))
    }

    /// Replaces the elements, after the submissions that use them have ended.
    ///
    /// # Errors
    /// [`Error::DType`], [`Error::Length`], [`Error::ReadOnly`] for imported memory, [`Error::Mapped`] while the host holds
    /// a view of it, device errors.
    pub fn write<T: Element>(&self, data: &[T]) -> Result<()> {
        self.check_elements::<T>(data.len())?;
        self.write_bytes(bytemuck::cast_slice(data))
    }

    pub(crate) fn read_bytes(&self, out: &mut [u8]) -> Result<()> {
        let allocation = &self.allocation;
        let core = &allocation.core;
        self.check_memory()?;
        let _view = HostView::reader(allocation)?;
        if allocation.poison.hits(&self.byte_range()) {
            return Err(Error::Poisoned { label: self.label().into() });
        }
        if allocation.raw.host.is_null() {
            core.download(allocation, self.offset, out)?;
        } else {
            // SAFETY: the view lies in the allocation; `HostView` vouches that no submission writes it meanwhile.
            unsafe {
                let from = allocation.raw.host.add(self.offset as usize);
                std::ptr::copy_nonoverlapping(from, out.as_mut_ptr(), out.len());
            }
        }
        core.counters.bytes_downloaded.fetch_add(out.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn write_bytes(&self, data: &[u8]) -> Result<()> {
        self.write_bytes_with(data, &mut |_| ())
    }

    pub(crate) fn write_bytes_with(&self, data: &[u8], progress: Progress<'_>) -> Result<()> {
        let allocation = &self.allocation;
        let core = &allocation.core;
        if allocation.read_only {
            return Err(Error::ReadOnly { label: self.label().into() });
        }
        self.check_memory()?;
        let _view = HostView::writer(allocation)?;
        if allocation.raw.host.is_null() {
            // What was poisoned is clean when the copy has ended well.
            core.upload(allocation, self.offset, data, progress)?;
        } else {
            for (part, at) in data.chunks(PART).zip((self.offset as usize..).step_by(PART)) {
                // SAFETY: the part lies in the view and so in the allocation; `HostView` vouches that no submission uses it
                // meanwhile, and that no other host view exists.
                unsafe { std::ptr::copy_nonoverlapping(part.as_ptr(), allocation.raw.host.add(at), part.len()) };
                progress(part.len() as u64);
            }
            allocation.poison.clear(&self.byte_range());
        }
        core.counters.bytes_uploaded.fetch_add(data.len() as u64, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Device, DeviceOptions, ExecutableOptions, Graph};

    #[test]
    fn a_host_view_forbids_the_submissions_that_it_would_meet() {
        let device = Device::open(&DeviceOptions::of(Backend::Null)).unwrap();
        let buffer = || device.buffer(DType::U32, &[16]).unwrap();
        let (from, to) = (buffer(), buffer());
        let before = HostView::writer(&from.allocation).unwrap();
        let mut graph = Graph::capture(&device, "copy", |encoder| encoder.copy(&from, &to)).unwrap();
        graph.name("to", &to).unwrap();
        let mut copy = graph.compile(&ExecutableOptions::default()).unwrap();
        let is_refused = |result: Result<_>| matches!(result, Err(Error::Mapped { .. }));
        assert!(is_refused(copy.submit()), "a view older than the executable");
        drop(before);
        copy.submit().unwrap().wait().unwrap();
        for _ in 0..2 {
            let readers = (HostView::reader(&to.allocation).unwrap(), HostView::reader(&to.allocation).unwrap());
            assert!(is_refused(copy.submit()));
            drop(readers.0);
            assert!(is_refused(copy.submit()));
            drop(readers.1);
            copy.submit().unwrap().wait().unwrap();
        }
        // Two may read.
        let _reader = HostView::reader(&from.allocation).unwrap();
        copy.submit().unwrap().wait().unwrap();
        // What an executable left behind is nobody's any more.
        let other = buffer();
        copy.rebind(&[("to", &other)]).unwrap();
        let _writer = HostView::writer(&to.allocation).unwrap();
        copy.submit().unwrap().wait().unwrap();
    }
}
