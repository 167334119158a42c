//! Products with weight matrices: against MLX and against f64.
use super::golden::Golden;
use super::harness::{for_any, product, relative_l2};
use super::sample::{Random, Sample};
use kovar::{DType, Device};
use kovar_ops::{Matrix, Precision};
use proptest::prelude::*;

/// Values are up to 5; MLX's own distance from f64 is up to 3.4e-6, as the golden files say.
const EXACT: f32 = 1e-5;
/// Rounding to 8 bits moves an activation by up to 1/254 of the largest in its block of 32, about 2.3 times the root
/// mean square of normal data: 0.0026 of it by root mean square, and so is the product.
const FAST: f64 = 0.01;

fn goldens(device: &Device, op: &str, precision: Precision) {
    Golden::open(op).each(|case| {
        let matrix = case.matrix(device);
        let (x, y) = (case.f32("x"), case.f32("y"));
        for rows in case.info["rows"].as_array().unwrap() {
            let rows = rows.as_u64().unwrap() as usize;
            let (x, y) = (&x[..rows * matrix.k()], &y[..rows * matrix.n()]);
            let got = product(device, &matrix, x, precision);
            let what = format!("{device:?} {rows} rows of {}", case.info);
            if precision == Precision::Exact || matches!(matrix, Matrix::Dense(_)) {
                for (i, (wanted, got)) in y.iter().zip(&got).enumerate() {
                    assert!((wanted - got).abs() <= EXACT, "{what}: [{i}] is {got}, MLX says {wanted}");
                }
            } else {
                let wanted: Vec<f64> = y.iter().map(|y| f64::from(*y)).collect();
                let error = relative_l2(&wanted, &got);
                assert!(error <= FAST, "{what}: relative error {error}");
            }
        }
    });
}

pub(super) fn quantised_agrees_with_mlx(device: &Device) {
    goldens(device, "quantized_matmul", Precision::Exact);
}

pub(super) fn quantised_with_8_bit_activations_is_near_mlx(device: &Device) {
    goldens(device, "quantized_matmul", Precision::Fast);
}

pub(super) fn dense_agrees_with_mlx(device: &Device) {
    goldens(device, "matmul", Precision::Exact);
    goldens(device, "matmul", Precision::Fast);
}

/// Every element within what f32 sums of that many terms may lose.
fn check(device: &Device, sample: &Sample, x: &[f32], precision: Precision) {
    let got = product(device, &sample.matrix, x, precision);
    let (wanted, magnitude) = sample.product(x);
    if precision == Precision::Fast && matches!(sample.matrix, Matrix::Affine(_)) {
        // A quantised block is never off by more than 1/254 of its largest element, whatever the data.
        let k = sample.matrix.k();
        let n = sample.matrix.n();
        for (i, (wanted, got)) in wanted.iter().zip(&got).enumerate() {
            let (x, w) = (&x[i / n * k..][..k], &sample.values[i % n * k..][..k]);
            let bound: f64 = x
                .chunks(32)
                .zip(w.chunks(32))
                .map(|(x, w)| {
                    let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                    f64::from(largest) / 253.9 * w.iter().map(|w| w.abs()).sum::<f64>()
                })
                .sum();
            assert!((wanted - f64::from(*got)).abs() <= bound + 1e-5 * magnitude[i] + 1e-30, "{i}: {got} for {wanted}");
        }
        return;
    }
    for (i, ((wanted, got), magnitude)) in wanted.iter().zip(&got).zip(&magnitude).enumerate() {
        // Sums of codes without their bias are up to 15 or 255 half-scales large: more is lost than in the sum itself.
        assert!((wanted - f64::from(*got)).abs() <= 4e-6 * magnitude + 1e-30, "{i}: {got} for {wanted}");
    }
}

fn dtype() -> impl Strategy<Value = DType> {
    prop_oneof![Just(DType::F32), Just(DType::F16), Just(DType::BF16)]
}

pub(super) fn quantised_of_any_shape(device: &Device) {
    let rows = prop_oneof![Just(1usize), 1usize..40];
    let forms = (prop_oneof![Just(4u32), Just(8)], prop_oneof![Just(32u32), Just(64), Just(128)], dtype());
    for_any(128, (rows, 1usize..80, 1usize..20, forms, any::<u64>()), |(m, n, blocks, (bits, group, dtype), seed)| {
        let k = (blocks * 32).next_multiple_of(group as usize);
        let random = &mut Random(seed);
        let sample = Sample::affine(device, random, [n, k], (bits, group), dtype);
        let x = random.normals(m * k);
        check(device, &sample, &x, Precision::Exact);
        check(device, &sample, &x, Precision::Fast);
    });
}

pub(super) fn dense_of_any_shape(device: &Device) {
    let rows = prop_oneof![Just(1usize), 1usize..40];
    for_any(128, (rows, 1usize..80, 1usize..300, dtype(), any::<u64>()), |(m, n, k, dtype, seed)| {
        let random = &mut Random(seed);
        let sample = Sample::dense(device, random, n, k, dtype);
        let x = random.normals(m * k);
        check(device, &sample, &x, Precision::Exact);
    });
}

pub(super) fn large_shapes(device: &Device) {
    let random = &mut Random(7);
    for (m, n, k) in [(1, 4099, 512), (1, 260, 9728), (130, 263, 4224), (300, 77, 1024)] {
        for bits in [4, 8] {
            let sample = Sample::affine(device, random, [n, k], (bits, 64), DType::BF16);
            let x = random.normals(m * k);
            check(device, &sample, &x, Precision::Exact);
            check(device, &sample, &x, Precision::Fast);
        }
        let sample = Sample::dense(device, random, n, k, DType::BF16);
        check(device, &sample, &random.normals(m * k), Precision::Exact);
    }
    // Rows that end within a vector of scales, after whole ones.
    let [n, k] = [37, 2432];
    for (bits, group) in [(4, 32), (4, 64), (4, 128), (8, 32), (8, 64), (8, 128)] {
        let sample = Sample::affine(device, random, [n, k], (bits, group), DType::BF16);
        let x = random.normals(k);
        check(device, &sample, &x, Precision::Exact);
        check(device, &sample, &x, Precision::Fast);
    }
}

/// Activations of any size, from subnormal to nearly infinite, and zeros; what is not a number stays so.
pub(super) fn extreme_activations(device: &Device) {
    let sample = Sample::affine(device, &mut Random(5), [40, 128], (4, 64), DType::F16);
    for m in [1, 6] {
        for scale in [0.0f32, 1e-38, 1e-30, 1e30] {
            let x: Vec<f32> = Random(6).normals(m * 128).iter().map(|x| x * scale).collect();
            let got = product(device, &sample.matrix, &x, Precision::Fast);
            assert!(got.iter().all(|y| y.is_finite()), "{scale}");
            if scale == 0.0 {
                assert!(got.iter().all(|y| *y == 0.0));
            } else if scale >= 1e-30 {
                check(device, &sample, &x, Precision::Exact);
                check(device, &sample, &x, Precision::Fast);
            }
        }
        for odd in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = Random(6).normals(m * 128);
            x[77] = odd;
            for precision in [Precision::Exact, Precision::Fast] {
                let got = product(device, &sample.matrix, &x, precision);
                assert!(got[..40].iter().all(|y| !y.is_finite()), "{odd} {precision:?}: {:?}", &got[..40]);
                assert!(got[40..].iter().all(|y| y.is_finite()), "{odd} {precision:?} reaches another row");
            }
        }
    }
}

/// Scales that are not numbers spoil their row and no other.
pub(super) fn rows_do_not_spoil_each_other(device: &Device) {
    for (m, bits) in [(1, 4), (9, 4), (1, 8), (9, 8)] {
        let random = &mut Random(9);
        let k = 320;
        let codes: Vec<u32> = (0..5 * k * bits / 32).map(|_| random.bits() as u32).collect();
        let mut scales = vec![0.01f32; 5 * k / 64];
        scales[3 * k / 64..4 * k / 64].fill(f32::NAN);
        let codes = device.upload(&codes, &[5, k * bits / 32]).unwrap();
        let scales = device.upload(&scales, &[5, k / 64]).unwrap();
        let matrix = kovar_ops::AffineMatrix::new(codes, scales.clone(), scales, bits as u32, 64).unwrap();
        for precision in [Precision::Exact, Precision::Fast] {
            let y = product(device, &Matrix::Affine(matrix.clone()), &random.normals(m * k), precision);
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_nan(), i % 5 == 3, "{precision:?} {i}: {y}");
            }
        }
    }
}

/// Whether prompts are multiplied on matrix units there.
pub(super) fn has_matrix_units(device: &Device) -> bool {
    let shapes = &device.info().features.cooperative_matrix;
    shapes.iter().any(|s| s.m == s.n && s.n == s.k && matches!(s.m, 8 | 16) && (s.input, s.output) == ("f16", "f32"))
}

/// As products of rounded rows take them: 8 bits in blocks of 32.
fn rounded(x: &[f32]) -> Vec<f32> {
    let block = |x: &[f32]| {
        let largest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        x.iter().map(|x| (x * (127.0 / largest)).round_ties_even() * (largest / 127.0)).collect::<Vec<_>>()
    };
    x.chunks(32).flat_map(block).collect()
}

/// Once x is rounded, nothing else is: one row, few rows and many, on every device without matrix units.
pub(super) fn devices_round_alike(device: &Device) {
    let random = &mut Random(13);
    for (m, bits) in [(1, 4), (3, 4), (1, 8), (3, 8), (6, 4), (6, 8), (20, 4), (70, 8)] {
        let sample = Sample::affine(device, random, [130, 512], (bits, 64), DType::BF16);
        let x = random.normals(m * 512);
        let got = product(device, &sample.matrix, &x, Precision::Fast);
        let (wanted, magnitude) = sample.product(&rounded(&x));
        for (i, ((wanted, got), magnitude)) in wanted.iter().zip(&got).zip(&magnitude).enumerate() {
            let off = (wanted - f64::from(*got)).abs();
            assert!(off <= 4e-6 * magnitude, "{device:?} {m} rows, {bits} bits: {i} is {got}, wanted {wanted}");
        }
    }
}

/// Whether they are multiplied as single rows are.
pub(super) fn lacks_matrix_units(device: &Device) -> bool {
    !has_matrix_units(device)
}

/// With both factors rounded to f16, each by at most 2^-11 of its size, a product is off by at most 2^-10 of the sum of
/// magnitudes, and by what f32 sums lose. Shapes with tiles that stick out, that fit, and that cannot be stored at once.
pub(super) fn matrix_units_round_factors_to_f16_alone(device: &Device) {
    let random = &mut Random(11);
    for (m, n, k) in [(16, 1, 32), (17, 63, 64), (64, 64, 96), (100, 130, 320), (128, 256, 64), (129, 257, 1024)] {
        for (bits, group) in [(4, 32), (4, 64), (8, 32), (8, 64)] {
            if k % group != 0 {
                continue;
            }
            for dtype in [DType::F32, DType::F16, DType::BF16] {
                let sample = Sample::affine(device, random, [n, k], (bits, group as u32), dtype);
                let x = random.normals(m * k);
                let got = product(device, &sample.matrix, &x, Precision::Fast);
                let exact = product(device, &sample.matrix, &x, Precision::Exact);
                let (wanted, magnitude) = sample.product(&rounded(&x));
                for (i, ((wanted, got), magnitude)) in wanted.iter().zip(&got).zip(&magnitude).enumerate() {
                    let off = (wanted - f64::from(*got)).abs();
                    let bound = (1.0 / 1024.0 + 4e-6) * magnitude + 1e-6;
                    assert!(off <= bound, "[{m}, {n}, {k}] {bits} {dtype}: {i} is {got}, wanted {wanted}");
                }
                assert_ne!(got, exact, "another kernel ran for [{m}, {n}, {k}]");
            }
        }
    }
}
