//! Recording: results and placement of barriers. What is refused: see `refusals.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::Duration;

use common::{AXPY, AxpyParams, SCALE, cpu, null};
use kovar::{
    Barriers, Buffer, CommandEncoder, DType, Device, Dispatch, EncoderOptions, Error, ExecutableOptions, Graph, Kernel,
    KernelSource, Waited,
};

fn axpy(encoder: &mut CommandEncoder, kernel: &Kernel, a: f32, x: &Buffer, y: &Buffer) -> kovar::Result<()> {
    let n = x.len() as u32;
    encoder.dispatch(Dispatch::new(kernel).bind(0, x).bind(1, y).constants(&AxpyParams { n, a }).threads([n, 1, 1]))
}

fn barriers(device: &Device, record: impl FnOnce(&mut CommandEncoder, &Kernel)) -> (u64, u64) {
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let mut encoder = device.encoder().unwrap();
    record(&mut encoder, &kernel);
    let stats = encoder.stats();
    encoder.commit().unwrap().wait().unwrap();
    (stats.barriers_placed, stats.barriers_elided)
}

#[test]
fn a_chain_computes_what_it_says() {
    let device = cpu();
    let n = 100_000;
    let x = device.upload(&vec![1.0f32; n], &[n]).unwrap();
    let y = device.buffer(DType::F32, &[n]).unwrap();
    let z = device.buffer(DType::F32, &[n]).unwrap();
    let (placed, elided) = barriers(&device, |encoder, kernel| {
        axpy(encoder, kernel, 2.0, &x, &y).unwrap();
        axpy(encoder, kernel, 3.0, &y, &z).unwrap();
        axpy(encoder, kernel, 1.0, &z, &y).unwrap();
    });
    assert_eq!((placed, elided), (2, 0));
    assert_eq!(z.read::<f32>().unwrap(), vec![6.0; n]);
    assert_eq!(y.read::<f32>().unwrap(), vec![8.0; n]);
}

#[test]
fn barriers_stand_where_bytes_meet_and_nowhere_else() {
    let device = null();
    let buffer = || device.buffer(DType::F32, &[1024]).unwrap();
    let (a, b, c) = (buffer(), buffer(), buffer());
    // Two readers of one buffer.
    assert_eq!(
        barriers(&device, |e, k| {
            axpy(e, k, 1.0, &a, &b).unwrap();
            axpy(e, k, 1.0, &a, &c).unwrap();
        }),
        (0, 1)
    );
    // Write after read.
    assert_eq!(
        barriers(&device, |e, k| {
            axpy(e, k, 1.0, &a, &b).unwrap();
            axpy(e, k, 1.0, &c, &a).unwrap();
        }),
        (1, 0)
    );
    // Two halves of one buffer.
    let (low, high) = (a.view(0..512).unwrap(), a.view(512..1024).unwrap());
    assert_eq!(
        barriers(&device, |e, k| {
            axpy(e, k, 1.0, &b.view(0..512).unwrap(), &low).unwrap();
            axpy(e, k, 1.0, &b.view(512..1024).unwrap(), &high).unwrap();
            axpy(e, k, 1.0, &low, &high).unwrap();
        }),
        (1, 1)
    );
}

#[test]
fn serial_orders_everything_and_manual_refuses_what_is_not_ordered() {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let buffer = || device.buffer(DType::F32, &[64]).unwrap();
    let (a, b, c) = (buffer(), buffer(), buffer());
    let options = |barriers| EncoderOptions { label: "step".into(), barriers, ..EncoderOptions::default() };
    let mut serial = device.encoder_with(options(Barriers::Serial)).unwrap();
    axpy(&mut serial, &kernel, 1.0, &a, &b).unwrap();
    axpy(&mut serial, &kernel, 1.0, &a, &c).unwrap();
    assert_eq!(serial.stats().barriers_placed, 1);

    let mut manual = device.encoder_with(options(Barriers::Manual)).unwrap();
    axpy(&mut manual, &kernel, 1.0, &a, &b).unwrap();
    let error = axpy(&mut manual, &kernel, 1.0, &b, &c).unwrap_err();
    assert!(matches!(error, Error::MissingBarrier { .. }), "{error}");
    assert!(error.to_string().contains("axpy: a barrier is missing: RAW with command 0"), "{error}");
    manual.barrier();
    axpy(&mut manual, &kernel, 1.0, &b, &c).unwrap();
    assert_eq!(manual.stats().barriers_manual, 1);
    manual.commit().unwrap().wait().unwrap();
}

#[test]
fn a_kernel_that_does_not_compile_names_itself_and_the_line() {
    let device = null();
    let broken = KernelSource::from_text("broken", "@compute @workgroup_size(1)\nfn main() { let x: f32 = 1u; }");
    let error = device.kernel(&broken, &[]).unwrap_err().to_string();
    assert!(error.starts_with("kernel broken: ") && error.contains("2:"), "{error}");
    let error = device.kernel(&AXPY, &[("NOT_THERE", 1.0)]).unwrap_err().to_string();
    assert!(error.contains("axpy") && error.contains("NOT_THERE"), "{error}");
    let gpu_only = KernelSource::from_text("gpu_only", AXPY.source());
    let error = cpu().kernel(&gpu_only, &[]).unwrap_err();
    assert!(matches!(error, Error::NoForm { .. }), "{error}");
}

#[test]
fn buffers_refuse_shapes_and_views_that_cannot_be() {
    let device = cpu();
    assert!(matches!(device.buffer(DType::F32, &[4, 0]), Err(Error::Shape { .. })));
    assert!(matches!(device.buffer(DType::F32, &[usize::MAX, 2]), Err(Error::Shape { .. })));
    assert!(matches!(device.buffer(DType::F32, &[usize::MAX / 4]), Err(Error::Shape { .. })));
    let x = device.upload(&[1u16, 2, 3], &[3]).unwrap();
    assert!(matches!(x.view(0..4), Err(Error::Range { .. })));
    assert!(matches!(x.view(2..2), Err(Error::Range { .. })));
    assert!(matches!(x.reshape(&[2]), Err(Error::Shape { .. })));
    assert!(matches!(x.read::<f32>(), Err(Error::DType { .. })));
    assert!(matches!(x.write(&[1u16]), Err(Error::Length { .. })));
    let tail = x.view(1..3).unwrap();
    tail.write(&[20u16, 30]).unwrap();
    assert_eq!(x.read::<u16>().unwrap(), [1, 20, 30]);
    assert_eq!(tail.view(1..2).unwrap().read::<u16>().unwrap(), [30]);
}

#[test]
fn imported_memory_is_read_without_a_copy_and_never_written() {
    let device = cpu();
    let owner = std::sync::Arc::new(vec![7u8; 4096]);
    let (buffer, no_copy) = device.import(owner.clone(), DType::U8, &[4096], "weights").unwrap();
    assert!(no_copy);
    assert_eq!(buffer.read::<u8>().unwrap(), *owner);
    assert!(matches!(buffer.write(&[0u8; 4096]), Err(Error::ReadOnly { .. })));
    let mut encoder = device.encoder().unwrap();
    assert!(encoder.fill(&buffer, 0).is_err());
    assert_eq!(std::sync::Arc::strong_count(&owner), 2);
    drop((buffer, encoder));
    assert_eq!(std::sync::Arc::strong_count(&owner), 1);
}

#[test]
fn scratch_comes_back_when_the_last_submission_has_used_it() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let y = device.buffer(DType::F32, &[1000]).unwrap();
    for _ in 0..100 {
        let x = device.scratch(DType::F32, &[1000]).unwrap();
        x.write(&[1.0f32; 1000]).unwrap();
        let mut encoder = device.encoder().unwrap();
        axpy(&mut encoder, &kernel, 1.0, &x, &y).unwrap();
        drop(x);
        encoder.commit().unwrap().wait().unwrap();
    }
    assert_eq!(y.read::<f32>().unwrap(), vec![100.0; 1000]);
    device.wait_idle().unwrap();
    let stats = device.pool_stats();
    assert_eq!((stats.live, stats.reused), (0, 99), "{stats:?}");
    device.trim_pool();
    assert_eq!(device.pool_stats().free, 0);
}

static FAULTY: KernelSource = KernelSource::wgsl(
    "faulty",
    "@group(0) @binding(0) var<storage, read_write> x: array<f32>;
     @compute @workgroup_size(1) fn main() { x[0] = 1.0; }",
)
.with_cpu(|_| Ok(std::sync::Arc::new(Faulty)));
struct Faulty;
impl kovar::CpuKernel for Faulty {
    fn tasks(&self, _: &kovar::CpuDispatch<'_>) -> u32 {
        1
    }
    fn run(&self, dispatch: &kovar::CpuDispatch<'_>, _: std::ops::Range<u32>) {
        dispatch.slice::<f32>(7);
    }
}

#[test]
fn a_fault_is_an_error_and_poisons_what_the_submission_wrote() {
    let device = cpu();
    let kernel = device.kernel(&FAULTY, &[]).unwrap();
    let x = device.buffer_in(kovar::MemoryKind::Shared, DType::F32, &[4], "result").unwrap();
    let mut encoder = device.encoder_with(EncoderOptions { label: "layer 3".into(), ..Default::default() }).unwrap();
    encoder.dispatch(Dispatch::new(&kernel).bind(0, &x).groups([1, 1, 1])).unwrap();
    let error = encoder.commit().unwrap().wait().unwrap_err().to_string();
    assert!(error.contains("layer 3") && error.contains("faulty") && error.contains("slot 7"), "{error}");
    assert!(matches!(x.read::<f32>(), Err(Error::Poisoned { .. })));
    x.write(&[1.0f32; 4]).unwrap();
    assert_eq!(x.read::<f32>().unwrap(), [1.0; 4]);
}

#[test]
fn a_failed_replay_poisons_until_the_bytes_are_rewritten() {
    let device = cpu();
    let kernel = device.kernel(&FAULTY, &[]).unwrap();
    let buffer = || device.buffer(DType::F32, &[4]).unwrap();
    let (x, y, untouched) = (buffer(), buffer(), buffer());
    let graph = |x: &Buffer| {
        let record = |encoder: &mut CommandEncoder| encoder.dispatch(Dispatch::new(&kernel).bind(0, x).groups([1; 3]));
        Graph::capture(&device, "step", record).unwrap()
    };
    let mut fails = graph(&x).compile(&ExecutableOptions::default()).unwrap();
    fails.submit().unwrap().wait().unwrap_err();
    assert!(matches!(x.read::<f32>(), Err(Error::Poisoned { .. })));
    assert_eq!(untouched.read::<f32>().unwrap(), [0.0; 4]);
    // The executable goes, its failure stays.
    drop(fails);
    assert!(matches!(x.read::<f32>(), Err(Error::Poisoned { .. })));
    let rewrite = |encoder: &mut CommandEncoder| encoder.fill(&x, 0);
    let mut rewrite =
        Graph::capture(&device, "rewrite", rewrite).unwrap().compile(&ExecutableOptions::default()).unwrap();
    rewrite.submit().unwrap().wait().unwrap();
    assert_eq!(x.read::<f32>().unwrap(), [0.0; 4]);
    drop(rewrite);
    assert_eq!(x.read::<f32>().unwrap(), [0.0; 4]);
    graph(&y).compile(&ExecutableOptions::default()).unwrap().submit().unwrap().wait().unwrap_err();
    assert!(matches!(y.read::<f32>(), Err(Error::Poisoned { .. })));
    y.write(&[1.0f32; 4]).unwrap();
    assert_eq!(y.read::<f32>().unwrap(), [1.0; 4]);
}

#[test]
fn the_host_waits_for_replays_of_what_it_touches() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let n = 1 << 16;
    let (x, y) = (device.buffer(DType::F32, &[n]).unwrap(), device.buffer(DType::F32, &[n]).unwrap());
    let graph = Graph::capture(&device, "step", |encoder| axpy(encoder, &kernel, 1.0, &x, &y)).unwrap();
    let mut step = graph.compile(&ExecutableOptions::default()).unwrap();
    let mut sum = 0.0;
    for round in 1..=20u8 {
        x.write(&vec![f32::from(round); n]).unwrap();
        drop(step.submit().unwrap());
        sum += f32::from(round);
        if round % 5 == 0 {
            assert_eq!(y.read::<f32>().unwrap(), vec![sum; n]);
        }
    }
}

#[test]
fn a_wait_that_times_out_leaves_everything_usable() {
    let device = cpu();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let n = 4 << 20;
    let x = device.upload(&vec![1.0f32; n], &[n]).unwrap();
    let y = device.buffer(DType::F32, &[n]).unwrap();
    let mut encoder = device.encoder().unwrap();
    for _ in 0..20 {
        axpy(&mut encoder, &kernel, 1.0, &x, &y).unwrap();
    }
    let submission = match encoder.commit().unwrap().wait_for(Duration::from_nanos(1)).unwrap() {
        Waited::Pending(submission) => submission,
        Waited::Completed(_) => panic!("80 million elements in a nanosecond"),
    };
    submission.wait().unwrap();
    assert_eq!(y.read::<f32>().unwrap()[n - 1], 20.0);
}

#[test]
fn uniform_constants_go_through_the_ring() {
    let device = cpu();
    let kernel = device.kernel(&SCALE, &[]).unwrap();
    let mut outputs = Vec::new();
    let mut encoder = device.encoder().unwrap();
    for round in 0..200 {
        let table: [[f32; 4]; 64] = std::array::from_fn(|i| [(round * 64 + i) as f32; 4]);
        let y = device.buffer(DType::F32, &[64]).unwrap();
        encoder.dispatch(Dispatch::new(&kernel).bind(0, &y).constants(&table).groups([1, 1, 1])).unwrap();
        outputs.push(y);
    }
    encoder.commit().unwrap().wait().unwrap();
    for (round, y) in outputs.iter().enumerate() {
        assert_eq!(y.read::<f32>().unwrap()[63], (round * 64 + 63) as f32);
    }
}

#[test]
fn constants_allocate_nothing_once_the_ring_is_there() {
    let device = cpu();
    let kernel = device.kernel(&SCALE, &[]).unwrap();
    let y = device.buffer(DType::F32, &[64]).unwrap();
    let round = |round: usize| {
        let mut encoder = device.encoder().unwrap();
        // Over 100 KiB: more than one block.
        for at in 0..100 {
            let table: [[f32; 4]; 64] = std::array::from_fn(|i| [(round * 100 + at + i) as f32; 4]);
            encoder.dispatch(Dispatch::new(&kernel).bind(0, &y).constants(&table).groups([1, 1, 1])).unwrap();
        }
        encoder.commit().unwrap().wait().unwrap();
        assert_eq!(y.read::<f32>().unwrap()[63], (round * 100 + 99 + 63) as f32);
    };
    round(0);
    let first = device.stats().allocations;
    assert_eq!(first, 3, "the result and two blocks");
    (1..10).for_each(round);
    assert_eq!(device.stats().allocations, first);
}

/// An encoder numbers what it meets, and leaves the number in the allocation, where the next encoder overwrites it.
mod encoders_side_by_side {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn place_the_barriers_that_each_would_place_alone(
            steps in vec((0usize..3, 0usize..6, 1usize..6, 0u8..8), 1..120),
        ) {
            let device = null();
            let kernel = device.kernel(&AXPY, &[]).unwrap();
            let buffers: Vec<_> = (0..6).map(|_| device.buffer(DType::F32, &[64]).unwrap()).collect();
            let record = |encoder: &mut CommandEncoder, from: usize, by: usize| {
                axpy(encoder, &kernel, 1.0, &buffers[from], &buffers[(from + by) % 6]).unwrap();
                (encoder.stats().barriers_placed, encoder.hazards().unwrap().len())
            };
            // Each encoder's own dispatches since it was made, and what came of them.
            let mut open: [Option<CommandEncoder>; 3] = [const { None }; 3];
            let mut alone: [Vec<(usize, usize)>; 3] = [const { Vec::new() }; 3];
            let mut ended = Vec::new();
            for (at, from, by, end) in steps {
                let encoder = open[at].get_or_insert_with(|| device.encoder().unwrap());
                let seen = record(encoder, from, by);
                alone[at].push((from, by));
                ended.push((alone[at].clone(), seen));
                if end == 0 {
                    alone[at].clear();
                    open[at].take().unwrap().commit().unwrap().wait().unwrap();
                }
            }
            drop(open);
            for (dispatches, seen) in ended {
                let mut encoder = device.encoder().unwrap();
                let last = dispatches.iter().map(|(from, by)| record(&mut encoder, *from, *by)).last();
                prop_assert_eq!(last, Some(seen), "{:?}", dispatches);
            }
        }
    }
}
