use kovar::{DType, Device};
use kovar_ops::{peak, random};
use proptest::prelude::*;

use super::harness::{for_any, run};

pub(super) fn reading_sums_all_up(device: &Device) {
    for_any(16, (1usize..100_000, 1usize..20, any::<u32>()), |(n, groups, seed)| {
        let (x, y) =
            (device.buffer(DType::F32, &[n * 4]).unwrap(), device.buffer(DType::F32, &[groups * 256]).unwrap());
        run(device, |enc| {
            random::floats(enc, &x, 1.0, seed)?;
            peak::read(enc, &x, &y)
        });
        let sum = |values: Vec<f32>| values.into_iter().map(f64::from).sum::<f64>();
        let (read, all) = (sum(y.read().unwrap()), sum(x.read().unwrap()));
        // Each of at most 10^5 additions in f32 rounds by 2^-24 of a part.
        assert!((read - all).abs() <= all * 1e-4, "{device:?}: {read} of {all}");
    });
}

pub(super) fn chains_of_multiply_adds_are_computed_to_their_end(device: &Device) {
    for rounds in [0, 1, 100] {
        let y = device.buffer(DType::F32, &[512]).unwrap();
        run(device, |enc| peak::fma(enc, &y, rounds));
        for (i, y) in y.read::<f32>().unwrap().into_iter().enumerate() {
            let chain = |c: usize| (0..rounds).fold((i % 97) as f64 / 97.0 + c as f64, |a, _| a * 0.999 + 0.001);
            let wanted: f64 = (0..8).map(chain).sum();
            assert!((f64::from(y) - wanted).abs() < 1e-3, "{device:?} [{i}] after {rounds}: {y}, not {wanted}");
        }
    }
}

pub(super) fn sums_of_bytes_are_exact_on_every_device(device: &Device) {
    let dot =
        |a: u32| a.to_le_bytes().into_iter().zip([1, 3, 2, 1]).map(|(a, w)| i32::from(a as i8) * w).sum::<i32>() as u32;
    for rounds in [0, 1, 100] {
        let y = device.buffer(DType::U32, &[512]).unwrap();
        run(device, |enc| peak::dot(enc, &y, rounds));
        for (i, y) in y.read::<u32>().unwrap().into_iter().enumerate() {
            let start = (i as u32).wrapping_mul(0x9e37_79b9);
            let mut sums: [u32; 8] = std::array::from_fn(|c| start.wrapping_add(c as u32));
            for _ in 0..rounds {
                sums = std::array::from_fn(|c| sums[c].wrapping_add(dot(sums[(c + 1) % 8])));
            }
            assert_eq!(y, sums.into_iter().fold(0, |a, b| a ^ b), "{device:?} [{i}] after {rounds}");
        }
    }
}

/// Whether it has matrix units.
pub(super) fn has_an_edge(device: &Device) -> bool {
    peak::matrix_edge(device.info()).is_some()
}

pub(super) fn tiles_are_added_up(device: &Device) {
    let edge = peak::matrix_edge(device.info()).expect("it has matrix units");
    let tile = (edge * edge) as usize;
    let n = peak::matrix_elements(edge) * 2;
    let (x, y) = (device.buffer(DType::F16, &[2 * tile]).unwrap(), device.buffer(DType::F32, &[n]).unwrap());
    x.write(&vec![half::f16::from_f32(0.5); 2 * tile]).unwrap();
    y.write(&vec![1.0f32; n]).unwrap();
    run(device, |enc| peak::matrix(enc, &x, &y, 3));
    let wanted = 1.0 + 3.0 * 0.25 * edge as f32;
    assert!(y.read::<f32>().unwrap().iter().all(|y| *y == wanted), "{device:?}");
}
