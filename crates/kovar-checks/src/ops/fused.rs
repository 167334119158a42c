//! Ops that do the work of two or three: as those do it, one after the other.

use half::{bf16, f16};
use kovar::{Buffer, DType, Device};
use kovar_ops::norm_rotary::{HeadTurn, norm_rotary};
use kovar_ops::{add_norm, cache, elementwise, norm, rotary};

use super::harness::{near, run, widen};
use super::sample::Random;

/// The same numbers as f32, f16 and bf16.
fn weights(device: &Device, seed: u64, width: usize) -> [Buffer; 3] {
    let wide = Random(seed).normals(width);
    let f16s: Vec<f16> = wide.iter().map(|w| f16::from_f32(*w)).collect();
    let bf16s: Vec<bf16> = wide.iter().map(|w| bf16::from_f32(*w)).collect();
    [
        device.upload(&wide, &[width]).unwrap(),
        device.upload(&f16s, &[width]).unwrap(),
        device.upload(&bf16s, &[width]).unwrap(),
    ]
}

pub(super) fn add_norm_is_add_and_norm(device: &Device) {
    for (rows, width) in [(1, 384), (3, 64), (17, 1024), (2, 7)] {
        let random = |seed| device.upload(&Random(seed).normals(rows * width), &[rows, width]).unwrap();
        let empty = || device.buffer(DType::F32, &[rows, width]).unwrap();
        let (a, b) = (random(1), random(2));
        for weight in weights(device, 3, width) {
            let ([sum, y], [sum_apart, y_apart]) = ([empty(), empty()], [empty(), empty()]);
            run(device, |enc| add_norm::add_norm(enc, [&a, &b], &weight, &sum, &y, 1e-6));
            run(device, |enc| elementwise::add(enc, &a, &b, &sum_apart));
            run(device, |enc| norm::rms_norm(enc, &sum_apart, &weight, &y_apart, 1e-6));
            let read = |buffer: &Buffer| buffer.read::<f32>().unwrap();
            let case = format!("{device:?} [{rows}, {width}] {}", weight.dtype());
            assert_eq!(read(&sum), read(&sum_apart), "{case}");
            // The compiler of a GPU may contract products and sums differently in the two forms.
            near(&case, &read(&y), &widen(&read(&y_apart)), 2e-6);
        }
    }
}

pub(super) fn norm_rotary_is_norm_and_rotary_and_cache_write(device: &Device) {
    for (rows, heads, size, place) in [(1, 6, 64, 0u32), (1, 2, 64, 9), (5, 3, 128, 6), (2, 1, 10, 0)] {
        let (shape, capacity) = ([rows, heads, size], 10);
        let x = device.upload(&Random(1).normals(rows * heads * size), &shape).unwrap();
        let freqs: Vec<f32> = (0..size / 2).map(|i| 1e4f32.powf(-2.0 * i as f32 / size as f32)).collect();
        let freqs = device.upload(&freqs, &[size / 2]).unwrap();
        let position = device.upload(&[place], &[1]).unwrap();
        for weight in weights(device, 2, size) {
            let empty = |rows| device.buffer(DType::F32, &[rows, heads, size]).unwrap();
            let (normed, turned, kept) = (empty(rows), empty(rows), empty(capacity));
            run(device, |enc| norm::rms_norm(enc, &x, &weight, &normed, 1e-5));
            run(device, |enc| rotary::rotary(enc, &normed, &freqs, &position, &turned));
            run(device, |enc| cache::write(enc, &turned, &position, &kept));
            let (y, row_cache) = (empty(rows), empty(capacity));
            let turn = HeadTurn { weight: &weight, eps: 1e-5, freqs: &freqs, position: &position };
            run(device, |enc| norm_rotary(enc, &x, &turn, &y, false));
            run(device, |enc| norm_rotary(enc, &x, &turn, &row_cache, true));
            let read = |buffer: &Buffer| buffer.read::<f32>().unwrap();
            let case = format!("{device:?} {shape:?} at {place} {}", weight.dtype());
            near(&case, &read(&y), &widen(&read(&turned)), 5e-6);
            // Rows beyond the cache are dropped.
            near(&case, &read(&row_cache), &widen(&read(&kept)), 5e-6);
        }
    }
}
