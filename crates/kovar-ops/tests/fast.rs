//! Products of rounded rows with what surrounds them: as the ops apart do it, on every device.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod matrices;

use kovar::{Backend, Buffer, CommandEncoder, DType, Device, Graph};
use kovar_ops::linear::{Normed, add_linear, gated_linear, linear, norm_linear};
use kovar_ops::{AffineMatrix, Matrix, Precision, activation, elementwise, fusion_rules, norm};
use matrices::{Random, Sample, devices, relative_l2};

/// A code at a tie may fall to either side: one part in 254 of the largest of a block, seldom.
const NEAR: f64 = 2e-3;

fn run(device: &Device, record: impl FnOnce(&mut CommandEncoder) -> kovar::Result<()>) {
    let mut encoder = device.encoder().unwrap();
    record(&mut encoder).unwrap();
    encoder.commit().unwrap().wait().unwrap();
    assert_eq!(device.validation_messages(), Vec::<String>::new());
}

fn affine(device: &Device, random: &mut Random, shape: [usize; 2], form: (u32, u32), dtype: DType) -> AffineMatrix {
    match Sample::affine(device, random, shape, form, dtype).matrix {
        Matrix::Affine(w) => w,
        Matrix::Dense(_) => panic!("not quantised"),
    }
}

fn near(what: &str, got: &Buffer, wanted: &Buffer) {
    let wanted: Vec<f64> = wanted.read::<f32>().unwrap().iter().map(|v| f64::from(*v)).collect();
    let error = relative_l2(&wanted, &got.read::<f32>().unwrap());
    assert!(error <= NEAR, "{what}: {error}");
}

/// Rows of x, rows of three matrices, length of a row, bits and group, type of the scales.
type Case = (usize, [usize; 3], usize, (u32, u32), DType);

/// Sizes with and without a rest of a vector, a subgroup, a group of rows; both sizes of codes; every stored type.
const CASES: [Case; 6] = [
    (1, [64, 32, 32], 1024, (4, 64), DType::BF16),
    (1, [70, 33, 17], 384, (4, 64), DType::F16),
    (2, [13, 13, 13], 96, (4, 32), DType::F32),
    (1, [129, 40, 8], 2048, (8, 64), DType::F16),
    (4, [31, 2, 1], 640, (8, 128), DType::BF16),
    (1, [3500, 200, 9000], 256, (4, 128), DType::BF16),
];

#[test]
fn norm_and_products() {
    for device in devices("norm_and_products") {
        for (m, n, k, form, dtype) in CASES {
            let what = format!("{device:?} {m} {n:?} {k} {form:?} {dtype}");
            let random = &mut Random(11);
            let w = n.map(|n| affine(&device, random, [n, k], form, dtype));
            let x = device.upload(&random.normals(m * k), &[m, k]).unwrap();
            let weight = device.upload(&random.normals(k), &[k]).unwrap();
            let norm = Normed { weight: &weight, eps: 1e-5 };
            let (normed, empty) =
                (device.buffer(DType::F32, &[m, k]).unwrap(), |n| device.buffer(DType::F32, &[m, n]).unwrap());
            let (apart, together, alone) = (n.map(empty), n.map(empty), empty(n[0]));
            run(&device, |enc| {
                norm::rms_norm(enc, &x, &weight, &normed, 1e-5)?;
                for (w, y) in w.iter().zip(&apart) {
                    linear(enc, &Matrix::Affine(w.clone()), &normed, y, Precision::Fast)?;
                }
                norm_linear(enc, norm, &w.each_ref(), &x, &together.each_ref())?;
                norm_linear(enc, norm, &[&w[0]], &x, &[&alone])
            });
            apart.iter().zip(&together).for_each(|(wanted, got)| near(&what, got, wanted));
            near(&what, &alone, &apart[0]);
        }
    }
}

#[test]
fn gate_and_addition() {
    for device in devices("gate_and_addition") {
        for (m, [n, ..], k, form, dtype) in CASES {
            let what = format!("{device:?} {m} {n} {k} {form:?} {dtype}");
            let random = &mut Random(12);
            let [gate, up] = [(); 2].map(|()| affine(&device, random, [n, k], form, dtype));
            let x = device.upload(&random.normals(m * k), &[m, k]).unwrap();
            let weight = device.upload(&random.normals(k).iter().map(|w| w * 0.1).collect::<Vec<_>>(), &[k]).unwrap();
            let other = device.upload(&random.normals(m * n), &[m, n]).unwrap();
            let empty = || device.buffer(DType::F32, &[m, n]).unwrap();
            let normed = device.buffer(DType::F32, &[m, k]).unwrap();
            let ([g, u, y, z], [product, sum, added]) = ([(); 4].map(|()| empty()), [(); 3].map(|()| empty()));
            let norm = Normed { weight: &weight, eps: 1e-6 };
            run(&device, |enc| {
                norm::rms_norm(enc, &x, &weight, &normed, 1e-6)?;
                linear(enc, &Matrix::Affine(gate.clone()), &normed, &g, Precision::Fast)?;
                linear(enc, &Matrix::Affine(up.clone()), &normed, &u, Precision::Fast)?;
                activation::silu_mul(enc, &g, &u, &y)?;
                gated_linear(enc, norm, [&gate, &up], &x, &z)?;
                linear(enc, &Matrix::Affine(gate.clone()), &x, &product, Precision::Fast)?;
                elementwise::add(enc, &other, &product, &sum)?;
                add_linear(enc, &gate, &x, &other, &added)
            });
            near(&what, &z, &y);
            near(&what, &added, &sum);
        }
    }
}

/// The CPU and a GPU round alike: what differs is a code at a tie.
#[test]
fn devices_agree() {
    let mut wanted: Vec<Vec<f64>> = Vec::new();
    for device in devices("devices_agree") {
        let mut all = Vec::new();
        for (_, [n, ..], k, form, dtype) in CASES {
            let random = &mut Random(13);
            let w = affine(&device, random, [n, k], form, dtype);
            all.push(matrices::product(&device, &Matrix::Affine(w), &random.normals(k), Precision::Fast));
        }
        if wanted.is_empty() {
            wanted = all.iter().map(|y| y.iter().map(|v| f64::from(*v)).collect()).collect();
        }
        for (wanted, got) in wanted.iter().zip(&all) {
            let error = relative_l2(wanted, got);
            assert!(error <= 1e-4, "{device:?}: {error}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = matrices::cpu(1);
    let random = &mut Random(1);
    let four = affine(&device, random, [8, 64], (4, 64), DType::F32);
    let eight = affine(&device, random, [8, 64], (8, 64), DType::F32);
    let buffer = |shape: &[usize]| device.buffer(DType::F32, shape).unwrap();
    let (x, y, weight) = (buffer(&[1, 64]), buffer(&[1, 8]), buffer(&[64]));
    let norm = Normed { weight: &weight, eps: 0.0 };
    let mut enc = device.encoder().unwrap();
    let refused = |result: kovar::Result<()>| result.unwrap_err().to_string();
    let message = refused(gated_linear(&mut enc, norm, [&four, &eight], &x, &y));
    assert!(message.contains("not quantised alike"), "{message}");
    let message = refused(norm_linear(&mut enc, norm, &[&four, &four], &x, &[&y, &y]));
    assert_eq!(message, "fused linear: takes one matrix or three, not 2");
    let message = refused(norm_linear(&mut enc, Normed { weight: &y, eps: 0.0 }, &[&four], &x, &[&y]));
    assert!(message.contains("the norm's weight is [1, 8] f32, not [64]"), "{message}");
    let message = refused(add_linear(&mut enc, &four, &x, &x, &y));
    assert!(message.contains("other is [1, 64]"), "{message}");
}

/// What a rule may and may not do, as names of the commands that are left.
fn fused(bits: [u32; 3], normed_is_kept: bool) -> Vec<String> {
    let device = Device::open(&kovar::DeviceOptions::of(Backend::Null)).unwrap();
    let random = &mut Random(2);
    let w = bits.map(|bits| affine(&device, random, [64, 64], (bits, 64), DType::F32));
    let [x, out, kept] = [(); 3].map(|()| device.buffer(DType::F32, &[1, 64]).unwrap());
    let weight = device.buffer(DType::F32, &[64]).unwrap();
    let mut graph = Graph::capture(&device, "part of a layer", |enc| {
        let scratch = |enc: &CommandEncoder| enc.scratch(DType::F32, &[1, 64]);
        let (normed, g, u, a, d) = (scratch(enc)?, scratch(enc)?, scratch(enc)?, scratch(enc)?, scratch(enc)?);
        norm::rms_norm(enc, &x, &weight, &normed, 1e-5)?;
        linear(enc, &Matrix::Affine(w[0].clone()), &normed, &g, Precision::Fast)?;
        linear(enc, &Matrix::Affine(w[1].clone()), &normed, &u, Precision::Fast)?;
        activation::silu_mul(enc, &g, &u, &a)?;
        linear(enc, &Matrix::Affine(w[2].clone()), &a, &d, Precision::Fast)?;
        elementwise::add(enc, &x, &d, &out)?;
        if normed_is_kept { elementwise::add(enc, &normed, &x, &kept) } else { Ok(()) }
    })
    .unwrap();
    graph.fuse(fusion_rules()).unwrap();
    graph.commands().map(|(label, _)| label.to_string()).collect()
}

#[test]
fn rules_lose_nothing() {
    assert_eq!(fused([4, 4, 8], false), ["norm + gate and up + activation", "product + add"]);
    assert_eq!(
        fused([4, 8, 4], false),
        ["rms_norm", "affine_vec_fast", "affine_vec_fast", "silu_mul", "product + add"],
        "matrices stored differently"
    );
    let kept = fused([4, 4, 4], true);
    assert_eq!(kept[0], "rms_norm", "the norm is read elsewhere: {kept:?}");
}
