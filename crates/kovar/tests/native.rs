//! Kernels with hand-written Metal code, on a device that takes Metal code and executes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use kovar::{
    DType, Device, DeviceOptions, Dispatch, DispatchRecord, Error, Graph, KernelSource, Misuse, ShaderFormat, Trap,
};
use kovar_hal::null;

const WGSL: &str = "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
    @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) i: u32) { x[i] = 1.0; }";

fn with_msl() -> KernelSource {
    KernelSource::from_text("sized", WGSL).with_msl(
        "kernel void main_(device float* x [[buffer(0)]], threadgroup float* part [[threadgroup(0)]],
                           uint i [[thread_index_in_threadgroup]]) { part[i] = 1.0; x[i] = part[i]; }",
    )
}

/// Looks like Metal as far as code goes.
fn metal() -> Device {
    let adapter = null::adapter_for(ShaderFormat::Msl(3, 2));
    Device::from_adapter(adapter.as_ref(), &DeviceOptions::default()).unwrap()
}

#[test]
fn threadgroup_memory_is_taken_by_hand_written_metal_code() {
    let device = metal();
    let (kernel, x) = (device.kernel(&with_msl(), &[]).unwrap(), device.buffer(DType::F32, &[64]).unwrap());
    let dispatch = || Dispatch::new(&kernel).bind(0, &x).groups([1, 1, 1]);
    let mut encoder = device.encoder().unwrap();
    // Metal rounds up to 16: 16 and the rest is all there is.
    let all = device.info().limits.group_memory;
    for fits in [&[256][..], &[1, all - 16]] {
        encoder.dispatch(dispatch().threadgroup_memory(fits)).unwrap();
    }
    let record = DispatchRecord::bake(&dispatch().threadgroup_memory(&[256])).unwrap();
    encoder.dispatch_record(&record, &[&x]).unwrap();
    let mut refused = |bytes: &[u32], wanted: u64| match encoder.dispatch(dispatch().threadgroup_memory(bytes)) {
        Err(Error::Dispatch { misuse: Misuse::ThreadgroupMemory { bytes, .. }, .. }) => assert_eq!(bytes, wanted),
        other => panic!("{bytes:?}: {other:?}"),
    };
    refused(&[17, all - 16], u64::from(all) + 16);
    refused(&[16; 32], 512);
    refused(&[16, 0], 16);
    assert!(DispatchRecord::bake(&dispatch().threadgroup_memory(&[1 << 20])).is_err());
    encoder.commit().unwrap().wait().unwrap();
    let graph = Graph::capture(&device, "sized", |encoder| encoder.dispatch(dispatch().threadgroup_memory(&[256])));
    assert_eq!(graph.unwrap().len(), 1);
}

#[test]
fn the_same_kernel_elsewhere_has_its_memory_from_its_source() {
    let translated = KernelSource::from_text("sized", WGSL);
    for (device, source) in [(common::null(), with_msl()), (metal(), translated)] {
        let (kernel, x) = (device.kernel(&source, &[]).unwrap(), device.buffer(DType::F32, &[64]).unwrap());
        let dispatch = Dispatch::new(&kernel).bind(0, &x).groups([1, 1, 1]);
        let mut encoder = device.encoder().unwrap();
        encoder.dispatch(dispatch).unwrap();
        let refused = encoder.dispatch(dispatch.threadgroup_memory(&[256])).unwrap_err();
        assert!(refused.to_string().contains("only hand-written Metal code"), "{refused}");
    }
}

/// What Metal does not take is a typed error when the kernel is made, unless it brings Metal code of its own.
#[test]
fn traps_of_metal_are_refused_when_the_kernel_is_made() {
    let text = "enable f16;
        enable wgpu_cooperative_matrix;
        @group(0) @binding(0) var<storage, read_write> y: array<f32>;
        @compute @workgroup_size(32) fn main() {
            let sum = coopLoadT<coop_mat16x16<f32, C>>(&y[0], 16u);
            coopStoreT(sum, &y[0], 16u);
        }";
    let source = KernelSource::from_text("tiles", text);
    match metal().kernel(&source, &[]) {
        Err(Error::Trap { kernel, line: 5, trap: Trap::MatrixSize { columns: 16, rows: 16 } }) => {
            assert_eq!(kernel, "tiles")
        }
        other => panic!("{other:?}"),
    }
    metal().kernel(&source.with_msl("kernel void main_() {}"), &[]).unwrap();
}
