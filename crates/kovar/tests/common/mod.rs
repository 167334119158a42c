//! Two kernels with both forms, and the devices to run them on.
#![allow(dead_code, clippy::unwrap_used)]

use std::ops::Range;
use std::sync::Arc;

use kovar::{Backend, CpuDispatch, CpuKernel, Device, DeviceOptions, KernelSource};
use kovar_testing::subjects;

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

/// y[i] = table[i].x, with a table that is too large for immediate constants.
pub static SCALE: KernelSource = KernelSource::wgsl(
    "scale",
    "@group(0) @binding(0) var<storage, read_write> y: array<f32>;
     @group(0) @binding(1) var<uniform> table: array<vec4<f32>, 64>;
     @compute @workgroup_size(64)
     fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = table[id.x].x; }",
)
.with_cpu(|_| Ok(Arc::new(Scale)));

struct Scale;

impl CpuKernel for Scale {
    fn tasks(&self, _: &CpuDispatch<'_>) -> u32 {
        1
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, _: Range<u32>) {
        let table: [[f32; 4]; 64] = dispatch.constants();
        // SAFETY: there is one task.
        let y = unsafe { dispatch.slice_mut::<f32>(0, 0..64) };
        y.iter_mut().zip(table).for_each(|(y, row)| *y = row[0]);
    }
}

pub fn null() -> Device {
    Device::open(&DeviceOptions::of(Backend::Null)).unwrap()
}

pub fn cpu() -> Device {
    Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap()
}

/// Every device that there is, the one that executes nothing among them.
pub fn devices(test: &str) -> Vec<(String, Device)> {
    let found = subjects(test).into_iter().map(|subject| (subject.name, subject.validation));
    let open = |(name, validation): (String, bool)| {
        let device = Some(name.parse().unwrap());
        let options = DeviceOptions { device, validation, ..DeviceOptions::default() };
        (name, Device::open(&options).unwrap())
    };
    found.chain([("null".to_string(), false)]).map(open).collect()
}

/// Runs a case on each of them; vendor validation must have been silent.
pub fn on_every_device(test: &str, run: impl Fn(&Device)) {
    for (name, device) in devices(test) {
        run(&device);
        device.wait_idle().unwrap();
        let messages = device.validation_messages();
        assert!(messages.is_empty(), "{test} on {name}: {}", messages.join("\n"));
    }
}
