use half::{bf16, f16};
use kovar::{Buffer, DType, Device};
use kovar_ops::random::{bits, floats};
use proptest::prelude::*;

use super::harness::{cpu, for_any, run};

fn made(device: &Device, dtype: DType, n: usize, seed: u32, mean: f32) -> Buffer {
    let y = device.buffer(dtype, &[n]).unwrap();
    run(device, |enc| if dtype == DType::U32 { bits(enc, &y, seed) } else { floats(enc, &y, mean, seed) });
    y
}

pub(super) fn every_device_makes_the_same(device: &Device) {
    let cpu = &cpu();
    for_any(16, (1usize..400_000, any::<u32>(), 1e-3f32..1e3), |(n, seed, mean)| {
        let n = n * 2;
        let words = |device| made(device, DType::U32, n, seed, mean).read::<u32>().unwrap();
        let wide = |device| made(device, DType::F32, n, seed, mean).read::<f32>().unwrap();
        let brain = |device| made(device, DType::BF16, n, seed, mean).read::<bf16>().unwrap();
        let half = |device| made(device, DType::F16, n, seed, mean).read::<f16>().unwrap();
        let floats = wide(cpu);
        assert!(floats.iter().all(|x| (0.75 * mean..=1.25 * mean).contains(x)), "{mean}");
        assert!(words(device) == words(cpu) && wide(device) == floats && brain(device) == brain(cpu), "{device:?}");
        let near = |(a, b): (&f16, &f16)| a.to_bits().abs_diff(b.to_bits()) <= 1;
        assert!(half(device).iter().zip(&half(cpu)).all(near), "{device:?}");
    });
}

pub(super) fn one_seed_gives_multiples(device: &Device) {
    let [one, twice] = [1.0, -2.0].map(|mean| made(device, DType::F32, 1000, 3, mean).read::<f32>().unwrap());
    assert!(one.iter().zip(&twice).all(|(a, b)| *b == -2.0 * a), "{device:?}");
    assert_ne!(one, made(device, DType::F32, 1000, 4, 1.0).read::<f32>().unwrap());
}
