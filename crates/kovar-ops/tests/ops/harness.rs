//! The devices to run on, and a way to run.

use std::io::Write;

use half::{bf16, f16};
use kovar::{
    Backend, Buffer, CommandEncoder, CpuChecks, CpuSchedule, DType, Device, DeviceChoice, DeviceOptions, Error, Result,
};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestRunner};

/// Every backend of this machine that computes, GPUs under validation where it is installed. Says what is missing.
pub fn devices(test: &str) -> Vec<Device> {
    let required = std::env::var("KOVAR_REQUIRE").unwrap_or_default();
    let skip = |what: &str, error: Error| {
        assert!(!required.split(',').any(|wanted| wanted == what), "{test}: {error}");
        let _ = writeln!(std::io::stderr(), "skipped: {test}: no {what}: {error}");
    };
    let mut devices = vec![Device::open(&DeviceOptions::of(Backend::Cpu)).unwrap()];
    for backend in [Backend::Vulkan, Backend::Metal] {
        let plain = DeviceOptions::of(backend);
        let validated = Device::open(&DeviceOptions { validation: true, ..plain.clone() }).or_else(|unvalidated| {
            let device = Device::open(&plain)?;
            skip("validation", unvalidated);
            Ok(device)
        });
        match validated {
            Ok(device) => devices.push(device),
            Err(error) => skip(&DeviceChoice::first(backend).to_string(), error),
        }
    }
    devices
}

/// CPU devices with different numbers of threads and orders of execution; two of them look for races.
pub fn orders() -> Vec<Device> {
    let threads = [1, 2, 3, 7].map(|n| DeviceOptions { threads: Some(n), ..DeviceOptions::of(Backend::Cpu) });
    let seeds = [1, 2, 3].map(|seed| DeviceOptions {
        schedule: CpuSchedule::Shuffled(seed),
        threads: Some(4),
        ..DeviceOptions::of(Backend::Cpu)
    });
    let watched = [CpuSchedule::Parallel, CpuSchedule::Shuffled(4)].map(|schedule| DeviceOptions {
        checks: CpuChecks { races: true },
        schedule,
        threads: Some(4),
        ..DeviceOptions::of(Backend::Cpu)
    });
    threads.iter().chain(&seeds).chain(&watched).map(|options| Device::open(options).unwrap()).collect()
}

/// Records, runs and waits; validation has nothing to say.
pub fn run(device: &Device, record: impl FnOnce(&mut CommandEncoder) -> Result<()>) {
    let mut encoder = device.encoder().unwrap();
    record(&mut encoder).unwrap();
    encoder.commit().unwrap().wait().unwrap();
    assert_eq!(device.validation_messages(), Vec::<String>::new());
}

/// The message of the refusal by this op.
pub fn refusal(op: &str, result: Result<()>) -> String {
    match result {
        Err(Error::Op { op: named, message }) if named == op => message,
        other => panic!("{op}: {other:?}"),
    }
}

/// Checks a property for random inputs.
pub fn check<S: Strategy>(cases: u32, inputs: S, property: impl Fn(S::Value)) {
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
    pub view: Buffer,
}

const MARK: f32 = -12_345.678;
const MARKED: usize = 64;

impl Result32 {
    pub fn new(device: &Device, shape: &[usize]) -> Result32 {
        let n: usize = shape.iter().product();
        let whole = device.upload(&vec![MARK; n + MARKED], &[n + MARKED]).unwrap();
        let view = whole.view(0..n).unwrap().reshape(shape).unwrap();
        Result32 { whole, view }
    }

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

pub fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}
