//! How recordings hold the allocations that they use.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::Buffer;
use crate::buffer::Allocation;

/// A reference to an allocation: counted, or without a count where somebody else keeps the allocation alive.
pub(crate) struct Held {
    allocation: ManuallyDrop<Arc<Allocation>>,
    counted: bool,
}

impl Held {
    pub(crate) fn counted(allocation: &Arc<Allocation>) -> Held {
        Held { allocation: ManuallyDrop::new(allocation.clone()), counted: true }
    }

    /// # Safety
    /// The allocation lives for as long as this and all clones of it.
    pub(crate) unsafe fn uncounted(allocation: &Arc<Allocation>) -> Held {
        // SAFETY: the copy is never dropped, because it is not counted, and used only while the allocation lives.
        Held { allocation: ManuallyDrop::new(unsafe { std::ptr::read(allocation) }), counted: false }
    }
}

impl Deref for Held {
    type Target = Arc<Allocation>;

    fn deref(&self) -> &Arc<Allocation> {
        &self.allocation
    }
}

impl Clone for Held {
    fn clone(&self) -> Held {
        match self.counted {
            true => Held::counted(self),
            // SAFETY: promised for all clones when the first one was made.
            false => unsafe { Held::uncounted(self) },
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.counted {
            // SAFETY: it is not used again.
            unsafe { ManuallyDrop::drop(&mut self.allocation) };
        }
    }
}

/// Buffers that recordings use without counting references: one count for all of them, however many there are and however
/// often they are bound.
///
/// Give it to encoders as [`EncoderOptions::kept`](crate::EncoderOptions::kept). It keeps its buffers alive, and so does each
/// encoder and each submission until it has ended. A buffer that is not among them, or has since been put into another
/// set, is counted as usual.
///
/// ```
/// # use kovar::{Backend, DType, Device, DeviceOptions, EncoderOptions, Kept};
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let (x, y) = (device.upload(&[1u32, 2, 3], &[3])?, device.buffer(DType::U32, &[3])?);
/// let kept = Kept::new([&x, &y]);
/// let mut encoder = device.encoder_with(EncoderOptions { kept: Some(kept), ..EncoderOptions::default() })?;
/// encoder.copy(&x, &y)?;
/// drop(x); // alive until the submission has ended
/// encoder.commit()?.wait()?;
/// assert_eq!(y.read::<u32>()?, [1, 2, 3]);
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Clone)]
pub struct Kept(Arc<Set>);

struct Set(Box<[Arc<Allocation>]>);

impl Kept {
    /// A set of these buffers; views count as their whole allocation.
    pub fn new<'a>(buffers: impl IntoIterator<Item = &'a Buffer>) -> Kept {
        let allocations = buffers.into_iter().map(|buffer| buffer.allocation.clone()).collect();
        let kept = Kept(Arc::new(Set(allocations)));
        for allocation in &kept.0.0 {
            allocation.kept.store(kept.0.mark(), Ordering::Relaxed);
        }
        kept
    }

    /// Whether it keeps an allocation. The mark of a set is in its own allocations only, and gone when the set is.
    pub(crate) fn has(&self, allocation: &Allocation) -> bool {
        allocation.kept.load(Ordering::Relaxed) == self.0.mark()
    }
}

impl Set {
    fn mark(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        let mark = self.mark();
        for allocation in &self.0 {
            // A mark of another set stays.
            let _ = allocation.kept.compare_exchange(mark, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} buffers)", self.0.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, DType, Device, DeviceOptions, EncoderOptions};

    fn count(buffer: &Buffer) -> usize {
        Arc::strong_count(&buffer.allocation)
    }

    #[test]
    fn a_recording_counts_what_its_set_lacks_and_nothing_else() {
        let device = Device::open(&DeviceOptions::of(Backend::Null)).unwrap();
        let buffer = || device.buffer(DType::U32, &[16]).unwrap();
        let (x, y, other) = (buffer(), buffer(), buffer());
        let kept = Kept::new([&x, &y]);
        let gate = device.event().unwrap();
        let options = EncoderOptions { kept: Some(kept.clone()), ..EncoderOptions::default() };
        let mut encoder = device.encoder_with(options).unwrap();
        encoder.wait_for(&gate, 1).unwrap();
        for _ in 0..3 {
            encoder.copy(&x, &y).unwrap();
            encoder.copy(&x, &other).unwrap();
        }
        assert_eq!((count(&x), count(&y), count(&other)), (2, 2, 2));
        encoder.flush().unwrap();
        encoder.copy(&y, &x).unwrap();
        let submission = encoder.commit().unwrap();
        // The set lives on in the submission.
        drop(kept);
        assert_eq!((count(&x), count(&y), count(&other)), (2, 2, 3));
        drop((x, y));
        gate.signal(1).unwrap();
        submission.wait().unwrap();
        assert_eq!(count(&other), 1);
    }

    #[test]
    fn a_set_that_is_gone_or_stale_has_nothing() {
        let device = Device::open(&DeviceOptions::of(Backend::Null)).unwrap();
        let x = device.buffer(DType::U32, &[16]).unwrap();
        let first = Kept::new([&x, &x]);
        assert!(first.has(&x.allocation));
        let second = Kept::new([&x]);
        assert!(!first.has(&x.allocation) && second.has(&x.allocation));
        drop(first);
        assert!(second.has(&x.allocation), "a mark of another set stays");
        drop(second);
        assert_eq!((x.allocation.kept.load(Ordering::Relaxed), count(&x)), (0, 1));
    }

    #[test]
    fn an_encoder_that_is_given_up_after_a_part_leaves_nothing_behind() {
        let device = Device::open(&DeviceOptions::of(Backend::Null)).unwrap();
        let buffer = || device.buffer(DType::U32, &[16]).unwrap();
        let (x, y) = (buffer(), buffer());
        let options = EncoderOptions { kept: Some(Kept::new([&x, &y])), ..EncoderOptions::default() };
        let mut encoder = device.encoder_with(options).unwrap();
        encoder.copy(&x, &y).unwrap();
        encoder.flush().unwrap();
        drop(x);
        drop(encoder);
        device.wait_idle().unwrap();
        assert_eq!(count(&y), 1);
        assert!(y.read::<u32>().is_err(), "poisoned");
    }

    #[test]
    fn without_any_counts_the_buffers_are_the_callers_to_keep() {
        let device = Device::open(&DeviceOptions::of(Backend::Null)).unwrap();
        let x = device.buffer(DType::U32, &[16]).unwrap();
        let mut encoder = device.encoder().unwrap();
        // SAFETY: `x` lives until the wait below has returned.
        unsafe { encoder.retain_nothing() };
        encoder.fill(&x, 1).unwrap();
        assert_eq!(count(&x), 1);
        encoder.commit().unwrap().wait().unwrap();
        assert_eq!(count(&x), 1);
    }
}
