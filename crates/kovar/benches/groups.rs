//! What a group of one tiny dispatch costs on the CPU, replayed: `cargo bench -p kovar --bench groups`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::ops::Range;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use kovar::{
    Backend, CpuDispatch, CpuKernel, DType, Device, DeviceOptions, Dispatch, Executable, ExecutableOptions, Graph,
    KernelSource,
};

fn main() {
    divan::main();
}

/// Writes its slot, so that two of them are never in one group, and does nothing.
static NOTHING: KernelSource = KernelSource::wgsl(
    "nothing",
    "@group(0) @binding(0) var<storage, read_write> x: array<u32>;
     @compute @workgroup_size(1)
     fn main() { x[0] = x[0]; }",
)
.with_cpu(|_| Ok(Arc::new(Nothing)));

struct Nothing;

impl CpuKernel for Nothing {
    fn tasks(&self, _: &CpuDispatch<'_>) -> u32 {
        1
    }

    fn run(&self, _: &CpuDispatch<'_>, _: Range<u32>) {}
}

/// So many groups of one such dispatch each, on a device of so many threads.
fn step(threads: usize, groups: usize) -> Executable {
    let options = DeviceOptions { threads: Some(threads), ..DeviceOptions::of(Backend::Cpu) };
    let device = Device::open(&options).unwrap();
    let kernel = device.kernel(&NOTHING, &[]).unwrap();
    let x = device.buffer(DType::U32, &[4]).unwrap();
    let graph = Graph::capture(&device, "groups", |encoder| {
        (0..groups).try_for_each(|_| encoder.dispatch(Dispatch::new(&kernel).bind(0, &x).groups([1, 1, 1])))
    });
    let step = graph.unwrap().compile(&ExecutableOptions::default()).unwrap();
    assert_eq!(step.stats().barriers_placed as usize, groups - 1);
    step
}

/// One submission of a thousand groups and the wait for it: the time of a group.
#[divan::bench(args = [1, 2])]
fn chain(bencher: Bencher, threads: usize) {
    const GROUPS: usize = 1000;
    let mut step = step(threads, GROUPS);
    bencher.counter(ItemsCount::new(GROUPS)).bench_local(|| step.submit().unwrap().wait().unwrap());
}

/// One submission of one group and the wait for it: what starting and ending costs.
#[divan::bench(args = [1, 2])]
fn alone(bencher: Bencher, threads: usize) {
    let mut step = step(threads, 1);
    bencher.bench_local(|| step.submit().unwrap().wait().unwrap());
}
