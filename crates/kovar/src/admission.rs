use std::fmt;

use crate::{Device, Error, Result};

/// Bytes that a program is about to put on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemoryNeed {
    /// Weights, whether they are copied or used where they lie: kernels read them either way.
    pub weights: u64,
    /// Keys and values.
    pub cache: u64,
    /// Everything between.
    pub scratch: u64,
}

/// That what a program needs fits, and what is left then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// What was asked for.
    pub need: MemoryNeed,
    /// Bytes that the device had left for it: its working set, less what is used.
    pub available: u64,
}

impl MemoryNeed {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.cache).saturating_add(self.scratch)
    }
}

impl Admission {
    /// Bytes that are left beside it.
    pub fn spare(&self) -> u64 {
        self.available - self.need.total()
    }
}

impl fmt::Display for MemoryNeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MemoryNeed { weights, cache, scratch } = *self;
        let [total, weights, cache, scratch] = [self.total(), weights, cache, scratch].map(Bytes);
        write!(f, "{total} (weights {weights}, cache {cache}, scratch {scratch})")
    }
}

/// Bytes, for people.
pub(crate) struct Bytes(pub(crate) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

impl Device {
    /// Whether so much fits what the device has left: before anything of it is allocated.
    ///
    /// The working set is what the driver tells as budget, else the memory of the device, and at most
    /// [`DeviceOptions::memory_limit`](crate::DeviceOptions::memory_limit); buffers of this device count against it, pool
    /// and staging ring among them. It says nothing of what other programs will do.
    ///
    /// ```
    /// use kovar::{Backend, Device, DeviceOptions, Error, MemoryNeed};
    ///
    /// let device = Device::open(&DeviceOptions { memory_limit: Some(1 << 30), ..DeviceOptions::of(Backend::Null) })?;
    /// let need = MemoryNeed { weights: 700 << 20, cache: 200 << 20, scratch: 100 << 20 };
    /// assert_eq!(device.admit(&need)?.spare(), 24 << 20);
    /// let more = MemoryNeed { cache: 300 << 20, ..need };
    /// assert!(matches!(device.admit(&more), Err(Error::DoesNotFit { excess, .. }) if excess == 76 << 20));
    /// # Ok::<(), kovar::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::DoesNotFit`], with the bytes that are too many.
    pub fn admit(&self, need: &MemoryNeed) -> Result<Admission> {
        let available = self.0.core.available();
        match need.total().checked_sub(available) {
            Some(excess) if excess > 0 => Err(Error::DoesNotFit { need: *need, available, excess }),
            _ => Ok(Admission { need: *need, available }),
        }
    }

    /// Bytes of all buffers of this device, those of the pool and the staging ring among them.
    pub fn memory_used(&self) -> u64 {
        self.0.core.memory_used()
    }
}
