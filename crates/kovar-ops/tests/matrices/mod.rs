//! Golden files, random matrices, and the devices to run on.
#![allow(dead_code)]

use std::io::Write;
use std::path::Path;

use half::{bf16, f16};
use kovar::{Backend, Buffer, CpuChecks, CpuSchedule, DType, Device, DeviceChoice, DeviceOptions};
use kovar_ops::{AffineMatrix, DenseMatrix, Matrix, Precision, linear};
use safetensors::{Dtype, SafeTensors};

/// Every device of this machine that computes, but for further adapters of a backend. Says which are missing.
pub fn devices(test: &str) -> Vec<Device> {
    let mut devices = Vec::new();
    for backend in [Backend::Cpu, Backend::Vulkan, Backend::Metal] {
        match Device::open(&DeviceOptions::of(backend)) {
            Ok(device) => devices.push(device),
            Err(error) => {
                let name = DeviceChoice::first(backend).to_string();
                assert!(!is_required(&name), "{test}: {error}");
                skipped(&format!("{test} on {name}: {error}"));
            }
        }
    }
    devices
}

/// Whether `KOVAR_REQUIRE` names this.
pub fn is_required(name: &str) -> bool {
    std::env::var("KOVAR_REQUIRE").unwrap_or_default().split(',').any(|wanted| wanted == name)
}

/// Says that something does not run here, past the test runner's capture.
pub fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}

/// A CPU device that runs tasks in an order of its own.
pub fn shuffled(seed: u64) -> Device {
    Device::open(&DeviceOptions { schedule: CpuSchedule::Shuffled(seed), ..DeviceOptions::of(Backend::Cpu) }).unwrap()
}

/// A CPU device that fails a submission with a race in it.
pub fn watched() -> Device {
    let checks = CpuChecks { races: true };
    Device::open(&DeviceOptions { checks, ..DeviceOptions::of(Backend::Cpu) }).unwrap()
}

/// A CPU device with so many threads.
pub fn cpu(threads: usize) -> Device {
    Device::open(&DeviceOptions { threads: Some(threads), ..DeviceOptions::of(Backend::Cpu) }).unwrap()
}

/// A file of golden results: tensors and a JSON object for each case.
pub struct Golden {
    bytes: Vec<u8>,
}

pub struct Case<'a> {
    tensors: &'a SafeTensors<'a>,
    name: String,
    pub info: serde_json::Value,
}

impl Golden {
    pub fn open(op: &str) -> Golden {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/golden/ops/{op}.safetensors"));
        Golden { bytes: std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) }
    }

    pub fn each(&self, mut run: impl FnMut(&Case<'_>)) {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let count: usize = metadata["cases"].parse().unwrap();
        assert!(count > 0);
        for i in 0..count {
            let name = format!("case{i}");
            let info = serde_json::from_str(&metadata[&name]).unwrap();
            run(&Case { tensors: &tensors, name, info });
        }
    }
}

impl Case<'_> {
    pub fn number(&self, key: &str) -> Option<usize> {
        self.info[key].as_u64().map(|n| n as usize)
    }

    /// A tensor as it is stored.
    pub fn tensor(&self, device: &Device, name: &str) -> Buffer {
        let view = self.tensors.tensor(&format!("{}.{name}", self.name)).unwrap();
        let (bytes, shape) = (view.data(), view.shape());
        match view.dtype() {
            Dtype::F32 => device.upload::<f32>(&collect(bytes), shape),
            Dtype::F16 => device.upload::<f16>(&collect(bytes), shape),
            Dtype::BF16 => device.upload::<bf16>(&collect(bytes), shape),
            Dtype::U32 | Dtype::I32 => device.upload::<u32>(&collect(bytes), shape),
            other => panic!("{other:?}"),
        }
        .unwrap()
    }

    pub fn f32(&self, name: &str) -> Vec<f32> {
        let view = self.tensors.tensor(&format!("{}.{name}", self.name)).unwrap();
        assert_eq!(view.dtype(), Dtype::F32);
        collect(view.data())
    }

    /// The matrix: quantised, or dense under the name `w`.
    pub fn matrix(&self, device: &Device) -> Matrix {
        match self.number("bits") {
            None => Matrix::Dense(DenseMatrix::new(self.tensor(device, "w")).unwrap()),
            Some(bits) => {
                let (codes, scales) = (self.tensor(device, "codes"), self.tensor(device, "scales"));
                let (biases, group) = (self.tensor(device, "biases"), self.number("group_size").unwrap());
                Matrix::Affine(AffineMatrix::new(codes, scales, biases, bits as u32, group as u32).unwrap())
            }
        }
    }
}

pub fn product(device: &Device, matrix: &Matrix, x: &[f32], precision: Precision) -> Vec<f32> {
    let (n, k) = (matrix.n(), matrix.k());
    let m = x.len() / k;
    let x = device.upload(x, &[m, k]).unwrap();
    let y = device.upload(&vec![f32::NAN; m * n], &[m, n]).unwrap();
    let mut encoder = device.encoder().unwrap();
    linear::linear(&mut encoder, matrix, &x, &y, precision).unwrap();
    encoder.commit().unwrap().wait().unwrap();
    assert_eq!(device.validation_messages(), Vec::<String>::new());
    y.read().unwrap()
}

/// SplitMix64, for data that is the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// About normal, variance 1.
    pub fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: i32 = (0..4).map(|i| (bits >> (16 * i)) as u16 as i32 - 0x8000).sum();
        sum as f32 / 37837.0
    }

    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

/// A random matrix with the values that it stands for, [n, k].
pub struct Sample {
    pub matrix: Matrix,
    pub values: Vec<f64>,
}

fn upload(device: &Device, values: &[f32], dtype: DType, shape: &[usize]) -> (Buffer, Vec<f64>) {
    match dtype {
        DType::F16 => {
            let values: Vec<f16> = values.iter().copied().map(f16::from_f32).collect();
            (device.upload(&values, shape).unwrap(), values.iter().map(|v| f64::from(*v)).collect())
        }
        DType::BF16 => {
            let values: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
            (device.upload(&values, shape).unwrap(), values.iter().map(|v| f64::from(*v)).collect())
        }
        _ => (device.upload(values, shape).unwrap(), values.iter().map(|v| f64::from(*v)).collect()),
    }
}

impl Sample {
    pub fn dense(device: &Device, random: &mut Random, n: usize, k: usize, dtype: DType) -> Sample {
        let (weight, values) = upload(device, &random.normals(n * k), dtype, &[n, k]);
        Sample { matrix: Matrix::Dense(DenseMatrix::new(weight).unwrap()), values }
    }

    /// Random codes; scales of both signs and biases that nearly centre them, as quantisation makes them.
    pub fn affine(
        device: &Device,
        random: &mut Random,
        [n, k]: [usize; 2],
        (bits, group): (u32, u32),
        dtype: DType,
    ) -> Sample {
        let words = k * bits as usize / 32;
        let codes: Vec<u32> = (0..n * words).map(|_| random.bits() as u32).collect();
        let shape = [n, k / group as usize];
        let range = f32::from(1u16 << bits) - 1.0;
        let raw: Vec<f32> = (0..shape[0] * shape[1])
            .map(|_| (0.5 + random.normal().abs()) / range * if random.bits() & 1 == 0 { 4.0 } else { -4.0 })
            .collect();
        let raw_biases: Vec<f32> = raw.iter().map(|s| s * range * (-0.5 + 0.05 * random.normal())).collect();
        let (scales, s) = upload(device, &raw, dtype, &shape);
        let (biases, b) = upload(device, &raw_biases, dtype, &shape);
        let values = (0..n * k)
            .map(|i| {
                let (bit, group) = (i * bits as usize, i / group as usize);
                let q = codes[bit / 32] >> (bit % 32) & ((1 << bits) - 1);
                s[group] * f64::from(q) + b[group]
            })
            .collect();
        let codes = device.upload(&codes, &[n, words]).unwrap();
        Sample { matrix: Matrix::Affine(AffineMatrix::new(codes, scales, biases, bits, group).unwrap()), values }
    }

    /// The product in f64, and for each element the sum of the magnitudes of its terms.
    pub fn product(&self, x: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let k = self.matrix.k();
        let dots = x.chunks_exact(k).flat_map(|x| {
            self.values.chunks_exact(k).map(move |w| {
                w.iter().zip(x).map(|(w, x)| w * f64::from(*x)).fold((0.0, 0.0), |(s, a), t| (s + t, a + t.abs()))
            })
        });
        dots.unzip()
    }
}

/// Distance of two results over the length of the first.
pub fn relative_l2(wanted: &[f64], actual: &[f32]) -> f64 {
    assert_eq!(wanted.len(), actual.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let distance = square(&mut wanted.iter().zip(actual).map(|(w, a)| w - f64::from(*a)));
    (distance / square(&mut wanted.iter().copied())).sqrt()
}

/// Elements of bytes that may lie anywhere.
fn collect<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}
