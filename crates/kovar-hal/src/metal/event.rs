use objc2::rc::autoreleasepool;
use objc2_metal::{MTLDevice, MTLSharedEvent};

use super::list::Object;
use super::object::{Metal, Threaded};
use super::timeline::{DeviceEvent, Timeline};
use crate::{HalError, Result};

/// An event that both sides can wait for and signal.
pub(crate) struct SharedEvent(Threaded<Metal<dyn MTLSharedEvent>>);

pub(crate) type MetalEvent = Timeline<SharedEvent>;

impl SharedEvent {
    pub(crate) fn new(device: &Metal<dyn MTLDevice>) -> Result<SharedEvent> {
        let event = autoreleasepool(|_| device.newSharedEvent());
        let failed = || HalError::Driver { call: "newSharedEvent", reason: "Metal gave no event".into() };
        Ok(SharedEvent(Threaded(event.ok_or_else(failed)?)))
    }

    /// The Metal object, as long as this event lives.
    pub(crate) fn object(&self) -> Object {
        Object(&raw const **self.0 as usize)
    }
}

impl DeviceEvent for SharedEvent {
    fn value(&self) -> u64 {
        self.0.signaledValue()
    }

    fn set(&self, value: u64) {
        self.0.setSignaledValue(value);
    }
}
