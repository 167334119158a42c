use kovar::profile::Profiler;
use kovar::{DType, Device, EncoderOptions, Timing};
use kovar_ops::{peak, random};
use proptest::prelude::*;

use crate::harness::{check, devices, refusal, run};

#[test]
fn reading_sums_all_up() {
    let devices = devices("peak::reading_sums_all_up");
    check(16, (1usize..100_000, 1usize..20, any::<u32>()), |(n, groups, seed)| {
        for device in &devices {
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
        }
    });
}

#[test]
fn chains_of_multiply_adds_are_computed_to_their_end() {
    for device in devices("peak::chains_of_multiply_adds_are_computed_to_their_end") {
        for rounds in [0, 1, 100] {
            let y = device.buffer(DType::F32, &[512]).unwrap();
            run(&device, |enc| peak::fma(enc, &y, rounds));
            for (i, y) in y.read::<f32>().unwrap().into_iter().enumerate() {
                let chain = |c: usize| (0..rounds).fold((i % 97) as f64 / 97.0 + c as f64, |a, _| a * 0.999 + 0.001);
                let wanted: f64 = (0..8).map(chain).sum();
                assert!((f64::from(y) - wanted).abs() < 1e-3, "{device:?} [{i}] after {rounds}: {y}, not {wanted}");
            }
        }
    }
}

#[test]
fn sums_of_bytes_are_exact_on_every_device() {
    let dot =
        |a: u32| a.to_le_bytes().into_iter().zip([1, 3, 2, 1]).map(|(a, w)| i32::from(a as i8) * w).sum::<i32>() as u32;
    for device in devices("peak::sums_of_bytes_are_exact_on_every_device") {
        for rounds in [0, 1, 100] {
            let y = device.buffer(DType::U32, &[512]).unwrap();
            run(&device, |enc| peak::dot(enc, &y, rounds));
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
}

#[test]
fn tiles_are_added_up() {
    for device in devices("peak::tiles_are_added_up") {
        let Some(edge) = peak::matrix_edge(device.info()) else {
            println!("{device:?} has no matrix units");
            continue;
        };
        let tile = (edge * edge) as usize;
        let n = peak::matrix_elements(edge) * 2;
        let (x, y) = (device.buffer(DType::F16, &[2 * tile]).unwrap(), device.buffer(DType::F32, &[n]).unwrap());
        x.write(&vec![half::f16::from_f32(0.5); 2 * tile]).unwrap();
        y.write(&vec![1.0f32; n]).unwrap();
        run(&device, |enc| peak::matrix(enc, &x, &y, 3));
        let wanted = 1.0 + 3.0 * 0.25 * edge as f32;
        assert!(y.read::<f32>().unwrap().iter().all(|y| *y == wanted), "{device:?}");
    }
}

/// What a profile is told of each of them, on one device.
fn operations(device: &Device, record: impl Fn(&mut kovar::CommandEncoder) -> kovar::Result<()>) -> Option<u64> {
    let profiler = Profiler::attach(device).unwrap();
    let options = EncoderOptions { timing: Timing::Dispatches, ..EncoderOptions::default() };
    let mut enc = device.encoder_with(options).unwrap();
    record(&mut enc).unwrap();
    enc.commit().unwrap().wait().unwrap();
    profiler.take().unwrap().runs[0].commands[0].cost.operations
}

#[test]
fn a_profile_is_told_how_much_they_compute() {
    let device = &devices("peak::a_profile_is_told_how_much_they_compute")[0];
    let (x, y) = (device.buffer(DType::F32, &[4096]).unwrap(), device.buffer(DType::F32, &[256]).unwrap());
    assert_eq!(operations(device, |enc| peak::read(enc, &x, &y)), Some(4096));
    assert_eq!(operations(device, |enc| peak::fma(enc, &y, 10)), Some(256 * 10 * 8 * 2));
    let y = device.buffer(DType::U32, &[256]).unwrap();
    assert_eq!(operations(device, |enc| peak::dot(enc, &y, 10)), Some(256 * 10 * 8 * 8));
}

#[test]
fn refuses_what_does_not_fit() {
    let device = &devices("peak::refuses_what_does_not_fit")[0];
    let mut enc = device.encoder().unwrap();
    let [odd, some] = [6, 256].map(|n| device.buffer(DType::F32, &[n]).unwrap());
    assert!(refusal("peak::read", peak::read(&mut enc, &odd, &some)).contains("multiple of 4"));
    assert!(refusal("peak::read", peak::read(&mut enc, &some, &odd)).contains("multiple of 256"));
    assert!(refusal("peak::dot", peak::dot(&mut enc, &some, 1)).contains("u32"));
    assert!(refusal("peak::matrix", peak::matrix(&mut enc, &some, &some, 1)).contains("matrix units"));
}
