//! Misuse is refused when it is recorded, by kernel and slot, and the encoder records on as if nothing had been said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{AXPY, AxpyParams, cpu, null};
use kovar::{
    Buffer, CommandEncoder, DType, Device, DeviceOptions, Dispatch, DispatchRecord, Error, Graph, KernelSource,
    MemoryKind, Misfit, Touch,
};
use kovar_testing::subjects;

fn named(device: &Device, label: &str, len: usize) -> Buffer {
    device.buffer_in(MemoryKind::Shared, DType::F32, &[len], label).unwrap()
}

/// An encoder that is given one misuse after the other, with a dispatch that fits after each.
struct Bench<'a> {
    encoder: &'a mut CommandEncoder,
    good: Dispatch<'a>,
    recorded: u64,
}

impl Bench<'_> {
    fn refuses(&mut self, message: &str, misuse: impl FnOnce(&mut CommandEncoder) -> kovar::Result<()>) {
        let before = self.encoder.hazards().map(kovar::hazard::Tracker::len);
        let error = misuse(self.encoder).expect_err(message);
        assert!(matches!(error, Error::Dispatch { .. }), "{error:?}");
        assert_eq!(error.to_string(), message);
        assert_eq!(self.encoder.hazards().map(kovar::hazard::Tracker::len), before, "{message}");
        self.encoder.dispatch(self.good).unwrap();
        self.recorded += 1;
        if !self.encoder.is_capturing() {
            assert_eq!(self.encoder.stats().dispatches, self.recorded, "{message}");
        }
    }
}

/// All that can be wrong with a dispatch on the null device, whose offsets are multiples of 16.
fn misuses(encoder: &mut CommandEncoder, device: &Device) -> u64 {
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let (x, y) = (named(device, "x", 64), named(device, "y", 64));
    let other = null();
    let stranger = named(&other, "z", 64);
    let odd = x.view(1..64).unwrap();
    let params = AxpyParams { n: 64, a: 1.0 };
    let of = |x, y| Dispatch::new(&kernel).bind(0, x).bind(1, y).constants(&params).threads([64, 1, 1]);
    let good = || of(&x, &y);
    let mut bench = Bench { encoder, good: good(), recorded: 0 };

    let unbound = Dispatch::new(&kernel).bind(0, &x).constants(&params).threads([64, 1, 1]);
    bench.refuses("dispatch of axpy: slot 1 (y) is not bound", |e| e.dispatch(unbound));
    bench.refuses("dispatch of axpy: slot 1 is bound twice", |e| e.dispatch(good().bind(1, &y)));
    for slot in [2, 15, 99] {
        let message = format!("dispatch of axpy: slot {slot} does not exist, the kernel has 2");
        bench.refuses(&message, |e| e.dispatch(good().bind(slot, &y)));
    }
    let message = "dispatch of axpy: constants have 4 bytes, the kernel wants 8";
    bench.refuses(message, |e| e.dispatch(good().constants(&1u32)));
    let message = "dispatch of axpy: slot 0 (\"x\"): offset 4 is not a multiple of 16 bytes";
    bench.refuses(message, |e| e.dispatch(of(&odd, &y)));
    let message = "dispatch of axpy: slots 1 and 0 overlap in buffer \"x\", and the first is written";
    bench.refuses(message, |e| e.dispatch(of(&x, &x)));

    bench.refuses("dispatch of axpy: no grid", |e| {
        e.dispatch(Dispatch::new(&kernel).bind(0, &x).bind(1, &y).constants(&params))
    });
    let message = "dispatch of axpy: a grid of [1, 65536, 1] workgroups, the device takes [65535, 65535, 65535]";
    bench.refuses(message, |e| e.dispatch(good().groups([1, 65536, 1])));
    let message = "dispatch of axpy: a grid of [65536, 1, 1] workgroups, the device takes [65535, 65535, 65535]";
    bench.refuses(message, |e| e.dispatch(good().threads([65535 * 64 + 1, 1, 1])));
    let message = "dispatch of axpy: 48 bytes of threadgroup memory: only hand-written Metal code takes it by the dispatch; \
                   size it with an override";
    bench.refuses(message, |e| e.dispatch(good().threadgroup_memory(&[40])));
    let short = named(device, "grid", 2);
    let message = "dispatch of axpy: indirect grid in \"grid\": wants 12 bytes at a multiple of 4";
    bench.refuses(message, |e| e.dispatch(good().indirect(&short)));

    bench.refuses("dispatch of axpy: slot 0 (\"z\") belongs to another device", |e| e.dispatch(of(&stranger, &y)));
    let message = "dispatch of axpy: indirect grid in \"z\": belongs to another device";
    bench.refuses(message, |e| e.dispatch(good().indirect(&stranger)));
    let foreign = other.kernel(&AXPY, &[]).unwrap();
    bench.refuses("dispatch of axpy: the kernel was made for another device", |e| {
        e.dispatch(Dispatch::new(&foreign).bind(0, &x).bind(1, &y).constants(&params).threads([64, 1, 1]))
    });

    let touches = [Touch::elements(1, 60..65)];
    let message = format!("dispatch of axpy: slot 1 (\"y\"): {:?} of 64 elements", touches[0]);
    // SAFETY: the claim is refused.
    bench.refuses(&message, |e| e.dispatch(unsafe { good().touching(&touches) }));

    let record = DispatchRecord::bake(&Dispatch::new(&kernel).constants(&params).threads([64, 1, 1])).unwrap();
    bench.refuses("dispatch of axpy: slot 1 (y) is not bound", |e| e.dispatch_record(&record, &[&x]));
    let message = "dispatch of axpy: slot 2 does not exist, the kernel has 2";
    bench.refuses(message, |e| e.dispatch_record(&record, &[&x, &y, &y]));
    let message = "dispatch of axpy: slot 16 does not exist, the kernel has 2";
    bench.refuses(message, |e| e.dispatch_record(&record, &[&x; 17]));
    let message = "dispatch of axpy: slot 0 (\"z\") belongs to another device";
    bench.refuses(message, |e| e.dispatch_record(&record, &[&stranger, &y]));

    bench.refuses("dispatch of transfer: \"z\" belongs to another device", |e| e.copy(&stranger, &y));
    bench.refuses("dispatch of transfer: 64 f32 elements of \"x\" to 2 f32 elements of \"grid\"", |e| {
        e.copy(&x, &short)
    });
    let (low, high) = (x.view(0..32).unwrap(), x.view(16..48).unwrap());
    bench.refuses("dispatch of transfer: source and destination overlap in \"x\"", |e| e.copy(&low, &high));
    bench.recorded
}

#[test]
fn misuse_names_kernel_and_slot_and_the_encoder_records_on() {
    let device = null();
    let mut encoder = device.encoder().unwrap();
    let recorded = misuses(&mut encoder, &device);
    let stats = encoder.stats();
    assert_eq!((stats.dispatches, stats.transfers, stats.barriers_placed), (recorded, 0, recorded - 1));
    encoder.commit().unwrap().wait().unwrap();
}

#[test]
fn a_capture_refuses_the_same() {
    let device = null();
    let mut recorded = 0;
    let graph = Graph::capture(&device, "captured", |encoder| {
        recorded = misuses(encoder, &device);
        Ok::<(), Error>(())
    })
    .unwrap();
    assert_eq!(graph.len() as u64, recorded);
}

static ROWS: KernelSource = KernelSource::wgsl(
    "rows",
    "@group(0) @binding(0) var<storage, read_write> rows: array<vec4<f32>>;
     @compute @workgroup_size(1) fn main() { rows[0] = vec4<f32>(); }",
);

#[test]
fn bindings_have_the_size_that_kernel_and_device_want() {
    let device = null();
    let kernel = device.kernel(&ROWS, &[]).unwrap();
    let refused = |error: Error, message: &str| assert_eq!(error.to_string(), message);
    let small = named(&device, "small", 1);
    let mut encoder = device.encoder().unwrap();
    let error = encoder.dispatch(Dispatch::new(&kernel).bind(0, &small).groups([1; 3])).unwrap_err();
    refused(error, "dispatch of rows: slot 0 (\"small\"): 4 bytes, the kernel wants at least 16");
    // Scratch of a capture has no memory, so that it can be larger than any.
    let graph = Graph::capture(&device, "large", |encoder| {
        let large = encoder.scratch(DType::F32, &[1 << 30])?;
        let error = encoder.dispatch(Dispatch::new(&kernel).bind(0, &large).groups([1; 3])).unwrap_err();
        let message = "dispatch of rows: slot 0 (\"scratch\"): 4294967296 bytes, this device binds at most 4294967295";
        refused(error, message);
        let fits = encoder.scratch(DType::F32, &[4])?;
        encoder.dispatch(Dispatch::new(&kernel).bind(0, &fits).groups([1; 3]))?;
        let mut live = device.encoder()?;
        let error = live.dispatch(Dispatch::new(&kernel).bind(0, &fits).groups([1; 3])).unwrap_err();
        refused(error, "dispatch of rows: slot 0 is scratch of a capture, which has no memory of its own");
        Ok::<(), Error>(())
    });
    assert_eq!(graph.unwrap().len(), 1);
}

#[test]
fn a_view_out_of_range_is_refused_by_buffer_and_elements() {
    let x = named(&null(), "x", 64);
    assert_eq!(x.view(60..65).unwrap_err().to_string(), "elements 60..65 of buffer \"x\", which has 64");
    let tail = x.view(32..64).unwrap();
    assert_eq!(tail.view(0..33).unwrap_err().to_string(), "elements 0..33 of buffer \"x\", which has 32");
    let backwards = std::ops::Range { start: 5, end: 4 };
    assert!(matches!(x.view(backwards), Err(Error::Range { .. })));
}

#[test]
fn what_was_refused_is_not_kept() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let owner = Arc::new(vec![0u8; 256]);
    let (x, no_copy) = device.import(owner.clone(), DType::F32, &[64], "x").unwrap();
    assert!(no_copy);
    let y = named(&device, "y", 64);
    let params = AxpyParams { n: 64, a: 1.0 };
    let good = Dispatch::new(&kernel).bind(0, &x).bind(1, &y).constants(&params).threads([64, 1, 1]);
    let mut encoder = device.encoder().unwrap();
    let touches = [Touch::elements(1, 0..65)];
    // SAFETY: the claim is refused.
    encoder.dispatch(unsafe { good.touching(&touches) }).unwrap_err();
    encoder.dispatch(good.constants(&1u32)).unwrap_err();
    let written = Dispatch::new(&kernel).bind(0, &y).bind(1, &x).constants(&params).threads([64, 1, 1]);
    let reason = "256 bytes, imported memory is read-only, and the kernel writes this slot";
    let error = encoder.dispatch(written).unwrap_err().to_string();
    assert_eq!(error, format!("dispatch of axpy: slot 1 (\"x\"): {reason}"));
    drop(x);
    assert_eq!(Arc::strong_count(&owner), 1);
    encoder.fill(&y, 0).unwrap();
    encoder.commit().unwrap().wait().unwrap();
}

fn with_workgroup(size: &str) -> KernelSource {
    let head = "override W: u32 = 1; @group(0) @binding(0) var<storage, read_write> x: array<f32>;";
    let main = "fn main(@builtin(local_invocation_index) i: u32) { x[i] = 1.0; }";
    KernelSource::from_text("sized", format!("{head} @compute @workgroup_size({size}) {main}"))
}

#[test]
fn what_a_device_cannot_take_is_refused_when_the_kernel_is_made() {
    let device = null();
    let misfit = |source: &KernelSource, constants: &[(&str, f64)], message: &str| {
        let error = device.kernel(source, constants).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("kernel {} does not fit this device: ", source.name())),
            "{error}"
        );
        assert!(error.to_string().ends_with(message), "{error}");
        match error {
            Error::Unfit { misfit, .. } => misfit,
            other => panic!("{other:?}"),
        }
    };
    let sized = with_workgroup("W, 2, 1");
    let found = misfit(&sized, &[("W", 1024.0)], "a workgroup of 2048 threads, the limit is 1024");
    assert_eq!(found, Misfit::GroupThreads { threads: 2048, limit: 1024 });
    let found = misfit(&sized, &[("W", 1025.0)], "of [1025, 2, 1] threads, the limit is [1024, 1024, 64]");
    assert_eq!(found, Misfit::GroupSize { size: [1025, 2, 1], limit: [1024, 1024, 64] });
    misfit(&with_workgroup("1, 1, 65"), &[], "of [1, 1, 65] threads, the limit is [1024, 1024, 64]");
    assert!(matches!(device.kernel(&sized, &[("W", 0.0)]), Err(Error::Kernel { .. })));
    device.kernel(&sized, &[("W", 512.0)]).unwrap();

    let tile = KernelSource::from_text(
        "tile",
        "override N: u32; var<workgroup> tile: array<f32, N>;
         @group(0) @binding(0) var<storage, read_write> x: array<f32>;
         @compute @workgroup_size(64) fn main() { tile[0] = x[0]; x[1] = tile[0]; }",
    );
    device.kernel(&tile, &[("N", 12288.0)]).unwrap();
    misfit(&tile, &[("N", 12289.0)], "49156 bytes of workgroup memory, the limit is 49152");

    let constants = |n| {
        let text = format!(
            "struct P {{ p: array<vec4<f32>, {n}> }} var<immediate> p: P;
             @group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
             @compute @workgroup_size(1) fn main() {{ x[0] = p.p[0]; }}"
        );
        KernelSource::from_text("constants", text)
    };
    device.kernel(&constants(8), &[]).unwrap();
    misfit(&constants(9), &[], "144 bytes of immediate constants, the limit is 128; use a uniform block");

    let slots = |n| {
        let slot = |i| format!("@group(0) @binding({i}) var<storage, read_write> s{i}: array<f32>;\n");
        let text: String = (0..n).map(slot).collect();
        KernelSource::from_text("slots", text + "@compute @workgroup_size(1) fn main() { s0[0] = 1.0; }")
    };
    device.kernel(&slots(16), &[]).unwrap();
    misfit(&slots(17), &[], "17 slots, the limit is 16");
}

#[test]
fn hints_of_a_kernel_hold_or_the_kernel_is_refused() {
    let device = null();
    let plain = with_workgroup("W, 1, 1");
    let whole = plain.clone().whole_subgroups();
    let refused = |source: &KernelSource, width: f64| match device.kernel(source, &[("W", width)]) {
        Ok(_) => None,
        Err(Error::Unfit { misfit, .. }) => Some(misfit),
        Err(other) => panic!("{other:?}"),
    };
    // The same text with and without the hint are two kernels.
    for (width, fits) in [(32.0, true), (48.0, false), (1.0, false), (64.0, true)] {
        assert_eq!(refused(&plain, width), None);
        let size = [width as u32, 1, 1];
        let misfit = (!fits).then_some(Misfit::PartialSubgroup { size, subgroup: 32 });
        assert_eq!(refused(&whole, width), misfit, "{width}");
    }
    assert_eq!(refused(&plain.clone().with_subgroup(32), 1.0), None);
    // A Rust function has no subgroups.
    cpu().kernel(&AXPY.clone().with_subgroup(32), &[]).unwrap();
    for wanted in [0, 16, 33, 64] {
        let misfit = Misfit::Subgroup { wanted, min: 32, max: 32 };
        assert_eq!(refused(&plain.clone().with_subgroup(wanted), 64.0), Some(misfit));
    }
}

/// x[0] = threads of a subgroup.
fn width() -> KernelSource {
    let text = "override SG: u32;
         @group(0) @binding(0) var<storage, read_write> x: array<u32>;
         @compute @workgroup_size(SG)
         fn main(@builtin(subgroup_size) size: u32, @builtin(local_invocation_index) i: u32) {
             if (i == 0u) { x[0] = size; x[1] = SG; }
         }";
    KernelSource::from_text("width", text).whole_subgroups()
}

#[test]
fn a_kernel_runs_with_the_subgroup_width_that_it_wants() {
    for subject in subjects("a_kernel_runs_with_the_subgroup_width_that_it_wants") {
        let options = DeviceOptions {
            device: Some(subject.name.parse().unwrap()),
            validation: subject.validation,
            ..DeviceOptions::default()
        };
        let device = Device::open(&options).unwrap();
        let has = device.info().subgroup;
        if !matches!(device.info().backend, kovar::Backend::Vulkan | kovar::Backend::Metal) {
            // Rust functions have no subgroups.
            continue;
        }
        let error = device.kernel(&width().with_subgroup(has.max * 2), &[]).unwrap_err();
        assert!(matches!(error, Error::Unfit { misfit: Misfit::Subgroup { .. }, .. }), "{}: {error}", subject.name);
        for wanted in (0..8).map(|n| 1 << n).filter(|n| (has.min..=has.max).contains(n)) {
            let kernel = device.kernel(&width().with_subgroup(wanted), &[]).unwrap();
            let x = device.buffer(DType::U32, &[2]).unwrap();
            let mut encoder = device.encoder().unwrap();
            encoder.dispatch(Dispatch::new(&kernel).bind(0, &x).groups([1, 1, 1])).unwrap();
            encoder.commit().unwrap().wait().unwrap();
            assert_eq!(x.read::<u32>().unwrap(), [wanted; 2], "{}", subject.name);
        }
        let messages = device.validation_messages();
        assert!(messages.is_empty(), "{}: {}", subject.name, messages.join("\n"));
    }
}
