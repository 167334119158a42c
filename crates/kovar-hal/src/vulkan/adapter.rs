use std::sync::Arc;

use ash::vk;

use super::capabilities::Capabilities;
use super::device::VulkanDevice;
use super::instance::{Instance, unavailable};
use crate::{Adapter, Device, DeviceInfo, DeviceKind, HalError, OpenOptions, Result};

struct VulkanAdapter {
    instance: Arc<Instance>,
    physical: vk::PhysicalDevice,
    capabilities: Capabilities,
}

pub(crate) fn enumerate() -> Result<Vec<Box<dyn Adapter>>> {
    let instance = Instance::load(false)?;
    let mut found: Vec<VulkanAdapter> = Vec::new();
    let mut refused = Vec::new();
    for physical in instance.physical_devices()? {
        match Capabilities::query(&instance, physical) {
            Ok(capabilities) => found.push(VulkanAdapter { instance: instance.clone(), physical, capabilities }),
            Err(reason) => refused.push(reason),
        }
    }
    if found.is_empty() {
        return Err(unavailable(match refused.is_empty() {
            true => "the loader found no device".to_string(),
            false => format!("no device can be used: {}", refused.join("; ")),
        }));
    }
    found.sort_by_key(|adapter| match adapter.capabilities.info.kind {
        DeviceKind::Discrete => 0,
        DeviceKind::Integrated => 1,
        DeviceKind::Virtual => 2,
        DeviceKind::Cpu => 3,
    });
    Ok(found.into_iter().map(|adapter| Box::new(adapter) as Box<dyn Adapter>).collect())
}

impl VulkanAdapter {
    /// The same device seen through an instance that has the validation layer.
    fn validated(&self) -> Result<(Arc<Instance>, vk::PhysicalDevice)> {
        let instance = Instance::load(true)?;
        for physical in instance.physical_devices()? {
            let same = |c: Capabilities| c.identity == self.capabilities.identity;
            if Capabilities::query(&instance, physical).is_ok_and(same) {
                return Ok((instance, physical));
            }
        }
        Err(HalError::Unavailable {
            backend: self.capabilities.info.backend,
            reason: format!("{} is not seen through the validation layer", self.capabilities.info.name),
        })
    }
}

impl Adapter for VulkanAdapter {
    fn info(&self) -> &DeviceInfo {
        &self.capabilities.info
    }

    fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Device>> {
        let (instance, physical) = match options.validation {
            true => self.validated()?,
            false => (self.instance.clone(), self.physical),
        };
        let capabilities = self.capabilities.clone();
        let capabilities = if options.discrete { capabilities.discrete() } else { capabilities };
        Ok(Arc::new(VulkanDevice::open(instance, physical, capabilities)?))
    }
}
