//! Host views of shared memory: what they show, what they keep out, and how they end.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{AXPY, AxpyParams, cpu, null};
use kovar::{
    Backend, Buffer, DType, Device, DeviceOptions, Dispatch, Error, ExecutableOptions, Graph, Kernel, MemoryKind,
    Misuse,
};
use kovar_hal::faulty::{At, Call, Failure, Fault, Faulty};
use kovar_testing::subjects;

const N: usize = 64;

fn each(test: &str, check: impl Fn(&Device)) {
    for subject in subjects(test) {
        let device = Some(subject.name.parse().unwrap());
        let options = DeviceOptions { device, validation: subject.validation, ..DeviceOptions::default() };
        let device = Device::open(&options).unwrap();
        check(&device);
        let messages = device.validation_messages();
        assert!(messages.is_empty(), "{}: {}", subject.name, messages.join("\n"));
    }
}

fn named(device: &Device, label: &str) -> Buffer {
    device.buffer_in(MemoryKind::Shared, DType::F32, &[N], label).unwrap()
}

fn add<'a>(kernel: &'a Kernel, x: &'a Buffer, y: &'a Buffer) -> Dispatch<'a> {
    static PARAMS: AxpyParams = AxpyParams { n: N as u32, a: 1.0 };
    Dispatch::new(kernel).bind(0, x).bind(1, y).constants(&PARAMS).groups([1, 1, 1])
}

fn is_mapped<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Mapped { .. }))
}

#[test]
fn a_view_waits_for_what_writes_the_bytes_and_the_device_sees_what_it_wrote() {
    each("a_view_waits_for_what_writes_the_bytes_and_the_device_sees_what_it_wrote", |device| {
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let (x, y) = (named(device, "x"), named(device, "y"));
        for round in 1..=20 {
            x.map_mut::<f32>().unwrap().fill(1.0);
            let mut encoder = device.encoder().unwrap();
            encoder.dispatch(add(&kernel, &x, &y)).unwrap();
            drop(encoder.commit().unwrap());
            assert_eq!(*y.map::<f32>().unwrap(), [round as f32; N]);
        }
        let part = y.view(5..9).unwrap();
        part.map_mut::<f32>().unwrap().copy_from_slice(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(y.read::<f32>().unwrap()[4..10], [20.0, 1.0, 2.0, 3.0, 4.0, 20.0]);
    });
}

#[test]
fn an_encoder_does_not_bind_what_the_host_has_mapped() {
    each("an_encoder_does_not_bind_what_the_host_has_mapped", |device| {
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let (x, y, groups) = (named(device, "x"), named(device, "y"), device.upload(&[1u32, 1, 1], &[3]).unwrap());
        let mut encoder = device.encoder().unwrap();
        let refusal = |result: kovar::Result<()>| match result {
            Err(Error::Dispatch { kernel, misuse: Misuse::Mapped { slot, label } }) => (kernel, slot, label),
            other => panic!("{other:?}"),
        };
        let read = x.map::<f32>().unwrap();
        // The device may read what the host reads.
        encoder.dispatch(add(&kernel, &x, &y)).unwrap();
        assert_eq!(refusal(encoder.dispatch(add(&kernel, &y, &x))), ("axpy".into(), 1, "x".into()));
        assert!(encoder.fill(&x, 0).unwrap_err().to_string().contains("\"x\" is mapped by the host"));
        drop(read);
        let write = x.map_mut::<f32>().unwrap();
        let error = encoder.dispatch(add(&kernel, &x, &y)).unwrap_err();
        assert_eq!(error.to_string(), "dispatch of axpy: slot 0 (\"x\") is mapped by the host; drop the view first");
        assert_eq!(refusal(encoder.dispatch(add(&kernel, &y, &x.view(0..32).unwrap()))).1, 1);
        assert!(encoder.copy(&x, &y).is_err() && encoder.copy(&y, &x).is_err());
        drop(write);
        let grid = groups.map_mut::<u32>().unwrap();
        let error = encoder.dispatch(add(&kernel, &x, &y).indirect(&groups)).unwrap_err();
        assert!(error.to_string().contains("is mapped by the host"), "{error}");
        drop(grid);
        // What was refused was not recorded, and the encoder goes on.
        encoder.dispatch(add(&kernel, &x, &y).indirect(&groups)).unwrap();
        assert_eq!(encoder.stats().dispatches, 2);
        encoder.commit().unwrap().wait().unwrap();
    });
}

#[test]
fn a_commit_does_not_meet_a_view_that_is_younger_than_the_recording() {
    each("a_commit_does_not_meet_a_view_that_is_younger_than_the_recording", |device| {
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let (x, y) = (named(device, "x"), named(device, "y"));
        let record = || {
            let mut encoder = device.encoder().unwrap();
            encoder.dispatch(add(&kernel, &x, &y)).unwrap();
            encoder
        };
        // A capture uses nothing yet.
        let (graph, encoder) = {
            let _view = y.map_mut::<f32>().unwrap();
            (Graph::capture(device, "step", |encoder| encoder.dispatch(add(&kernel, &x, &y))), device.encoder())
        };
        drop(encoder);
        let mut step = graph.unwrap().compile(&ExecutableOptions::default()).unwrap();
        let encoder = record();
        let view = x.map_mut::<f32>().unwrap();
        assert!(is_mapped(&encoder.commit()) && is_mapped(&step.submit()));
        drop(view);
        let encoder = record();
        let (read, other) = (x.map::<f32>().unwrap(), x.map::<f32>().unwrap());
        encoder.commit().unwrap().wait().unwrap();
        step.submit().unwrap().wait().unwrap();
        drop((read, other));
        let encoder = record();
        let view = y.map::<f32>().unwrap();
        assert!(is_mapped(&encoder.commit()) && is_mapped(&step.submit()));
        drop(view);
        step.submit().unwrap().wait().unwrap();
    });
}

#[test]
fn two_views_of_which_one_writes_cannot_be() {
    let device = null();
    let x = named(&device, "x");
    let (low, high) = (x.view(0..32).unwrap(), x.view(32..N).unwrap());
    let write = low.map_mut::<f32>().unwrap();
    for other in [&x, &low, &high, &x.clone()] {
        assert!(is_mapped(&other.map::<f32>()) && is_mapped(&other.map_mut::<f32>()));
        assert!(is_mapped(&other.read::<f32>()) && is_mapped(&other.write(&vec![0f32; other.len()])));
    }
    drop(write);
    let reads = (x.map::<f32>().unwrap(), low.map::<f32>().unwrap(), x.read::<f32>().unwrap());
    assert!(is_mapped(&high.map_mut::<f32>()) && is_mapped(&high.write(&[0f32; 32])));
    drop(reads);
    high.map_mut::<f32>().unwrap().fill(3.0);
    assert_eq!(x.map::<f32>().unwrap()[31..33], [0.0, 3.0]);
}

#[test]
fn what_cannot_be_mapped_is_said() {
    let device = cpu();
    let x = named(&device, "x");
    assert!(matches!(x.map::<u32>(), Err(Error::DType { wanted: DType::U32, actual: DType::F32, .. })));
    let owner = Arc::new(vec![7u8; 4096]);
    let (imported, _) = device.import(owner, DType::U8, &[4096], "weights").unwrap();
    assert_eq!(*imported.map::<u8>().unwrap(), [7; 4096]);
    assert!(matches!(imported.map_mut::<u8>(), Err(Error::ReadOnly { label }) if label == "weights"));
    let discrete = Device::open(&DeviceOptions { discrete: true, ..DeviceOptions::of(Backend::Cpu) }).unwrap();
    let hidden = discrete.buffer_in(MemoryKind::Device, DType::F32, &[N], "hidden").unwrap();
    match hidden.map::<f32>() {
        Err(Error::Hidden { label, memory: MemoryKind::Device }) => assert_eq!(label, "hidden"),
        other => panic!("{:?}", other.err()),
    }
    let mut encoder = null().encoder().unwrap();
    assert!(
        Graph::capture(&device, "scratch", |encoder| {
            let scratch = encoder.scratch(DType::F32, &[N])?;
            assert!(matches!(scratch.map::<f32>(), Err(Error::Transient { .. })));
            encoder.fill(&scratch, 0)
        })
        .is_ok()
    );
    encoder.barrier();
}

#[test]
fn what_a_failed_submission_left_is_not_shown() {
    let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
    let device = Device::from_adapter(&adapter, &DeviceOptions::default()).unwrap();
    let x = named(&device, "x");
    faults.inject(Fault { at: At::Nth(Call::Submit, 0), failure: Failure::Fault });
    let mut encoder = device.encoder().unwrap();
    encoder.fill(&x.view(0..32).unwrap(), 7).unwrap();
    drop(encoder.commit().unwrap());
    assert!(matches!(x.map::<f32>(), Err(Error::Poisoned { .. })));
    assert!(matches!(x.map_mut::<f32>(), Err(Error::Poisoned { .. })));
    // A refused view leaves no trace.
    x.view(32..N).unwrap().map_mut::<f32>().unwrap().fill(1.0);
    x.write(&[2f32; N]).unwrap();
    assert_eq!(*x.map::<f32>().unwrap(), [2.0; N]);
}

/// A view that is never dropped keeps the buffer to itself, and harms nobody.
#[test]
fn a_view_that_is_forgotten_keeps_the_buffer_mapped() {
    let device = cpu();
    let (kernel, x, y) = (device.kernel(&AXPY, &[]).unwrap(), named(&device, "x"), named(&device, "y"));
    std::mem::forget(x.map_mut::<f32>().unwrap());
    let mut encoder = device.encoder().unwrap();
    assert!(encoder.dispatch(add(&kernel, &x, &y)).is_err());
    assert!(is_mapped(&x.read::<f32>()));
    encoder.dispatch(add(&kernel, &y, &y.clone())).unwrap_err();
    encoder.fill(&y, 0).unwrap();
    encoder.commit().unwrap().wait().unwrap();
}

#[test]
fn threads_that_map_and_submit_never_meet() {
    let device = cpu();
    let (kernel, x, y) = (device.kernel(&AXPY, &[]).unwrap(), named(&device, "x"), named(&device, "y"));
    x.write(&[1f32; N]).unwrap();
    std::thread::scope(|scope| {
        let submits = scope.spawn(|| {
            let mut done = 0;
            while done < 200 {
                let mut encoder = device.encoder().unwrap();
                let recorded = encoder.dispatch(add(&kernel, &x, &y));
                match recorded.and_then(|()| encoder.commit()) {
                    Ok(submission) => {
                        submission.wait().unwrap();
                        done += 1;
                    }
                    Err(Error::Mapped { .. } | Error::Dispatch { misuse: Misuse::Mapped { .. }, .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        });
        let mut seen = 0.0;
        while !submits.is_finished() {
            // All elements are of one submission: none is half done.
            let view = y.map::<f32>().unwrap();
            assert!(view.iter().all(|value| *value == view[0]) && view[0] >= seen);
            seen = view[0];
            drop(view);
            std::thread::yield_now();
        }
    });
    assert_eq!(*y.map::<f32>().unwrap(), [200.0; N]);
}
