//! A kernel of one's own, in WGSL for GPUs and in Rust for the CPU; the barriers place themselves.
//!
//! `cargo run --release -p kovar-lm --example vector_add -- cpu` (or vulkan, vulkan:1, metal)

use std::ops::Range;
use std::sync::Arc;

use kovar::{Buffer, CommandEncoder, CpuDispatch, CpuKernel, DType, Device, DeviceOptions, Dispatch, KernelSource};

static ADD: KernelSource = KernelSource::wgsl(
    "vector_add",
    "@group(0) @binding(0) var<storage, read> a: array<f32>;
     @group(0) @binding(1) var<storage, read> b: array<f32>;
     @group(0) @binding(2) var<storage, read_write> sum: array<f32>;
     var<immediate> n: u32;
     @compute @workgroup_size(64)
     fn main(@builtin(global_invocation_id) id: vec3<u32>) {
         if (id.x < n) { sum[id.x] = a[id.x] + b[id.x]; }
     }",
)
.with_cpu(|_| Ok(Arc::new(Add)));

/// The same for the CPU: tasks of this many elements, which worker threads claim in any order.
struct Add;
const TASK: usize = 4096;

impl CpuKernel for Add {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.constants::<u32>().div_ceil(TASK as u32)
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let n = dispatch.constants::<u32>() as usize;
        let range = tasks.start as usize * TASK..(tasks.end as usize * TASK).min(n);
        let (a, b) = (dispatch.slice::<f32>(0), dispatch.slice::<f32>(1));
        // SAFETY: each task has a range of its own.
        let sum = unsafe { dispatch.slice_mut::<f32>(2, range.clone()) };
        for (sum, (a, b)) in sum.iter_mut().zip(a[range.clone()].iter().zip(&b[range])) {
            *sum = a + b;
        }
    }
}

fn add(encoder: &mut CommandEncoder, a: &Buffer, b: &Buffer, sum: &Buffer) -> kovar::Result<()> {
    let (kernel, n) = (encoder.device().kernel(&ADD, &[])?, sum.len() as u32);
    encoder.dispatch(Dispatch::new(&kernel).bind(0, a).bind(1, b).bind(2, sum).constants(&n).threads([n, 1, 1]))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or("cpu".into());
    let device = Device::open(&DeviceOptions { device: Some(name.parse()?), ..DeviceOptions::default() })?;

    let n = 100_000;
    let a = device.upload(&(0..n).map(|i| i as f32).collect::<Vec<_>>(), &[n])?;
    let b = device.upload(&vec![1.0f32; n], &[n])?;
    let sums: [Buffer; 3] =
        [device.buffer(DType::F32, &[n])?, device.buffer(DType::F32, &[n])?, device.buffer(DType::F32, &[n])?];

    let mut encoder = device.encoder()?;
    add(&mut encoder, &a, &b, &sums[0])?; // a + 1
    add(&mut encoder, &a, &a, &sums[1])?; // 2a: may run beside the first
    add(&mut encoder, &sums[0], &sums[1], &sums[2])?; // 3a + 1: reads both, so one barrier goes before it
    let stats = encoder.stats();
    encoder.commit()?.wait()?;

    let result = sums[2].read::<f32>()?;
    let right = result.iter().zip(0..).all(|(sum, i)| *sum == (3 * i + 1) as f32);
    println!("{}: {} sums, right: {right}", device.info().name, result.len());
    println!(
        "{} dispatches, {} barrier placed, {} not needed",
        stats.dispatches,
        stats.barriers(),
        stats.barriers_elided
    );
    if right && stats.barriers() == 1 { Ok(()) } else { Err("the sums or the barriers are wrong".into()) }
}
