//! Weights in place at any byte of a file, on the CPU: each op that takes some gives the bits that it gives of aligned ones.
#![allow(clippy::unwrap_used, clippy::unreachable)]

use std::io::Write;
use std::sync::Arc;

use kovar::{Buffer, CommandEncoder, DType, Device, FileBuffers, Placement, Result};
use kovar_checks::ops::harness::{cpu, for_any, product, run, weight};
use kovar_checks::ops::sample::{Random, Sample};
use kovar_ops::attention::{HeadNorms, NewRow, turned_parts};
use kovar_ops::linear::{Normed, add_linear, attended_linear, gated_linear, norm_linear};
use kovar_ops::norm_rotary::{HeadTurn, norm_rotary};
use kovar_ops::{AffineMatrix, DenseMatrix, Matrix, Precision, add_norm, embedding, norm};
use memmap2::Mmap;
use proptest::prelude::*;

/// A file that has the bytes of buffers, from one of the first bytes on, each with nothing between it and the one before
/// but a byte more: so they begin at different places.
struct Unaligned {
    file: FileBuffers<Box<Mmap>>,
    at: usize,
}

impl Unaligned {
    fn of(device: &Device, buffers: &[&Buffer], first: usize) -> Unaligned {
        let mut bytes = vec![0xa5; first];
        for buffer in buffers {
            let whole = buffer.reinterpret(DType::U8, &[buffer.byte_len() as usize]).unwrap();
            bytes.extend(whole.read::<u8>().unwrap());
            bytes.push(0xa5);
        }
        // Of what ends a file, less than a word is copied.
        bytes.extend([0xa5; 2]);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        // SAFETY: nobody else knows of the file.
        let map = Arc::new(Box::new(unsafe { Mmap::map(&file) }.unwrap()));
        Unaligned { file: device.file(map, "weights").unaligned(), at: first }
    }

    /// The next of them, where it lies.
    fn next(&mut self, like: &Buffer) -> Buffer {
        let range = self.at..self.at + like.byte_len() as usize;
        self.at = range.end + 1;
        let (buffer, placement) = self.file.buffer(range, like.dtype(), like.shape(), "weight", |_| ()).unwrap();
        assert_eq!(placement, Placement::InPlace);
        buffer
    }
}

fn moved<const N: usize>(device: &Device, buffers: [&Buffer; N], first: usize) -> [Buffer; N] {
    let mut file = Unaligned::of(device, &buffers, first);
    buffers.map(|buffer| file.next(buffer))
}

fn moved_affine(device: &Device, w: &AffineMatrix, first: usize) -> AffineMatrix {
    let [codes, scales, biases] = moved(device, [w.codes(), w.scales(), w.biases()], first);
    AffineMatrix::new(codes, scales, biases, w.bits(), w.group()).unwrap()
}

fn moved_matrix(device: &Device, matrix: &Matrix, first: usize) -> Matrix {
    match matrix {
        Matrix::Affine(w) => Matrix::Affine(moved_affine(device, w, first)),
        Matrix::Dense(w) => {
            let [weight] = moved(device, [w.weight()], first);
            Matrix::Dense(DenseMatrix::new(weight).unwrap())
        }
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// What an op writes into a buffer of this shape.
fn made(device: &Device, shape: &[usize], op: impl FnOnce(&mut CommandEncoder, &Buffer) -> Result<()>) -> Vec<u32> {
    let y = device.buffer(DType::F32, shape).unwrap();
    run(device, |enc| op(enc, &y));
    bits(&y.read().unwrap())
}

fn dtype() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F32), Just(DType::F16), Just(DType::BF16)]
}

/// Bits and length of a group.
fn form() -> impl Strategy<Value = (u32, u32)> {
    (prop_oneof![Just(4u32), Just(8)], prop_oneof![Just(32u32), Just(64), Just(128)])
}

/// The first byte.
const FIRST: std::ops::Range<usize> = 0..8;

fn affine(
    device: &Device,
    random: &mut Random,
    shape: [usize; 2],
    form: (u32, u32),
    dtype: DType,
    first: usize,
) -> [AffineMatrix; 2] {
    let Matrix::Affine(w) = Sample::affine(device, random, shape, form, dtype).matrix else { unreachable!() };
    let moved = moved_affine(device, &w, first);
    [w, moved]
}

#[test]
fn products() {
    let device = cpu();
    let inputs = (FIRST, 1usize..20, 1usize..70, 1usize..9, form(), dtype(), any::<u64>());
    for_any(200, inputs, |(first, m, n, groups, form, dtype, seed)| {
        let random = &mut Random(seed);
        let sample = Sample::affine(&device, random, [n, groups * form.1 as usize], form, dtype);
        let k = sample.matrix.k();
        let dense = Sample::dense(&device, random, n, k - seed as usize % 3, dtype);
        for (matrix, k) in [(&sample.matrix, k), (&dense.matrix, dense.matrix.k())] {
            let (x, elsewhere) = (random.normals(m * k), moved_matrix(&device, matrix, first));
            for (m, precision) in
                [(1, Precision::Exact), (m, Precision::Exact), (1, Precision::Fast), (m, Precision::Fast)]
            {
                let [one, other] = [matrix, &elsewhere].map(|matrix| product(&device, matrix, &x[..m * k], precision));
                assert_eq!(bits(&one), bits(&other), "{m} rows, {precision:?}");
            }
        }
    });
}

#[test]
fn embeddings() {
    let device = cpu();
    for_any(60, (FIRST, 1usize..40, form(), dtype(), any::<u64>()), |(first, n, form, dtype, seed)| {
        let random = &mut Random(seed);
        let tables = [
            Sample::affine(&device, random, [n, 2 * form.1 as usize], form, dtype).matrix,
            Sample::dense(&device, random, n, 37, dtype).matrix,
        ];
        let tokens: Vec<u32> = (0..n as u32 + 2).rev().collect();
        let tokens = device.upload(&tokens, &[n + 2]).unwrap();
        for table in tables {
            let shape = [n + 2, table.k()];
            let [one, other] = [&table, &moved_matrix(&device, &table, first)]
                .map(|table| made(&device, &shape, |enc, y| embedding::embed(enc, table, &tokens, y)));
            assert_eq!(one, other);
        }
    });
}

#[test]
fn norms() {
    let device = cpu();
    for_any(60, (FIRST, 1usize..5, 1usize..50, dtype(), any::<u64>()), |(first, rows, half, dtype, seed)| {
        let (random, width) = (&mut Random(seed), 2 * half);
        let mut floats = |shape: &[usize]| device.upload(&random.normals(shape.iter().product()), shape).unwrap();
        let (a, b, freqs) = (floats(&[rows, width]), floats(&[rows, width]), floats(&[half]));
        let position = device.upload(&[3u32], &[1]).unwrap();
        let heads = a.reshape(&[1, rows, width]).unwrap();
        let weights = weight(&device, &Random(!seed).normals(width), dtype).0;
        let [elsewhere] = moved(&device, [&weights], first);
        let [one, other] = [&weights, &elsewhere].map(|weight| {
            let sum = device.buffer(DType::F32, &[rows, width]).unwrap();
            let turn = HeadTurn { weight, eps: 1e-6, freqs: &freqs, position: &position };
            [
                made(&device, &[rows, width], |enc, y| norm::rms_norm(enc, &a, weight, y, 1e-6)),
                made(&device, &[rows, width], |enc, y| add_norm::add_norm(enc, [&a, &b], weight, &sum, y, 1e-6)),
                made(&device, &[1, rows, width], |enc, y| norm_rotary(enc, &heads, &turn, y, false)),
            ]
        });
        assert_eq!(one, other);
    });
}

#[test]
fn products_with_what_stands_around_them() {
    let device = cpu();
    for_any(60, (FIRST, 1usize..4, form(), dtype(), any::<u64>()), |(first, m, form, dtype, seed)| {
        let (random, n, k, splits) = (&mut Random(seed), 40, 256, 3);
        let mut floats = |shape: &[usize]| device.upload(&random.normals(shape.iter().product()), shape).unwrap();
        let (x, other, parts) = (floats(&[m, k]), floats(&[m, n]), floats(&[m, 2, splits, k / 2 + 4]));
        let [w, v, u] = [n, 9, 17].map(|n| affine(&device, random, [n, k], form, dtype, first));
        let weights = weight(&device, &random.normals(k), dtype).0;
        let [elsewhere] = moved(&device, [&weights], first);
        let [aligned, unaligned] = [(0, &weights), (1, &elsewhere)].map(|(i, weight)| {
            let (norm, w, v, u) = (Normed { weight, eps: 1e-6 }, &w[i], &v[i], &u[i]);
            let [first, second] = [9, 17].map(|n| device.buffer(DType::F32, &[m, n]).unwrap());
            let mut all = vec![
                made(&device, &[m, n], |enc, y| add_linear(enc, w, &x, &other, y)),
                made(&device, &[m, n], |enc, y| attended_linear(enc, w, &parts, &other, y)),
                made(&device, &[m, n], |enc, y| norm_linear(enc, norm, &[w], &x, &[y])),
                made(&device, &[m, n], |enc, y| gated_linear(enc, norm, [w, w], &x, y)),
                made(&device, &[m, n], |enc, y| norm_linear(enc, norm, &[w, v, u], &x, &[y, &first, &second])),
            ];
            all.extend([first, second].map(|y| bits(&y.read().unwrap())));
            all
        });
        assert_eq!(aligned, unaligned);
    });
}

#[test]
fn attention_that_norms_its_heads() {
    let device = cpu();
    for_any(40, (FIRST, dtype(), any::<u64>()), |(first, dtype, seed)| {
        let (random, size) = (&mut Random(seed), 64);
        let mut floats = |shape: &[usize]| device.upload(&random.normals(shape.iter().product()), shape).unwrap();
        let [q, k, v] = [4, 2, 2].map(|heads| floats(&[1, heads, size]));
        let (freqs, cache) = (floats(&[size / 2]), floats(&[9, 2, size]));
        let position = device.upload(&[5u32], &[1]).unwrap();
        let weights = [(); 2].map(|()| weight(&device, &random.normals(size), dtype).0);
        let elsewhere = moved(&device, weights.each_ref(), first);
        let [one, other] = [&weights, &elsewhere].map(|[queries, keys]| {
            let caches = [(); 2].map(|()| device.upload(&cache.read::<f32>().unwrap(), cache.shape()).unwrap());
            let norms = Some(HeadNorms { queries, keys, eps: 1e-6 });
            let row = NewRow { queries: &q, keys: &k, values: &v, norms, freqs: &freqs };
            let parts = made(&device, &[1, 4, 2, size + 4], |enc, parts| {
                turned_parts(enc, &row, caches.each_ref(), &position, parts, 0.1)
            });
            [parts, bits(&caches[0].read().unwrap())]
        });
        assert_eq!(one, other);
    });
}
