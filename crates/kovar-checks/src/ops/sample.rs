//! Random numbers and matrices that are the same everywhere.

use half::{bf16, f16};
use kovar::{Buffer, DType, Device};
use kovar_ops::{AffineMatrix, DenseMatrix, Matrix};

/// SplitMix64, for data that is the same everywhere.
pub struct Random(
    /// The state.
    pub u64,
);

impl Random {
    /// 64 random bits.
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

    /// So many of them.
    pub fn normals(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.normal()).collect()
    }
}

/// A random matrix with the values that it stands for, [n, k].
pub struct Sample {
    /// The matrix.
    pub matrix: Matrix,
    /// Its values.
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
    /// Values as they are, [n, k].
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
