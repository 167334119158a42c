use kovar::{DType, Device};
use kovar_ops::norm::rms_norm;
use proptest::prelude::*;

use super::golden::Golden;
use super::harness::{Result32, for_any, near, run, weight, widen};
use super::sample::Random;

pub(super) fn agrees_with_mlx(device: &Device) {
    Golden::open("rms_norm").each(|case| {
        let shape = [case.number("rows").unwrap(), case.number("dim").unwrap()];
        let x = case.tensor(device, "x");
        // Without a weight, it is one.
        let weight = match case.info["weight_dtype"].is_null() {
            true => device.upload(&vec![1.0f32; shape[1]], &[shape[1]]).unwrap(),
            false => case.tensor(device, "w"),
        };
        let eps = case.info["eps"].as_f64().unwrap() as f32;
        let y = Result32::new(device, &shape);
        run(device, |enc| rms_norm(enc, &x, &weight, &y.view, eps));
        // MLX is up to 2e-6 from f64 where values reach 7.
        let tolerance = 1e-6 * case.info["max_abs"].as_f64().unwrap() + case.info["mlx_error"].as_f64().unwrap();
        near(&format!("{device:?} {}", case.info), &y.read(), &widen(&case.f32("y")), tolerance);
    });
}

fn reference(x: &[f32], weight: &[f64], eps: f32) -> Vec<f64> {
    let rows = x.chunks_exact(weight.len());
    rows.flat_map(|row| {
        let squares: f64 = row.iter().map(|v| f64::from(*v).powi(2)).sum();
        let root = (squares / row.len() as f64 + f64::from(eps)).sqrt();
        row.iter().zip(weight).map(move |(v, w)| f64::from(*v) / root * w)
    })
    .collect()
}

fn is_right(device: &Device, seed: u64, rows: usize, width: usize, dtype: DType, scale: f32) {
    let mut random = Random(seed);
    let x: Vec<f32> = random.normals(rows * width).iter().map(|v| v * scale).collect();
    let (weights, exact) = weight(device, &random.normals(width), dtype);
    let y = Result32::new(device, &[rows, width]);
    let input = device.upload(&x, &[rows, width]).unwrap();
    run(device, |enc| rms_norm(enc, &input, &weights, &y.view, 1e-6));
    // Sums of squares lose at most 1e-6 of themselves, and values are up to 20.
    near(&format!("{device:?} {rows} x {width} {dtype}"), &y.read(), &reference(&x, &exact, 1e-6), 2e-5);
}

pub(super) fn agrees_with_f64(device: &Device) {
    let dtypes = prop_oneof![Just(DType::F32), Just(DType::F16), Just(DType::BF16)];
    let scales = prop_oneof![Just(1.0f32), Just(1e-3), Just(1e4)];
    for_any(64, (any::<u64>(), 1usize..40, 1usize..1500, dtypes, scales), |(seed, rows, width, dtype, scale)| {
        is_right(device, seed, rows, width, dtype, scale);
    });
}

/// More rows than one axis of a grid has workgroups.
pub(super) fn takes_many_rows(device: &Device) {
    is_right(device, 1, 70_001, 257, DType::F32, 1.0);
    is_right(device, 2, 70_001 * 8, 3, DType::BF16, 1.0);
}
