use std::sync::{Arc, Mutex, PoisonError};

use objc2::available;
use objc2::rc::autoreleasepool;
use objc2_foundation::ns_string;
use objc2_metal::{MTLAllocation, MTLCommandQueue, MTLDevice, MTLResidencySet, MTLResidencySetDescriptor};

use super::keep_alive::KeepAlive;
use super::list::Object;
use super::object::{Metal, Threaded, borrow, text};
use crate::{HalError, RawBuffer, Result};

/// The device's residency set: what is in it is in the GPU's reach while any command buffer of the queue runs, and, by a
/// standing request, between them.
///
/// Before macOS 15 there is none. Then Metal makes resident what a command buffer binds, which is enough: all buffers are
/// bound directly, and `useResource:usage:` is for those reached through argument buffers.
pub(crate) struct Residency {
    set: Arc<Mutex<Threaded<Metal<dyn MTLResidencySet>>>>,
    queue: Metal<dyn MTLCommandQueue>,
    keeper: KeepAlive,
}

type Set = Mutex<Threaded<Metal<dyn MTLResidencySet>>>;

fn with<T>(set: &Set, work: impl FnOnce(&Metal<dyn MTLResidencySet>) -> T) -> T {
    let set = set.lock().unwrap_or_else(PoisonError::into_inner);
    autoreleasepool(|_| work(&set))
}

impl Residency {
    /// In a pool.
    pub(crate) fn new(device: &Metal<dyn MTLDevice>, queue: &Metal<dyn MTLCommandQueue>) -> Result<Option<Residency>> {
        if !available!(macos = 15.0, ios = 18.0, tvos = 18.0, visionos = 2.0) {
            return Ok(None);
        }
        let desc = MTLResidencySetDescriptor::new();
        desc.setLabel(Some(ns_string!("kovar")));
        let set = device
            .newResidencySetWithDescriptor_error(&desc)
            .map_err(|error| HalError::Driver { call: "newResidencySetWithDescriptor", reason: text(&error) })?;
        queue.addResidencySet(&set);
        let set = Arc::new(Mutex::new(Threaded(set)));
        let kept = set.clone();
        let keeper = KeepAlive::start(move || {
            with(&kept, |set| {
                if set.allocationCount() > 0 {
                    set.requestResidency();
                }
            });
        });
        let keeper =
            keeper.map_err(|e| HalError::Driver { call: "starting the residency thread", reason: e.to_string() })?;
        Ok(Some(Residency { set, queue: queue.clone(), keeper }))
    }

    /// # Safety
    /// The buffers are alive.
    pub(crate) unsafe fn update(&self, add: &[RawBuffer], remove: &[RawBuffer]) {
        // SAFETY: ids are addresses of living Metal buffers (caller), and every buffer is an allocation.
        let allocation = |buffer: &RawBuffer| unsafe { borrow::<dyn MTLAllocation>(Object(buffer.id)) };
        with(&self.set, |set| {
            for buffer in add {
                set.addAllocation(allocation(buffer));
            }
            for buffer in remove {
                set.removeAllocation(allocation(buffer));
            }
            set.commit();
            if !add.is_empty() {
                set.requestResidency();
            }
        });
    }

    /// Notes a submission.
    pub(crate) fn touch(&self) {
        self.keeper.touch();
    }
}

impl Drop for Residency {
    fn drop(&mut self) {
        with(&self.set, |set| {
            set.endResidency();
            set.removeAllAllocations();
            set.commit();
            self.queue.removeResidencySet(set);
        });
    }
}
