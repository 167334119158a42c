//! Whether what a program needs fits, told before it is allocated, and held to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kovar::{Backend, DType, Device, DeviceOptions, Error, HalError, MemoryKind, MemoryNeed};
use proptest::prelude::*;

const LIMIT: u64 = 1 << 20;

fn limited() -> Device {
    Device::open(&DeviceOptions { memory_limit: Some(LIMIT), ..DeviceOptions::of(Backend::Null) }).unwrap()
}

proptest! {
    #[test]
    fn an_answer_is_exact_to_the_byte(weights in 0..LIMIT, cache in 0..LIMIT, scratch in 0..LIMIT, used in 0..LIMIT) {
        let device = limited();
        let used = used / 16 * 16;
        let buffer = (used > 0).then(|| device.buffer(DType::U8, &[used as usize]).unwrap());
        prop_assert_eq!(device.memory_used(), used);
        let need = MemoryNeed { weights, cache, scratch };
        let wanted = weights + cache + scratch + used;
        match device.admit(&need) {
            Ok(admission) => {
                prop_assert_eq!(admission.available, LIMIT - used);
                prop_assert_eq!(admission.spare() + wanted, LIMIT);
            }
            Err(Error::DoesNotFit { excess, available, .. }) => {
                prop_assert_eq!(LIMIT + excess, wanted);
                prop_assert_eq!(available, LIMIT - used);
            }
            Err(other) => panic!("{other}"),
        }
        drop(buffer);
    }

    #[test]
    fn no_numbers_overflow(weights: u64, cache: u64, scratch: u64) {
        let need = MemoryNeed { weights, cache, scratch };
        let fits = limited().admit(&need).is_ok();
        prop_assert_eq!(fits, u128::from(weights) + u128::from(cache) + u128::from(scratch) <= u128::from(LIMIT));
    }
}

#[test]
fn the_message_says_what_is_needed_and_what_is_missing() {
    let need = MemoryNeed { weights: 3 << 20, cache: 1 << 19, scratch: 1 << 18 };
    let error = limited().admit(&need).unwrap_err().to_string();
    let start = "3.8 MiB (weights 3.0 MiB, cache 0.5 MiB, scratch 0.2 MiB) does not fit: the device has 1.0 MiB left, \
                 2.8 MiB too little";
    assert!(error.starts_with(start), "{error}");
}

#[test]
fn a_limit_holds_for_all_buffers_together() {
    let device = limited();
    let half = |label: &str| device.buffer_in(MemoryKind::Device, DType::U8, &[LIMIT as usize / 2], label);
    let first = half("first").unwrap();
    let second = half("second").unwrap();
    match half("third") {
        Err(Error::Device(HalError::OutOfMemory { label, bytes, .. })) => {
            assert_eq!((label.as_str(), bytes), ("third", LIMIT / 2));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(device.scratch(DType::U8, &[1]), Err(Error::Device(HalError::OutOfMemory { .. }))));
    let mut encoder = device.encoder().unwrap();
    encoder.fill(&first, 0).unwrap();
    encoder.commit().unwrap().wait().unwrap();
    // It has been in the residency set, and waits there for the next commit: what is short takes it back.
    drop(first);
    half("third").unwrap();
    drop(second);
}

#[test]
fn every_device_has_room_for_a_little_and_not_for_everything() {
    for subject in kovar_testing::subjects("every_device_has_room_for_a_little_and_not_for_everything") {
        let device = Device::open(&DeviceOptions::of(subject.adapter.info().backend)).unwrap();
        let admission = device.admit(&MemoryNeed { weights: 1 << 20, ..MemoryNeed::default() }).unwrap();
        assert!(admission.available <= subject.adapter.info().memory.total, "{}", subject.name);
        let much = MemoryNeed { scratch: 1 << 50, ..MemoryNeed::default() };
        assert!(matches!(device.admit(&much), Err(Error::DoesNotFit { .. })), "{}", subject.name);
    }
}
