//! Buffers of a mapped file: imported once as a whole where the device can, else copied; which of the two is told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Write;
use std::ops::Range;
use std::sync::Arc;

use common::{AXPY, AxpyParams};
use kovar::{
    Backend, Buffer, CpuDispatch, CpuKernel, DType, Device, DeviceOptions, Dispatch, Error, Graph, HalError,
    KernelSource, Misuse, Placement,
};
use kovar_hal::faulty::{At, Call, Failure, Fault, Faulty, Live};
use kovar_testing::subjects;
use memmap2::Mmap;

/// Bytes of the file: no whole page.
const LEN: usize = 3 * 65_536 + 1000;

struct Mapped(Mmap);

impl AsRef<Mmap> for Mapped {
    fn as_ref(&self) -> &Mmap {
        &self.0
    }
}

/// A mapped file of floats: the number of each.
fn mapped() -> Arc<Mapped> {
    let mut file = tempfile::tempfile().unwrap();
    let words: Vec<u8> = (0..LEN as u32 / 4).flat_map(|i| (i as f32).to_le_bytes()).collect();
    file.write_all(&words).unwrap();
    // SAFETY: nobody else knows of the file.
    Arc::new(Mapped(unsafe { Mmap::map(&file) }.unwrap()))
}

/// The sum of a buffer with zeros, as the device computes it.
fn through_the_device(device: &Device, x: &Buffer) -> Vec<f32> {
    let n = x.len();
    let (kernel, y) = (device.kernel(&AXPY, &[]).unwrap(), device.buffer(DType::F32, &[n]).unwrap());
    let mut encoder = device.encoder().unwrap();
    let params = AxpyParams { n: n as u32, a: 1.0 };
    encoder
        .dispatch(Dispatch::new(&kernel).bind(0, x).bind(1, &y).constants(&params).threads([n as u32, 1, 1]))
        .unwrap();
    encoder.commit().unwrap().wait().unwrap();
    y.read::<f32>().unwrap()
}

#[test]
fn parts_are_in_place_where_kernels_can_bind_them_and_copies_elsewhere() {
    for subject in subjects("parts_are_in_place_where_kernels_can_bind_them_and_copies_elsewhere") {
        for (discrete, copy_files) in [(false, false), (true, false), (false, true)] {
            let device = Some(subject.name.parse().unwrap());
            let validation = subject.validation;
            let options = DeviceOptions { device, validation, discrete, copy_files, ..DeviceOptions::default() };
            let device = Device::open(&options).unwrap();
            let limits = device.info().limits;
            let mut file = device.file(mapped(), "weights");
            let imports = device.info().features.host_import && !discrete && !copy_files;
            // A part at the end, too, which lies in the last, incomplete page.
            for (start, words) in [(0, 64), (256, 1000), (260, 7), (4096, 40_000), (131_072, 100), (LEN - 40, 10)] {
                let mut told = 0;
                let bytes = start..start + 4 * words;
                let (buffer, placement) =
                    file.buffer(bytes, DType::F32, &[words], "part", |more| told += more).unwrap();
                let in_place = imports && (start as u64).is_multiple_of(limits.storage_alignment);
                let expected = if in_place { Placement::InPlace } else { Placement::Copied };
                assert_eq!((placement, buffer.label()), (expected, "part"), "{}, byte {start}", subject.name);
                assert_eq!(told, if in_place { 0 } else { 4 * words as u64 });
                let values: Vec<f32> = (start / 4..start / 4 + words).map(|i| i as f32).collect();
                assert_eq!(buffer.read::<f32>().unwrap(), values);
                assert_eq!(through_the_device(&device, &buffer), values);
                if in_place {
                    assert!(matches!(buffer.write(&values), Err(Error::ReadOnly { label }) if label == "part"));
                }
            }
            let messages = device.validation_messages();
            assert!(messages.is_empty(), "{}: {}", subject.name, messages.join("\n"));
        }
    }
}

/// y[i] = x[i], wherever x begins.
static WIDEN: KernelSource = KernelSource::wgsl(
    "widen",
    "@group(0) @binding(0) var<storage, read> x: array<f32>;
     @group(0) @binding(1) var<storage, read_write> y: array<f32>;
     @compute @workgroup_size(1)
     fn main(@builtin(global_invocation_id) id: vec3<u32>) { y[id.x] = x[id.x]; }",
)
.with_cpu(|_| Ok(Arc::new(Widen)))
.unaligned(&[0]);

struct Widen;

impl CpuKernel for Widen {
    fn tasks(&self, _: &CpuDispatch<'_>) -> u32 {
        1
    }

    fn run(&self, dispatch: &CpuDispatch<'_>, _: Range<u32>) {
        let x = dispatch.slice::<[u8; 4]>(0);
        // SAFETY: there is one task.
        let y = unsafe { dispatch.slice_mut::<f32>(1, 0..x.len()) };
        y.iter_mut().zip(x).for_each(|(y, x)| *y = f32::from_le_bytes(*x));
    }
}

#[test]
fn parts_at_any_byte_are_in_place_on_the_cpu_for_kernels_that_read_them_so() {
    for subject in subjects("parts_at_any_byte_are_in_place_on_the_cpu_for_kernels_that_read_them_so") {
        for copy_files in [false, true] {
            let device = Some(subject.name.parse().unwrap());
            let options =
                DeviceOptions { device, validation: subject.validation, copy_files, ..DeviceOptions::default() };
            let device = Device::open(&options).unwrap();
            let in_place = device.info().backend == Backend::Cpu && !copy_files;
            let map = mapped();
            let mut file = device.file(map.clone(), "weights").unaligned();
            // The file ends before a word would.
            let (_, placement) = file.buffer(LEN - 2..LEN, DType::F16, &[1], "end", |_| ()).unwrap();
            assert_eq!(placement, Placement::Copied);
            for start in (1..8).filter(|start| start % 4 != 0) {
                let bytes = &map.0[start..start + 256];
                let values: Vec<f32> = bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes).collect();
                let (x, placement) = file.buffer(start..start + 256, DType::F32, &[64], "part", |_| ()).unwrap();
                assert_eq!(placement, if in_place { Placement::InPlace } else { Placement::Copied });
                assert_eq!(x.read::<f32>().unwrap(), values);
                let (widen, y) = (device.kernel(&WIDEN, &[]).unwrap(), device.buffer(DType::F32, &[64]).unwrap());
                let mut encoder = device.encoder().unwrap();
                encoder.dispatch(Dispatch::new(&widen).bind(0, &x).bind(1, &y).groups([64, 1, 1])).unwrap();
                encoder.commit().unwrap().wait().unwrap();
                // A GPU need not keep numbers below the normal ones.
                let normal = |x: &f32| if x.is_subnormal() { 0.0 } else { *x };
                let got: Vec<f32> = y.read::<f32>().unwrap().iter().map(normal).collect();
                assert_eq!(got, values.iter().map(normal).collect::<Vec<_>>(), "{}, byte {start}", subject.name);
                if in_place {
                    let axpy = device.kernel(&AXPY, &[]).unwrap();
                    let mut encoder = device.encoder().unwrap();
                    let params = AxpyParams { n: 64, a: 1.0 };
                    let dispatch = Dispatch::new(&axpy).bind(0, &x).bind(1, &y).constants(&params).groups([1, 1, 1]);
                    let refused = encoder.dispatch(dispatch);
                    let wanted =
                        Misuse::Misaligned { slot: 0, label: "part".into(), offset: start as u64, alignment: 4 };
                    assert!(matches!(refused, Err(Error::Dispatch { misuse, .. }) if misuse == wanted));
                    assert!(matches!(x.map::<f32>(), Err(Error::Unaligned { .. })));
                }
            }
            let messages = device.validation_messages();
            assert!(messages.is_empty(), "{}: {}", subject.name, messages.join("\n"));
        }
    }
}

#[test]
fn a_file_is_imported_once_when_it_is_first_needed_and_released_with_its_last_buffer() {
    let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
    let device = Device::from_adapter(&adapter, &DeviceOptions::default()).unwrap();
    let map = mapped();
    let imports = || faults.calls().iter().filter(|call| **call == Call::ImportBuffer).count();
    let mut file = device.file(map.clone(), "weights");
    // Odd bytes are copied: nothing needs to be imported for them.
    let (_, placement) = file.buffer(1..9, DType::F32, &[2], "odd", |_| ()).unwrap();
    assert_eq!((placement, imports()), (Placement::Copied, 0));
    let mut part = |at: usize| file.buffer(at * 64..at * 64 + 64, DType::F32, &[16], "part", |_| ()).unwrap().0;
    let parts: Vec<Buffer> = (0..100).map(&mut part).collect();
    assert_eq!(imports(), 1);
    assert!(parts[0].same_allocation(&parts[99]) && parts[3].view(1..2).unwrap().label() == "part");
    drop(file);
    assert_eq!(through_the_device(&device, &parts[50])[0], 800.0);
    drop(parts);
    assert_eq!(Arc::strong_count(&map), 2, "it leaves the residency set with the next commit");
    device.encoder().unwrap().commit().unwrap().wait().unwrap();
    assert_eq!(Arc::strong_count(&map), 1);
    drop(device);
    assert_eq!((faults.live(), faults.misuse()), (Live::default(), vec![]));
}

#[test]
fn an_explanation_names_the_parts_of_a_file() {
    let device = common::cpu();
    let (kernel, y) = (device.kernel(&AXPY, &[]).unwrap(), device.buffer(DType::F32, &[16]).unwrap());
    let mut file = device.file(mapped(), "weights");
    let parts = ["first", "second"].map(|name| {
        let start = if name == "first" { 0 } else { 256 };
        file.buffer(start..start + 64, DType::F32, &[16], name, |_| ()).unwrap().0
    });
    let all = [parts[0].clone(), parts[1].view(4..8).unwrap()];
    let graph = Graph::capture::<Error>(&device, "parts", |encoder| {
        for x in &all {
            let params = AxpyParams { n: x.len() as u32, a: 1.0 };
            encoder.dispatch(Dispatch::new(&kernel).bind(0, x).bind(1, &y).constants(&params).groups([1, 1, 1]))?;
        }
        Ok(())
    })
    .unwrap();
    let explanation = graph.explain();
    let names = explanation.commands.iter().map(|command| command.uses[0].buffer.as_str());
    assert!(names.zip(["first #", "second #"]).all(|(name, wanted)| name.starts_with(wanted)), "{explanation}");
    assert!(explanation.commands.iter().all(|command| command.uses[1].buffer.starts_with("buffer #")));
    assert!(explanation.to_svg().contains("second #"));
}

#[test]
fn what_is_not_in_the_file_or_does_not_fit_is_refused() {
    let device = common::cpu();
    let mut file = device.file(mapped(), "weights");
    let mut part = |bytes, shape: &[usize]| file.buffer(bytes, DType::F32, shape, "part", |_| ());
    assert!(matches!(part(LEN - 4..LEN + 4, &[2]), Err(Error::Range { len: LEN, .. })));
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let backwards = part(8..4, &[1]);
    assert!(matches!(backwards, Err(Error::Range { .. })));
    assert!(matches!(part(0..8, &[3]), Err(Error::Length { given: 8, actual: 12, .. })));
    assert!(matches!(part(0..0, &[0]), Err(Error::Shape { .. })));
    assert!(part(0..8, &[2]).is_ok());
}

#[test]
fn an_import_that_fails_is_a_typed_error() {
    let (adapter, faults) = Faulty::new(kovar_hal::cpu::adapter());
    let device = Device::from_adapter(&adapter, &DeviceOptions::default()).unwrap();
    faults.inject(Fault { at: At::Nth(Call::ImportBuffer, 0), failure: Failure::OutOfMemory });
    let mut file = device.file(mapped(), "weights");
    let mut part = || file.buffer(0..8, DType::F32, &[2], "part", |_| ());
    assert!(matches!(part(), Err(Error::Device(HalError::OutOfMemory { .. }))));
    assert_eq!(part().unwrap().1, Placement::InPlace);
}
