//! Products with what surrounds them in one command: what does not fit, and what a fusion rule may do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use kovar::{Backend, CommandEncoder, DType, Device, Graph};
use kovar_checks::ops::harness::cpu;
use kovar_checks::ops::sample::{Random, Sample};
use kovar_ops::linear::{Normed, add_linear, gated_linear, linear, norm_linear};
use kovar_ops::{AffineMatrix, Matrix, Precision, activation, elementwise, fusion_rules, norm};

fn affine(device: &Device, random: &mut Random, shape: [usize; 2], form: (u32, u32), dtype: DType) -> AffineMatrix {
    match Sample::affine(device, random, shape, form, dtype).matrix {
        Matrix::Affine(w) => w,
        Matrix::Dense(_) => panic!("not quantised"),
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let device = cpu();
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
