//! The same random programs on every device of the machine: live, captured, reordered, replayed, with shared scratch.
//! All give the same bytes, and the vendor's validation has nothing to say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{AXPY, AxpyParams};
use kovar::{
    Buffer, CommandEncoder, CpuSchedule, DType, Device, DeviceOptions, Dispatch, ExecutableOptions, Graph, Kernel,
};
use kovar_testing::subjects;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const N: usize = 256;

/// y += a·x between two buffers, or a copy, or a fill, on the low half, the high half or the whole.
#[derive(Debug, Clone, Copy)]
struct Op {
    what: u8,
    from: usize,
    to: usize,
    part: usize,
    a: i8,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = (0u8..8, 0usize..5, 1usize..5, 0usize..3, -2i8..3).prop_map(|(what, from, step, part, a)| Op {
        what,
        from,
        to: (from + step) % 5,
        part,
        a,
    });
    vec(op, 1..40)
}

fn part(buffer: &Buffer, part: usize) -> Buffer {
    match part {
        0 => buffer.view(0..N / 2),
        1 => buffer.view(N / 2..N),
        _ => buffer.view(0..N),
    }
    .unwrap()
}

fn record(encoder: &mut CommandEncoder, kernel: &Kernel, buffers: &[Buffer], ops: &[Op]) -> kovar::Result<()> {
    for op in ops {
        let (x, y) = (part(&buffers[op.from], op.part), part(&buffers[op.to], op.part));
        match op.what {
            0 => encoder.copy(&x, &y)?,
            1 => encoder.fill(&y, f32::from(op.a).to_bits())?,
            _ => {
                let n = x.len() as u32;
                // Products with these factors are exact, so that a fused multiply-add rounds like two operations.
                let params = AxpyParams { n, a: f32::from(op.a) };
                let dispatch = Dispatch::new(kernel).bind(0, &x).bind(1, &y).constants(&params);
                encoder.dispatch(dispatch.threads([n, 1, 1]))?;
            }
        }
    }
    Ok(())
}

fn inputs(device: &Device, count: usize) -> Vec<Buffer> {
    let data = |i| (0..N).map(|j| ((i * 31 + j * 7) % 13) as f32 - 6.0).collect::<Vec<_>>();
    (0..count).map(|i| device.upload(&data(i), &[N]).unwrap()).collect()
}

fn bits(buffers: &[Buffer]) -> Vec<Vec<u32>> {
    buffers.iter().map(|b| b.read::<f32>().unwrap().into_iter().map(f32::to_bits).collect()).collect()
}

/// Two real buffers; in a capture the other three are scratch.
fn run(device: &Device, ops: &[Op], replay: bool) -> Vec<Vec<u32>> {
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let real = inputs(device, 2);
    let all = |encoder: &mut CommandEncoder| -> kovar::Result<()> {
        let mut buffers = real.clone();
        for _ in 2..5 {
            let scratch = encoder.scratch(DType::F32, &[N])?;
            encoder.fill(&scratch, 0)?;
            buffers.push(scratch);
        }
        record(encoder, &kernel, &buffers, ops)
    };
    if replay {
        let mut graph = Graph::capture(device, "random", all).unwrap();
        graph.reorder(8);
        assert!(graph.verify().is_proved());
        let mut executable = graph.compile(&ExecutableOptions::default()).unwrap();
        executable.submit().unwrap().wait().unwrap();
    } else {
        let mut encoder = device.encoder().unwrap();
        all(&mut encoder).unwrap();
        encoder.commit().unwrap().wait().unwrap();
    }
    bits(&real)
}

fn programs(count: u32) -> Vec<Vec<Op>> {
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    (0..count).map(|_| ops().new_tree(&mut runner).unwrap().current()).collect()
}

#[test]
fn every_device_computes_the_same_live_and_replayed() {
    let reference = common::cpu();
    let programs = programs(60);
    let expected: Vec<_> = programs.iter().map(|ops| run(&reference, ops, false)).collect();
    for subject in subjects("every_device_computes_the_same_live_and_replayed") {
        let device = Some(subject.name.parse().unwrap());
        let options = DeviceOptions { device, validation: subject.validation, ..DeviceOptions::default() };
        let device = Device::open(&options).unwrap();
        for (ops, expected) in programs.iter().zip(&expected) {
            assert_eq!(&run(&device, ops, false), expected, "{}, live: {ops:?}", subject.name);
            assert_eq!(&run(&device, ops, true), expected, "{}, replayed: {ops:?}", subject.name);
        }
        let messages = device.validation_messages();
        assert!(messages.is_empty(), "{}: {}", subject.name, messages.join("\n"));
    }
}

#[test]
fn every_schedule_of_the_cpu_computes_the_same() {
    let programs = programs(10);
    let reference = common::cpu();
    let expected: Vec<_> = programs.iter().map(|ops| run(&reference, ops, false)).collect();
    for seed in 0..100 {
        let schedule = CpuSchedule::Shuffled(seed);
        let options = DeviceOptions { schedule, ..DeviceOptions::of(kovar::Backend::Cpu) };
        let device = Device::open(&options).unwrap();
        for (ops, expected) in programs.iter().zip(&expected) {
            assert_eq!(&run(&device, ops, seed % 2 == 0), expected, "seed {seed}: {ops:?}");
        }
    }
}
