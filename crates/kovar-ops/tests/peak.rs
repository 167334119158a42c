//! What a profile is told of the kernels that measure a device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kovar::profile::Profiler;
use kovar::{DType, Device, EncoderOptions, Timing};
use kovar_checks::ops::harness::cpu;
use kovar_ops::peak;

/// What a profile is told of each of them, on one device.
fn operations(device: &Device, record: impl Fn(&mut kovar::CommandEncoder) -> kovar::Result<()>) -> Option<u64> {
    let profiler = Profiler::attach(device).unwrap();
    let options = EncoderOptions { timing: Timing::Dispatches, ..EncoderOptions::default() };
    let mut enc = device.encoder_with(options).unwrap();
    record(&mut enc).unwrap();
    enc.commit().unwrap().wait().unwrap();
    profiler.take().unwrap().runs[0].commands[0].cost.operations
}

#[test]
fn a_profile_is_told_how_much_they_compute() {
    let device = &cpu();
    let (x, y) = (device.buffer(DType::F32, &[4096]).unwrap(), device.buffer(DType::F32, &[256]).unwrap());
    assert_eq!(operations(device, |enc| peak::read(enc, &x, &y)), Some(4096));
    assert_eq!(operations(device, |enc| peak::fma(enc, &y, 10)), Some(256 * 10 * 8 * 2));
    let y = device.buffer(DType::U32, &[256]).unwrap();
    assert_eq!(operations(device, |enc| peak::dot(enc, &y, 10)), Some(256 * 10 * 8 * 8));
}
