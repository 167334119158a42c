use kovar::{DType, Device};
use kovar_ops::norm::rms_norm;
use proptest::prelude::*;

use crate::harness::{Result32, check, devices, near, refusal, run, weight, widen};
use crate::matrices::{Golden, Random};

#[test]
fn agrees_with_mlx() {
    for device in devices("norm::agrees_with_mlx") {
        Golden::open("rms_norm").each(|case| {
            let shape = [case.number("rows").unwrap(), case.number("dim").unwrap()];
            let x = case.tensor(&device, "x");
            // Without a weight, it is one.
            let weight = match case.info["weight_dtype"].is_null() {
                true => device.upload(&vec![1.0f32; shape[1]], &[shape[1]]).unwrap(),
                false => case.tensor(&device, "w"),
            };
            let eps = case.info["eps"].as_f64().unwrap() as f32;
            let y = Result32::new(&device, &shape);
            run(&device, |enc| rms_norm(enc, &x, &weight, &y.view, eps));
            // MLX is up to 2e-6 from f64 where values reach 7.
            let tolerance = 1e-6 * case.info["max_abs"].as_f64().unwrap() + case.info["mlx_error"].as_f64().unwrap();
            near(&format!("{device:?} {}", case.info), &y.read(), &widen(&case.f32("y")), tolerance);
        });
    }
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

#[test]
fn agrees_with_f64() {
    let devices = devices("norm::agrees_with_f64");
    let dtypes = prop_oneof![Just(DType::F32), Just(DType::F16), Just(DType::BF16)];
    let scales = prop_oneof![Just(1.0f32), Just(1e-3), Just(1e4)];
    check(64, (any::<u64>(), 1usize..40, 1usize..1500, dtypes, scales), |(seed, rows, width, dtype, scale)| {
        devices.iter().for_each(|device| is_right(device, seed, rows, width, dtype, scale));
    });
}

/// More rows than one axis of a grid has workgroups.
#[test]
fn takes_many_rows() {
    for device in devices("norm::takes_many_rows") {
        is_right(&device, 1, 70_001, 257, DType::F32, 1.0);
        is_right(&device, 2, 70_001 * 8, 3, DType::BF16, 1.0);
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let device = &devices("norm::refuses_what_does_not_fit")[0];
    let f32s = |shape: &[usize]| device.buffer(DType::F32, shape).unwrap();
    let ints = device.buffer(DType::U32, &[4]).unwrap();
    let mut enc = device.encoder().unwrap();
    let (x, w, y) = (f32s(&[2, 4]), f32s(&[4]), f32s(&[2, 4]));
    assert!(refusal("rms_norm", rms_norm(&mut enc, &ints, &w, &y, 0.0)).contains("x ("));
    assert!(refusal("rms_norm", rms_norm(&mut enc, &x, &ints, &y, 0.0)).contains("weight"));
    assert!(refusal("rms_norm", rms_norm(&mut enc, &x, &f32s(&[3]), &y, 0.0)).contains("rows of 3"));
    assert!(refusal("rms_norm", rms_norm(&mut enc, &x, &w, &f32s(&[4]), 0.0)).contains("equal lengths"));
}
