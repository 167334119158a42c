use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kovar_hal::RawEvent;

use crate::device::Core;
use crate::{Device, Error, Result};

/// The farthest that a value may lie above the present one: what every device takes.
const REACH: u64 = i32::MAX as u64;

/// A value of a timeline.
pub(crate) struct Point {
    pub(crate) timeline: Arc<Timeline>,
    pub(crate) value: u64,
}

/// A timeline of the device, destroyed when nobody holds it: submissions in flight hold what they wait for.
pub(crate) struct Timeline {
    core: Arc<Core>,
    pub(crate) raw: RawEvent,
}

impl Timeline {
    pub(crate) fn new(core: &Arc<Core>) -> Result<Timeline> {
        Ok(Timeline { core: core.clone(), raw: core.hal.create_event(0)? })
    }

    pub(crate) fn value(&self) -> Result<u64> {
        // SAFETY: the event lives as long as this.
        Ok(unsafe { self.core.hal.event_value(self.raw) }?)
    }

    pub(crate) fn belongs_to(&self, core: &Arc<Core>) -> bool {
        Arc::ptr_eq(&self.core, core)
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        // SAFETY: submissions that use the event hold this until they have ended.
        unsafe { self.core.hal.destroy_event(self.raw) };
    }
}

/// A value that the host raises and recordings wait for: the device stands still until the host is ready. A clone is
/// another handle.
///
/// The other direction needs no event: a [`Submission`](crate::Submission) is itself what the host waits for, and
/// submissions of one device run in their order. When the last handle is dropped, what still waits goes on, so that
/// no work is stuck for ever.
///
/// ```
/// # use kovar::{Backend, DType, Device, DeviceOptions};
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// let x = device.buffer(DType::U32, &[4])?;
/// let ready = device.event()?;
/// let mut encoder = device.encoder()?;
/// encoder.wait_for(&ready, 1)?;
/// encoder.fill(&x, 7)?;
/// let submission = encoder.commit()?;
/// assert!(!submission.is_done()?);
/// ready.signal(1)?;
/// submission.wait()?;
/// assert_eq!(x.read::<u32>()?, [7; 4]);
/// # Ok::<(), kovar::Error>(())
/// ```
#[derive(Clone)]
pub struct Event(Arc<Host>);

struct Host {
    timeline: Arc<Timeline>,
    /// The largest value that a recording waits for.
    awaited: AtomicU64,
    /// Held while the value is raised.
    raising: Mutex<()>,
    /// A device waits for its work when it is dropped, so an event must be gone by then.
    _device: Device,
}

impl Event {
    pub(crate) fn new(device: &Device) -> Result<Event> {
        let timeline = Arc::new(Timeline::new(&device.0.core)?);
        let awaited = AtomicU64::new(0);
        Ok(Event(Arc::new(Host { timeline, awaited, raising: Mutex::default(), _device: device.clone() })))
    }

    /// Its value, 0 at first.
    ///
    /// # Errors
    /// Device errors.
    pub fn value(&self) -> Result<u64> {
        self.0.timeline.value()
    }

    /// Raises it; what waits for this value or a lower one may run.
    ///
    /// # Errors
    /// [`Error::Event`] for a value that is not above the present one, or more than 2^31 - 1 above it; device errors.
    pub fn signal(&self, value: u64) -> Result<()> {
        let _raising = self.0.raising.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.value()?;
        if value <= now {
            return Err(Error::Event { value, now, reason: "values only grow" });
        }
        check_reach(value, now)?;
        self.0.raise(value)
    }

    /// Notes that a recording will wait for a value.
    pub(crate) fn promise(&self, value: u64) -> Result<Point> {
        check_reach(value, self.value()?)?;
        self.0.awaited.fetch_max(value, Ordering::Relaxed);
        Ok(Point { timeline: self.0.timeline.clone(), value })
    }
}

fn check_reach(value: u64, now: u64) -> Result<()> {
    if value.saturating_sub(now) <= REACH {
        return Ok(());
    }
    Err(Error::Event { value, now, reason: "more than 2^31 - 1 above the present value" })
}

impl Host {
    fn raise(&self, value: u64) -> Result<()> {
        // SAFETY: the caller has seen that the value is larger; only the host raises this event, under a lock.
        Ok(unsafe { self.timeline.core.hal.signal_event(self.timeline.raw, value) }?)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let awaited = *self.awaited.get_mut();
        if self.timeline.value().is_ok_and(|now| now < awaited) {
            // A lost device reports an error here, and has nothing waiting.
            let _ = self.raise(awaited);
        }
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Event").field("value", &self.value().ok()).finish()
    }
}
