use kovar::Device;
use kovar_ops::argmax::argmax;
use proptest::prelude::*;

use super::golden::Golden;
use super::harness::{for_any, run};
use super::sample::Random;

fn places(device: &Device, x: &[f32], width: usize) -> Vec<u32> {
    let rows = x.len() / width;
    let x = device.upload(x, &[rows, width]).unwrap();
    let y = device.upload(&vec![u32::MAX; rows + 1], &[rows + 1]).unwrap();
    run(device, |enc| argmax(enc, &x, &y.view(0..rows)?));
    let mut y = y.read::<u32>().unwrap();
    assert_eq!(y.pop(), Some(u32::MAX), "written past the end");
    y
}

fn reference(x: &[f32], width: usize) -> Vec<u32> {
    let first_largest = |row: &[f32]| {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter().position(|v| *v == top).unwrap_or(0) as u32
    };
    x.chunks_exact(width).map(first_largest).collect()
}

pub(super) fn agrees_with_mlx(device: &Device) {
    Golden::open("argmax").each(|case| {
        let wanted = case.tensor(device, "y").read::<u32>().unwrap();
        assert_eq!(places(device, &case.f32("x"), case.number("cols").unwrap()), wanted, "{device:?} {}", case.info);
    });
}

pub(super) fn the_first_of_the_largest_wins(device: &Device) {
    // Few different values, so that most rows have ties.
    let values = prop_oneof![
        3 => -3i8..3,
        1 => Just(100i8),
    ];
    let strange = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, f32::MIN, -f32::NAN, 1e-40];
    let element = (values, 0usize..80).prop_map(move |(v, i)| strange.get(i).copied().unwrap_or(f32::from(v)));
    let rows = (1usize..6, 1usize..700)
        .prop_flat_map(move |(rows, width)| (proptest::collection::vec(element.clone(), rows * width), Just(width)));
    for_any(96, rows, |(x, width)| {
        assert_eq!(places(device, &x, width), reference(&x, width), "{device:?} rows of {width}");
    });
}

pub(super) fn nan_and_infinity(device: &Device) {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let x = [[nan, nan, nan, nan], [nan, -inf, nan, -inf], [-inf, -1e38, nan, -inf], [-1.0, -0.0, 0.0, nan]];
    assert_eq!(places(device, x.as_flattened(), 4), [0, 1, 1, 1], "{device:?}");
    assert_eq!(places(device, &vec![f32::NEG_INFINITY; 5000], 5000), [0], "{device:?}");
}

pub(super) fn finds_it_in_a_large_vocabulary(device: &Device) {
    let width = 151_936;
    let mut x = Random(7).normals(3 * width);
    for (row, place) in [0, 77_777, width - 1].into_iter().enumerate() {
        x[row * width + place] = 50.0;
    }
    assert_eq!(places(device, &x, width), [0, 77_777, width as u32 - 1], "{device:?}");
    // Equal ones far from each other, none but the last, and nothing at all.
    x[70_000] = 50.0;
    x[width + 77_776] = 50.0;
    x[width + 140_000] = 50.0;
    x[2 * width..].fill(f32::NAN);
    x[3 * width - 1] = f32::NEG_INFINITY;
    assert_eq!(places(device, &x, width), [0, 77_776, width as u32 - 1], "{device:?}");
    assert_eq!(places(device, &vec![f32::NAN; width], width), [0], "{device:?}");
}
