use std::sync::Arc;

use objc2::available;
use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_foundation::NSProcessInfo;
use objc2_metal::{MTLCopyAllDevices, MTLCounterSamplingPoint, MTLDevice, MTLGPUFamily};

use super::device::MetalDevice;
use super::facts::Facts;
use super::object::Metal;
use crate::{Adapter, Backend, Device, DeviceInfo, HalError, OpenOptions, Result};

unsafe extern "C" {
    /// Bytes of a page (libSystem): 16 KiB on Apple silicon.
    safe fn getpagesize() -> std::ffi::c_int;
}

struct MetalAdapter {
    device: Metal<dyn MTLDevice>,
    info: DeviceInfo,
}

/// Every GPU of family Apple7 (M1) or later.
pub(crate) fn adapters() -> Result<Vec<Box<dyn Adapter>>> {
    autoreleasepool(|_| {
        let devices = MTLCopyAllDevices();
        let able = devices.iter().filter(|device| device.supportsFamily(MTLGPUFamily::Apple7));
        let found: Vec<Box<dyn Adapter>> =
            able.map(|device| Box::new(MetalAdapter { info: info(&device), device }) as Box<dyn Adapter>).collect();
        if found.is_empty() {
            let names: Vec<_> = devices.iter().map(|device| device.name().to_string()).collect();
            let reason = match names.is_empty() {
                true => "Metal has no device".into(),
                false => {
                    format!("it needs a GPU of family Apple7 (M1) or later, and there is only {}", names.join(", "))
                }
            };
            return Err(HalError::Unavailable { backend: Backend::Metal, reason });
        }
        Ok(found)
    })
}

impl Adapter for MetalAdapter {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(MetalDevice::open(self.device.clone(), self.info.clone(), options)?))
    }
}

/// Bytes that Metal would still make resident at full speed.
pub(crate) fn memory_left(device: &ProtocolObject<dyn MTLDevice>) -> u64 {
    device.recommendedMaxWorkingSetSize().saturating_sub(device.currentAllocatedSize() as u64)
}

/// The newest shading language that this system compiles.
fn language() -> (u8, u8) {
    if available!(macos = 15.0, ios = 18.0, tvos = 18.0, visionos = 2.0) {
        (3, 2)
    } else if available!(macos = 14.0, ios = 17.0, tvos = 17.0, visionos = 1.0) {
        (3, 1)
    } else if available!(macos = 13.0, ios = 16.0, tvos = 16.0) {
        (3, 0)
    } else {
        (2, 4)
    }
}

fn info(device: &ProtocolObject<dyn MTLDevice>) -> DeviceInfo {
    let families = [(MTLGPUFamily::Apple10, 10), (MTLGPUFamily::Apple9, 9), (MTLGPUFamily::Apple8, 8)];
    let size = device.maxThreadsPerThreadgroup();
    let facts = Facts {
        name: device.name().to_string(),
        system: NSProcessInfo::processInfo().operatingSystemVersionString().to_string(),
        family: families.into_iter().find(|(family, _)| device.supportsFamily(*family)).map_or(7, |(_, number)| number),
        language: language(),
        unified: device.hasUnifiedMemory(),
        working_set: device.recommendedMaxWorkingSetSize(),
        allocated: device.currentAllocatedSize() as u64,
        largest_buffer: device.maxBufferLength() as u64,
        group_size: [size.width as u32, size.height as u32, size.depth as u32],
        group_memory: device.maxThreadgroupMemoryLength() as u32,
        timestamps: device.supportsCounterSampling(MTLCounterSamplingPoint::AtStageBoundary),
        page: getpagesize() as u64,
    };
    facts.describe()
}
