//! Recordings that a worker thread goes on with: shown with channels, not with clocks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::mpsc::channel;

use common::on_every_device;
use kovar::{
    Backend, Buffer, CommandEncoder, DType, Device, EncodeWorker, EncoderOptions, Error, KernelSource, Recording,
};

const N: usize = 64;

fn buffer(device: &Device) -> Buffer {
    device.buffer(DType::U32, &[N]).unwrap()
}

fn encoder(device: &Device, label: &str) -> CommandEncoder {
    device.encoder_with(EncoderOptions { label: label.into(), ..EncoderOptions::default() }).unwrap()
}

/// What a buffer holds, on devices that execute.
fn check(device: &Device, buffer: &Buffer, word: u32) {
    let expected = if device.info().backend == Backend::Null { 0 } else { word };
    assert_eq!(buffer.read::<u32>().unwrap(), [expected; N]);
}

#[test]
fn the_first_part_runs_while_the_second_is_recorded() {
    on_every_device("the_first_part_runs_while_the_second_is_recorded", |device| {
        let (x, y, worker) = (buffer(device), buffer(device), EncodeWorker::new().unwrap());
        let mut first = encoder(device, "pass");
        first.fill(&x, 3).unwrap();
        let (go, went) = channel();
        let recording = worker.record(first, {
            let (x, y) = (x.clone(), y.clone());
            move |encoder| {
                went.recv().unwrap();
                encoder.copy(&x, &y)
            }
        });
        // It ends while the worker has recorded nothing yet.
        device.wait_idle().unwrap();
        assert_eq!(device.stats().submissions, 1);
        go.send(()).unwrap();
        let completed = recording.unwrap().join().unwrap().wait().unwrap();
        assert_eq!((completed.label.as_str(), device.stats().submissions), ("pass", 2));
        check(device, &y, 3);
    });
}

#[test]
fn an_encoder_without_commands_is_recorded_whole() {
    on_every_device("an_encoder_without_commands_is_recorded_whole", |device| {
        let (x, worker) = (buffer(device), EncodeWorker::new().unwrap());
        let fill = {
            let x = x.clone();
            move |encoder: &mut CommandEncoder| encoder.fill(&x, 9)
        };
        worker.record(encoder(device, "whole"), fill).unwrap().join().unwrap().wait().unwrap();
        assert_eq!(device.stats().submissions, 1);
        check(device, &x, 9);
    });
}

#[test]
fn a_panic_is_an_error_that_poisons_what_was_handed_over_and_the_worker_goes_on() {
    on_every_device("a_panic_is_an_error_that_poisons_what_was_handed_over_and_the_worker_goes_on", |device| {
        let (x, y, worker) = (buffer(device), buffer(device), EncodeWorker::new().unwrap());
        let mut first = encoder(device, "thrown");
        first.fill(&x, 3).unwrap();
        let recording = worker.record(first, {
            let y = y.clone();
            move |encoder| {
                encoder.fill(&y, 4)?;
                std::panic::resume_unwind(Box::new("on purpose"))
            }
        });
        let error = recording.unwrap().join().unwrap_err();
        assert_eq!(error.to_string(), "recording \"thrown\" panicked: on purpose");
        assert!(matches!(x.read::<u32>(), Err(Error::Poisoned { .. })));
        check(device, &y, 0);
        let fill = {
            let x = x.clone();
            move |encoder: &mut CommandEncoder| encoder.fill(&x, 5)
        };
        worker.record(encoder(device, "again"), fill).unwrap().join().unwrap().wait().unwrap();
        check(device, &x, 5);
    });
}

#[test]
fn an_error_of_the_closure_is_the_result() {
    static OTHER: KernelSource = KernelSource::wgsl("other", "@compute @workgroup_size(1) fn main() {}");
    let (device, worker) = (common::cpu(), EncodeWorker::new().unwrap());
    let kernel = common::null().kernel(&OTHER, &[]).unwrap();
    let recording = worker.record(encoder(&device, "wrong"), move |encoder| {
        encoder.dispatch(kovar::Dispatch::new(&kernel).groups([1, 1, 1]))
    });
    assert!(matches!(recording.unwrap().join(), Err(Error::Dispatch { .. })));
}

#[test]
fn a_worker_does_not_wait_for_itself() {
    let (device, worker) = (common::cpu(), EncodeWorker::new().unwrap());
    let (give, take) = channel::<Recording>();
    let first = worker.record(encoder(&device, "first"), move |_| take.recv().unwrap().join().map(drop)).unwrap();
    give.send(worker.record(encoder(&device, "second"), |_| Ok(())).unwrap()).unwrap();
    assert!(matches!(first.join(), Err(Error::Unrecorded { label }) if label == "second"));
    // It waits for nothing that is made already.
    let (give, take) = channel::<Recording>();
    let made = worker.record(encoder(&device, "made"), |_| Ok(())).unwrap();
    let last = worker.record(encoder(&device, "last"), move |_| take.recv().unwrap().join().map(drop)).unwrap();
    give.send(made).unwrap();
    last.join().unwrap().wait().unwrap();
}

#[test]
fn a_worker_that_is_dropped_makes_what_it_was_given() {
    on_every_device("a_worker_that_is_dropped_makes_what_it_was_given", |device| {
        let (x, worker) = (buffer(device), EncodeWorker::new().unwrap());
        let (go, went) = channel::<()>();
        let slow = worker.record(encoder(device, "slow"), move |_| went.recv().map_or(Ok(()), |()| Ok(()))).unwrap();
        let fill = {
            let x = x.clone();
            move |encoder: &mut CommandEncoder| encoder.fill(&x, 6)
        };
        let recording = worker.record(encoder(device, "last"), fill).unwrap();
        drop(worker);
        go.send(()).unwrap();
        slow.join().unwrap().wait().unwrap();
        recording.join().unwrap().wait().unwrap();
        check(device, &x, 6);
    });
}
