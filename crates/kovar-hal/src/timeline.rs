//! Timeline events in host memory, for the backends that have no driver.

use super::cpu::sync::{AtomicU64, Ordering};
use crate::RawEvent;
use std::sync::Arc;

pub(crate) struct HostEvent(AtomicU64);

impl HostEvent {
    pub(crate) fn new(value: u64) -> HostEvent {
        HostEvent(AtomicU64::new(value))
    }

    pub(crate) fn create(value: u64) -> RawEvent {
        RawEvent(Arc::into_raw(Arc::new(HostEvent::new(value))) as usize)
    }

    /// # Safety
    /// The event is alive.
    pub(crate) unsafe fn get(event: RawEvent) -> Arc<HostEvent> {
        let raw = event.0 as *const HostEvent;
        // SAFETY: `create` leaked this `Arc`; the caller vouches that `destroy` has not taken it back.
        unsafe {
            Arc::increment_strong_count(raw);
            Arc::from_raw(raw)
        }
    }

    /// # Safety
    /// The event is alive and is destroyed once.
    pub(crate) unsafe fn destroy(event: RawEvent) {
        // SAFETY: takes back the count that `create` leaked.
        drop(unsafe { Arc::from_raw(event.0 as *const HostEvent) });
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn raise(&self, value: u64) {
        self.0.fetch_max(value, Ordering::AcqRel);
    }
}
