use std::path::Path;
use std::sync::Arc;

use crate::device::Core;
use crate::{Device, Result};

/// The scope of a vendor's capture: what the device is given until it is dropped is in the file.
///
/// ```
/// # use kovar::{Backend, Device, DeviceOptions, Error, HalError};
/// let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
/// match device.capture("step.gputrace") {
///     // On Metal, in a process that was started with MTL_CAPTURE_ENABLED=1.
///     Ok(capture) => {
///         let mut encoder = device.encoder()?;
///         // .. what is to be looked at ..
///         encoder.commit()?.wait()?;
///         drop(capture);
///     }
///     Err(Error::Device(HalError::Unsupported { what, .. })) => assert_eq!(what, "a capture into a file"),
///     Err(error) => return Err(error),
/// }
/// # Ok::<(), Error>(())
/// ```
#[must_use = "it ends when it is dropped"]
pub struct Capture {
    // Ends before the device does.
    _scope: Box<dyn Send + Sync>,
    _core: Arc<Core>,
}

impl std::fmt::Debug for Capture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Capture")
    }
}

impl Device {
    /// Begins to write what this device does into a file for the vendor's tool: on Metal a `.gputrace`, which Xcode opens.
    /// The file must not exist yet, and one capture runs in a process at a time. Work that is to be in it is committed
    /// and waited for before the scope ends.
    ///
    /// # Errors
    /// [`HalError::Unsupported`](crate::HalError::Unsupported) where the backend has no such thing, or Metal was not told
    /// to allow it with `MTL_CAPTURE_ENABLED=1`; [`HalError::Driver`](crate::HalError::Driver) in Metal's words if it does
    /// not start.
    pub fn capture(&self, file: impl AsRef<Path>) -> Result<Capture> {
        let core = self.0.core.clone();
        Ok(Capture { _scope: core.hal.capture(file.as_ref())?, _core: core })
    }
}
