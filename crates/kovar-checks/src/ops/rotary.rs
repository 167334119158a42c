use kovar::Device;
use kovar_ops::rotary::rotary;
use proptest::prelude::*;

use super::golden::Golden;
use super::harness::{Result32, for_any, near, run, widen};
use super::sample::Random;

fn rotate(device: &Device, x: &[f32], shape: [usize; 3], freqs: &[f32], position: u32) -> Vec<f32> {
    let x = device.upload(x, &shape).unwrap();
    let freqs = device.upload(freqs, &[freqs.len()]).unwrap();
    let position = device.upload(&[position], &[1]).unwrap();
    let y = Result32::new(device, &shape);
    run(device, |enc| rotary(enc, &x, &freqs, &position, &y.view));
    y.read()
}

pub(super) fn agrees_with_mlx(device: &Device) {
    Golden::open("rope").each(|case| {
        let [rows, heads, size] = ["tokens", "heads", "head_dim"].map(|key| case.number(key).unwrap());
        let (scale, base) = (case.info["scale"].as_f64().unwrap(), case.info["base"].as_f64().unwrap());
        let freqs: Vec<f32> = match case.info["rope_scaling"].is_null() {
            true => (0..size / 2).map(|i| (scale * base.powf(-2.0 * i as f64 / size as f64)) as f32).collect(),
            false => case.f32("freqs").iter().map(|period| (1.0 / f64::from(*period)) as f32).collect(),
        };
        let offset = case.number("offset").unwrap();
        let y = rotate(device, &case.f32("x"), [rows, heads, size], &freqs, offset as u32);
        // Two roundings of the angle, that of the frequency and that of the product, each half a unit.
        let angle = (offset + rows) as f64 * f64::from(freqs[0]);
        let tolerance = case.info["mlx_error"].as_f64().unwrap()
            + case.info["max_abs"].as_f64().unwrap() * (3e-7 + 2.0 * angle * f64::from(f32::EPSILON) / 2.0);
        near(&format!("{device:?} {}", case.info), &y, &widen(&case.f32("y")), tolerance);
    });
}

/// With the angle rounded to f32, as the op says.
fn reference(x: &[f32], [_, heads, size]: [usize; 3], freqs: &[f32], position: u32) -> Vec<f64> {
    let mut y = vec![0.0; x.len()];
    for (head, (x, y)) in x.chunks_exact(size).zip(y.chunks_exact_mut(size)).enumerate() {
        for i in 0..size / 2 {
            let angle = (position + (head / heads) as u32) as f32 * freqs[i];
            let (sine, cosine) = f64::from(angle).sin_cos();
            let (a, b) = (f64::from(x[i]), f64::from(x[i + size / 2]));
            y[i] = a * cosine - b * sine;
            y[i + size / 2] = b * cosine + a * sine;
        }
    }
    y
}

pub(super) fn agrees_with_f64_at_any_position(device: &Device) {
    let positions = prop_oneof![0u32..100, 0u32..200_000];
    let bases = prop_oneof![Just(1e4f64), Just(5e5), Just(1e6)];
    let shapes = (1usize..20, 1usize..8, 1usize..140);
    for_any(64, (any::<u64>(), shapes, positions, bases), |(seed, (rows, heads, half), position, base)| {
        let shape = [rows, heads, 2 * half];
        let x = Random(seed).normals(rows * heads * 2 * half);
        let freqs: Vec<f32> = (0..half).map(|i| base.powf(-(i as f64) / half as f64) as f32).collect();
        let wanted = reference(&x, shape, &freqs, position);
        // Values are up to 3.5; sine and cosine are right to 1.2e-7.
        let y = rotate(device, &x, shape, &freqs, position);
        near(&format!("{device:?} {shape:?} at {position}"), &y, &wanted, 1.5e-6);
    });
}

pub(super) fn takes_angles_of_both_signs_and_all_sizes(device: &Device) {
    let half = 4096;
    // From 2^-30 to 2^30, positive and negative.
    let freqs: Vec<f32> = (0..half).map(|i| 2f32.powf(i as f32 / 68.3 - 30.0) * [1.0, -1.0][i % 2]).collect();
    let mut x = vec![1.0; half];
    x.extend(vec![0.0; half]);
    let wanted = reference(&x, [1, 1, 2 * half], &freqs, 1);
    near(&format!("{device:?}"), &rotate(device, &x, [1, 1, 2 * half], &freqs, 1), &wanted, 1.5e-7);
}
