//! What a failed submission leaves behind, and how the end of a device is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use kovar::{
    Buffer, DType, Device, DeviceOptions, EncoderOptions, Error, ExecutableOptions, Graph, HalError, Submission, Timing,
};
use kovar_hal::faulty::{At, Call, Failure, Fault, Faults, Faulty, Live};

const N: usize = 64;

fn open(options: &DeviceOptions) -> (Faulty, Faults, Device) {
    let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
    let device = Device::from_adapter(&adapter, options).unwrap();
    (adapter, faults, device)
}

fn fail_next(faults: &Faults, failure: Failure) {
    let made = faults.calls().iter().filter(|call| **call == Call::Submit).count();
    faults.inject(Fault { at: At::Nth(Call::Submit, made), failure });
}

fn buffer(device: &Device, label: &str) -> Buffer {
    device.buffer_in(kovar::MemoryKind::Shared, DType::U32, &[N], label).unwrap()
}

fn fill(device: &Device, buffer: &Buffer, label: &str) -> Submission {
    let mut encoder = device.encoder_with(EncoderOptions { label: label.into(), ..EncoderOptions::default() }).unwrap();
    encoder.fill(buffer, 7).unwrap();
    encoder.commit().unwrap()
}

fn is_poisoned(buffer: &Buffer) -> bool {
    match buffer.read::<u32>() {
        Ok(_) => false,
        Err(Error::Poisoned { .. }) => true,
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn the_failure_of_a_dropped_submission_is_seen_when_its_result_is_read() {
    let (_, faults, device) = open(&DeviceOptions::default());
    let x = buffer(&device, "x");
    fail_next(&faults, Failure::Fault);
    drop(fill(&device, &x, "lost sight of"));
    assert!(is_poisoned(&x));
    fill(&device, &x, "again").wait().unwrap();
    assert_eq!(x.read::<u32>().unwrap(), [7; N]);
}

#[test]
fn what_the_host_writes_after_a_failure_is_clean() {
    let (_, faults, device) = open(&DeviceOptions::default());
    let x = buffer(&device, "x");
    fail_next(&faults, Failure::Fault);
    drop(fill(&device, &x, "fails"));
    x.view(0..4).unwrap().write(&[1u32; 4]).unwrap();
    assert!(!is_poisoned(&x.view(0..4).unwrap()));
    assert!(is_poisoned(&x.view(3..5).unwrap()) && is_poisoned(&x));
    x.view(4..N).unwrap().write(&[1u32; N - 4]).unwrap();
    assert!(!is_poisoned(&x));
}

#[test]
fn poison_lies_on_the_bytes_that_were_written_and_follows_what_is_computed_from_them() {
    let (_, faults, device) = open(&DeviceOptions::default());
    let (x, y, z) = (buffer(&device, "x"), buffer(&device, "y"), buffer(&device, "z"));
    let (low, high) = (x.view(0..N / 2).unwrap(), x.view(N / 2..N).unwrap());
    fail_next(&faults, Failure::Fault);
    let failed = fill(&device, &high, "fails");
    // Committed before anybody knows of the failure.
    let copy = |from: &Buffer, to: &Buffer| {
        let mut encoder = device.encoder().unwrap();
        encoder.copy(from, to).unwrap();
        encoder.commit().unwrap()
    };
    let tainted = copy(&high, &y.view(0..N / 2).unwrap());
    let clean = copy(&low, &z.view(0..N / 2).unwrap());
    assert!(matches!(failed.wait(), Err(Error::Device(HalError::Fault { .. }))));
    tainted.wait().unwrap();
    clean.wait().unwrap();
    assert!(!is_poisoned(&low) && is_poisoned(&high) && is_poisoned(&x));
    assert!(is_poisoned(&y) && !is_poisoned(&y.view(N / 2..N).unwrap()) && !is_poisoned(&z));
    // A part that is written anew is clean, the rest is not.
    fill(&device, &x.view(N / 2..N / 2 + 4).unwrap(), "part").wait().unwrap();
    assert!(!is_poisoned(&x.view(0..N / 2 + 4).unwrap()) && is_poisoned(&x));
    // Written and then read within one submission: nothing of the old bytes is left.
    let mut encoder = device.encoder().unwrap();
    encoder.fill(&x, 1).unwrap();
    encoder.copy(&x, &y).unwrap();
    encoder.commit().unwrap().wait().unwrap();
    assert!(!is_poisoned(&x) && !is_poisoned(&y));
}

#[test]
fn each_replay_tells_of_its_own_end() {
    let (_, faults, device) = open(&DeviceOptions::default());
    let x = buffer(&device, "x");
    let graph = Graph::capture(&device, "step", |encoder| encoder.fill(&x, 3)).unwrap();
    let options = ExecutableOptions { in_flight: 1, timing: Timing::Whole, ..ExecutableOptions::default() };
    let mut step = graph.compile(&options).unwrap();
    fail_next(&faults, Failure::Fault);
    let (first, second) = (step.submit().unwrap(), step.submit().unwrap());
    let second = second.wait().unwrap();
    assert!(second.time.is_some());
    assert!(matches!(first.wait(), Err(Error::Device(HalError::Fault { label, .. })) if label == "step"));
    assert!(!is_poisoned(&x), "the second one wrote it anew");
}

#[test]
fn a_submission_that_outlives_the_limit_is_named() {
    let limit = Duration::from_millis(30);
    let (_, faults, device) = open(&DeviceOptions { time_limit: Some(limit), ..DeviceOptions::default() });
    let x = buffer(&device, "x");
    fail_next(&faults, Failure::Hang);
    let error = fill(&device, &x, "layer 3").wait().unwrap_err();
    assert!(matches!(&error, Error::Device(HalError::Timeout { label, .. }) if label == "layer 3"), "{error}");
    assert_eq!(error.to_string(), "time limit in \"layer 3\": it runs on after 30ms");
    assert!(matches!(x.read::<u32>(), Err(Error::Device(HalError::Timeout { .. }))));
    // What still runs keeps its memory, whatever the program drops.
    drop((x, device));
    assert_eq!((faults.misuse(), faults.live().buffers), (vec![], 1));
    faults.release().unwrap();
}

#[test]
fn a_lost_device_names_its_work_and_can_be_opened_again() {
    let (adapter, faults, device) = open(&DeviceOptions::default());
    let x = buffer(&device, "x");
    fail_next(&faults, Failure::Hang);
    let pending = fill(&device, &x, "layer 3");
    faults.lose();
    assert!(matches!(pending.wait(), Err(Error::Device(HalError::DeviceLost { .. }))));
    assert!(matches!(x.read::<u32>(), Err(Error::Device(HalError::DeviceLost { .. }))));
    assert!(matches!(device.buffer(DType::F32, &[1]), Err(Error::Device(HalError::DeviceLost { .. }))));
    drop((x, device));
    assert_eq!((faults.misuse(), faults.live()), (vec![], Live::default()));
    let device = Device::from_adapter(&adapter, &DeviceOptions::default()).unwrap();
    let x = buffer(&device, "x");
    fill(&device, &x, "again").wait().unwrap();
    assert_eq!(x.read::<u32>().unwrap(), [7; N]);
}

#[test]
fn a_callback_is_told_of_a_lost_device_and_of_a_time_limit() {
    let told = |limit: Option<Duration>, then: &dyn Fn(&Faults)| {
        let (_, faults, device) = open(&DeviceOptions { time_limit: limit, ..DeviceOptions::default() });
        let x = buffer(&device, "x");
        fail_next(&faults, Failure::Hang);
        let (sender, receiver) = std::sync::mpsc::channel();
        let submission = fill(&device, &x, "layer 3");
        submission.on_completed(move |result| sender.send(result.map(drop)).unwrap()).unwrap();
        then(&faults);
        let told = receiver.recv().unwrap().unwrap_err();
        faults.release().unwrap();
        told
    };
    let lost = told(None, &Faults::lose);
    assert!(matches!(lost, Error::Device(HalError::DeviceLost { .. })), "{lost}");
    let late = told(Some(Duration::from_millis(20)), &|_| ());
    assert!(matches!(late, Error::Device(HalError::Timeout { .. })), "{late}");
}
