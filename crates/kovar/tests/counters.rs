//! Counters: what a kernel did, and what barriers cost the host.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{AXPY, AxpyParams, null};
use kovar::{
    Buffer, CommandEncoder, DType, Device, Dispatch, EncoderOptions, ExecutableOptions, Graph, Kernel, KernelSource,
};

static FILL: KernelSource = KernelSource::wgsl(
    "fill_with",
    "override VALUE: f32;
     @group(0) @binding(0) var<storage, read_write> x: array<f32>;
     @compute @workgroup_size(64)
     fn main(@builtin(global_invocation_id) id: vec3<u32>) { x[id.x] = VALUE; }",
);

fn axpy(encoder: &mut CommandEncoder, kernel: &Kernel, x: &Buffer, y: &Buffer) -> kovar::Result<()> {
    let params = AxpyParams { n: 64, a: 1.0 };
    encoder.dispatch(Dispatch::new(kernel).bind(0, x).bind(1, y).constants(&params).groups([1, 1, 1]))
}

/// Name, constants and dispatches of each kernel.
fn report(device: &Device) -> Vec<(String, Vec<f64>, u64)> {
    let values = |constants: Vec<(String, f64)>| constants.into_iter().map(|(_, value)| value).collect();
    device.kernel_stats().into_iter().map(|kernel| (kernel.name, values(kernel.constants), kernel.dispatches)).collect()
}

#[test]
fn dispatches_are_counted_by_kernel_and_constants_live_and_replayed() {
    let device = null();
    let [x, y] = [(); 2].map(|()| device.buffer(DType::F32, &[64]).unwrap());
    let fill = |encoder: &mut CommandEncoder, value| {
        let kernel = device.kernel(&FILL, &[("VALUE", value)]).unwrap();
        encoder.dispatch(Dispatch::new(&kernel).bind(0, &x).groups([1, 1, 1])).unwrap();
    };
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let row = |name: &str, constants: &[f64], dispatches| (name.to_string(), constants.to_vec(), dispatches);
    assert_eq!(report(&device), [row("axpy", &[], 0)]);

    let mut encoder = device.encoder().unwrap();
    for value in [1.0, 2.0, 1.0] {
        fill(&mut encoder, value);
        axpy(&mut encoder, &kernel, &x, &y).unwrap();
    }
    axpy(&mut encoder, &kernel, &x, &x).unwrap_err();
    // Like all counts of an encoder, they arrive at its commit.
    assert!(report(&device).iter().all(|(_, _, dispatches)| *dispatches == 0));
    encoder.commit().unwrap().wait().unwrap();
    let live = [row("axpy", &[], 3), row("fill_with", &[1.0], 2), row("fill_with", &[2.0], 1)];
    assert_eq!(report(&device), live);

    // What is dropped was not dispatched.
    let mut dropped = device.encoder().unwrap();
    axpy(&mut dropped, &kernel, &x, &y).unwrap();
    drop(dropped);
    assert_eq!(report(&device), live);

    let graph = Graph::capture(&device, "step", |encoder| {
        fill(encoder, 2.0);
        fill(encoder, 2.0);
        axpy(encoder, &kernel, &x, &y)
    });
    let options = ExecutableOptions { repeat: 3, ..ExecutableOptions::default() };
    let mut step = graph.unwrap().compile(&options).unwrap();
    assert_eq!(report(&device), live);
    for _ in 0..5 {
        step.submit().unwrap().wait().unwrap();
    }
    let replayed = [row("fill_with", &[2.0], 31), row("axpy", &[], 18), row("fill_with", &[1.0], 2)];
    assert_eq!(report(&device), replayed);
    assert_eq!(device.stats().dispatches, 31 + 18 + 2);
}

#[test]
fn barriers_are_timed_when_asked() {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let [x, y] = [(); 2].map(|()| device.buffer(DType::F32, &[64]).unwrap());
    let took = |time_barriers| {
        let before = device.stats();
        let mut encoder = device.encoder_with(EncoderOptions { time_barriers, ..EncoderOptions::default() }).unwrap();
        for _ in 0..10_000 {
            axpy(&mut encoder, &kernel, &x, &y).unwrap();
        }
        encoder.barrier();
        encoder.force_barrier();
        let recorded = encoder.stats().barrier_ns;
        encoder.commit().unwrap().wait().unwrap();
        let stats = device.stats() - before;
        assert_eq!(stats.barriers(), 10_001);
        assert_eq!(stats.barrier_ns, recorded);
        recorded
    };
    assert_eq!(took(false), 0);
    // Ten thousand of them: more than a clock of any grain misses.
    assert!(took(true) > 0);
}
