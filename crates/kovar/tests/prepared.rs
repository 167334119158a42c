//! What threads of the CPU device prepare for the tasks of a dispatch.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kovar::{
    Backend, CpuDispatch, CpuKernel, DType, Device, DeviceOptions, Dispatch, ExecutableOptions, Graph, KernelSource,
};

const TASKS: u32 = 500;
const THREADS: usize = 3;

const WGSL: &str = "@group(0) @binding(0) var<storage> x: array<f32>;
    @group(0) @binding(1) var<storage, read_write> y: array<f32>;
    @compute @workgroup_size(1) fn main(@builtin(global_invocation_id) i: vec3u) { y[i.x] = x[0]; }";

static MADE: AtomicUsize = AtomicUsize::new(0);
static SPREAD: KernelSource = KernelSource::wgsl("spread", WGSL).with_cpu(|_| Ok(Arc::new(Spread)));

/// Writes what a thread read once.
struct Spread;

impl CpuKernel for Spread {
    fn tasks(&self, _: &CpuDispatch<'_>) -> u32 {
        TASKS
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let value: &f32 = dispatch.prepared(|| {
            MADE.fetch_add(1, Ordering::Relaxed);
            dispatch.slice::<f32>(0)[0]
        });
        // SAFETY: tasks have elements of their own.
        unsafe { dispatch.slice_mut::<f32>(1, tasks.start as usize..tasks.end as usize) }.fill(*value);
    }
}

#[test]
fn what_is_prepared_serves_one_execution_of_one_dispatch() {
    let device = Device::open(&DeviceOptions { threads: Some(THREADS), ..DeviceOptions::of(Backend::Cpu) }).unwrap();
    let kernel = device.kernel(&SPREAD, &[]).unwrap();
    let x = device.upload(&[0.0f32], &[1]).unwrap();
    let (a, b) = (device.upload(&[-1.0f32], &[1]).unwrap(), DType::F32);
    let ys = [device.buffer(b, &[TASKS as usize]).unwrap(), device.buffer(b, &[TASKS as usize]).unwrap()];
    let graph: kovar::Result<Graph> = Graph::capture(&device, "two of a group", |encoder| {
        for (x, y) in [&x, &a].into_iter().zip(&ys) {
            encoder.dispatch(Dispatch::new(&kernel).bind(0, x).bind(1, y).groups([TASKS, 1, 1]))?;
        }
        Ok(())
    });
    let mut executable = graph.unwrap().compile(&ExecutableOptions::default()).unwrap();
    for round in 1..=200 {
        x.write(&[round as f32]).unwrap();
        executable.submit().unwrap().wait().unwrap();
        assert_eq!(ys[0].read::<f32>().unwrap(), [round as f32; TASKS as usize]);
        assert_eq!(ys[1].read::<f32>().unwrap(), [-1.0; TASKS as usize]);
        let made = MADE.swap(0, Ordering::Relaxed);
        assert!((2..=2 * THREADS).contains(&made), "{made} times");
    }
}
