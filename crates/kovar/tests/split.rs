//! Recordings that are handed over in parts: by themselves, by the caller, and by a worker thread.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{AXPY, AxpyParams, SCALE, on_every_device};
use kovar::{
    Buffer, CommandEncoder, Device, DeviceOptions, Dispatch, EncoderOptions, Error, HalError, Kernel, Split, Timing,
    Trace, hazard::verify_traces,
};
use kovar_hal::faulty::{At, Call, Failure, Fault, Faults, Faulty};
use proptest::prelude::*;

const N: usize = 256;
const BUFFERS: usize = 5;

struct Rig {
    device: Device,
    kernel: Kernel,
    buffers: Vec<Buffer>,
}

impl Rig {
    fn new(device: &Device) -> Rig {
        let content = |seed: usize| (0..N).map(|i| ((i * 7 + seed * 13) % 11) as f32).collect::<Vec<_>>();
        Rig {
            device: device.clone(),
            kernel: device.kernel(&AXPY, &[]).unwrap(),
            buffers: (0..BUFFERS).map(|seed| device.upload(&content(seed), &[N]).unwrap()).collect(),
        }
    }

    fn encoder(&self, first: Option<u32>) -> CommandEncoder {
        let split = first.map(|at_least| Split { at_least, ..Split::default() });
        let options = EncoderOptions { label: "pass".into(), trace: true, split, ..EncoderOptions::default() };
        self.device.encoder_with(options).unwrap()
    }

    /// y += a·x, in halves of buffers.
    fn step(&self, encoder: &mut CommandEncoder, (x, y, half): (usize, usize, usize)) {
        let part = |buffer: usize| self.buffers[buffer].view(half * N / 2..(half + 1) * N / 2).unwrap();
        let (x, y) = (part(x), part(if x == y { (y + 1) % BUFFERS } else { y }));
        let params = AxpyParams { n: N as u32 / 2, a: 0.5 };
        let dispatch = Dispatch::new(&self.kernel).bind(0, &x).bind(1, &y).constants(&params);
        encoder.dispatch(dispatch.threads([N as u32 / 2, 1, 1])).unwrap();
    }

    fn read(&self) -> Vec<Vec<f32>> {
        self.buffers.iter().map(|buffer| buffer.read().unwrap()).collect()
    }
}

/// What a pass leaves behind, and its trace.
fn run(device: &Device, steps: &[(usize, usize, usize)], first: Option<u32>) -> (Vec<Vec<f32>>, Trace, u64) {
    let rig = Rig::new(device);
    let before = device.stats();
    let mut encoder = rig.encoder(first);
    steps.iter().for_each(|step| rig.step(&mut encoder, *step));
    let completed = encoder.commit().unwrap().wait().unwrap();
    let did = device.stats() - before;
    assert_eq!((did.dispatches, did.submissions), (steps.len() as u64, did.command_buffers));
    (rig.read(), (**completed.trace.as_ref().unwrap()).clone(), did.submissions)
}

fn steps(count: usize) -> Vec<(usize, usize, usize)> {
    (0..count).map(|i| (i * 3 % BUFFERS, (i * 2 + 1) % BUFFERS, i % 2)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_split_changes_no_byte_and_is_proved(
        steps in prop::collection::vec((0..BUFFERS, 0..BUFFERS, 0..2usize), 1..40),
        first in 1u32..40,
    ) {
        let device = common::cpu();
        let (whole, unsplit, one) = run(&device, &steps, None);
        let (parts, split, submissions) = run(&device, &steps, Some(first));
        prop_assert_eq!(whole, parts);
        prop_assert_eq!((one, submissions), (1, 1 + u64::from(steps.len() > first as usize)));
        prop_assert!(split.verify().is_proved() && verify_traces([&split, &unsplit]).is_proved());
        for (a, b) in split.steps().iter().zip(unsplit.steps()) {
            prop_assert_eq!((&a.label, &a.accesses), (&b.label, &b.accesses));
        }
        // The start of the second part is ordered by the queue, and never called redundant.
        if steps.len() > first as usize {
            prop_assert!(split.steps()[first as usize].ordered);
            prop_assert!(split.verify().redundant.iter().all(|node| node.0 != first));
        }
    }
}

#[test]
fn a_split_gives_the_same_bytes_on_every_device() {
    on_every_device("a_split_gives_the_same_bytes_on_every_device", |device| {
        let (whole, ..) = run(device, &steps(100), None);
        let (parts, trace, submissions) = run(device, &steps(100), Some(64));
        assert_eq!((whole, submissions), (parts, 2));
        assert!(trace.verify().is_proved());
    });
}

#[test]
fn the_device_is_at_work_while_the_host_still_records() {
    on_every_device("the_device_is_at_work_while_the_host_still_records", |device| {
        let rig = Rig::new(device);
        let mut encoder = rig.encoder(Some(4));
        steps(5).iter().for_each(|step| rig.step(&mut encoder, *step));
        // The first part ends although the second is not committed: nothing else was submitted.
        device.wait_idle().unwrap();
        assert_eq!(device.stats().submissions, 1);
        steps(3).iter().for_each(|step| rig.step(&mut encoder, *step));
        let submission = encoder.commit().unwrap();
        assert_eq!(submission.number(), 2);
        submission.wait().unwrap();
    });
}

#[test]
fn times_and_commands_are_those_of_all_parts() {
    on_every_device("times_and_commands_are_those_of_all_parts", |device| {
        let rig = Rig::new(device);
        let split = Some(Split { at_least: 2, ..Split::default() });
        let options = EncoderOptions { timing: Timing::Dispatches, split, ..EncoderOptions::default() };
        let mut encoder = device.encoder_with(options).unwrap();
        steps(3).iter().for_each(|step| rig.step(&mut encoder, *step));
        encoder.flush().unwrap();
        steps(2).iter().for_each(|step| rig.step(&mut encoder, *step));
        let completed = encoder.commit().unwrap().wait().unwrap();
        assert_eq!(completed.commands.len(), 5);
        if device.info().features.timestamp_ns.is_some() {
            let (time, times) = (completed.time.unwrap(), &completed.times);
            assert_eq!(times.len(), 5);
            assert!(times.iter().flatten().all(|span| time.start <= span.start && span.end <= time.end));
        }
    });
}

#[test]
fn nobody_comes_in_between() {
    on_every_device("nobody_comes_in_between", |device| {
        let rig = Rig::new(device);
        let (x, y, z) = (&rig.buffers[0], &rig.buffers[1], &rig.buffers[2]);
        let mut encoder = rig.encoder(None);
        // The device has not begun: what is refused is refused at once.
        let gate = device.event().unwrap();
        encoder.wait_for(&gate, 1).unwrap();
        rig.step(&mut encoder, (0, 1, 0));
        encoder.flush().unwrap();
        let refused = |result: kovar::Result<()>, buffer: &Buffer| match result {
            Err(Error::Unfinished { recording, buffer: named, .. }) => {
                assert_eq!((recording.as_str(), named.as_str()), ("pass", buffer.label()));
            }
            other => panic!("{other:?}"),
        };
        let commit = |record: &dyn Fn(&mut CommandEncoder)| {
            let mut other = device.encoder().unwrap();
            record(&mut other);
            other.commit().map(drop)
        };
        refused(commit(&|other| other.fill(x, 0).unwrap()), x);
        refused(commit(&|other| other.copy(y, z).unwrap()), y);
        refused(y.read::<f32>().map(drop), y);
        refused(x.write(&[0.0f32; N]), x);
        let graph = kovar::Graph::capture(device, "fill", |capture| capture.fill(y, 0)).unwrap();
        refused(graph.compile(&Default::default()).unwrap().submit().map(drop), y);
        // What does not conflict goes on: other buffers, other bytes, and what is read by both.
        commit(&|other| other.fill(z, 0).unwrap()).unwrap();
        commit(&|other| other.fill(&y.view(N / 2..N).unwrap(), 0).unwrap()).unwrap();
        commit(&|other| other.copy(x, z).unwrap()).unwrap();
        x.read::<f32>().unwrap();
        rig.step(&mut encoder, (1, 2, 0));
        let submission = encoder.commit().unwrap();
        gate.signal(1).unwrap();
        submission.wait().unwrap();
        commit(&|other| other.fill(x, 0).unwrap()).unwrap();
        y.read::<f32>().unwrap();
    });
}

#[test]
fn a_recording_that_is_given_up_leaves_poison_and_no_claim() {
    on_every_device("a_recording_that_is_given_up_leaves_poison_and_no_claim", |device| {
        let rig = Rig::new(device);
        let gate = device.event().unwrap();
        for ended in [false, true] {
            let mut encoder = rig.encoder(None);
            encoder.wait_for(&gate, 1).unwrap();
            rig.step(&mut encoder, (0, 1, 0));
            encoder.flush().unwrap();
            if ended {
                device.wait_idle().unwrap();
            }
            drop(encoder);
            if !ended {
                gate.signal(1).unwrap();
            }
            assert!(matches!(rig.buffers[1].read::<f32>(), Err(Error::Poisoned { .. })), "ended: {ended}");
            rig.buffers[0].write(&[1.0f32; N]).unwrap();
            rig.buffers[1].write(&[1.0f32; N]).unwrap();
            assert_eq!(rig.buffers[1].read::<f32>().unwrap(), [1.0; N]);
        }
    });
}

fn faulty() -> (Faults, Rig) {
    let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
    let device = Device::from_adapter(&adapter, &DeviceOptions::default()).unwrap();
    (faults, Rig::new(&device))
}

#[test]
fn a_part_that_fails_poisons_what_all_of_them_wrote() {
    for failing in 0..3 {
        let (faults, rig) = faulty();
        let submitted = faults.calls().iter().filter(|call| **call == Call::Submit).count();
        faults.inject(Fault { at: At::Nth(Call::Submit, submitted + failing), failure: Failure::Fault });
        let mut encoder = rig.encoder(None);
        rig.step(&mut encoder, (0, 1, 0));
        encoder.flush().unwrap();
        rig.step(&mut encoder, (0, 2, 0));
        encoder.flush().unwrap();
        rig.step(&mut encoder, (0, 3, 0));
        let error = encoder.commit().unwrap().wait().unwrap_err();
        assert!(matches!(error, Error::Device(HalError::Fault { .. })), "{error}");
        let poisoned = |buffer: &Buffer| matches!(buffer.read::<f32>(), Err(Error::Poisoned { .. }));
        assert_eq!(rig.buffers.iter().map(poisoned).collect::<Vec<_>>(), [false, true, true, true, false], "{failing}");
    }
}

#[test]
fn a_part_that_the_device_refuses_fails_the_commit_and_runs_nothing() {
    for call in [Call::CreateRecorder, Call::Finish, Call::Submit] {
        let (faults, rig) = faulty();
        let made = |faults: &Faults| faults.calls().iter().filter(|made| **made == call).count();
        let mut encoder = rig.encoder(Some(2));
        steps(2).iter().for_each(|step| rig.step(&mut encoder, *step));
        faults.inject(Fault { at: At::Nth(call, made(&faults)), failure: Failure::OutOfMemory });
        rig.step(&mut encoder, (0, 1, 0));
        let before = rig.read();
        let result = encoder.commit().and_then(|submission| submission.wait());
        // Without a recorder for the second part there is but one.
        assert_eq!(result.is_ok(), call == Call::CreateRecorder, "{call:?}");
        assert_eq!(rig.read() == before, call != Call::CreateRecorder, "{call:?}");
        assert_eq!(faults.misuse(), Vec::<String>::new());
    }
}

#[test]
fn a_view_of_the_host_puts_the_split_off() {
    on_every_device("a_view_of_the_host_puts_the_split_off", |device| {
        let rig = Rig::new(device);
        let mut encoder = rig.encoder(Some(2));
        (0..2).for_each(|half| rig.step(&mut encoder, (0, 1, half)));
        let view = rig.buffers[1].map::<f32>().unwrap();
        rig.step(&mut encoder, (0, 2, 0));
        drop(view);
        let before = device.stats().submissions;
        encoder.commit().unwrap().wait().unwrap();
        assert_eq!((before, device.stats().submissions), (0, 1));
    });
}

#[test]
fn constants_of_each_part_lie_in_a_block_of_its_own() {
    on_every_device("constants_of_each_part_lie_in_a_block_of_its_own", |device| {
        let kernel = device.kernel(&SCALE, &[]).unwrap();
        let outputs: Vec<_> = (0..4).map(|_| device.buffer(kovar::DType::F32, &[64]).unwrap()).collect();
        let gate = device.event().unwrap();
        let mut encoder = device.encoder().unwrap();
        encoder.wait_for(&gate, 1).unwrap();
        for (round, y) in outputs.iter().enumerate() {
            let table: [[f32; 4]; 64] = std::array::from_fn(|i| [(round * 64 + i) as f32; 4]);
            encoder.dispatch(Dispatch::new(&kernel).bind(0, y).constants(&table).groups([1, 1, 1])).unwrap();
            if round == 1 {
                // The device has not begun: the host must not wait for the block that it will read.
                encoder.flush().unwrap();
            }
        }
        let submission = encoder.commit().unwrap();
        gate.signal(1).unwrap();
        submission.wait().unwrap();
        let expected = |round: usize| (0..64).map(|i| (round * 64 + i) as f32).collect::<Vec<_>>();
        for (round, y) in outputs.iter().enumerate().filter(|_| device.info().backend != kovar::Backend::Null) {
            assert_eq!(y.read::<f32>().unwrap(), expected(round));
        }
    });
}

#[test]
fn many_threads_record_in_parts_at_once() {
    on_every_device("many_threads_record_in_parts_at_once", |device| {
        let shared = device.upload(&[1.0f32; N], &[N]).unwrap();
        let kernel = device.kernel(&AXPY, &[]).unwrap();
        let sum = |rounds: usize| {
            let own = device.buffer(kovar::DType::F32, &[N]).unwrap();
            for _ in 0..rounds {
                let split = Some(Split { at_least: 3, ..Split::default() });
                let mut encoder = device.encoder_with(EncoderOptions { split, ..EncoderOptions::default() }).unwrap();
                for _ in 0..5 {
                    let params = AxpyParams { n: N as u32, a: 1.0 };
                    let dispatch = Dispatch::new(&kernel).bind(0, &shared).bind(1, &own).constants(&params);
                    encoder.dispatch(dispatch.threads([N as u32, 1, 1])).unwrap();
                }
                drop(encoder.commit().unwrap());
            }
            own.read::<f32>().unwrap()[N - 1]
        };
        let sums = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| sum(10))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        let expected = if device.info().backend == kovar::Backend::Null { 0.0 } else { 50.0 };
        assert_eq!((sums, device.stats().submissions), (vec![expected; 4], 80));
    });
}
