use kovar::{Buffer, CommandEncoder, Device, Result};
use kovar_ops::activation::silu_mul;
use kovar_ops::elementwise::add;
use proptest::prelude::*;

use super::golden::Golden;
use super::harness::{Result32, for_any, near, run, widen};
use super::sample::Random;

type Binary = fn(&mut CommandEncoder, &Buffer, &Buffer, &Buffer) -> Result<()>;

fn apply(device: &Device, op: Binary, a: &[f32], b: &[f32]) -> Vec<f32> {
    let [a, b] = [a, b].map(|values| device.upload(values, &[values.len()]).unwrap());
    let y = Result32::new(device, &[a.len()]);
    run(device, |enc| op(enc, &a, &b, &y.view));
    y.read()
}

pub(super) fn sums_are_those_of_mlx(device: &Device) {
    Golden::open("add").each(|case| {
        assert_eq!(apply(device, add, &case.f32("a"), &case.f32("b")), case.f32("y"), "{device:?} {}", case.info);
    });
}

pub(super) fn silu_agrees_with_mlx(device: &Device) {
    Golden::open("silu_mul").each(|case| {
        let y = apply(device, silu_mul, &case.f32("a"), &case.f32("b"));
        // The exponential of a GPU may be off by 3 + 2·|x| units (Vulkan, "Precision of individual operations").
        let tolerance = 2e-6 * case.info["max_abs"].as_f64().unwrap() + case.info["mlx_error"].as_f64().unwrap();
        near(&format!("{device:?} {}", case.info), &y, &widen(&case.f32("y")), tolerance);
    });
}

pub(super) fn any_length_agrees_with_f64(device: &Device) {
    let lengths = prop_oneof![1usize..5000, 200_000usize..400_000];
    for_any(24, (any::<u64>(), lengths), |(seed, n)| {
        let mut random = Random(seed);
        let (a, b) = (random.normals(n), random.normals(n));
        let a: Vec<f32> = a.iter().map(|v| v * 8.0).collect();
        let sums: Vec<f32> = a.iter().zip(&b).map(|(a, b)| a + b).collect();
        let silu = |x: f64| x / (1.0 + (-x).exp());
        let products: Vec<f64> = a.iter().zip(&b).map(|(a, b)| silu(f64::from(*a)) * f64::from(*b)).collect();
        assert!(apply(device, add, &a, &b) == sums, "{device:?}");
        // Values are up to 100.
        near(&format!("{device:?} {n}"), &apply(device, silu_mul, &a, &b), &products, 1e-4);
    });
}

pub(super) fn silu_has_its_limits(device: &Device) {
    let x = [0.0f32, -0.0, 1e-30, 20.0, -20.0, 100.0, -100.0, 1e30, -1e30, 3e38];
    let y = apply(device, silu_mul, &x, &[1.0; 10]);
    for (x, y) in x.iter().zip(y) {
        let exact = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
        let error = (f64::from(y) - exact).abs();
        // Below -88 the result stays under 1e-8 of x, which in f32 is what 1 + e^-x can tell.
        assert!(error <= 3e-6 * exact.abs() + 1e-8 * f64::from(x.abs()).min(1.0), "{device:?} silu({x}) = {y}");
    }
}

pub(super) fn one_buffer_may_be_both_arguments(device: &Device) {
    let a = device.upload(&[1.0f32, 2.0, 3.0], &[3]).unwrap();
    let y = Result32::new(device, &[3]);
    run(device, |enc| add(enc, &a, &a, &y.view));
    assert_eq!(y.read(), [2.0, 4.0, 6.0]);
}
