//! A way to run, and to compare.

use half::{bf16, f16};
use kovar::{Backend, Buffer, CommandEncoder, DType, Device, DeviceOptions, Result};
use kovar_ops::{Matrix, Precision, linear};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

/// A CPU device, for what devices must have in common.
pub fn cpu() -> Device {
    Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap()
}

/// Records, runs and waits; validation has nothing to say.
pub fn run(device: &Device, record: impl FnOnce(&mut CommandEncoder) -> Result<()>) {
    let mut encoder = device.encoder().unwrap();
    record(&mut encoder).unwrap();
    encoder.commit().unwrap().wait().unwrap();
    assert_eq!(device.validation_messages(), Vec::<String>::new());
}

/// y = x Wᵀ, row by row.
pub fn product(device: &Device, matrix: &Matrix, x: &[f32], precision: Precision) -> Vec<f32> {
    let (n, k) = (matrix.n(), matrix.k());
    let m = x.len() / k;
    let x = device.upload(x, &[m, k]).unwrap();
    let y = device.upload(&vec![f32::NAN; m * n], &[m, n]).unwrap();
    run(device, |enc| linear::linear(enc, matrix, &x, &y, precision));
    y.read().unwrap()
}

/// Checks a property for random inputs.
pub fn for_any<S: Strategy>(cases: u32, inputs: S, property: impl Fn(S::Value)) {
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&inputs, |input| {
            property(input);
            Ok(())
        })
        .unwrap();
}

/// A place for a result, with a marked end behind it that nobody may write.
pub struct Result32 {
    whole: Buffer,
    /// The place.
    pub view: Buffer,
}

const MARK: f32 = -12_345.678;
const MARKED: usize = 64;

impl Result32 {
    /// On a device.
    pub fn new(device: &Device, shape: &[usize]) -> Result32 {
        let n: usize = shape.iter().product();
        let whole = device.upload(&vec![MARK; n + MARKED], &[n + MARKED]).unwrap();
        let view = whole.view(0..n).unwrap().reshape(shape).unwrap();
        Result32 { whole, view }
    }

    /// What is there now. Panics if the end was written.
    pub fn read(&self) -> Vec<f32> {
        let mut all = self.whole.read::<f32>().unwrap();
        assert_eq!(all.split_off(all.len() - MARKED), [MARK; MARKED], "written past the end");
        all
    }
}

/// A buffer of floats in a type, and the values it really has.
pub fn weight(device: &Device, values: &[f32], dtype: DType) -> (Buffer, Vec<f64>) {
    let shape = [values.len()];
    match dtype {
        DType::F16 => {
            let values: Vec<f16> = values.iter().copied().map(f16::from_f32).collect();
            (device.upload(&values, &shape).unwrap(), values.iter().map(|v| f64::from(*v)).collect())
        }
        DType::BF16 => {
            let values: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
            (device.upload(&values, &shape).unwrap(), values.iter().map(|v| f64::from(*v)).collect())
        }
        _ => (device.upload(values, &shape).unwrap(), values.iter().map(|v| f64::from(*v)).collect()),
    }
}

/// Every element within an absolute error.
#[track_caller]
pub fn near(what: &str, actual: &[f32], wanted: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), wanted.len(), "{what}");
    for (i, (a, w)) in actual.iter().zip(wanted).enumerate() {
        assert!((f64::from(*a) - w).abs() <= tolerance, "{what}: [{i}] is {a}, not {w} within {tolerance:e}");
    }
}

/// The same as f64.
pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

/// Distance of two results over the length of the first.
pub fn relative_l2(wanted: &[f64], actual: &[f32]) -> f64 {
    assert_eq!(wanted.len(), actual.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let distance = square(&mut wanted.iter().zip(actual).map(|(w, a)| w - f64::from(*a)));
    (distance / square(&mut wanted.iter().copied())).sqrt()
}
