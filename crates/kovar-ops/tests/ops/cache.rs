use kovar::{DType, Device};
use kovar_ops::cache::write;
use proptest::prelude::*;

use crate::harness::{Result32, check, devices, refusal, run};
use crate::matrices::Random;

fn is_right(device: &Device, seed: u64, rows: usize, capacity: usize, [heads, size]: [usize; 2], position: u32) {
    let width = heads * size;
    let values = Random(seed).normals(rows * width);
    let x = device.upload(&values, &[rows, heads, size]).unwrap();
    let at = device.upload(&[position], &[1]).unwrap();
    let cache = Result32::new(device, &[capacity, heads, size]);
    let mut wanted = cache.read();
    run(device, |enc| write(enc, &x, &at, &cache.view));
    let from = (position as usize).min(capacity);
    let fitting = rows.min(capacity - from);
    wanted[from * width..(from + fitting) * width].copy_from_slice(&values[..fitting * width]);
    assert!(cache.read() == wanted, "{device:?} {rows} rows at {position} of {capacity}");
}

#[test]
fn rows_land_at_their_position_or_are_dropped() {
    let devices = devices("cache::rows_land_at_their_position_or_are_dropped");
    let positions = prop_oneof![0u32..50, Just(u32::MAX), Just(u32::MAX - 3)];
    let sizes = [1usize..4, 1usize..70];
    check(64, (any::<u64>(), 1usize..40, 1usize..50, sizes, positions), |(seed, rows, capacity, sizes, position)| {
        devices.iter().for_each(|device| is_right(device, seed, rows, capacity, sizes, position));
    });
}

#[test]
fn takes_long_prompts() {
    for device in devices("cache::takes_long_prompts") {
        is_right(&device, 1, 3000, 4096, [2, 64], 17);
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let device = &devices("cache::refuses_what_does_not_fit")[0];
    let f32s = |shape: &[usize]| device.buffer(DType::F32, shape).unwrap();
    let position = device.buffer(DType::U32, &[1]).unwrap();
    let mut enc = device.encoder().unwrap();
    let (x, cache) = (f32s(&[1, 2, 8]), f32s(&[4, 2, 8]));
    let op = "cache::write";
    assert!(refusal(op, write(&mut enc, &x, &position, &f32s(&[4, 8, 2]))).contains("rows of [2, 8]"));
    assert!(refusal(op, write(&mut enc, &x, &position, &f32s(&[4, 16]))).contains("cache"));
    assert!(refusal(op, write(&mut enc, &f32s(&[16]), &position, &cache)).contains("x ("));
    assert!(refusal(op, write(&mut enc, &x, &x, &cache)).contains("position"));
    write(&mut enc, &x, &position, &cache).unwrap();
}
