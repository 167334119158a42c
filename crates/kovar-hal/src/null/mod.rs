//! A device that records everything and executes nothing: for measuring the host's cost and testing policy.
//!
//! Buffers are real host memory, so that reads and writes work; kernels leave it untouched. A submission has ended when
//! those before it have and what it waits for is there. The finished list can be inspected: [`NullCommandBuffer`].

mod device;
mod queue;
mod recorder;

use std::sync::Arc;

pub use recorder::{NullCommand, NullCommandBuffer};

use crate::{
    Adapter, Backend, Device, DeviceInfo, DeviceKind, Features, Limits, MemoryInfo, OpenOptions, Result, ShaderFormat,
    Subgroup,
};

struct NullAdapter {
    info: DeviceInfo,
}

/// The null device. Its limits are those that Vulkan guarantees, so that what it accepts runs elsewhere.
pub fn adapter() -> Box<dyn Adapter> {
    adapter_for(ShaderFormat::None)
}

/// A null device that asks for code in this form: what Metal would be given can be tried without Metal.
pub fn adapter_for(shader: ShaderFormat) -> Box<dyn Adapter> {
    Box::new(NullAdapter {
        info: DeviceInfo {
            backend: Backend::Null,
            name: "null".into(),
            driver: format!("kovar {}", env!("CARGO_PKG_VERSION")),
            kind: DeviceKind::Virtual,
            memory: MemoryInfo { unified: true, total: 1 << 40, budget: None },
            subgroup: Subgroup { size: 32, min: 32, max: 32, selectable: false },
            features: Features { f16: true, subgroups: true, int_dot: true, ..Features::default() },
            limits: Limits {
                groups: [65535; 3],
                group_size: [1024, 1024, 64],
                group_threads: 1024,
                group_memory: 48 << 10,
                constants: 128,
                bindings: 16,
                storage_alignment: 16,
                uniform_alignment: 64,
                buffer: 1 << 40,
                binding: (4 << 30) - 1,
                import_alignment: 4096,
            },
            shader,
        },
    })
}

impl Adapter for NullAdapter {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Device>> {
        let info = if options.discrete { self.info.clone().discrete() } else { self.info.clone() };
        Ok(Arc::new(device::NullDevice::new(info, options.discrete)))
    }
}
