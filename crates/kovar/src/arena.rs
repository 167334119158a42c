use std::sync::Arc;

use crate::buffer::Allocation;
use crate::{Buffer, Completed, DType, Device, Error, Result, Submission};

/// Scratch of one piece of work, given back to the device's pool at once, when the submissions that used it have ended.
///
/// Its buffers are like any: clones of a handle keep the memory to themselves for as long as they live, so that bytes are
/// never given to two at once, and never returned twice. An arena that is dropped gives its buffers back one by one, as
/// [`Device::scratch`] does.
///
/// ```
/// use kovar::{Backend, DType, Device, DeviceOptions};
///
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let mut arena = device.arena();
/// let mut encoder = device.encoder()?;
/// for _ in 0..10 {
///     encoder.fill(&arena.buffer(DType::F32, &[1000])?, 0)?;
/// }
/// let submission = encoder.commit()?;
/// arena.end([submission])?;
/// assert_eq!(device.pool_stats().live, 0);
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Debug)]
pub struct Arena {
    device: Device,
    taken: Vec<Buffer>,
}

impl Device {
    /// An arena with nothing in it.
    pub fn arena(&self) -> Arena {
        Arena { device: self.clone(), taken: Vec::new() }
    }
}

impl Arena {
    /// A buffer from the pool; its bytes are whatever the last user left.
    ///
    /// # Errors
    /// As [`Device::scratch`].
    pub fn buffer(&mut self, dtype: DType, shape: &[usize]) -> Result<Buffer> {
        let buffer = self.device.scratch(dtype, shape)?;
        self.taken.push(buffer.clone());
        Ok(buffer)
    }

    /// How many buffers it has handed out.
    pub fn len(&self) -> usize {
        self.taken.len()
    }

    /// Whether it has handed out none.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Waits for the submissions that used the buffers, which are given here, and gives all of them back.
    ///
    /// # Errors
    /// [`Error::ArenaUsed`] if a submission used a buffer that ends after these, [`Error::ArenaHeld`] if something still has
    /// a buffer: a handle, an encoder, an executable. The memory then comes back by itself when the last user is gone.
    /// Errors of the submissions.
    pub fn end(self, submissions: impl IntoIterator<Item = Submission>) -> Result<Vec<Completed>> {
        let Arena { device, taken } = self;
        let submissions: Vec<Submission> = submissions.into_iter().filter(|s| s.is_of(&device)).collect();
        let last = submissions.iter().map(Submission::number).max().unwrap_or(0);
        if let Some(buffer) = taken.iter().find(|buffer| buffer.allocation.busy_until(true) > last) {
            return Err(Error::ArenaUsed {
                shape: buffer.shape().to_vec(),
                submission: buffer.allocation.busy_until(true),
            });
        }
        let completed: Vec<Completed> = submissions.into_iter().map(Submission::wait).collect::<Result<_>>()?;
        let count = taken.len();
        let blocks: Vec<_> = taken
            .into_iter()
            .filter_map(|buffer| Arc::into_inner(buffer.allocation))
            .filter_map(Allocation::into_block)
            .collect();
        let held = count - blocks.len();
        device.0.core.pool().give_all(blocks);
        if held > 0 { Err(Error::ArenaHeld { buffers: held }) } else { Ok(completed) }
    }
}
