//! The host goes on while the device works: shown with events, not with clocks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{AXPY, AxpyParams, devices, on_every_device};
use kovar::{
    Backend, Buffer, CommandEncoder, DType, Device, Dispatch, EncoderOptions, Error, Event, Kernel, KernelSource,
    MemoryKind, Session, Submission, Waited,
};

const N: usize = 1024;
/// Longer than any machine takes: a wait that runs into it has failed.
const LONG: Duration = Duration::from_secs(60);

struct Rig {
    kernel: Kernel,
    x: Buffer,
    y: Buffer,
}

impl Rig {
    fn new(device: &Device) -> Rig {
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let x = device.upload(&[1.0f32; N], &[N]).unwrap();
        let y = device.buffer_in(MemoryKind::Shared, DType::F32, &[N], "sum").unwrap();
        Rig { kernel, x, y }
    }

    /// y += x
    fn add(&self, encoder: &mut CommandEncoder) {
        let params = AxpyParams { n: N as u32, a: 1.0 };
        let dispatch = Dispatch::new(&self.kernel).bind(0, &self.x).bind(1, &self.y).constants(&params);
        encoder.dispatch(dispatch.threads([N as u32, 1, 1])).unwrap();
    }

    fn submit(&self, device: &Device, gate: Option<(&Event, u64)>) -> Submission {
        let mut encoder = device.encoder().unwrap();
        if let Some((event, value)) = gate {
            encoder.wait_for(event, value).unwrap();
        }
        self.add(&mut encoder);
        encoder.commit().unwrap()
    }

    /// Looks whether so many additions were made.
    fn check(&self, device: &Device, additions: usize) {
        let expected = if device.info().backend == Backend::Null { 0.0 } else { additions as f32 };
        assert_eq!(self.y.read::<f32>().unwrap(), [expected; N]);
    }
}

fn ended(submission: Submission) {
    assert!(matches!(submission.wait_for(LONG).unwrap(), Waited::Completed(_)));
}

#[test]
fn the_host_records_and_submits_while_the_device_waits_for_it() {
    on_every_device("the_host_records_and_submits_while_the_device_waits_for_it", |device| {
        let rig = Rig::new(device);
        let gate = device.event().unwrap();
        let first = rig.submit(device, Some((&gate, 1)));
        let more: Vec<_> = (0..20).map(|_| rig.submit(device, None)).collect();
        assert!(!first.is_done().unwrap() && !more[19].is_done().unwrap());
        // Memory that the waiting work does not use is free for the host.
        let other = device.buffer(DType::F32, &[N]).unwrap();
        other.write(&[3.0f32; N]).unwrap();
        assert_eq!(other.read::<f32>().unwrap()[7], 3.0);
        gate.signal(1).unwrap();
        more.into_iter().chain([first]).for_each(ended);
        rig.check(device, 21);
    });
}

#[test]
fn a_wait_that_runs_out_leaves_everything_usable() {
    on_every_device("a_wait_that_runs_out_leaves_everything_usable", |device| {
        let rig = Rig::new(device);
        let gate = device.event().unwrap();
        let Waited::Pending(first) = rig.submit(device, Some((&gate, 5))).wait_for(Duration::from_micros(10)).unwrap()
        else {
            panic!("the gate is closed");
        };
        gate.signal(4).unwrap();
        let Waited::Pending(first) = first.wait_for(Duration::ZERO).unwrap() else { panic!("the gate is closed") };
        let second = rig.submit(device, None);
        gate.signal(9).unwrap();
        ended(first);
        ended(second);
        rig.check(device, 2);
    });
}

#[test]
fn values_of_an_event_only_grow_and_stay_in_reach() {
    on_every_device("values_of_an_event_only_grow_and_stay_in_reach", |device| {
        let gate = device.event().unwrap();
        gate.signal(7).unwrap();
        assert_eq!(gate.value().unwrap(), 7);
        for value in [0, 6, 7, u64::MAX] {
            assert!(matches!(gate.signal(value), Err(Error::Event { now: 7, .. })), "{value}");
        }
        let mut encoder = device.encoder().unwrap();
        assert!(matches!(encoder.wait_for(&gate, u64::MAX), Err(Error::Event { .. })));
        let foreign = common::null().event().unwrap();
        assert!(matches!(encoder.wait_for(&foreign, 1), Err(Error::Dispatch { .. })));
        encoder.wait_for(&gate, 3).unwrap();
        ended(encoder.commit().unwrap());
    });
}

fn stages(session: &mut Session, rig: &Rig, count: usize) -> Vec<Submission> {
    let fence = |_| {
        let mut stage = session.stage("step").unwrap();
        rig.add(&mut stage);
        stage.fence().unwrap()
    };
    (0..count).map(fence).collect()
}

#[test]
fn stages_follow_each_other_without_the_host() {
    on_every_device("stages_follow_each_other_without_the_host", |device| {
        let rig = Rig::new(device);
        let gate = device.event().unwrap();
        let mut session = device.session("decode");
        assert!(session.is_drained().unwrap());
        let mut stage = session.stage("first").unwrap();
        stage.wait_for(&gate, 1).unwrap();
        rig.add(&mut stage);
        let first = stage.fence().unwrap();
        // A stage that is dropped is left out.
        rig.add(&mut session.stage("dropped").unwrap());
        let rest = stages(&mut session, &rig, 4);
        assert_eq!((session.fenced(), session.pending().unwrap()), (5, 5));
        gate.signal(1).unwrap();
        session.drain().unwrap();
        assert!(session.is_drained().unwrap());
        let label = first.wait().unwrap().label;
        assert_eq!(label, "decode/first");
        rest.into_iter().for_each(ended);
        rig.check(device, 5);
    });
}

#[test]
fn a_stage_that_is_refused_leaves_its_place_free() {
    on_every_device("a_stage_that_is_refused_leaves_its_place_free", |device| {
        let rig = Rig::new(device);
        let mut session = device.session("decode");
        let mut stage = session.stage("mapped").unwrap();
        rig.add(&mut stage);
        let view = rig.y.map_mut::<f32>().unwrap();
        assert!(matches!(stage.fence(), Err(Error::Mapped { label }) if label == "sum"));
        drop(view);
        stages(&mut session, &rig, 2).into_iter().for_each(ended);
        assert_eq!(session.fenced(), 2);
        rig.check(device, 2);
    });
}

#[test]
fn callbacks_come_once_in_order_and_may_use_the_device() {
    on_every_device("callbacks_come_once_in_order_and_may_use_the_device", |device| {
        let rig = Arc::new(Rig::new(device));
        let (gate, second_gate) = (device.event().unwrap(), device.event().unwrap());
        let submissions = [
            rig.submit(device, Some((&gate, 1))),
            rig.submit(device, Some((&second_gate, 1))),
            rig.submit(device, None),
        ];
        let order = Arc::new(Mutex::new(Vec::new()));
        let (sender, receiver) = channel();
        // Registered from the last to the first; the first opens the gate of the second.
        for (at, submission) in submissions.iter().enumerate().rev() {
            let (order, sender, second_gate) = (order.clone(), sender.clone(), second_gate.clone());
            let (rig, device) = (rig.clone(), device.clone());
            submission
                .on_completed(move |result| {
                    order.lock().unwrap().push((at, result.unwrap().label));
                    if at == 0 {
                        second_gate.signal(1).unwrap();
                        drop(rig.submit(&device, None));
                    }
                    sender.send(()).unwrap();
                })
                .unwrap();
        }
        drop(sender);
        gate.signal(1).unwrap();
        (0..3).for_each(|_| receiver.recv_timeout(LONG).unwrap());
        // Each sender was dropped with its callback: none can come again.
        assert!(receiver.recv_timeout(LONG).is_err());
        let order: Vec<_> = order.lock().unwrap().iter().map(|(at, _)| *at).collect();
        assert_eq!(order, [0, 1, 2]);
        device.wait_idle().unwrap();
        rig.check(device, 4);
        submissions.into_iter().for_each(ended);
    });
}

#[test]
fn a_callback_that_panics_does_no_harm_and_the_next_one_comes() {
    on_every_device("a_callback_that_panics_does_no_harm_and_the_next_one_comes", |device| {
        let rig = Rig::new(device);
        let submission = rig.submit(device, None);
        submission.on_completed(|_| std::panic::resume_unwind(Box::new("thrown"))).unwrap();
        let (sender, receiver) = channel();
        submission.on_completed(move |result| sender.send(result.is_ok()).unwrap()).unwrap();
        assert_eq!(receiver.recv_timeout(LONG), Ok(true));
        ended(submission);
        rig.check(device, 1);
    });
}

#[test]
fn a_callback_and_a_session_learn_of_a_failure() {
    static FAULTY: KernelSource = KernelSource::wgsl(
        "faulty",
        "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
         @compute @workgroup_size(1) fn main() { x[0] = 1.0; }",
    )
    .with_cpu(|_| Ok(Arc::new(Faulty)));
    struct Faulty;
    impl kovar::CpuKernel for Faulty {
        fn tasks(&self, _: &kovar::CpuDispatch<'_>) -> u32 {
            1
        }
        fn run(&self, dispatch: &kovar::CpuDispatch<'_>, _: std::ops::Range<u32>) {
            dispatch.slice::<f32>(7);
        }
    }
    let device = common::cpu();
    let kernel = device.kernel(&FAULTY, &[]).unwrap();
    let x = device.buffer(DType::F32, &[4]).unwrap();
    let mut session = device.session("decode");
    let mut stage = session.stage("layer 3").unwrap();
    stage.dispatch(Dispatch::new(&kernel).bind(0, &x).groups([1, 1, 1])).unwrap();
    let (sender, receiver) = channel();
    stage.fence().unwrap().on_completed(move |result| sender.send(result.unwrap_err()).unwrap()).unwrap();
    let told = receiver.recv_timeout(LONG).unwrap().to_string();
    let drained = session.drain().unwrap_err().to_string();
    for error in [told, drained] {
        assert!(error.contains("decode/layer 3") && error.contains("slot 7"), "{error}");
    }
    assert!(session.drain().is_ok(), "a failure is told once");
    assert!(matches!(x.read::<f32>(), Err(Error::Poisoned { .. })));
}

#[test]
fn everything_can_be_dropped_in_any_order_while_the_device_waits() {
    for order in 0..5 {
        for (name, device) in devices("everything_can_be_dropped_in_any_order_while_the_device_waits") {
            let rig = Rig::new(&device);
            let gate = device.event().unwrap();
            let mut session = device.session("chain");
            let mut stage = session.stage("first").unwrap();
            stage.wait_for(&gate, 1).unwrap();
            rig.add(&mut stage);
            let first = stage.fence().unwrap();
            let (sender, receiver) = channel();
            first.on_completed(move |result| sender.send(result.is_ok()).unwrap()).unwrap();
            let rest = stages(&mut session, &rig, 3);
            let mut unfinished = device.encoder().unwrap();
            unfinished.wait_for(&gate, 2).unwrap();
            rig.add(&mut unfinished);
            let mut parts: Vec<Box<dyn std::any::Any>> = vec![
                Box::new(device),
                Box::new(rig),
                Box::new(gate),
                Box::new((session, first, rest)),
                Box::new(unfinished),
            ];
            parts.rotate_left(order);
            parts.into_iter().for_each(drop);
            assert_eq!(receiver.recv_timeout(LONG), Ok(true), "{name} from part {order}");
        }
    }
}

#[test]
fn many_threads_record_and_commit_at_once() {
    on_every_device("many_threads_record_and_commit_at_once", |device| {
        let rig = Rig::new(device);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        drop(rig.submit(device, None));
                    }
                });
            }
        });
        rig.check(device, 100);
    });
}

#[test]
fn an_encoder_moves_to_another_thread() {
    on_every_device("an_encoder_moves_to_another_thread", |device| {
        let rig = Rig::new(device);
        let mut encoder = device.encoder_with(EncoderOptions { label: "moved".into(), ..Default::default() }).unwrap();
        rig.add(&mut encoder);
        let submission = std::thread::scope(|scope| {
            let record = || {
                rig.add(&mut encoder);
                encoder.commit().unwrap()
            };
            scope.spawn(record).join().unwrap()
        });
        assert_eq!(submission.wait().unwrap().label, "moved");
        rig.check(device, 2);
    });
}
