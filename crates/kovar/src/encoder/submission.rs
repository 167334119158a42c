use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kovar_hal::{HalError, TimeSpan};

use crate::flight::End;
use crate::hazard::Trace;
use crate::profile::Command;
use crate::{Device, Result};

/// Work handed to the device. Dropping it lets the work go on: what it uses stays alive until it has ended.
#[must_use = "dropping a submission does not wait for it; errors are then seen when its results are read"]
pub struct Submission {
    device: Device,
    end: Arc<OnceLock<End>>,
    value: u64,
    label: String,
    pub(super) trace: Option<Arc<Trace>>,
    pub(super) after: Option<u64>,
}

/// A submission that has ended well.
#[derive(Debug, Clone)]
pub struct Completed {
    /// Label of its encoder.
    pub label: String,
    /// Start and end on the device's clock, if it has one and times were asked for. Of a recording that was handed over in
    /// parts, this and what follows are those of the last; a [`Profiler`](crate::profile::Profiler) keeps each part.
    pub time: Option<TimeSpan>,
    /// Start and end of each command, if they were asked for.
    pub times: Vec<Option<TimeSpan>>,
    /// The commands that those times are of.
    pub commands: Arc<[Command]>,
    /// What was recorded, if the encoder was asked to keep it.
    pub trace: Option<Arc<Trace>>,
}

/// Outcome of a wait with a time limit.
pub enum Waited {
    /// It has ended.
    Completed(Completed),
    /// It runs on.
    Pending(Submission),
}

impl Submission {
    pub(crate) fn new(device: Device, end: Arc<OnceLock<End>>, value: u64, label: String) -> Submission {
        Submission { device, end, value, label, trace: None, after: None }
    }

    /// Whether it was handed to this device.
    pub(crate) fn is_of(&self, device: &Device) -> bool {
        Arc::ptr_eq(&self.device.0, &device.0)
    }

    /// Its number: submissions of a device are numbered from 1 in their order.
    pub fn number(&self) -> u64 {
        self.value
    }

    pub(crate) fn device(&self) -> Device {
        self.device.clone()
    }

    pub(super) fn end(&self) -> &Arc<OnceLock<End>> {
        &self.end
    }

    /// What was recorded, if the encoder was asked to keep it.
    pub fn trace(&self) -> Option<&Arc<Trace>> {
        self.trace.as_ref()
    }

    /// Number of the submission that the device waits for before it: that of the stage before, in a session.
    pub fn after(&self) -> Option<u64> {
        self.after
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// Device errors.
    pub fn is_done(&self) -> Result<bool> {
        self.device.0.core.has_reached(self.value)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// What went wrong on the device; the buffers that it wrote are then poisoned.
    pub fn wait(self) -> Result<Completed> {
        self.device.0.core.wait_for(self.value)?;
        self.completed()
    }

    /// Waits, but not for ever.
    ///
    /// # Errors
    /// As [`wait`](Submission::wait).
    pub fn wait_for(self, limit: Duration) -> Result<Waited> {
        if self.device.0.core.wait_until(self.value, Some(limit))? {
            Ok(Waited::Completed(self.completed()?))
        } else {
            Ok(Waited::Pending(self))
        }
    }

    /// Calls back when it has ended, well or not: once, on a thread of the device that holds no lock. Callbacks of one
    /// device run one at a time, in the order of submissions, so one that takes long delays the others; one that panics
    /// does them no harm. The submission can be waited for all the same.
    ///
    /// ```
    /// # use kovar::{Backend, DType, Device, DeviceOptions};
    /// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
    /// let x = device.buffer(DType::U32, &[4])?;
    /// let mut encoder = device.encoder()?;
    /// encoder.fill(&x, 7)?;
    /// let (sender, receiver) = std::sync::mpsc::channel();
    /// encoder.commit()?.on_completed(move |result| drop(sender.send(result.is_ok())))?;
    /// assert_eq!(receiver.recv(), Ok(true));
    /// # Ok::<(), kovar::Error>(())
    /// ```
    ///
    /// # Errors
    /// Device errors if the thread does not start; there is none until the first callback.
    pub fn on_completed(&self, callback: impl FnOnce(Result<Completed>) + Send + 'static) -> Result<()> {
        self.device.0.notifier.add(self.twin(), Box::new(callback))
    }

    /// Another handle.
    pub(crate) fn twin(&self) -> Submission {
        let Submission { device, end, value, label, trace, after } = self;
        let (device, end, trace) = (device.clone(), end.clone(), trace.clone());
        Submission { device, end, value: *value, label: label.clone(), trace, after: *after }
    }

    fn completed(self) -> Result<Completed> {
        self.device.0.core.settle();
        let Submission { end, label, trace, .. } = self;
        let Some(End { status, time, times, listed }) = end.get() else {
            return Err(HalError::DeviceLost { label, reason: "its end was missed".into() }.into());
        };
        status.clone()?;
        let commands = listed.clone().unwrap_or_default();
        Ok(Completed { label, time: *time, times: times.clone(), commands, trace })
    }
}

impl std::fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Submission({} {:?})", self.value, self.label)
    }
}
