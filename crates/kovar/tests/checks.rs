//! Checks that need no GPU: shuffled orders and the race detector, on recordings of the safe layer.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::ops::Range;
use std::sync::Arc;

use common::{AXPY, AxpyParams};
use kovar::check::{OrderError, in_every_order};
use kovar::{
    Backend, Buffer, CommandEncoder, CpuChecks, CpuDispatch, CpuKernel, CpuSchedule, DType, Device, DeviceOptions,
    Dispatch, EncoderOptions, Error, ExecutableOptions, Graph, HalError, Kernel, KernelSource, Touch,
};
use proptest::collection::vec;
use proptest::prelude::*;

const N: usize = 256;

/// One axpy from buffer to buffer: each whole, or one of its halves.
#[derive(Debug, Clone, Copy)]
struct Op {
    from: usize,
    to: usize,
    part: usize,
    a: i8,
}

fn op(buffers: usize) -> impl Strategy<Value = Op> {
    let parts = (0..buffers, 1..buffers, 0usize..3, -2i8..3);
    parts.prop_map(move |(from, step, part, a)| Op { from, to: (from + step) % buffers, part, a })
}

fn record(encoder: &mut CommandEncoder, kernel: &Kernel, buffers: &[Buffer], ops: &[Op]) -> kovar::Result<()> {
    for op in ops {
        let range = [0..N / 2, N / 2..N, 0..N][op.part].clone();
        let (x, y) = (buffers[op.from].view(range.clone())?, buffers[op.to].view(range)?);
        let n = x.len() as u32;
        let params = AxpyParams { n, a: f32::from(op.a) };
        encoder.dispatch(Dispatch::new(kernel).bind(0, &x).bind(1, &y).constants(&params).threads([n, 1, 1]))?;
    }
    Ok(())
}

/// Runs a graph live, reordered and with shared scratch, and gives the bytes of its buffers.
fn run(device: &Device, ops: &[Op]) -> kovar::Result<Vec<u8>> {
    let kernel = device.kernel(&AXPY, &[])?;
    let data = |i: usize| (0..N).map(|j| ((i * 31 + j * 7) % 13) as f32 - 6.0).collect::<Vec<_>>();
    let buffers = (0..4).map(|i| device.upload(&data(i), &[N])).collect::<kovar::Result<Vec<_>>>()?;
    let mut encoder = device.encoder()?;
    record(&mut encoder, &kernel, &buffers, ops)?;
    encoder.commit()?.wait()?;
    let mut graph = Graph::capture(device, "random", |encoder| {
        let mut all = buffers.clone();
        for _ in 0..3 {
            let scratch = encoder.scratch(DType::F32, &[N])?;
            encoder.fill(&scratch, 0x3f80_0000)?;
            all.push(scratch);
        }
        let shifted: Vec<Op> =
            ops.iter().map(|op| Op { from: (op.from + 3) % 7, to: (op.to + 3) % 7, ..*op }).collect();
        record(encoder, &kernel, &all, &shifted)
    })?;
    graph.reorder(8);
    let mut executable = graph.compile(&ExecutableOptions { repeat: 2, ..ExecutableOptions::default() })?;
    for _ in 0..2 {
        executable.submit()?.wait()?;
    }
    let mut bytes = Vec::new();
    for buffer in &buffers {
        bytes.extend_from_slice(bytemuck::cast_slice(&buffer.read::<f32>()?));
    }
    Ok(bytes)
}

fn watched(schedule: CpuSchedule) -> Device {
    let checks = CpuChecks { races: true };
    Device::open(&DeviceOptions { checks, schedule, ..DeviceOptions::of(Backend::Cpu) }).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn every_order_gives_the_same_bytes(ops in vec(op(4), 1..30)) {
        in_every_order(0..100, |device| run(device, &ops)).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn automatic_barriers_leave_no_race(ops in vec(op(4), 1..40), seed in any::<u64>()) {
        let plain = run(&watched(CpuSchedule::Parallel), &ops).unwrap();
        prop_assert_eq!(run(&watched(CpuSchedule::Shuffled(seed)), &ops).unwrap(), plain);
    }
}

/// The form of a kernel that writes one element more than it has, where there is one.
struct Sloppy;

impl CpuKernel for Sloppy {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.groups()[0]
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        for task in tasks.start as usize..tasks.end as usize {
            let range = task * 64..((task + 1) * 64 + 1).min(N);
            // SAFETY: none, which is the point: on a device of one thread it does no harm.
            unsafe { dispatch.slice_mut::<f32>(0, range) }.fill(task as f32);
        }
    }
}

static SLOPPY: KernelSource = KernelSource::wgsl(
    "sloppy",
    "@group(0) @binding(0) var<storage, read_write> y: array<f32>;
     @compute @workgroup_size(64)
     fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = 1.0; y[id.x + 1] = 1.0; }",
)
.with_cpu(|_| Ok(Arc::new(Sloppy)));

fn sloppy(device: &Device) -> kovar::Result<Buffer> {
    let kernel = device.kernel(&SLOPPY, &[])?;
    let y = device.buffer(DType::F32, &[N])?;
    let mut encoder = device.encoder_with(EncoderOptions { label: "layer 3".into(), ..EncoderOptions::default() })?;
    let dispatch = Dispatch::new(&kernel).bind(0, &y).groups([(N / 64) as u32, 1, 1]);
    encoder.dispatch(dispatch.label("scores"))?;
    encoder.commit()?.wait()?;
    Ok(y)
}

#[test]
fn a_race_inside_a_dispatch_is_found_both_ways() {
    let error = sloppy(&watched(CpuSchedule::Parallel)).unwrap_err();
    let Error::Device(HalError::Race(race)) = &error else { panic!("{error}") };
    assert_eq!((race.kind(), race.earlier.task, race.later.task), ("WAW", Some(0), Some(1)));
    assert_eq!(race.earlier.bytes, 256..260);
    for part in ["layer 3", "sloppy \"scores\" (command 0, task 0)", "bytes 256..260 of slot 0"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let bytes = |device: &Device| Ok::<_, Error>(bytemuck::cast_slice(&sloppy(device)?.read::<f32>()?).to_vec());
    match in_every_order(0..100, bytes) {
        Err(OrderError::Differs { byte, .. }) => assert!(byte % 256 <= 4, "{byte}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_wrong_claim_of_what_a_dispatch_touches_is_found() {
    let options = DeviceOptions { checks: CpuChecks { races: true }, ..DeviceOptions::of(Backend::Cpu) };
    let device = Device::open(&options).unwrap();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let [x, y] = [(); 2].map(|()| device.buffer(DType::F32, &[128]).unwrap());
    let params = AxpyParams { n: 64, a: 1.0 };
    let run = |second: &[Touch]| {
        let low = [Touch::elements(1, 0..64)];
        let add = Dispatch::new(&kernel).bind(0, &x).bind(1, &y).constants(&params).groups([1, 1, 1]);
        let mut encoder = device.encoder()?;
        // SAFETY: both write the first 64 elements. With races looked for one thread runs everything, so that a wrong
        // claim about the second does no harm.
        let (first, second) = unsafe { (add.touching(&low), add.touching(second)) };
        encoder.dispatch(first.label("first"))?;
        encoder.dispatch(second.label("second"))?;
        encoder.commit()?.wait()
    };
    run(&[Touch::elements(1, 0..64)]).unwrap();
    run(&[]).unwrap();
    let error = run(&[Touch::elements(1, 64..128)]).unwrap_err();
    assert!(matches!(error, Error::Device(HalError::Race(_))), "{error}");
    assert!(error.to_string().contains("first") && error.to_string().contains("second"), "{error}");
}
