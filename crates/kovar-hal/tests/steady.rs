//! That thousands of recordings leave nothing behind. By itself, because it looks at the whole process.

// A test fails by panicking, and so do its helpers.
#![allow(clippy::panic, clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;

use kovar_hal::{BufferDesc, Device, MemoryKind, OpenOptions, RecorderDesc, SubmitDesc, Timing};

/// What the system counts for this process.
#[derive(Debug)]
struct Footprint {
    descriptors: usize,
    threads: usize,
    resident: usize,
}

fn entries(folder: &str) -> Option<usize> {
    Some(std::fs::read_dir(folder).ok()?.count())
}

/// `None` where the system has no `/proc`.
fn footprint() -> Option<Footprint> {
    let pages: usize = std::fs::read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    let (descriptors, threads) = (entries("/proc/self/fd")?, entries("/proc/self/task")?);
    Some(Footprint { descriptors, threads, resident: pages * 4096 })
}

/// Each makes an event and a buffer, records fills and copies with every sort of timing, submits, waits, destroys.
fn record(device: &Arc<dyn Device>, times: usize) {
    for i in 0..times {
        let timing = [Timing::Off, Timing::Whole, Timing::Dispatches][i % 3];
        let done = device.create_event(0).unwrap();
        let desc = BufferDesc { size: 4096, memory: MemoryKind::Shared, label: "steady" };
        let buffer = device.create_buffer(&desc).unwrap();
        let mut recorder =
            device.create_recorder(&RecorderDesc { label: "steady", timing, reusable: i % 2 == 0 }).unwrap();
        recorder.push_label("part");
        // SAFETY: ranges lie within the buffer and conflict only across the barrier; all ends before it is destroyed.
        unsafe {
            recorder.fill(buffer, 0, 4096, i as u32);
            recorder.barrier();
            recorder.copy(buffer, 0, buffer, 2048, 1024);
        }
        recorder.pop_label();
        let commands = [recorder.finish().unwrap()];
        let signals = [(done, 1)];
        // SAFETY: as above.
        unsafe {
            device.submit(&SubmitDesc { label: "steady", commands: &commands, waits: &[], signals: &signals }).unwrap();
            assert!(device.wait_event(done, 1, None).unwrap());
            assert_eq!(commands[0].times().len(), if timing == Timing::Dispatches { 2 } else { 0 });
            device.destroy_buffer(buffer);
            device.destroy_event(done);
        }
    }
}

#[test]
fn recordings_leave_nothing_behind() {
    for subject in kovar_testing::subjects("recordings_leave_nothing_behind") {
        let device = subject.open_with(&OpenOptions::default());
        record(&device, 500);
        let Some(before) = footprint() else {
            kovar_testing::note("recordings_leave_nothing_behind", "this system has no /proc to look at");
            return;
        };
        record(&device, 10_000);
        let after = footprint().unwrap();
        assert_eq!((before.descriptors, before.threads), (after.descriptors, after.threads), "{}", subject.name);
        // 100 bytes a recording would be 1 MB. Allocators keep some pages for themselves.
        let grown = after.resident.saturating_sub(before.resident);
        assert!(grown < 768 << 10, "{}: {before:?} {after:?}", subject.name);
    }
}
