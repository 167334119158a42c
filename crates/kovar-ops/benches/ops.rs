//! Ops on the CPU at the sizes of a small model (384 wide, 6 query heads, 2 key-value heads of 64): time of one call of
//! a recording of 100, with its barrier.
//!
//! `cargo bench -p kovar-ops --bench ops`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use divan::Bencher;
use kovar::{Backend, Buffer, CommandEncoder, DType, Device, DeviceOptions, Result};
use kovar_ops::{activation, argmax, attention, cache, elementwise, norm, rotary};

/// Calls of a recording.
const CALLS: usize = 100;

fn main() {
    divan::main();
}

struct Bench {
    device: Device,
}

impl Bench {
    fn new(threads: usize) -> Bench {
        let options = DeviceOptions { threads: Some(threads), ..DeviceOptions::of(Backend::Cpu) };
        Bench { device: Device::open(&options).unwrap() }
    }

    fn floats(&self, shape: &[usize]) -> Buffer {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| ((i * 7919 % 1009) as f32 - 500.0) / 300.0).collect();
        self.device.upload(&values, shape).unwrap()
    }

    fn word(&self, value: u32) -> Buffer {
        self.device.upload(&[value], &[1]).unwrap()
    }

    fn time(&self, bencher: Bencher<'_, '_>, call: impl Fn(&mut CommandEncoder) -> Result<()>) {
        bencher
            .counter(divan::counter::ItemsCount::new(CALLS))
            .with_inputs(|| {
                let mut encoder = self.device.encoder().unwrap();
                (0..CALLS).for_each(|_| call(&mut encoder).unwrap());
                encoder
            })
            .bench_local_values(|encoder| encoder.commit().unwrap().wait().unwrap());
    }
}

#[divan::bench(args = [1, 2])]
fn nothing_but_barriers(bencher: Bencher<'_, '_>, threads: usize) {
    let bench = Bench::new(threads);
    let (a, y) = (bench.floats(&[1]), bench.floats(&[1]));
    bench.time(bencher, |enc| elementwise::add(enc, &a, &a, &y));
}

#[divan::bench(args = [1, 2])]
fn add_384(bencher: Bencher<'_, '_>, threads: usize) {
    let bench = Bench::new(threads);
    let (a, y) = (bench.floats(&[384]), bench.floats(&[384]));
    bench.time(bencher, |enc| elementwise::add(enc, &a, &a, &y));
}

#[divan::bench(args = [1, 2])]
fn rms_norm_384(bencher: Bencher<'_, '_>, threads: usize) {
    let bench = Bench::new(threads);
    let (x, y) = (bench.floats(&[1, 384]), bench.floats(&[1, 384]));
    let weight = bench.device.buffer(DType::BF16, &[384]).unwrap();
    bench.time(bencher, |enc| norm::rms_norm(enc, &x, &weight, &y, 1e-6));
}

#[divan::bench(args = [1, 2])]
fn rms_norm_heads(bencher: Bencher<'_, '_>, threads: usize) {
    let bench = Bench::new(threads);
    let (x, y) = (bench.floats(&[6, 64]), bench.floats(&[6, 64]));
    let weight = bench.device.buffer(DType::BF16, &[64]).unwrap();
    bench.time(bencher, |enc| norm::rms_norm(enc, &x, &weight, &y, 1e-6));
}

#[divan::bench(args = [1, 2])]
fn rotary_heads(bencher: Bencher<'_, '_>, threads: usize) {
    let bench = Bench::new(threads);
    let (x, y) = (bench.floats(&[1, 6, 64]), bench.floats(&[1, 6, 64]));
    let (freqs, position) = (bench.floats(&[32]), bench.word(300));
    bench.time(bencher, |enc| rotary::rotary(enc, &x, &freqs, &position, &y));
}

#[divan::bench(args = [1, 2])]
fn silu_mul_1024(bencher: Bencher<'_, '_>, threads: usize) {
    let bench = Bench::new(threads);
    let (gate, up, y) = (bench.floats(&[1024]), bench.floats(&[1024]), bench.floats(&[1024]));
    bench.time(bencher, |enc| activation::silu_mul(enc, &gate, &up, &y));
}

#[divan::bench(args = [1, 2])]
fn cache_write(bencher: Bencher<'_, '_>, threads: usize) {
    let bench = Bench::new(threads);
    let (x, cache) = (bench.floats(&[1, 2, 64]), bench.floats(&[2048, 2, 64]));
    let position = bench.word(300);
    bench.time(bencher, |enc| cache::write(enc, &x, &position, &cache));
}

#[divan::bench(args = [4096, 151_936])]
fn argmax_one_thread(bencher: Bencher<'_, '_>, width: usize) {
    let bench = Bench::new(1);
    let (x, y) = (bench.floats(&[1, width]), bench.word(0));
    bench.time(bencher, |enc| argmax::argmax(enc, &x, &y));
}

fn attend(bencher: Bencher<'_, '_>, threads: usize, rows: usize, position: u32) {
    let bench = Bench::new(threads);
    let (q, y) = (bench.floats(&[rows, 6, 64]), bench.floats(&[rows, 6, 64]));
    let (keys, values) = (bench.floats(&[2048, 2, 64]), bench.floats(&[2048, 2, 64]));
    let position = bench.word(position);
    bench.time(bencher, |enc| attention::attention(enc, &q, &keys, &values, &position, &y, 0.125));
}

#[divan::bench(args = [0, 100, 500, 2000])]
fn decode_one_thread(bencher: Bencher<'_, '_>, position: u32) {
    attend(bencher, 1, 1, position);
}

#[divan::bench(args = [0, 100, 500, 2000])]
fn decode_two_threads(bencher: Bencher<'_, '_>, position: u32) {
    attend(bencher, 2, 1, position);
}

#[divan::bench(args = [64, 256], sample_count = 10)]
fn prompt_two_threads(bencher: Bencher<'_, '_>, rows: usize) {
    attend(bencher, 2, rows, 0);
}
