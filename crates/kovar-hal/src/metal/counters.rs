use std::ptr::NonNull;

use objc2::rc::autoreleasepool;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLCommonCounterSetTimestamp, MTLCounterSampleBuffer, MTLCounterSampleBufferDescriptor, MTLCounterSamplingPoint,
    MTLCounterSet, MTLDevice, MTLStorageMode,
};

use super::clock::{Calibration, Reading};
use super::list::List;
use super::object::{Metal, Threaded, text};
use super::script::{sample_buffers, sample_place};
use crate::{HalError, Result, TimeSpan};

unsafe extern "C" {
    /// Nanoseconds of a clock (libSystem).
    safe fn clock_gettime_nsec_np(clock: std::ffi::c_uint) -> u64;
}

/// Mach absolute time, in nanoseconds (`<time.h>`).
const CLOCK_UPTIME_RAW: std::ffi::c_uint = 8;

/// The device's clock: see `clock.rs`.
pub(crate) fn uptime() -> u64 {
    clock_gettime_nsec_np(CLOCK_UPTIME_RAW)
}

/// Reads both clocks.
pub(crate) fn reading(device: &ProtocolObject<dyn MTLDevice>) -> Reading {
    let (mut cpu, mut gpu) = (0, 0);
    let before = uptime();
    // SAFETY: both pointers are to live integers.
    unsafe { device.sampleTimestamps_gpuTimestamp(NonNull::from(&mut cpu), NonNull::from(&mut gpu)) };
    Reading::new(cpu, gpu, before, uptime())
}

/// The set of timestamps, if this device samples them where passes begin and end. Apple GPUs do so there alone.
/// In a pool.
pub(crate) fn timestamps(device: &ProtocolObject<dyn MTLDevice>) -> Option<Metal<dyn MTLCounterSet>> {
    if !device.supportsCounterSampling(MTLCounterSamplingPoint::AtStageBoundary) {
        return None;
    }
    // SAFETY: a constant string of the framework.
    let wanted = unsafe { MTLCommonCounterSetTimestamp };
    device.counterSets()?.iter().find(|set| set.name().isEqualToString(wanted))
}

/// The samples of a list.
#[derive(Default)]
pub(crate) struct Samples(pub(crate) Vec<Threaded<Metal<dyn MTLCounterSampleBuffer>>>);

impl Samples {
    /// Room for the timed passes of a list.
    pub(crate) fn new(
        device: &ProtocolObject<dyn MTLDevice>,
        set: &ProtocolObject<dyn MTLCounterSet>,
        list: &List,
    ) -> Result<Samples> {
        let make = |count: u32| {
            let desc = MTLCounterSampleBufferDescriptor::new();
            desc.setCounterSet(Some(set));
            desc.setLabel(&NSString::from_str(&list.label));
            desc.setStorageMode(MTLStorageMode::Shared);
            // SAFETY: at most 4,096, which Apple silicon takes.
            unsafe { desc.setSampleCount(count as usize) };
            let made = device.newCounterSampleBufferWithDescriptor_error(&desc);
            made.map(Threaded).map_err(|error| HalError::Driver {
                call: "newCounterSampleBufferWithDescriptor",
                reason: text(&error),
            })
        };
        autoreleasepool(|_| {
            Ok(Samples(sample_buffers(list.timed_passes).into_iter().map(make).collect::<Result<_>>()?))
        })
    }

    /// The times of the commands of a list, after it was executed.
    pub(crate) fn spans(&self, list: &List, clock: &Calibration) -> Vec<Option<TimeSpan>> {
        let ticks: Vec<Vec<u64>> = autoreleasepool(|_| self.0.iter().map(|buffer| resolve(buffer)).collect());
        let span = |pass: u32| {
            let (buffer, first) = sample_place(pass);
            let ticks = ticks.get(buffer)?;
            clock.span(*ticks.get(first as usize)?, *ticks.get(first as usize + 1)?)
        };
        list.timed.iter().map(|pass| pass.and_then(span)).collect()
    }
}

/// In a pool.
fn resolve(buffer: &ProtocolObject<dyn MTLCounterSampleBuffer>) -> Vec<u64> {
    // SAFETY: the range is the whole of a buffer in shared memory.
    let data = unsafe { buffer.resolveCounterRange(NSRange::new(0, buffer.sampleCount())) };
    // `MTLCounterResultTimestamp` is one 64-bit number.
    let bytes = data.map(|data| data.to_vec()).unwrap_or_default();
    bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect()
}
