//! The host's view of memory that it shares with the device.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;

use crate::buffer::Allocation;
use crate::{Buffer, Element, Error, Result};

/// The host's turn at an allocation: no submission that conflicts is in flight, and none can be committed until it ends.
pub(crate) struct HostView<'a> {
    allocation: &'a Allocation,
    writer: bool,
}

impl<'a> HostView<'a> {
    pub(crate) fn reader(allocation: &'a Allocation) -> Result<HostView<'a>> {
        HostView::open(allocation, false)
    }

    pub(crate) fn writer(allocation: &'a Allocation) -> Result<HostView<'a>> {
        HostView::open(allocation, true)
    }

    fn open(allocation: &'a Allocation, writer: bool) -> Result<HostView<'a>> {
        loop {
            // Looked at before the wait, too: the caller may be who lets the device go on.
            allocation.core.parts.check_host(allocation, writer)?;
            allocation.core.wait_for(allocation.busy_until(writer))?;
            // Commits hold this lock while they look at views and stamp the buffers they use.
            let _turn = allocation.core.turn();
            if !allocation.core.has_reached(allocation.busy_until(writer))? {
                continue;
            }
            // A failure of what has ended must be known before its results are looked at or written anew.
            allocation.core.settle();
            allocation.core.parts.check_host(allocation, writer)?;
            let views = allocation.views.load(Ordering::Relaxed);
            if views < 0 || (writer && views > 0) {
                return Err(Error::Mapped { label: allocation.label.as_ref().into() });
            }
            allocation.views.store(if writer { -1 } else { views + 1 }, Ordering::Relaxed);
            allocation.view_changes(writer, true);
            return Ok(HostView { allocation, writer });
        }
    }
}

impl Drop for HostView<'_> {
    fn drop(&mut self) {
        let _turn = self.allocation.core.turn();
        let views = self.allocation.views.load(Ordering::Relaxed);
        self.allocation.views.store(if self.writer { 0 } else { views - 1 }, Ordering::Relaxed);
        self.allocation.view_changes(self.writer, false);
    }
}

/// The elements of a buffer as the host reads them, in the buffer's own memory: see [`Buffer::map`].
pub struct Mapped<'a, T>(Guard<'a, T>);

/// The elements of a buffer as the host reads and writes them, in the buffer's own memory: see [`Buffer::map_mut`].
pub struct MappedMut<'a, T>(Guard<'a, T>);

/// Bytes that lie in the view's allocation and are aligned and as long as `len` elements want.
struct Guard<'a, T> {
    view: HostView<'a>,
    first: *mut u8,
    len: usize,
    elements: PhantomData<T>,
}

impl<'a, T: Element> Guard<'a, T> {
    fn open(buffer: &'a Buffer, writer: bool) -> Result<Guard<'a, T>> {
        let allocation = &buffer.allocation;
        let label = || buffer.label().to_string();
        buffer.check_elements::<T>(buffer.len())?;
        buffer.check_memory()?;
        if writer && allocation.read_only {
            return Err(Error::ReadOnly { label: label() });
        }
        if allocation.raw.host.is_null() {
            return Err(Error::Hidden { label: label(), memory: allocation.memory });
        }
        let first = allocation.raw.host.wrapping_add(buffer.offset as usize);
        if first.align_offset(align_of::<T>()) != 0 {
            return Err(Error::Unaligned { label: label(), offset: buffer.offset, dtype: T::DTYPE });
        }
        let view = HostView::open(allocation, writer)?;
        if allocation.poison.hits(&buffer.byte_range()) {
            return Err(Error::Poisoned { label: label() });
        }
        // Seen by encoders, which refuse to bind the buffer rather than to commit later.
        let maps = if writer { -1 } else { 1 };
        allocation.maps.fetch_add(maps, Ordering::Relaxed);
        Ok(Guard { view, first, len: buffer.len(), elements: PhantomData })
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        let maps = if self.view.writer { 1 } else { -1 };
        self.view.allocation.maps.fetch_add(maps, Ordering::Relaxed);
    }
}

impl<T: Element> Deref for Mapped<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the elements lie in memory that the host sees, aligned and initialised (see `Guard::open`); any bytes
        // are a `T`, which is `Pod`. No submission and no other view writes them while the host view lives.
        unsafe { std::slice::from_raw_parts(self.0.first.cast::<T>(), self.0.len) }
    }
}

impl<T: Element> Deref for MappedMut<'_, T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: as for `Mapped`; this view is the only one there is.
        unsafe { std::slice::from_raw_parts(self.0.first.cast::<T>(), self.0.len) }
    }
}

impl<T: Element> DerefMut for MappedMut<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed for as long as the slice lives.
        unsafe { std::slice::from_raw_parts_mut(self.0.first.cast::<T>(), self.0.len) }
    }
}

impl Buffer {
    /// The elements where they are, to be read with no copy. It waits for the submissions that write them. While the view
    /// lives, an encoder refuses to bind the buffer where it is written ([`Misuse::Mapped`](crate::Misuse::Mapped), which
    /// names kernel and slot), and a commit that writes it fails with [`Error::Mapped`]. Several may read at once.
    ///
    /// ```
    /// use kovar::{Backend, Device, DeviceOptions};
    ///
    /// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
    /// let x = device.upload(&[1.0f32, 2.0, 3.0], &[3])?;
    /// let sum: f32 = x.map::<f32>()?.iter().sum();
    /// assert_eq!(sum, 6.0);
    /// # Ok::<(), kovar::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Hidden`] for memory that the host does not see, [`Error::DType`] for another element type,
    /// [`Error::Mapped`] while a [`map_mut`](Buffer::map_mut) of the allocation lives, [`Error::Poisoned`] after a failed
    /// submission, device errors.
    pub fn map<T: Element>(&self) -> Result<Mapped<'_, T>> {
        Guard::open(self, false).map(Mapped)
    }

    /// The elements where they are, to be read and written with no copy. It waits for the submissions that use them. While
    /// the view lives, nothing else can use the allocation: no other view of any part of it, no dispatch, no commit.
    ///
    /// ```
    /// use kovar::{Backend, DType, Device, DeviceOptions, Error};
    ///
    /// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
    /// let x = device.buffer(DType::U32, &[4])?;
    /// let mut view = x.map_mut::<u32>()?;
    /// view.copy_from_slice(&[4, 3, 2, 1]);
    /// view.sort_unstable();
    /// assert!(matches!(x.map_mut::<u32>(), Err(Error::Mapped { .. })));
    /// drop(view);
    /// assert_eq!(x.read::<u32>()?, [1, 2, 3, 4]);
    /// # Ok::<(), kovar::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`map`](Buffer::map), [`Error::ReadOnly`] for imported memory, and [`Error::Mapped`] while any view of the
    /// allocation lives. What a failed submission left must be [written](Buffer::write) first.
    pub fn map_mut<T: Element>(&self) -> Result<MappedMut<'_, T>> {
        Guard::open(self, true).map(MappedMut)
    }
}
