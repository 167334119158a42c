// What the code of docs/from-mlx-native.md starts with: y += a·x on 64 elements, on the CPU.
{
    use kovar::{Backend, CpuDispatch, CpuKernel, Device, DeviceOptions, KernelSource};
    static AXPY: KernelSource = KernelSource::wgsl(
        "axpy",
        "@group(0) @binding(0) var<storage, read> x: array<f32>;
         @group(0) @binding(1) var<storage, read_write> y: array<f32>;
         var<immediate> a: f32;
         @compute @workgroup_size(64)
         fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] += a * x[id.x]; }",
    )
    .with_cpu(|_| Ok(std::sync::Arc::new(Axpy)));
    struct Axpy;
    impl CpuKernel for Axpy {
        fn tasks(&self, _: &CpuDispatch<'_>) -> u32 {
            1
        }
        fn run(&self, dispatch: &CpuDispatch<'_>, _: std::ops::Range<u32>) {
            let a: f32 = dispatch.constants();
            let x = dispatch.slice::<f32>(0);
            // SAFETY: there is one task.
            let y = unsafe { dispatch.slice_mut::<f32>(1, 0..x.len()) };
            y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
        }
    }
    let device = Device::open(&DeviceOptions::of(Backend::Cpu))?;
    let axpy = device.kernel(&AXPY, &[])?;
    let x = device.upload(&[1.0f32; 64], &[64])?;
    let [y, z] = [device.upload(&[0.0f32; 64], &[64])?, device.upload(&[0.0f32; 64], &[64])?];
    (device, axpy, x, y, z)
}
