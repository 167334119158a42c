//! Products of rounded rows with what surrounds them: as the ops apart do it, on every device.
use super::harness::{cpu, product, relative_l2, run, widen};
use super::sample::{Random, Sample};
use kovar::{Buffer, DType, Device};
use kovar_ops::attention::combine;
use kovar_ops::linear::{Normed, add_linear, attended_linear, gated_linear, linear, norm_linear};
use kovar_ops::{AffineMatrix, Matrix, Precision, activation, elementwise, norm};

/// A code at a tie may fall to either side: one part in 254 of the largest of a block, seldom.
const NEAR: f64 = 2e-3;

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

/// Sizes with and without a rest of a vector, a subgroup, a group of rows; rows that subgroups share; both sizes of codes;
/// every stored type.
const CASES: [Case; 7] = [
    (1, [64, 32, 32], 1024, (4, 64), DType::BF16),
    (1, [70, 33, 17], 384, (4, 64), DType::F16),
    (2, [13, 13, 13], 96, (4, 32), DType::F32),
    (1, [129, 40, 8], 2048, (8, 64), DType::F16),
    (4, [31, 2, 1], 640, (8, 128), DType::BF16),
    (1, [3500, 200, 9000], 256, (4, 128), DType::BF16),
    (2, [70, 9, 33], 8704, (4, 64), DType::F16),
];

pub(super) fn norm_and_products(device: &Device) {
    for (m, n, k, form, dtype) in CASES {
        let what = format!("{device:?} {m} {n:?} {k} {form:?} {dtype}");
        let random = &mut Random(11);
        let w = n.map(|n| affine(device, random, [n, k], form, dtype));
        let x = device.upload(&random.normals(m * k), &[m, k]).unwrap();
        let weight = device.upload(&random.normals(k), &[k]).unwrap();
        let norm = Normed { weight: &weight, eps: 1e-5 };
        let (normed, empty) =
            (device.buffer(DType::F32, &[m, k]).unwrap(), |n| device.buffer(DType::F32, &[m, n]).unwrap());
        let (apart, together, alone) = (n.map(empty), n.map(empty), empty(n[0]));
        run(device, |enc| {
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

pub(super) fn gate_and_addition(device: &Device) {
    for (m, [n, ..], k, form, dtype) in CASES {
        let what = format!("{device:?} {m} {n} {k} {form:?} {dtype}");
        let random = &mut Random(12);
        let [gate, up] = [(); 2].map(|()| affine(device, random, [n, k], form, dtype));
        let x = device.upload(&random.normals(m * k), &[m, k]).unwrap();
        let weight = device.upload(&random.normals(k).iter().map(|w| w * 0.1).collect::<Vec<_>>(), &[k]).unwrap();
        let other = device.upload(&random.normals(m * n), &[m, n]).unwrap();
        let empty = || device.buffer(DType::F32, &[m, n]).unwrap();
        let normed = device.buffer(DType::F32, &[m, k]).unwrap();
        let ([g, u, y, z], [product, sum, added]) = ([(); 4].map(|()| empty()), [(); 3].map(|()| empty()));
        let norm = Normed { weight: &weight, eps: 1e-6 };
        run(device, |enc| {
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

pub(super) fn parts_of_attention(device: &Device) {
    for ((m, [n, ..], k, form, dtype), (size, splits)) in CASES.into_iter().zip([(64, 8), (128, 3), (32, 1)].repeat(3))
    {
        let what = format!("{device:?} {m} {n} {k} {form:?} {dtype}, {splits} parts of {size}");
        let random = &mut Random(14);
        let w = affine(device, random, [n, k], form, dtype);
        let mut parts = random.normals(m * k / size * splits * (size + 4));
        // Sums of weights are positive.
        parts.chunks_exact_mut(size + 4).for_each(|part| part[size + 1] = part[size + 1].abs() + 1.0);
        let parts = device.upload(&parts, &[m, k / size, splits, size + 4]).unwrap();
        let other = device.upload(&random.normals(m * n), &[m, n]).unwrap();
        let x = device.buffer(DType::F32, &[m, k / size, size]).unwrap();
        let [sum, added] = [(); 2].map(|()| device.buffer(DType::F32, &[m, n]).unwrap());
        run(device, |enc| {
            combine(enc, &parts, &x)?;
            add_linear(enc, &w, &x, &other, &sum)?;
            attended_linear(enc, &w, &parts, &other, &added)
        });
        near(&what, &added, &sum);
    }
}

/// The CPU and a GPU round alike: what differs is a code at a tie.
pub(super) fn devices_agree(device: &Device) {
    let cpu = cpu();
    for (_, [n, ..], k, form, dtype) in CASES {
        let on = |device: &Device| {
            let random = &mut Random(13);
            let w = affine(device, random, [n, k], form, dtype);
            product(device, &Matrix::Affine(w), &random.normals(k), Precision::Fast)
        };
        let error = relative_l2(&widen(&on(&cpu)), &on(device));
        assert!(error <= 1e-4, "{device:?}: {error}");
    }
}
