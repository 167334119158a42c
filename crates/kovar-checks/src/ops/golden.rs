//! What MLX computed, for each op a file of cases, which a program carries with it.

use half::{bf16, f16};
use kovar::{Buffer, Device};
use kovar_ops::{AffineMatrix, DenseMatrix, Matrix};
use safetensors::{Dtype, SafeTensors};

macro_rules! files {
    ($($op:literal)*) => {
        [$(($op, include_bytes!(concat!("../../../../tests/golden/ops/", $op, ".safetensors")).as_slice())),*]
    };
}

static FILES: [(&str, &[u8]); 10] =
    files!("add" "argmax" "attention" "cast" "embedding" "matmul" "quantized_matmul" "rms_norm" "rope" "silu_mul");

/// A file of golden results: tensors and a JSON object for each case.
pub struct Golden {
    bytes: &'static [u8],
}

/// One case of it.
pub struct Case<'a> {
    tensors: &'a SafeTensors<'a>,
    name: String,
    /// Its parameters.
    pub info: serde_json::Value,
}

impl Golden {
    /// The file of an op. Panics if there is none.
    pub fn open(op: &str) -> Golden {
        match FILES.iter().find(|(name, _)| *name == op) {
            Some((_, bytes)) => Golden { bytes },
            None => panic!("there are no golden results of {op}"),
        }
    }

    /// Calls a function with each case; at least one.
    pub fn each(&self, mut run: impl FnMut(&Case<'_>)) {
        let (_, header) = SafeTensors::read_metadata(self.bytes).unwrap();
        let metadata = header.metadata().clone().unwrap();
        let tensors = SafeTensors::deserialize(self.bytes).unwrap();
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
    /// A whole number of its parameters.
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

    /// A tensor of f32.
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

/// Elements of bytes that may lie anywhere.
fn collect<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Vec<T> {
    bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
}
