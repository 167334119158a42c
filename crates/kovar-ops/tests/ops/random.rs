use half::{bf16, f16};
use kovar::{Buffer, DType, Device};
use kovar_ops::random::{bits, floats};
use proptest::prelude::*;

use crate::harness::{check, devices, refusal, run};

fn made(device: &Device, dtype: DType, n: usize, seed: u32, mean: f32) -> Buffer {
    let y = device.buffer(dtype, &[n]).unwrap();
    run(device, |enc| if dtype == DType::U32 { bits(enc, &y, seed) } else { floats(enc, &y, mean, seed) });
    y
}

#[test]
fn every_device_makes_the_same() {
    let devices = devices("random::every_device_makes_the_same");
    check(16, (1usize..400_000, any::<u32>(), 1e-3f32..1e3), |(n, seed, mean)| {
        let n = n * 2;
        let words = |device| made(device, DType::U32, n, seed, mean).read::<u32>().unwrap();
        let wide = |device| made(device, DType::F32, n, seed, mean).read::<f32>().unwrap();
        let brain = |device| made(device, DType::BF16, n, seed, mean).read::<bf16>().unwrap();
        let half = |device| made(device, DType::F16, n, seed, mean).read::<f16>().unwrap();
        let cpu = &devices[0];
        let floats = wide(cpu);
        assert!(floats.iter().all(|x| (0.75 * mean..=1.25 * mean).contains(x)), "{mean}");
        for device in &devices[1..] {
            assert!(words(device) == words(cpu) && wide(device) == floats && brain(device) == brain(cpu), "{device:?}");
            let near = |(a, b): (&f16, &f16)| a.to_bits().abs_diff(b.to_bits()) <= 1;
            assert!(half(device).iter().zip(&half(cpu)).all(near), "{device:?}");
        }
    });
}

#[test]
fn one_seed_gives_multiples() {
    for device in devices("random::one_seed_gives_multiples") {
        let [one, twice] = [1.0, -2.0].map(|mean| made(&device, DType::F32, 1000, 3, mean).read::<f32>().unwrap());
        assert!(one.iter().zip(&twice).all(|(a, b)| *b == -2.0 * a), "{device:?}");
        assert_ne!(one, made(&device, DType::F32, 1000, 4, 1.0).read::<f32>().unwrap());
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let device = &devices("random::refuses_what_does_not_fit")[0];
    let mut enc = device.encoder().unwrap();
    let odd = device.buffer(DType::BF16, &[3]).unwrap();
    assert!(refusal("random", floats(&mut enc, &odd, 1.0, 0)).contains("whole words"));
    assert!(refusal("random", bits(&mut enc, &odd, 0)).contains("whole words"));
    let ints = device.buffer(DType::U32, &[4]).unwrap();
    assert!(refusal("random::floats", floats(&mut enc, &ints, 1.0, 0)).contains("f32, f16 or bf16"));
}
