use std::sync::Arc;

use super::device::CpuDevice;
use crate::{
    Adapter, Backend, Device, DeviceInfo, DeviceKind, Features, Limits, MemoryInfo, OpenOptions, Result, ShaderFormat,
    Subgroup,
};

pub(crate) struct CpuAdapter {
    info: DeviceInfo,
}

impl CpuAdapter {
    pub(crate) fn new() -> CpuAdapter {
        let (total, budget) = memory();
        CpuAdapter {
            info: DeviceInfo {
                backend: Backend::Cpu,
                name: name(),
                driver: format!("kovar {}, {}", env!("CARGO_PKG_VERSION"), simd()),
                kind: DeviceKind::Cpu,
                memory: MemoryInfo { unified: true, total, budget },
                subgroup: Subgroup { size: 1, min: 1, max: 1, selectable: false },
                features: Features {
                    f16: true,
                    bf16: true,
                    int_dot: true,
                    subgroups: true,
                    cooperative_matrix: Vec::new(),
                    host_import: true,
                    timestamp_ns: Some(1.0),
                },
                limits: Limits {
                    groups: [u32::MAX >> 1; 3],
                    group_size: [1024; 3],
                    group_threads: 1024,
                    group_memory: 64 << 10,
                    constants: 256,
                    bindings: 31,
                    storage_alignment: 4,
                    uniform_alignment: 4,
                    buffer: isize::MAX as u64,
                    binding: isize::MAX as u64,
                    import_alignment: 1,
                },
                shader: ShaderFormat::Cpu,
            },
        }
    }
}

impl Adapter for CpuAdapter {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn open(&self, options: &OpenOptions) -> Result<Arc<dyn Device>> {
        Ok(Arc::new(CpuDevice::open(self.info.clone(), options)?))
    }
}

/// Value of the first line of a `/proc` file that starts with `key`.
fn proc_field(file: &str, key: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

fn name() -> String {
    proc_field("/proc/cpuinfo", "model name").unwrap_or_else(|| format!("{} processor", std::env::consts::ARCH))
}

/// Total and available bytes of the machine, as far as it tells: Linux does in `/proc/meminfo`.
pub(crate) fn memory() -> (u64, Option<u64>) {
    let kib = |key| -> Option<u64> {
        proc_field("/proc/meminfo", key)?.split_whitespace().next()?.parse::<u64>().ok().map(|n| n << 10)
    };
    (kib("MemTotal").unwrap_or(0), kib("MemAvailable"))
}

fn simd() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512vnni") {
            return "AVX-512 VNNI";
        }
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "AVX-512";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return "AVX2";
        }
        "SSE2"
    }
    #[cfg(target_arch = "aarch64")]
    {
        "NEON"
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        "scalar"
    }
}
