//! Host cost of recording on the null device: `cargo bench -p kovar --bench record`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{AXPY, AxpyParams, null};
use divan::Bencher;
use divan::counter::ItemsCount;
use kovar::{DType, Dispatch, DispatchRecord, EncoderOptions, ExecutableOptions, Graph, Kept, Timing};

fn main() {
    divan::main();
}

/// Dispatches over a ring of buffers, so that about one in four needs a barrier.
#[divan::bench(args = [10, 100, 1000, 10_000])]
fn automatic_barriers(bencher: Bencher, dispatches: usize) {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let buffers: Vec<_> = (0..8).map(|_| device.buffer(DType::F32, &[1024]).unwrap()).collect();
    bencher.counter(ItemsCount::new(dispatches)).with_inputs(|| device.encoder().unwrap()).bench_local_values(
        |mut encoder| {
            for i in 0..dispatches {
                let (x, y) = (&buffers[i % 8], &buffers[(i + 3) % 8]);
                let params = AxpyParams { n: 1024, a: 1.0 };
                let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, y).constants(&params).threads([1024, 1, 1]);
                encoder.dispatch(dispatch).unwrap();
            }
            encoder
        },
    );
}

/// The same with commands listed for a profile: what profiling costs the host.
#[divan::bench(args = [10, 100, 1000, 10_000])]
fn listed(bencher: Bencher, dispatches: usize) {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let buffers: Vec<_> = (0..8).map(|_| device.buffer(DType::F32, &[1024]).unwrap()).collect();
    let options = || EncoderOptions { timing: Timing::Dispatches, ..EncoderOptions::default() };
    let encoder = || device.encoder_with(options()).unwrap();
    bencher.counter(ItemsCount::new(dispatches)).with_inputs(encoder).bench_local_values(|mut encoder| {
        for i in 0..dispatches {
            let (x, y) = (&buffers[i % 8], &buffers[(i + 3) % 8]);
            let params = AxpyParams { n: 1024, a: 1.0 };
            let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, y).constants(&params).threads([1024, 1, 1]);
            encoder.dispatch(dispatch).unwrap();
        }
        encoder
    });
}

/// One group: every dispatch writes a part of its own, so that the tracker's group grows with each.
#[divan::bench(args = [10, 100, 1000, 10_000])]
fn one_group(bencher: Bencher, dispatches: usize) {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let x = device.buffer(DType::F32, &[64]).unwrap();
    let all = device.buffer(DType::F32, &[64 * dispatches]).unwrap();
    let parts: Vec<_> = (0..dispatches).map(|i| all.view(i * 64..(i + 1) * 64).unwrap()).collect();
    bencher.counter(ItemsCount::new(dispatches)).with_inputs(|| device.encoder().unwrap()).bench_local_values(
        |mut encoder| {
            for part in &parts {
                let params = AxpyParams { n: 64, a: 1.0 };
                let dispatch = Dispatch::new(&kernel).bind(0, &x).bind(1, part).constants(&params).threads([64, 1, 1]);
                encoder.dispatch(dispatch).unwrap();
            }
            encoder
        },
    );
}

/// The same as `automatic_barriers`, with constants and grid packed once.
#[divan::bench(args = [10, 100, 1000, 10_000])]
fn baked(bencher: Bencher, dispatches: usize) {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let buffers: Vec<_> = (0..8).map(|_| device.buffer(DType::F32, &[1024]).unwrap()).collect();
    let params = AxpyParams { n: 1024, a: 1.0 };
    let record = DispatchRecord::bake(&Dispatch::new(&kernel).constants(&params).threads([1024, 1, 1])).unwrap();
    bencher.counter(ItemsCount::new(dispatches)).with_inputs(|| device.encoder().unwrap()).bench_local_values(
        |mut encoder| {
            for i in 0..dispatches {
                encoder.dispatch_record(&record, &[&buffers[i % 8], &buffers[(i + 3) % 8]]).unwrap();
            }
            encoder
        },
    );
}

/// One submission of an executable with so many nodes, each of which reads a buffer of its own.
#[divan::bench(args = [10, 1000, 10_000])]
fn replay(bencher: Bencher, nodes: usize) {
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let weights: Vec<_> = (0..nodes).map(|_| device.buffer(DType::F32, &[64]).unwrap()).collect();
    let y = device.buffer(DType::F32, &[64]).unwrap();
    let graph = Graph::capture(&device, "replay", |encoder| {
        weights.iter().try_for_each(|x| {
            let params = AxpyParams { n: 64, a: 1.0 };
            encoder.dispatch(Dispatch::new(&kernel).bind(0, x).bind(1, &y).constants(&params).threads([64, 1, 1]))
        })
    })
    .unwrap();
    let mut executable = graph.compile(&ExecutableOptions::default()).unwrap();
    bencher.bench_local(|| executable.submit().unwrap());
}

/// The same, of 1,000 nodes, where two outputs take turns: recorded anew for each submission, or kept for both.
#[divan::bench(args = [1, 2])]
fn rebound(bencher: Bencher, kept_bindings: u32) {
    let nodes = 1000;
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let weights: Vec<_> = (0..nodes).map(|_| device.buffer(DType::F32, &[64]).unwrap()).collect();
    let outputs = [(); 2].map(|()| device.buffer(DType::F32, &[64]).unwrap());
    let mut graph = Graph::capture(&device, "rebound", |encoder| {
        weights.iter().try_for_each(|x| {
            let params = AxpyParams { n: 64, a: 1.0 };
            let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, &outputs[0]).constants(&params);
            encoder.dispatch(dispatch.threads([64, 1, 1]))
        })
    })
    .unwrap();
    graph.name("y", &outputs[0]).unwrap();
    let options = ExecutableOptions { kept_bindings, ..ExecutableOptions::default() };
    let mut executable = graph.compile(&options).unwrap();
    let mut turn = 0;
    bencher.bench_local(|| {
        turn += 1;
        executable.rebind(&[("y", &outputs[turn % 2])]).unwrap();
        executable.submit().unwrap()
    });
}

/// Records, commits and waits for dispatches that each read a buffer of their own: each counted once, or all kept by a set.
#[divan::bench(args = [false, true])]
fn references(bencher: Bencher, kept: bool) {
    const DISPATCHES: usize = 1000;
    let device = null();
    let kernel = device.kernel(&AXPY, &[]).unwrap();
    let weights: Vec<_> = (0..DISPATCHES).map(|_| device.buffer(DType::F32, &[64]).unwrap()).collect();
    let y = device.buffer(DType::F32, &[64]).unwrap();
    let kept = kept.then(|| Kept::new(weights.iter().chain([&y])));
    bencher.counter(ItemsCount::new(DISPATCHES)).bench_local(|| {
        let mut encoder = device.encoder_with(EncoderOptions { kept: kept.clone(), ..Default::default() }).unwrap();
        for x in &weights {
            let params = AxpyParams { n: 64, a: 1.0 };
            let dispatch = Dispatch::new(&kernel).bind(0, x).bind(1, &y).constants(&params).threads([64, 1, 1]);
            encoder.dispatch(dispatch).unwrap();
        }
        encoder.commit().unwrap().wait().unwrap()
    });
}
