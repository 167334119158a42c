use std::any::Any;
use std::cell::OnceCell;
use std::ops::Range;

use bytemuck::Pod;

use super::race::Watch;
use crate::RacePlace;

/// A kernel as a Rust function.
///
/// A dispatch is cut into independent *tasks*, claimed by the worker threads in any order. The kernel chooses the cut:
/// often one task a workgroup of the GPU form, or some rows of the result. A task should take a few microseconds.
pub trait CpuKernel: Send + Sync {
    /// Tasks of this dispatch.
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32;
    /// Runs some of them. A panic is caught and becomes a fault of the submission.
    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>);
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuBinding {
    pub(crate) ptr: *mut u8,
    pub(crate) len: usize,
    pub(crate) writable: bool,
}

// SAFETY: an address; what is done with the bytes is ordered by the contract of the crate.
unsafe impl Send for CpuBinding {}
// SAFETY: as above.
unsafe impl Sync for CpuBinding {}

/// What a thread has prepared for the tasks of a dispatch.
pub(crate) type Prepared = OnceCell<Box<dyn Any>>;

/// What a kernel sees of its dispatch.
#[derive(Debug, Clone, Copy)]
pub struct CpuDispatch<'a> {
    pub(crate) groups: [u32; 3],
    pub(crate) group_size: [u32; 3],
    pub(crate) constants: &'a [u8],
    pub(crate) bindings: &'a [CpuBinding],
    pub(crate) threads: u32,
    pub(crate) prepared: &'a Prepared,
    /// Who looks at what this task touches.
    pub(crate) watch: Option<Watch<'a>>,
}

impl<'a> CpuDispatch<'a> {
    /// Workgroups in x, y, z.
    pub fn groups(&self) -> [u32; 3] {
        self.groups
    }

    /// Threads of a workgroup in x, y, z.
    pub fn group_size(&self) -> [u32; 3] {
        self.group_size
    }

    /// Worker threads of the device: a hint for the cut into tasks.
    pub fn threads(&self) -> u32 {
        self.threads
    }

    /// What this thread prepared when it first asked, in this execution of this dispatch; it asks for one type. For what
    /// all tasks need and is cheaper to make in every thread than to wait for.
    pub fn prepared<T: Any>(&self, make: impl FnOnce() -> T) -> &'a T {
        match self.prepared.get_or_init(|| Box::new(make())).downcast_ref() {
            Some(prepared) => prepared,
            None => fault("the kernel prepared something of another type before".into()),
        }
    }

    /// Slots.
    pub fn slots(&self) -> usize {
        self.bindings.len()
    }

    /// Bytes in a slot.
    pub fn byte_len(&self, slot: usize) -> usize {
        self.binding(slot).len
    }

    /// The inline constants. Faults if `T` has another size.
    pub fn constants<T: Pod>(&self) -> T {
        match bytemuck::try_pod_read_unaligned(self.constants) {
            Ok(value) => value,
            Err(_) => fault(format!("constants have {} bytes, not {}", self.constants.len(), size_of::<T>())),
        }
    }

    /// A slot as elements, to read; a tail shorter than an element is left out. Faults on misalignment or a missing
    /// slot; elements of alignment 1 may begin at any byte.
    ///
    /// The race detector takes the whole slot as read. Where another task or command may write other parts of it at the
    /// same time, ask for the part: [`slice_range`](CpuDispatch::slice_range).
    pub fn slice<T: Pod>(&self, slot: usize) -> &'a [T] {
        let (ptr, len) = self.elements::<T>(slot);
        if let Some(watch) = &self.watch {
            watch.reads(RacePlace::Slot(slot), ptr.cast(), 0..len * size_of::<T>(), true);
        }
        // SAFETY: the binding lies within a live buffer, is aligned for `T`, and no command of the group writes what
        // this dispatch reads (contract of `Recorder::dispatch`).
        unsafe { std::slice::from_raw_parts(ptr, len) }
    }

    /// Some elements of a slot, to read. Faults on misalignment, a missing slot, a range out of bounds.
    pub fn slice_range<T: Pod>(&self, slot: usize, range: Range<usize>) -> &'a [T] {
        let (ptr, len) = self.elements::<T>(slot);
        self.check_range(slot, &range, len);
        if let Some(watch) = &self.watch {
            let size = size_of::<T>();
            watch.reads(RacePlace::Slot(slot), ptr.cast(), range.start * size..range.end * size, false);
        }
        // SAFETY: in bounds and aligned, checked above; otherwise as for `slice`.
        unsafe { std::slice::from_raw_parts(ptr.add(range.start), range.end - range.start) }
    }

    /// Some elements of a writable slot. Faults on misalignment, a read-only or missing slot, a range out of bounds.
    ///
    /// # Safety
    /// While the slice lives, no other task of the dispatch touches these elements, nor does this one through another
    /// slice.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice_mut<T: Pod>(&self, slot: usize, range: Range<usize>) -> &'a mut [T] {
        let (ptr, len) = self.elements::<T>(slot);
        if !self.binding(slot).writable {
            fault(format!("slot {slot} is read-only"));
        }
        self.check_range(slot, &range, len);
        if let Some(watch) = &self.watch {
            let size = size_of::<T>();
            watch.writes(RacePlace::Slot(slot), ptr.cast(), range.start * size..range.end * size);
        }
        // SAFETY: in bounds and aligned, checked above; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(ptr.add(range.start), range.end - range.start) }
    }

    #[inline]
    fn check_range(&self, slot: usize, range: &Range<usize>, len: usize) {
        if range.start > range.end || range.end > len {
            fault(format!("elements {range:?} of slot {slot}, which has {len}"));
        }
    }

    #[inline]
    fn binding(&self, slot: usize) -> &CpuBinding {
        match self.bindings.get(slot) {
            Some(binding) => binding,
            None => fault(format!("slot {slot} of {}", self.bindings.len())),
        }
    }

    #[inline]
    fn elements<T: Pod>(&self, slot: usize) -> (*mut T, usize) {
        let binding = self.binding(slot);
        let ptr = binding.ptr.cast::<T>();
        if !ptr.is_aligned() {
            fault(format!("slot {slot} is not aligned to {} bytes", align_of::<T>()));
        }
        (ptr, binding.len / size_of::<T>().max(1))
    }
}

/// Ends the kernel; the queue turns the unwinding into `HalError::Fault`.
#[cold]
fn fault(message: String) -> ! {
    std::panic::resume_unwind(Box::new(message))
}
