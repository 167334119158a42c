//! Uploads and downloads through the staging ring, on devices that act as if they had memory of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{AXPY, AxpyParams};
use kovar::{Backend, Buffer, DType, Device, DeviceOptions, Dispatch, Element, Error, HalError, MemoryKind, Stats};
use kovar_hal::faulty::{At, Call, Failure, Fault, Faults, Faulty, Live};
use kovar_testing::subjects;

/// Of the ring, and of one part of a transfer.
const RING: u64 = 16 << 20;
const PART: u64 = 4 << 20;

fn discrete(options: DeviceOptions) -> DeviceOptions {
    DeviceOptions { discrete: true, ..options }
}

/// Every device of the machine, acting as a discrete one.
fn each(test: &str, check: impl Fn(&Device)) {
    for subject in subjects(test) {
        let device = Some(subject.name.parse().unwrap());
        let options = DeviceOptions { device, validation: subject.validation, ..DeviceOptions::default() };
        let device = Device::open(&discrete(options)).unwrap();
        check(&device);
        let messages = device.validation_messages();
        assert!(messages.is_empty(), "{}: {}", subject.name, messages.join("\n"));
    }
}

fn hidden<T: Element>(device: &Device, data: &[T]) -> Buffer {
    let buffer = device.buffer_in(MemoryKind::Device, T::DTYPE, &[data.len()], "hidden").unwrap();
    buffer.write(data).unwrap();
    buffer
}

fn pattern(words: usize, seed: u32) -> Vec<u32> {
    (0..words as u32).map(|i| (i ^ seed).wrapping_mul(0x9e37_79b9)).collect()
}

fn did(device: &Device, work: impl FnOnce()) -> Stats {
    let before = device.stats();
    work();
    device.stats() - before
}

#[test]
fn any_number_of_transfers_allocates_one_ring() {
    each("any_number_of_transfers_allocates_one_ring", |device| {
        let sizes = [1, 3, 1000, 65_536, 300_000, 3 << 20, 1, 5 << 20, 77];
        let buffers: Vec<Buffer> = sizes
            .iter()
            .map(|words| device.buffer_in(MemoryKind::Device, DType::U32, &[*words], "hidden").unwrap())
            .collect();
        let stats = did(device, || {
            for round in 0..3 {
                for (buffer, words) in buffers.iter().zip(sizes) {
                    buffer.write(&pattern(words, round)).unwrap();
                }
                for (buffer, words) in buffers.iter().zip(sizes) {
                    assert_eq!(buffer.read::<u32>().unwrap(), pattern(words, round));
                }
            }
        });
        assert_eq!((stats.allocations, stats.bytes_allocated), (1, RING));
        assert_eq!(stats.bytes_staged, stats.bytes_uploaded + stats.bytes_downloaded);
        assert_eq!(stats.bytes_uploaded, 3 * 4 * sizes.iter().sum::<usize>() as u64);
    });
}

#[test]
fn memory_that_the_host_sees_needs_no_ring() {
    for discrete in [false, true] {
        let device = Device::open(&DeviceOptions { discrete, ..DeviceOptions::of(Backend::Cpu) }).unwrap();
        let kind = if discrete { MemoryKind::Shared } else { MemoryKind::Device };
        let buffer = device.buffer_in(kind, DType::U32, &[9], "seen").unwrap();
        buffer.write(&[5u32; 9]).unwrap();
        assert_eq!(buffer.read::<u32>().unwrap(), [5; 9]);
        assert_eq!(device.stats().bytes_staged, 0);
        assert_eq!(device.stats().allocations, 1);
    }
}

#[test]
fn views_go_through_the_ring_at_their_offsets() {
    each("views_go_through_the_ring_at_their_offsets", |device| {
        let all = hidden(device, &pattern(1000, 1));
        let mut expected = pattern(1000, 1);
        all.view(300..777).unwrap().write(&pattern(477, 2)).unwrap();
        expected[300..777].copy_from_slice(&pattern(477, 2));
        assert_eq!(all.read::<u32>().unwrap(), expected);
        assert_eq!(all.view(299..301).unwrap().read::<u32>().unwrap(), expected[299..301]);
        // Bytes that are no whole words: read at any place, written only at the end.
        let bytes = hidden(device, &(0..=102).collect::<Vec<u8>>());
        assert_eq!(bytes.read::<u8>().unwrap(), (0..=102).collect::<Vec<u8>>());
        for (start, end) in [(1, 2), (3, 9), (50, 103)] {
            let part = bytes.view(start..end).unwrap().read::<u8>().unwrap();
            assert_eq!(part, (start as u8..end as u8).collect::<Vec<u8>>());
        }
        let refused = bytes.view(1..3).unwrap().write(&[0u8; 2]);
        assert!(matches!(refused, Err(Error::Device(HalError::Unsupported { .. }))), "{refused:?}");
    });
}

#[test]
fn what_is_submitted_after_an_upload_sees_it() {
    each("what_is_submitted_after_an_upload_sees_it", |device| {
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let n = 3 << 20;
        let y = hidden(device, &vec![0f32; n]);
        for round in 1..=4 {
            let x = hidden(device, &vec![round as f32; n]);
            let mut encoder = device.encoder().unwrap();
            let params = AxpyParams { n: n as u32, a: 1.0 };
            encoder
                .dispatch(Dispatch::new(&kernel).bind(0, &x).bind(1, &y).constants(&params).threads([n as u32, 1, 1]))
                .unwrap();
            // Nobody waits before the next upload begins.
            drop(encoder.commit().unwrap());
        }
        assert_eq!(y.read::<f32>().unwrap(), vec![10.0; n]);
    });
}

#[test]
fn progress_is_told_in_parts_and_ends_at_the_total() {
    each("progress_is_told_in_parts_and_ends_at_the_total", |device| {
        for bytes in [1000, PART, 3 * PART + 4, RING + 2 * PART + 400] {
            let data = Arc::new(vec![7u8; bytes as usize]);
            let mut told = vec![0u64];
            let tell = |more: u64| told.push(told.last().unwrap() + more);
            let (buffer, in_place) =
                device.import_with(data.clone(), DType::U8, &[data.len()], "weights", tell).unwrap();
            assert!(!in_place, "a discrete device imports nothing");
            assert_eq!(*told.last().unwrap(), bytes);
            assert_eq!(told.len() as u64 - 1, bytes.div_ceil(PART));
            assert!(told.is_sorted() && told.windows(2).all(|pair| pair[1] - pair[0] <= PART));
            assert_eq!(buffer.read::<u8>().unwrap(), *data);
        }
    });
}

/// The null device runs nothing, so that its transfers have always ended.
#[test]
fn transfers_wait_for_nothing_while_the_ring_has_room() {
    let device = Device::open(&discrete(DeviceOptions::of(Backend::Null))).unwrap();
    let stats = did(&device, || {
        for _ in 0..100 {
            hidden(&device, &vec![1u32; 200_000]);
        }
    });
    assert_eq!((stats.waits, stats.staging_waits, stats.allocations), (0, 0, 101));
}

fn faulty(limit: Option<Duration>) -> (Faulty, Faults, Device) {
    let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
    let device =
        Device::from_adapter(&adapter, &discrete(DeviceOptions { time_limit: limit, ..DeviceOptions::default() }));
    (adapter, faults, device.unwrap())
}

fn nth(faults: &Faults, call: Call, ahead: usize, failure: Failure) {
    let made = faults.calls().iter().filter(|made| **made == call).count();
    faults.inject(Fault { at: At::Nth(call, made + ahead), failure });
}

#[test]
fn a_ring_that_cannot_be_allocated_is_a_typed_error_and_tried_again() {
    let (_adapter, faults, device) = faulty(None);
    let buffer = device.buffer_in(MemoryKind::Device, DType::U32, &[64], "hidden").unwrap();
    nth(&faults, Call::CreateBuffer, 0, Failure::OutOfMemory);
    match buffer.write(&[1u32; 64]) {
        Err(Error::Device(HalError::OutOfMemory { label, bytes, .. })) => {
            assert_eq!((label.as_str(), bytes), ("staging ring", RING));
        }
        other => panic!("{other:?}"),
    }
    buffer.write(&[1u32; 64]).unwrap();
    assert_eq!(buffer.read::<u32>().unwrap(), [1; 64]);
}

#[test]
fn a_lost_device_ends_an_upload_of_many_parts() {
    let (_adapter, faults, device) = faulty(None);
    let words = 3 * PART as usize / 4;
    let buffer = device.buffer_in(MemoryKind::Device, DType::U32, &[words], "hidden").unwrap();
    nth(&faults, Call::Submit, 2, Failure::Lost);
    let error = buffer.write(&vec![1u32; words]).unwrap_err();
    assert!(matches!(error, Error::Device(HalError::DeviceLost { .. })), "{error}");
    let error = buffer.read::<u32>().unwrap_err();
    assert!(matches!(error, Error::Device(HalError::DeviceLost { .. })), "{error}");
    drop((buffer, device));
    assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]));
}

#[test]
fn the_failure_of_a_copy_poisons_what_it_should_have_written() {
    let (_adapter, faults, device) = faulty(None);
    let words = 2 * PART as usize / 4;
    let buffer = hidden(&device, &vec![1u32; words]);
    nth(&faults, Call::Submit, 1, Failure::Fault);
    buffer.write(&vec![2u32; words]).unwrap();
    assert_eq!(buffer.view(0..words / 2).unwrap().read::<u32>().unwrap(), vec![2; words / 2]);
    let part = buffer.view(words / 2..words).unwrap();
    assert!(matches!(part.read::<u32>(), Err(Error::Poisoned { .. })));
    part.write(&vec![3u32; words / 2]).unwrap();
    assert_eq!(part.read::<u32>().unwrap(), vec![3; words / 2]);
    nth(&faults, Call::Submit, 0, Failure::Fault);
    assert!(matches!(part.read::<u32>(), Err(Error::Device(HalError::Fault { .. }))));
    assert_eq!(part.read::<u32>().unwrap(), vec![3; words / 2]);
}

#[test]
fn a_transfer_that_hangs_ends_with_the_time_limit_and_keeps_what_it_uses() {
    let (_adapter, faults, device) = faulty(Some(Duration::from_millis(20)));
    let words = PART as usize / 4;
    let buffer = device.buffer_in(MemoryKind::Device, DType::U32, &[words], "hidden").unwrap();
    nth(&faults, Call::Submit, 0, Failure::Hang);
    // The ring takes four parts; the fifth would have to wait for the first.
    let buffers: Vec<Buffer> =
        (0..5).map(|_| device.buffer_in(MemoryKind::Device, DType::U32, &[words], "hidden").unwrap()).collect();
    let written: Vec<_> = buffers.iter().map(|buffer| buffer.write(&vec![1u32; words])).collect();
    assert!(written[..4].iter().all(Result::is_ok), "{written:?}");
    assert!(matches!(written[4], Err(Error::Device(HalError::Timeout { .. }))), "{written:?}");
    assert!(matches!(buffer.read::<u32>(), Err(Error::Device(HalError::Timeout { .. }))));
    drop(buffers);
    faults.release().unwrap();
    // What was held back may take longer than the limit, too, on a busy machine: then the read is tried again.
    let read = loop {
        match buffer.read::<u32>() {
            Err(Error::Device(HalError::Timeout { .. })) => {}
            read => break read.unwrap(),
        }
    };
    assert_eq!(read, vec![0; words]);
    drop((buffer, device));
    assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]));
}

#[test]
fn a_buffer_that_outlives_its_device_goes_through_the_ring_and_leaves_nothing_behind() {
    let (adapter, faults, device) = faulty(None);
    let buffer = hidden(&device, &[1u32; 64]);
    drop((device, adapter));
    buffer.write(&[2u32; 64]).unwrap();
    assert_eq!(buffer.read::<u32>().unwrap(), [2; 64]);
    buffer.write(&[3u32; 64]).unwrap();
    drop(buffer);
    assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]));
}

#[test]
fn many_threads_share_the_ring() {
    each("many_threads_share_the_ring", |device| {
        std::thread::scope(|scope| {
            for thread in 0..4u32 {
                scope.spawn(move || {
                    for round in 0..6 {
                        let words = 700_000 * (1 + (thread as usize + round) % 3);
                        let data = pattern(words, thread * 100 + round as u32);
                        assert_eq!(hidden(device, &data).read::<u32>().unwrap(), data);
                    }
                });
            }
        });
    });
}
