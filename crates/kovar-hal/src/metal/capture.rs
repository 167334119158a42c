use std::path::Path;

use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSString, NSURL};
use objc2_metal::{MTLCaptureDescriptor, MTLCaptureDestination, MTLCaptureManager, MTLDevice};

use super::object::text;
use crate::{HalError, Result};

/// Writes what a device does into a `.gputrace` file, which Xcode opens, until it is dropped.
///
/// Metal writes traces only in processes that were started with `MTL_CAPTURE_ENABLED=1`.
pub(crate) struct Capture(());

impl Capture {
    /// Begins. The file must not exist yet. One capture runs in a process at a time.
    pub(crate) fn start(device: &ProtocolObject<dyn MTLDevice>, file: &Path) -> Result<Capture> {
        autoreleasepool(|_| {
            // SAFETY: the shared manager may be asked from any thread.
            let manager = unsafe { MTLCaptureManager::sharedCaptureManager() };
            if !manager.supportsDestination(MTLCaptureDestination::GPUTraceDocument) {
                let reason = "start the process with MTL_CAPTURE_ENABLED=1".into();
                return Err(HalError::Unsupported { what: "a capture into a file", reason });
            }
            let desc = MTLCaptureDescriptor::new();
            desc.set_capture_device(device);
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
