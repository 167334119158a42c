use kovar::Device;
use kovar_ops::cache::write;
use proptest::prelude::*;

use super::harness::{Result32, for_any, run};
use super::sample::Random;

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

pub(super) fn rows_land_at_their_position_or_are_dropped(device: &Device) {
    let positions = prop_oneof![0u32..50, Just(u32::MAX), Just(u32::MAX - 3)];
    let sizes = [1usize..4, 1usize..70];
    for_any(64, (any::<u64>(), 1usize..40, 1usize..50, sizes, positions), |(seed, rows, capacity, sizes, position)| {
        is_right(device, seed, rows, capacity, sizes, position);
    });
}

pub(super) fn takes_long_prompts(device: &Device) {
    is_right(device, 1, 3000, 4096, [2, 64], 17);
}
