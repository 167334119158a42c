//! Events as handles, each with the host's mirror of its value.

use std::sync::Arc;
use std::time::Duration;

use super::completion::{Mirror, Signal};
use crate::RawEvent;

/// An event as the device sees it: `MTLSharedEvent`.
pub(crate) trait DeviceEvent {
    /// `signaledValue`
    fn value(&self) -> u64;
    /// `setSignaledValue:`
    fn set(&self, value: u64);
}

/// An event of the device, and what the host may believe of it.
pub(crate) struct Timeline<D> {
    pub(crate) device: D,
    mirror: Mirror,
}

impl<D: DeviceEvent> Timeline<D> {
    pub(crate) fn create(device: D, value: u64) -> RawEvent {
        device.set(value);
        RawEvent(Arc::into_raw(Arc::new(Timeline { device, mirror: Mirror::new(value) })) as usize)
    }

    /// # Safety
    /// The event is alive, and of this type.
    pub(crate) unsafe fn get(event: RawEvent) -> Arc<Timeline<D>> {
        let raw = event.0 as *const Timeline<D>;
        // SAFETY: `create` leaked this `Arc`; the caller vouches that `destroy` has not taken it back.
        unsafe {
            Arc::increment_strong_count(raw);
            Arc::from_raw(raw)
        }
    }

    /// # Safety
    /// The event is alive, of this type, and is destroyed once.
    pub(crate) unsafe fn destroy(event: RawEvent) {
        // SAFETY: takes back the count that `create` leaked.
        drop(unsafe { Arc::from_raw(event.0 as *const Timeline<D>) });
    }

    /// The value that the host may act on: that of submissions whose completion handlers have run.
    pub(crate) fn value(&self) -> u64 {
        self.mirror.value()
    }

    pub(crate) fn wait(&self, value: u64, timeout: Option<Duration>) -> bool {
        self.mirror.wait(value, timeout)
    }
}

impl<D: DeviceEvent> Signal for Timeline<D> {
    /// After a success the device has the value already. After an error it may not, and what waits for it would wait for
    /// ever. The device may pass the value between the look and the write, which then lowers it for a moment: the
    /// submission that raised it retires later, finds it too low, and writes it again.
    fn raise(&self, value: u64) {
        self.mirror.raise(value, |value| {
            if self.device.value() < value {
                self.device.set(value);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::completion::Retirement;
    use super::*;

    #[derive(Default)]
    struct Fake(AtomicU64);

    impl DeviceEvent for Fake {
        fn value(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn set(&self, value: u64) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_value_that_a_failed_submission_owes_reaches_host_and_device() {
        let raw = Timeline::create(Fake::default(), 3);
        // SAFETY: created above.
        let event = unsafe { Timeline::<Fake>::get(raw) };
        let retirement = Retirement::default();
        let failed = retirement.enter(1, vec![(event.clone(), 4)]);
        assert!(!event.wait(4, Some(Duration::ZERO)));
        retirement.ended(failed);
        assert_eq!((event.value(), event.device.value()), (4, 4));
        // SAFETY: created above, destroyed once; `event` is a count of its own.
        unsafe { Timeline::<Fake>::destroy(raw) };
    }

    #[test]
    fn the_host_believes_no_value_before_its_submission_has_retired() {
        let raw = Timeline::create(Fake::default(), 0);
        // SAFETY: created above.
        let event = unsafe { Timeline::<Fake>::get(raw) };
        let retirement = Retirement::default();
        let first = retirement.enter(1, vec![(event.clone(), 1)]);
        let second = retirement.enter(1, vec![(event.clone(), 2)]);
        event.device.set(2);
        assert_eq!(event.value(), 0);
        // A write that crossed the device's own lowers the value until the next submission retires.
        event.device.set(0);
        retirement.ended(first);
        assert_eq!(event.device.value(), 1);
        retirement.ended(second);
        assert_eq!((event.value(), event.device.value()), (2, 2));
        // SAFETY: created above, destroyed once; `event` is a count of its own.
        unsafe { Timeline::<Fake>::destroy(raw) };
    }
}
