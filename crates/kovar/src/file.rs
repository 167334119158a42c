//! Buffers of mapped files: used in place where the device can, copied where it cannot.

use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;

use kovar_hal::MemoryKind;
use memmap2::Mmap;

use crate::buffer::{Shape, byte_len};
use crate::{Backend, Buffer, DType, Device, Error, Result};

/// Bytes of which no system's pages are smaller: a mapping is readable up to a multiple of it.
const PAGE: u64 = if cfg!(all(target_vendor = "apple", target_arch = "aarch64")) { 16 << 10 } else { 4 << 10 };

/// Where the bytes of a buffer are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Where they lie in the file.
    InPlace,
    /// In memory of the device.
    Copied,
}

/// A mapped file as a device sees it: imported once, as a whole, and handed out in parts. See [`Device::file`].
pub struct FileBuffers<M> {
    device: Device,
    file: Arc<M>,
    label: String,
    /// The file in pieces of the size of the largest buffer, the last one shorter.
    windows: Vec<Window>,
    /// Bytes of a window.
    window: u64,
    /// Parts may begin at any byte.
    unaligned: bool,
}

/// A piece of a file as the device sees it.
enum Window {
    /// Nobody has asked for a part of it yet.
    Untried,
    /// The driver does not take it.
    Refused,
    Imported(Buffer),
}

impl Device {
    /// Makes a mapped file known to the device. A device that shares the host's memory imports it without a copy, if the
    /// driver takes mappings of files; a discrete one reads it over a bus each time, so that its buffers are copies, as they
    /// are where [`DeviceOptions::copy_files`](crate::DeviceOptions::copy_files) says so.
    ///
    /// ```no_run
    /// use std::{fs::File, sync::Arc};
    /// use kovar::{DType, Device, Placement};
    ///
    /// let device = Device::open_default()?;
    /// let file = File::open("weights.bin")?;
    /// // SAFETY: nobody changes the file while it is mapped.
    /// let map = unsafe { memmap2::Mmap::map(&file)? };
    /// let mut file = device.file(Arc::new(Box::new(map)), "weights.bin");
    /// let (weights, placement) = file.buffer(4096..8192, DType::F32, &[32, 32], "first layer", |_| ())?;
    /// println!("{weights:?}: {placement:?}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn file<M: AsRef<Mmap> + Send + Sync + 'static>(&self, file: Arc<M>, label: &str) -> FileBuffers<M> {
        let limits = &self.info().limits;
        let window = limits.buffer - limits.buffer % limits.import_alignment;
        let map: &Mmap = (*file).as_ref();
        let imports = self.imports() && !self.0.core.copy_files;
        let count = if imports { (map.len() as u64).div_ceil(window.max(1)) } else { 0 };
        let windows = (0..count).map(|_| Window::Untried).collect();
        FileBuffers { device: self.clone(), file, label: label.into(), windows, window, unaligned: false }
    }
}

impl<M: AsRef<Mmap> + Send + Sync + 'static> FileBuffers<M> {
    /// From now on, parts are in place whatever byte they begin at, if the device is the CPU. For buffers that only meet
    /// kernels which read their slots so, see [`KernelSource::unaligned`](crate::KernelSource::unaligned): all kernels of
    /// `kovar-ops` do, where they take weights. Other kernels refuse a part that is not aligned with
    /// [`Misuse::Misaligned`](crate::Misuse::Misaligned), and [`Buffer::map`] with [`Error::Unaligned`].
    #[must_use]
    pub fn unaligned(mut self) -> FileBuffers<M> {
        self.unaligned = self.device.info().backend == Backend::Cpu;
        self
    }

    /// A buffer of bytes of the file: in place if it lies in what was imported, at an offset at which kernels can bind it,
    /// else a copy in device memory. `progress` is told the bytes of each part that is copied.
    ///
    /// # Errors
    /// [`Error::Range`] for bytes that are not in the file, [`Error::Length`] for a shape of another number of bytes, device
    /// errors.
    pub fn buffer(
        &mut self,
        bytes: Range<usize>,
        dtype: DType,
        shape: &[usize],
        label: &str,
        mut progress: impl FnMut(u64),
    ) -> Result<(Buffer, Placement)> {
        let (_, wanted) = byte_len(label, dtype, shape)?;
        let file = self.file.clone();
        let map: &Mmap = (*file).as_ref();
        let Some(data) = map.get(bytes.clone()) else {
            let Range { start, end } = bytes;
            return Err(Error::Range { label: label.into(), start, end, len: map.len() });
        };
        if data.len() as u64 != wanted {
            return Err(Error::Length { label: label.into(), given: data.len(), actual: wanted as usize });
        }
        if let Some((window, offset)) = self.place(bytes.start as u64, wanted, dtype)? {
            let (allocation, name) = (window.allocation.clone(), Arc::<str>::from(label));
            allocation.name_part(offset..offset + wanted, name.clone());
            let name = Some(name);
            let buffer = Buffer { allocation, offset, dtype, shape: Shape::from_slice(shape), bytes: wanted, name };
            return Ok((buffer, Placement::InPlace));
        }
        let buffer = self.device.buffer_in(MemoryKind::Device, dtype, shape, label)?;
        buffer.write_bytes_with(data, &mut progress)?;
        Ok((buffer, Placement::Copied))
    }

    /// The window that has all of these bytes, and where in it, if kernels can bind them there.
    fn place(&mut self, start: u64, len: u64, dtype: DType) -> Result<Option<(&Buffer, u64)>> {
        let (number, offset) =
            (start.checked_div(self.window).unwrap_or(0), start.checked_rem(self.window).unwrap_or(0));
        let align = match self.unaligned {
            true => 1,
            false => self.device.info().limits.storage_alignment.max(dtype.size() as u64),
        };
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        if !offset.is_multiple_of(align)
            || !matches!(self.windows.get(number), Some(Window::Untried | Window::Imported(_)))
        {
            return Ok(None);
        }
        if let Window::Untried = self.windows[number] {
            let imported = self.import(number as u64 * self.window)?;
            self.windows[number] = imported.map_or(Window::Refused, Window::Imported);
        }
        match &self.windows[number] {
            // Kernels want a whole word at least, which the end of a file may not have.
            Window::Imported(window) if offset + len.max(4) <= window.byte_len() => Ok(Some((window, offset))),
            _ => Ok(None),
        }
    }

    /// Imports the window that begins at this byte.
    fn import(&self, at: u64) -> Result<Option<Buffer>> {
        let map: &Mmap = (*self.file).as_ref();
        let align = self.device.info().limits.import_alignment;
        let left = (map.len() as u64).saturating_sub(at);
        // The rest of the last page is readable too: zeros.
        let readable = left.next_multiple_of(PAGE);
        let wanted = left.next_multiple_of(align).min(self.window);
        let len = if wanted <= readable { wanted } else { left / align * align };
        let Some(first) = NonNull::new(map.as_ptr().wrapping_add(at as usize).cast_mut()).filter(|_| len > 0) else {
            return Ok(None);
        };
        // SAFETY: the mapping begins on a page, and so does `at`, a multiple of the alignment; it is readable to the end of
        // its last page. It lives as long as the allocation, which keeps its owner behind an `Arc` that hands out shared
        // references only; an `Mmap` does not move its pages.
        unsafe { self.device.import_pages(first, len, self.file.clone(), &self.label) }
    }
}
