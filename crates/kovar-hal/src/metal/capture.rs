use std::path::Path;

use objc2::rc::autoreleasepool;
use objc2_foundation::{NSString, NSURL};
use objc2_metal::{MTLCaptureDescriptor, MTLCaptureDestination, MTLCaptureManager, MTLCopyAllDevices, MTLDevice};

use super::object::text;
use crate::{DeviceInfo, HalError, Result};

/// Writes what a device does into a `.gputrace` file, which Xcode opens, until it is dropped.
///
/// Metal writes traces only in processes that were started with `MTL_CAPTURE_ENABLED=1`.
#[derive(Debug)]
pub struct Capture(());

impl Capture {
    /// Begins. The file must not exist yet. One capture runs in a process at a time.
    ///
    /// # Errors
    /// [`HalError::Unsupported`] if this process may not capture, or the device is none of Metal's;
    /// [`HalError::Driver`] with Metal's words if it does not start.
    pub fn start(device: &DeviceInfo, file: &Path) -> Result<Capture> {
        let what = "a capture into a file";
        autoreleasepool(|_| {
            // SAFETY: the shared manager may be asked from any thread.
            let manager = unsafe { MTLCaptureManager::sharedCaptureManager() };
            if !manager.supportsDestination(MTLCaptureDestination::GPUTraceDocument) {
                let reason = "start the process with MTL_CAPTURE_ENABLED=1".into();
                return Err(HalError::Unsupported { what, reason });
            }
            let found = MTLCopyAllDevices().iter().find(|found| found.name().to_string() == device.name);
            let Some(found) = found else {
                return Err(HalError::Unsupported { what, reason: format!("Metal has no device {:?}", device.name) });
            };
            let desc = MTLCaptureDescriptor::new();
            desc.set_capture_device(&found);
            desc.setDestination(MTLCaptureDestination::GPUTraceDocument);
            desc.setOutputURL(Some(&NSURL::fileURLWithPath(&NSString::from_str(&file.to_string_lossy()))));
            manager
                .startCaptureWithDescriptor_error(&desc)
                .map_err(|error| HalError::Driver { call: "startCaptureWithDescriptor", reason: text(&error) })?;
            Ok(Capture(()))
        })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // SAFETY: the shared manager may be asked from any thread.
        autoreleasepool(|_| unsafe { MTLCaptureManager::sharedCaptureManager() }.stopCapture());
    }
}
