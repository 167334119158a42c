//! The residency set: what enters and leaves it, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::null;
use kovar::{
    Backend, Buffer, CpuPaging, DType, Device, DeviceOptions, Error, ExecutableOptions, Graph, HalError, MemoryKind,
    Stats,
};
use kovar_hal::faulty::{At, Call, Failure, Fault, Faults, Faulty, Live};

fn faulty(inner: Box<dyn kovar_hal::Adapter>) -> (Faulty, Faults, Device) {
    let (adapter, faults) = Faulty::new(inner);
    let device = Device::from_adapter(&adapter, &DeviceOptions::default()).unwrap();
    (adapter, faults, device)
}

fn buffer(device: &Device) -> Buffer {
    device.buffer(DType::U32, &[64]).unwrap()
}

fn fill(device: &Device, buffers: &[&Buffer]) -> kovar::Result<kovar::Submission> {
    let mut encoder = device.encoder().unwrap();
    buffers.iter().for_each(|buffer| encoder.fill(buffer, 1).unwrap());
    encoder.commit()
}

/// Added, removed, flushed.
fn counts(stats: Stats) -> [u64; 3] {
    [stats.residency_added, stats.residency_removed, stats.residency_flushes]
}

#[test]
fn changes_are_staged_and_flushed_once_at_each_commit() {
    let (_adapter, faults, device) = faulty(kovar_hal::null::adapter());
    let flushes = || faults.calls().iter().filter(|call| **call == Call::UpdateResidency).count();
    let buffers: Vec<Buffer> = (0..10).map(|_| buffer(&device)).collect();
    assert_eq!((counts(device.stats()), flushes()), ([10, 0, 0], 0));
    let all: Vec<&Buffer> = buffers.iter().collect();
    fill(&device, &all).unwrap().wait().unwrap();
    assert_eq!((counts(device.stats()), flushes()), ([10, 0, 1], 1));
    // Nothing changes: nothing is flushed.
    for _ in 0..5 {
        fill(&device, &all).unwrap().wait().unwrap();
    }
    assert_eq!((counts(device.stats()), flushes()), ([10, 0, 1], 1));
    drop(buffers);
    assert_eq!(faults.live().buffers, 10, "they leave the set before they are destroyed");
    let other = buffer(&device);
    fill(&device, &[&other]).unwrap().wait().unwrap();
    assert_eq!((counts(device.stats()), flushes()), ([11, 10, 2], 2));
    assert_eq!(faults.live().buffers, 1);
    drop((other, device));
    assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]));
}

#[test]
fn a_buffer_that_was_never_in_the_set_is_destroyed_at_once() {
    let (_adapter, faults, device) = faulty(kovar_hal::null::adapter());
    for _ in 0..100 {
        drop(buffer(&device));
    }
    assert_eq!(faults.live().buffers, 0);
    fill(&device, &[]).unwrap().wait().unwrap();
    assert_eq!(counts(device.stats()), [100, 0, 0]);
}

#[test]
fn what_a_submission_uses_stays_in_the_set_until_it_has_ended() {
    let (_adapter, faults, device) = faulty(kovar_hal::cpu::adapter());
    let (x, y) = (buffer(&device), buffer(&device));
    faults.inject(Fault { at: At::Nth(Call::Submit, 0), failure: Failure::Hang });
    let first = fill(&device, &[&x]).unwrap();
    drop(x);
    let second = fill(&device, &[&y]).unwrap();
    assert_eq!(counts(device.stats()), [2, 0, 1]);
    faults.release().unwrap();
    first.wait().unwrap();
    second.wait().unwrap();
    assert_eq!(counts(device.stats()), [2, 1, 1]);
    fill(&device, &[&y]).unwrap().wait().unwrap();
    assert_eq!((counts(device.stats()), faults.live().buffers), ([2, 1, 2], 1));
    assert_eq!(faults.misuse(), Vec::<String>::new());
}

#[test]
fn much_memory_does_not_wait_for_a_commit() {
    let (_adapter, faults, device) = faulty(kovar_hal::null::adapter());
    let large = |megabytes: usize| device.buffer(DType::U8, &[megabytes << 20]).unwrap();
    let (model, small) = ([large(9), large(9)], large(1));
    fill(&device, &[&model[0], &model[1], &small]).unwrap().wait().unwrap();
    drop(model);
    assert_eq!(faults.live().buffers, 1);
    drop(small);
    assert_eq!((faults.live().buffers, counts(device.stats())), (1, [3, 3, 2]));
}

#[test]
fn memory_that_is_short_takes_back_what_waits() {
    let (_adapter, faults, device) = faulty(kovar_hal::null::adapter());
    let x = buffer(&device);
    fill(&device, &[&x]).unwrap().wait().unwrap();
    drop(x);
    assert_eq!(faults.live().buffers, 1);
    let made = faults.calls().iter().filter(|call| **call == Call::CreateBuffer).count();
    faults.inject(Fault { at: At::Nth(Call::CreateBuffer, made), failure: Failure::OutOfMemory });
    let y = buffer(&device);
    assert_eq!(faults.live().buffers, 1);
    // With nothing to take back it is an error.
    faults.inject(Fault { at: At::Nth(Call::CreateBuffer, made + 2), failure: Failure::OutOfMemory });
    assert!(matches!(device.buffer(DType::U32, &[1]), Err(Error::Device(HalError::OutOfMemory { .. }))));
    drop(y);
}

#[test]
fn a_flush_that_fails_is_an_error_of_the_commit_and_tried_again() {
    let (_adapter, faults, device) = faulty(kovar_hal::cpu::adapter());
    let x = buffer(&device);
    faults.inject(Fault { at: At::Nth(Call::UpdateResidency, 0), failure: Failure::Driver });
    assert!(matches!(fill(&device, &[&x]), Err(Error::Device(HalError::Driver { .. }))));
    fill(&device, &[&x]).unwrap().wait().unwrap();
    assert_eq!((counts(device.stats()), x.read::<u32>().unwrap()), ([1, 0, 1], vec![1; 64]));
}

#[test]
fn imported_memory_outlives_its_place_in_the_set() {
    let device = Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap();
    let owner = Arc::new(vec![7u8; 3 * 4096]);
    let pages = |owner: &Arc<Vec<u8>>| owner.as_ptr().align_offset(4096);
    struct Page(Arc<Vec<u8>>, usize);
    impl AsRef<[u8]> for Page {
        fn as_ref(&self) -> &[u8] {
            &self.0[self.1..self.1 + 4096]
        }
    }
    let page = Arc::new(Page(owner.clone(), pages(&owner)));
    let (imported, in_place) = device.import(page, DType::U8, &[4096], "weights").unwrap();
    assert!(in_place);
    let y = device.buffer(DType::U8, &[4096]).unwrap();
    let copy = || {
        let mut encoder = device.encoder().unwrap();
        encoder.copy(&imported, &y).unwrap();
        encoder.commit().unwrap().wait().unwrap();
    };
    copy();
    drop(imported);
    assert_eq!(Arc::strong_count(&owner), 2, "it is in the set");
    fill(&device, &[]).unwrap().wait().unwrap();
    assert_eq!(Arc::strong_count(&owner), 1);
}

#[test]
fn a_replay_flushes_nothing() {
    let device = null();
    let x = buffer(&device);
    let graph = Graph::capture(&device, "step", |encoder| encoder.fill(&x, 1)).unwrap();
    let mut step = graph.compile(&ExecutableOptions::default()).unwrap();
    step.submit().unwrap().wait().unwrap();
    let before = counts(device.stats());
    for _ in 0..100 {
        step.submit().unwrap().wait().unwrap();
    }
    assert_eq!(counts(device.stats()), before);
}

/// A line of `/proc/self/status` in bytes; `None` where there is no such file.
fn status(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[test]
fn pages_come_and_stay_as_the_options_say() {
    const BYTES: u64 = 4 << 20;
    let open = |paging| Device::open(&DeviceOptions { paging, ..DeviceOptions::of(Backend::Cpu) }).unwrap();
    let make = |device: &Device| device.buffer_in(MemoryKind::Device, DType::U8, &[BYTES as usize], "pages").unwrap();
    let device = open(CpuPaging::Locked);
    let buffer = make(&device);
    assert_eq!(buffer.view(0..64).unwrap().read::<u8>().unwrap(), [0; 64]);
    let Some(before) = status("VmLck") else {
        return kovar_testing::note("pages_come_and_stay_as_the_options_say", "no /proc/self/status");
    };
    match fill(&device, &[&buffer]) {
        Ok(submission) => {
            submission.wait().unwrap();
            assert!(status("VmLck").unwrap() >= before + BYTES);
            drop(buffer);
            fill(&device, &[]).unwrap().wait().unwrap();
            assert!(status("VmLck").unwrap() < before + BYTES);
        }
        // The system's limit may be lower.
        Err(Error::Device(HalError::OutOfMemory { reason, .. })) => assert!(reason.contains("ulimit -l"), "{reason}"),
        Err(other) => panic!("{other}"),
    }
    for (paging, comes) in [(CpuPaging::OnTouch, false), (CpuPaging::Prefault, true)] {
        // Large enough to stand out from what other tests of this process do.
        let before = status("VmRSS").unwrap();
        let device = open(paging);
        let buffers: Vec<Buffer> = (0..32).map(|_| make(&device)).collect();
        let grown = status("VmRSS").unwrap().saturating_sub(before);
        assert_eq!(grown > 16 * BYTES, comes, "{paging:?}: {grown} bytes");
        drop(buffers);
    }
}
