//! Two kernels with both forms, and the devices to run them on.
#![allow(dead_code, clippy::unwrap_used)]

use std::ops::Range;
use std::sync::Arc;

use kovar::{Backend, CpuDispatch, CpuKernel, Device, DeviceOptions, KernelSource};

/// y[i] = a·x[i] + y[i].
pub static AXPY: KernelSource = KernelSource::wgsl(
    "axpy",
    "struct P { n: u32, a: f32 }
     var<immediate> p: P;
     @group(0) @binding(0) var<storage, read> x: array<f32>;
     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
     @compute @workgroup_size(64)
     fn main(@builtin(global_invocation_id) id: vec3<u32>) {
         if (id.x < p.n) { y[id.x] = fma(p.a, x[id.x], y[id.x]); }
     }",
)
.with_cpu(|_| Ok(Arc::new(Axpy)));

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
pub struct AxpyParams {
    pub n: u32,
    pub a: f32,
}

struct Axpy;

impl CpuKernel for Axpy {
    fn tasks(&self, dispatch: &CpuDispatch<'_>) -> u32 {
        dispatch.groups()[0]
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, tasks: Range<u32>) {
        let AxpyParams { n, a } = dispatch.constants();
        let range = tasks.start as usize * 64..(tasks.end as usize * 64).min(n as usize);
        let x = &dispatch.slice::<f32>(0)[range.clone()];
        // SAFETY: each task has 64 elements of its own.
        let y = unsafe { dispatch.slice_mut::<f32>(1, range) };
        for (y, x) in y.iter_mut().zip(x) {
            *y = a.mul_add(*x, *y);
        }
    }
}

pub fn null() -> Device {
    Device::open(&DeviceOptions::of(Backend::Null)).unwrap()
}

pub fn cpu() -> Device {
    Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap()
}
