//! Tests that all levels of the processor compute the same.

use kovar::{Backend, Buffer, CpuFactory, Device, DeviceOptions, KernelSource, Result};

use super::Level;

/// The kernels that a function makes of the levels 0 to 3.
macro_rules! factories {
    (|$level:ident| $make:expr) => {
        $crate::simd::agreement::factories!(@each $level, $make; 0 1 2 3)
    };
    (@each $level:ident, $make:expr; $($number:literal)*) => {
        [$(|_: kovar::Specialization<'_>| {
            let $level = $crate::simd::agreement::level($number)?;
            Ok($make as std::sync::Arc<dyn kovar::CpuKernel>)
        }),*]
    };
}
pub(crate) use factories;

pub(crate) fn level(number: usize) -> std::result::Result<Level, String> {
    Level::available().get(number).copied().ok_or_else(|| "is not there".into())
}

/// About normal values, always the same.
pub(crate) fn floats(device: &Device, shape: &[usize]) -> Buffer {
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| ((i * 7919 % 1009) as f32 - 504.0) / 300.0).collect();
    device.upload(&values, shape).unwrap()
}

/// Levels with a fused multiply-add give the same bits; the plain one is as near as `tolerance`.
pub(crate) fn agree(
    name: &'static str,
    wgsl: &'static str,
    factories: [CpuFactory; 4],
    tolerance: f32,
    call: impl Fn(&Device, &KernelSource) -> Result<Vec<f32>>,
) {
    let levels = Level::available();
    let results: Vec<Vec<f32>> = (factories.into_iter().take(levels.len()))
        .map(|factory| {
            let device = Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap();
            call(&device, &KernelSource::wgsl(name, wgsl).with_cpu(factory)).unwrap()
        })
        .collect();
    for (level, result) in levels.iter().zip(&results) {
        for (i, (a, b)) in result.iter().zip(&results[0]).enumerate() {
            let same = if matches!(level, Level::Plain(_)) { (a - b).abs() <= tolerance } else { a == b };
            assert!(same, "{name} [{i}]: {a} and {b}");
        }
    }
}
