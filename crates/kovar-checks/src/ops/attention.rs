use kovar::Device;
use kovar_ops::attention::attention;
use proptest::prelude::*;

use super::golden::Golden;
use super::harness::{Result32, for_any, near, run, widen};
use super::sample::Random;

/// Sizes of an attention.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    rows: usize,
    heads: usize,
    kv_heads: usize,
    size: usize,
    capacity: usize,
    position: u32,
}

fn attend(device: &Device, sizes: Sizes, q: &[f32], keys: &[f32], values: &[f32], scale: f32) -> Vec<f32> {
    let Sizes { rows, heads, kv_heads, size, capacity, position } = sizes;
    let q = device.upload(q, &[rows, heads, size]).unwrap();
    let keys = device.upload(keys, &[capacity, kv_heads, size]).unwrap();
    let values = device.upload(values, &[capacity, kv_heads, size]).unwrap();
    let position = device.upload(&[position], &[1]).unwrap();
    let y = Result32::new(device, &[rows, heads, size]);
    run(device, |enc| attention(enc, &q, &keys, &values, &position, &y.view, scale));
    y.read()
}

fn reference(sizes: Sizes, q: &[f32], keys: &[f32], values: &[f32], scale: f32) -> Vec<f64> {
    let Sizes { heads, kv_heads, size, capacity, position, .. } = sizes;
    let mut y = vec![0.0; q.len()];
    for (i, (q, y)) in q.chunks_exact(size).zip(y.chunks_exact_mut(size)).enumerate() {
        let (row, kv_head) = (i / heads, i % heads / (heads / kv_heads));
        let length = (position as usize).saturating_add(row + 1).min(capacity);
        let at = |n: usize| (n * kv_heads + kv_head) * size..(n * kv_heads + kv_head + 1) * size;
        let score = |n: usize| {
            let terms = q.iter().zip(&keys[at(n)]).map(|(a, b)| f64::from(*a) * f64::from(*b));
            terms.sum::<f64>() * f64::from(scale)
        };
        let scores: Vec<f64> = (0..length).map(score).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        for (n, score) in scores.iter().enumerate() {
            let weight = (score - top).exp() / total;
            y.iter_mut().zip(&values[at(n)]).for_each(|(y, v)| *y += weight * f64::from(*v));
        }
    }
    y
}

pub(super) fn agrees_with_mlx(device: &Device) {
    Golden::open("attention").each(|case| {
        let sizes = Sizes {
            rows: case.number("tokens").unwrap(),
            heads: case.number("heads").unwrap(),
            kv_heads: case.number("kv_heads").unwrap(),
            size: case.number("head_dim").unwrap(),
            capacity: case.number("length").unwrap(),
            position: case.number("offset").unwrap() as u32,
        };
        let scale = case.info["scale"].as_f64().unwrap() as f32;
        let y = attend(device, sizes, &case.f32("q"), &case.f32("k"), &case.f32("v"), scale);
        // Values are up to 3.5, scores up to 4 or so; MLX is up to 2e-6 from f64.
        near(&format!("{device:?} {}", case.info), &y, &widen(&case.f32("y")), 5e-6);
    });
}

/// Random inputs; what lies behind the last key that is seen is NaN, which would spread if it were used.
fn is_right(device: &Device, seed: u64, sizes: Sizes, sharpness: f32) {
    let Sizes { rows, heads, kv_heads, size, capacity, position } = sizes;
    let mut random = Random(seed);
    let q: Vec<f32> = random.normals(rows * heads * size).iter().map(|v| v * sharpness).collect();
    let (mut keys, mut values) =
        (random.normals(capacity * kv_heads * size), random.normals(capacity * kv_heads * size));
    let written = (position as usize).saturating_add(rows).min(capacity) * kv_heads * size;
    keys[written..].fill(f32::NAN);
    values[written..].fill(f32::NAN);
    let scale = 1.0 / (size as f32).sqrt();
    let wanted = reference(sizes, &q, &keys, &values, scale);
    // Scores have errors of 1e-6 of sharpness · 4, which weights inherit.
    let tolerance = 1e-5 * f64::from(sharpness.max(1.0));
    near(&format!("{device:?} {sizes:?}"), &attend(device, sizes, &q, &keys, &values, scale), &wanted, tolerance);
}

pub(super) fn agrees_with_f64_for_any_shape(device: &Device) {
    let rows = prop_oneof![1usize..=9, 10usize..50];
    let grouped = prop_oneof![1usize..=4, Just(9usize), Just(17)];
    let sizes = prop_oneof![Just(64usize), Just(128), Just(256), (1usize..=64).prop_map(|n| 4 * n)];
    let shapes = (rows, 1usize..=3, grouped, sizes);
    let sharpness = prop_oneof![Just(1.0f32), Just(10.0), Just(0.0)];
    for_any(
        64,
        (any::<u64>(), shapes, 0u32..300, 0usize..20, sharpness),
        |(seed, shape, position, spare, sharpness)| {
            let (rows, kv_heads, grouped, size) = shape;
            let capacity = position as usize + rows + spare;
            let sizes = Sizes { rows, heads: kv_heads * grouped, kv_heads, size, capacity, position };
            is_right(device, seed, sizes, sharpness);
        },
    );
}

pub(super) fn long_caches(device: &Device) {
    let sizes = Sizes { rows: 1, heads: 6, kv_heads: 2, size: 64, capacity: 4000, position: 3990 };
    is_right(device, 1, sizes, 1.0);
    is_right(device, 2, Sizes { rows: 20, ..sizes }, 3.0);
}

/// A position past the end sees the whole cache, and nothing behind it.
pub(super) fn positions_are_clamped_to_the_capacity(device: &Device) {
    for rows in [1, 8, 9, 30] {
        for position in [39, 40, 41, 1000, u32::MAX - 1, u32::MAX] {
            let sizes = Sizes { rows, heads: 3, kv_heads: 3, size: 32, capacity: 40, position };
            is_right(device, 5, sizes, 1.0);
        }
    }
}

/// Scores of thousands: the maximum is taken away before the exponential.
pub(super) fn huge_scores_do_not_overflow(device: &Device) {
    for rows in [1, 20] {
        let sizes = Sizes { rows, heads: 1, kv_heads: 1, size: 4, capacity: 100, position: 70 };
        let q = vec![1000.0; rows * 4];
        let mut random = Random(3);
        // One key stands out so far that its value is the result.
        let keys: Vec<f32> = (0..400).map(|i| if i / 4 == 33 { 50.0 } else { -(i as f32) / 40.0 }).collect();
        let values = random.normals(400);
        let y = attend(device, sizes, &q, &keys, &values, 1.0);
        let wanted: Vec<f32> = (0..rows).flat_map(|_| values[132..136].to_vec()).collect();
        assert_eq!(y, wanted, "{device:?}");
    }
}
